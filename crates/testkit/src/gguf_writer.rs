use gogrid_units::WeightType;

/// Every tensor's data begins at a multiple of this, GGUF's default.
const ALIGNMENT: usize = 32;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Meta {
    /// `uint16`.
    U16(u16),
    /// `uint32`.
    U32(u32),
    /// `int32`.
    I32(i32),
    /// `float32`.
    F32(f32),
    /// `bool`.
    Bool(bool),
    /// `string`.
    Text(String),
    /// An array of `int32`.
    I32s(Vec<i32>),
    /// An array of `float32`.
    F32s(Vec<f32>),
    /// An array of `bool`.
    Bools(Vec<bool>),
    /// An array of `string`.
    Texts(Vec<String>),
}

/// A tensor as the file holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Extents as mathematics writes them: `[rows, cols]`, or `[len]`. The file has them reversed.
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub stored: WeightType,
    /// Its data, row after row.
    pub data: Vec<u8>,
}

/// A GGUF file, version 2 or 3 (little-endian; the two differ in the number alone), put together in
/// memory. It writes what it is told: a test that wants a wrong file says wrong things, or changes
/// the bytes.
#[derive(Clone, Debug)]
pub struct GgufWriter {
    version: u32,
    meta: Vec<(String, Meta)>,
    tensors: Vec<Tensor>,
}

impl GgufWriter {
    /// An empty file of `version`.
    pub const fn new(version: u32) -> Self {
        Self {
            version,
            meta: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// Adds a metadata entry.
    pub fn meta(&mut self, key: impl Into<String>, value: Meta) -> &mut Self {
        self.meta.push((key.into(), value));
        self
    }

    /// Gives a metadata entry another value, or adds it.
    pub fn set(&mut self, key: &str, value: Meta) -> &mut Self {
        match self.meta.iter_mut().find(|(known, _)| known == key) {
            Some(entry) => entry.1 = value,
            None => self.meta.push((key.to_owned(), value)),
        }
        self
    }

    /// Tensors in it.
    pub fn tensors(&self) -> usize {
        self.tensors.len()
    }

    /// Bytes before the data of its tensors.
    pub fn header_bytes(&self) -> usize {
        let data = self.tensors.iter().map(|tensor| tensor.data.len());
        let data: usize = data.map(|len| len.next_multiple_of(ALIGNMENT)).sum();
        self.bytes().len() - data
    }

    /// Adds a tensor.
    pub fn tensor(&mut self, tensor: Tensor) -> &mut Self {
        self.tensors.push(tensor);
        self
    }

    /// The same model in so many files, as llama.cpp's `gguf-split` makes them: all metadata in the first, the
    /// tensors shared out in order. Their names end in [`part_ending`].
    pub fn split(&self, count: usize) -> Vec<Self> {
        let each = self.tensors.len().div_ceil(count);
        let part = |number: usize| {
            let mut part = Self::new(self.version);
            if number == 0 {
                part.meta.clone_from(&self.meta);
            }
            // Tests write few parts and tensors.
            part.meta("split.no", Meta::U16(number as u16));
            part.meta("split.count", Meta::U16(count as u16));
            let tensors = self.tensors.len() as i32;
            part.meta("split.tensors.count", Meta::I32(tensors));
            let tensors = self.tensors.iter().skip(number * each).take(each);
            part.tensors.extend(tensors.cloned());
            part
        };
        (0..count).map(part).collect()
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        put_u32(&mut out, self.version);
        put_len(&mut out, self.tensors.len());
        put_len(&mut out, self.meta.len());
        for (key, value) in &self.meta {
            put_text(&mut out, key);
            put_meta(&mut out, value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            put_tensor_info(&mut out, tensor, offset);
            offset = (offset + tensor.data.len()).next_multiple_of(ALIGNMENT);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend_from_slice(&tensor.data);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out
    }
}

/// How the name of part `number` of `count`, counted from 0, ends.
pub fn part_ending(number: usize, count: usize) -> String {
    format!("-{:05}-of-{count:05}.gguf", number + 1)
}

fn put_tensor_info(out: &mut Vec<u8>, tensor: &Tensor, offset: usize) {
    put_text(out, &tensor.name);
    // Extents are few.
    put_u32(out, tensor.shape.len() as u32);
    for &extent in tensor.shape.iter().rev() {
        put_len(out, extent);
    }
    put_u32(out, type_id(tensor.stored));
    put_len(out, offset);
}

/// GGML's number of a type.
const fn type_id(stored: WeightType) -> u32 {
    match stored {
        WeightType::F32 => 0,
        WeightType::F16 => 1,
        WeightType::Q4_0 => 2,
        WeightType::Q4_1 => 3,
        WeightType::Q5_0 => 6,
        WeightType::Q5_1 => 7,
        WeightType::Q8_0 => 8,
        WeightType::Q2K => 10,
        WeightType::Q3K => 11,
        WeightType::Q4K => 12,
        WeightType::Q5K => 13,
        WeightType::Q6K => 14,
        WeightType::Iq2Xxs => 16,
        WeightType::Iq2Xs => 17,
        WeightType::Iq3Xxs => 18,
        WeightType::Iq1S => 19,
        WeightType::Iq4Nl => 20,
        WeightType::Iq3S => 21,
        WeightType::Iq2S => 22,
        WeightType::Iq4Xs => 23,
        WeightType::Iq1M => 29,
        WeightType::Bf16 => 30,
        WeightType::Tq1_0 => 34,
        WeightType::Tq2_0 => 35,
        WeightType::Mxfp4 => 39,
    }
}

fn put_meta(out: &mut Vec<u8>, value: &Meta) {
    match value {
        Meta::U16(v) => {
            put_u32(out, 2);
            out.extend_from_slice(&v.to_le_bytes());
        }
        Meta::U32(v) => {
            put_u32(out, 4);
            put_u32(out, *v);
        }
        Meta::I32(v) => {
            put_u32(out, 5);
            out.extend_from_slice(&v.to_le_bytes());
        }
        Meta::F32(v) => {
            put_u32(out, 6);
            out.extend_from_slice(&v.to_le_bytes());
        }
        Meta::Bool(v) => {
            put_u32(out, 7);
            out.push(u8::from(*v));
        }
        Meta::Text(v) => {
            put_u32(out, 8);
            put_text(out, v);
        }
        Meta::I32s(items) => put_array(out, 5, items, |out, v| {
            out.extend_from_slice(&v.to_le_bytes());
        }),
        Meta::F32s(items) => put_array(out, 6, items, |out, v| {
            out.extend_from_slice(&v.to_le_bytes());
        }),
        Meta::Bools(items) => put_array(out, 7, items, |out, v| out.push(u8::from(*v))),
        Meta::Texts(items) => put_array(out, 8, items, |out, v| put_text(out, v)),
    }
}

fn put_array<T>(out: &mut Vec<u8>, kind: u32, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    put_u32(out, 9);
    put_u32(out, kind);
    put_len(out, items.len());
    for item in items {
        put(out, item);
    }
}

fn put_u32(out: &mut Vec<u8>, v: u32) {
    out.extend_from_slice(&v.to_le_bytes());
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    // A usize is at most 64 bits on every platform Rust supports.
    out.extend_from_slice(&(len as u64).to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_len(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_begins_on_the_grid_and_extents_are_reversed() {
        let mut writer = GgufWriter::new(3);
        writer.meta("general.architecture", Meta::Text("llama".into()));
        writer.tensor(Tensor {
            name: "t".into(),
            shape: vec![3, 2],
            stored: WeightType::F32,
            data: vec![7; 24],
        });
        let bytes = writer.bytes();
        assert_eq!(&bytes[..8], b"GGUF\x03\0\0\0");
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        let data = bytes.iter().position(|&b| b == 7);
        // The name, a count, the extents 2 and 3, type and offset come right before it.
        assert_eq!(data.map(|at| at % ALIGNMENT), Some(0));
        let extents = [2u64.to_le_bytes(), 3u64.to_le_bytes()].concat();
        assert!(bytes.windows(16).any(|w| w == extents));
    }
}
