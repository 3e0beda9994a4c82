use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

use gogrid_units::WeightType;

use crate::error::{ModelError, shown};
use crate::limits::ALIGNMENT_MAX;
use crate::tensors::{Tensor, TensorSource, weight_type_names};

use super::metadata::{Metadata, name_at, take};
use super::walk::{Item, Walk};

/// A GGUF file's header: its pairs, and its tensors, every one checked.
#[derive(Debug)]
pub(crate) struct Gguf {
    metadata: Metadata,
    /// Offsets of the tensors' descriptions, sorted by name.
    tensors: Vec<u32>,
    /// Offset of the first tensor's data.
    data_at: u64,
}

impl Gguf {
    /// Reads and checks the header of `file`, which is open for reading at its start.
    pub(crate) fn open(path: &Path, file: &File) -> Result<Self, ModelError> {
        let len = file.metadata().map_err(|source| ModelError::Io {
            file: path.to_owned(),
            action: "read the length".to_owned(),
            source,
        })?;
        Self::read(path, BufReader::new(file), len.len())
    }

    /// Reads and checks a header from `source`, which stands at the start of `len` bytes.
    pub(crate) fn read(
        path: &Path,
        mut source: impl Read + Seek,
        len: u64,
    ) -> Result<Self, ModelError> {
        let (mut pairs, mut tensors) = (0, 0);
        let header_len = Walk::new(&mut source, len, path).header(&mut |item| match item {
            Item::Pair(_) => pairs += 1,
            Item::Tensor(_) => tensors += 1,
        })?;
        let header = reread(path, source, header_len)?;

        let mut pairs = Vec::with_capacity(pairs);
        let mut tensors = Vec::with_capacity(tensors);
        let again = Walk::new(Cursor::new(&header), header_len, path);
        // The limit on headers keeps every offset below 2^32.
        let again = again.header(&mut |item| match item {
            Item::Pair(at) => pairs.push(at as u32),
            Item::Tensor(at) => tensors.push(at as u32),
        })?;
        if again != header_len {
            let what = format!("{header_len} bytes long, then {again}: the file is being written");
            return Err(malformed(path, "header", 0, what));
        }
        let metadata = Metadata::new(path, header, pairs)?;
        Self::check(metadata, tensors, len)
    }

    /// The pairs.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn check(metadata: Metadata, tensors: Vec<u32>, len: u64) -> Result<Self, ModelError> {
        let header_len = metadata.header().len() as u64;
        let alignment = alignment(&metadata)?;
        // Both are far below 2^63, by the limits.
        let data_at = header_len.next_multiple_of(alignment);
        let mut gguf = Self {
            metadata,
            tensors,
            data_at,
        };
        gguf.refuse_twins()?;
        gguf.refuse_bad_extents(alignment, len)?;
        gguf.sort_by_name();
        Ok(gguf)
    }

    fn sort_by_name(&mut self) {
        let header = self.metadata.header();
        let name = |at: &u32| name_at(header, *at as usize);
        self.tensors
            .sort_unstable_by(|a, b| name(a).cmp(name(b)).then(a.cmp(b)));
    }

    fn refuse_twins(&mut self) -> Result<(), ModelError> {
        self.sort_by_name();
        let name = |at: u32| name_at(self.metadata.header(), at as usize);
        let twins = self.tensors.windows(2).find(|w| name(w[0]) == name(w[1]));
        let Some(&[first, second]) = twins else {
            return Ok(());
        };
        let what = format!("tensor is there twice, first at byte {first}");
        Err(self.malformed(second, u64::from(second), what))
    }

    /// Leaves the tensors sorted by offset.
    fn refuse_bad_extents(&mut self, alignment: u64, len: u64) -> Result<(), ModelError> {
        let header = self.metadata.header();
        self.tensors
            .sort_unstable_by_key(|at| (Description::at(header, *at).offset(header), *at));
        let mut last: Option<(u32, u64)> = None;
        for &at in &self.tensors {
            let (start, end) = self.extent(at, alignment, len)?;
            if let Some((before, until)) = last
                && start < until
            {
                let before = self.shown(before);
                let what = format!(
                    "data at bytes {start}..{end} overlaps that of {before}, which ends at {until}"
                );
                return Err(self.malformed(at, u64::from(at), what));
            }
            last = Some((at, end));
        }
        Ok(())
    }

    /// Where the data of the tensor described at `at` begins and ends in the file.
    fn extent(&self, at: u32, alignment: u64, len: u64) -> Result<(u64, u64), ModelError> {
        let header = self.metadata.header();
        let description = Description::at(header, at);
        let bytes = self.data_bytes(at, &description)?;
        let offset = description.offset(header);
        let offset_at = description.offset_at as u64;
        if !offset.is_multiple_of(alignment) {
            let what = format!("offset {offset} is not a multiple of the alignment {alignment}");
            return Err(self.malformed(at, offset_at, what));
        }
        let start = self.data_at.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(bytes));
        match (start, end) {
            (Some(start), Some(end)) if end <= len => Ok((start, end)),
            _ => {
                let what = format!(
                    "{bytes} bytes of data at offset {offset} end after the file's {len} bytes; \
                     is the download complete?"
                );
                Err(self.malformed(at, offset_at, what))
            }
        }
    }

    fn data_bytes(&self, at: u32, description: &Description) -> Result<u64, ModelError> {
        let header = self.metadata.header();
        let ty = self.weight_type(at, description)?;
        let mut rows = 1_usize;
        let mut cols = 1_usize;
        for (index, length) in description.lengths(header).enumerate() {
            let length_at = description.lengths_at as u64 + 8 * index as u64;
            let length = usize::try_from(length).ok().filter(|length| *length > 0);
            let wrong = |what: &str| self.malformed(at, length_at, what.to_owned());
            let length =
                length.ok_or_else(|| wrong("a dimension is 0 or over the address space"))?;
            let target = if index == 0 { &mut cols } else { &mut rows };
            *target = target
                .checked_mul(length)
                .ok_or_else(|| wrong("the product of the dimensions overflows"))?;
        }
        let row = ty.row_bytes(cols).ok_or_else(|| {
            let (block, at_byte) = (ty.block_len(), description.lengths_at as u64);
            let what = format!("a row of {cols} values is not whole {ty} blocks of {block}");
            self.malformed(at, at_byte, what)
        })?;
        let bytes = row.checked_mul(rows).ok_or_else(|| {
            let what = "the product of the dimensions overflows".to_owned();
            self.malformed(at, description.lengths_at as u64, what)
        })?;
        Ok(bytes as u64)
    }

    fn weight_type(&self, at: u32, description: &Description) -> Result<WeightType, ModelError> {
        let id = u32::from_le_bytes(take(self.metadata.header(), description.ty_at));
        weight_type(id).ok_or_else(|| ModelError::Unsupported {
            file: self.metadata.file().to_owned(),
            field: self.shown(at),
            offset: Some(description.ty_at as u64),
            found: format!("weight type {}", ggml_name(id)),
            supported: weight_type_names(),
        })
    }

    fn shown(&self, at: u32) -> String {
        let name = name_at(self.metadata.header(), at as usize);
        shown(&String::from_utf8_lossy(name))
    }

    fn malformed(&self, at: u32, offset: u64, what: String) -> ModelError {
        malformed(self.metadata.file(), &self.shown(at), offset, what)
    }
}

impl TensorSource for Gguf {
    fn find(&self, name: &str) -> Option<Tensor> {
        let header = self.metadata.header();
        let name_of = |at: &u32| name_at(header, *at as usize);
        let found = self
            .tensors
            .binary_search_by(|at| name_of(at).cmp(name.as_bytes()));
        let at = self.tensors[found.ok()?];
        let description = Description::at(header, at);
        // Lengths were held against the address space when the file was opened.
        let mut shape: Vec<usize> = description.lengths(header).map(|n| n as usize).collect();
        shape.reverse();
        Some(Tensor {
            name: name.to_owned(),
            ty: weight_type(u32::from_le_bytes(take(header, description.ty_at)))?,
            shape,
            file: 0,
            offset: self.data_at + description.offset(header),
            described_at: Some(u64::from(at)),
        })
    }

    fn names(&self, visit: &mut dyn FnMut(&str)) {
        for at in &self.tensors {
            let name = name_at(self.metadata.header(), *at as usize);
            visit(&String::from_utf8_lossy(name));
        }
    }

    fn missing(&self, name: &str) -> ModelError {
        ModelError::Missing {
            file: self.metadata.file().to_owned(),
            field: format!("tensor {name}"),
            remedy: "the file is incomplete or of another architecture than it says".to_owned(),
        }
    }

    fn refuse(&self, tensor: &Tensor, what: String) -> ModelError {
        ModelError::Malformed {
            file: self.metadata.file().to_owned(),
            field: shown(&tensor.name),
            offset: tensor.described_at,
            what,
        }
    }
}

/// Where the parts of a tensor's description are.
struct Description {
    dimensions: usize,
    lengths_at: usize,
    ty_at: usize,
    offset_at: usize,
}

impl Description {
    fn at(header: &[u8], at: u32) -> Self {
        let at = at as usize;
        let dimensions_at = at + 8 + name_at(header, at).len();
        let dimensions = u32::from_le_bytes(take(header, dimensions_at)) as usize;
        let lengths_at = dimensions_at + 4;
        let ty_at = lengths_at + 8 * dimensions;
        Self {
            dimensions,
            lengths_at,
            ty_at,
            offset_at: ty_at + 4,
        }
    }

    /// Innermost first, as they are in the file.
    fn lengths(&self, header: &[u8]) -> impl Iterator<Item = u64> {
        let at = self.lengths_at;
        (0..self.dimensions).map(move |i| u64::from_le_bytes(take(header, at + 8 * i)))
    }

    /// Relative to the start of the data.
    fn offset(&self, header: &[u8]) -> u64 {
        u64::from_le_bytes(take(header, self.offset_at))
    }
}

fn reread(path: &Path, mut source: impl Read + Seek, len: u64) -> Result<Vec<u8>, ModelError> {
    // The limit on headers keeps it in the address space.
    let mut header = vec![0; len as usize];
    let read = source
        .rewind()
        .and_then(|()| source.read_exact(&mut header));
    read.map_err(|source| ModelError::Io {
        file: path.to_owned(),
        action: format!("read the {len} bytes of the header again"),
        source,
    })?;
    Ok(header)
}

fn alignment(metadata: &Metadata) -> Result<u64, ModelError> {
    const KEY: &str = "general.alignment";
    // The format's own rule for a file that does not say: 32.
    let alignment = metadata.u64(KEY)?.unwrap_or(32);
    if !alignment.is_power_of_two() || alignment > ALIGNMENT_MAX {
        let what = format!("{alignment} is not a power of two up to {ALIGNMENT_MAX}");
        return Err(metadata.refuse(KEY, what));
    }
    Ok(alignment)
}

fn malformed(path: &Path, field: &str, offset: u64, what: String) -> ModelError {
    ModelError::Malformed {
        file: path.to_owned(),
        field: field.to_owned(),
        offset: Some(offset),
        what,
    }
}

/// The weight type with this number in GGML.
fn weight_type(id: u32) -> Option<WeightType> {
    Some(match id {
        0 => WeightType::F32,
        1 => WeightType::F16,
        2 => WeightType::Q4_0,
        3 => WeightType::Q4_1,
        6 => WeightType::Q5_0,
        7 => WeightType::Q5_1,
        8 => WeightType::Q8_0,
        10 => WeightType::Q2K,
        11 => WeightType::Q3K,
        12 => WeightType::Q4K,
        13 => WeightType::Q5K,
        14 => WeightType::Q6K,
        16 => WeightType::Iq2Xxs,
        17 => WeightType::Iq2Xs,
        18 => WeightType::Iq3Xxs,
        19 => WeightType::Iq1S,
        20 => WeightType::Iq4Nl,
        21 => WeightType::Iq3S,
        22 => WeightType::Iq2S,
        23 => WeightType::Iq4Xs,
        29 => WeightType::Iq1M,
        30 => WeightType::Bf16,
        34 => WeightType::Tq1_0,
        35 => WeightType::Tq2_0,
        39 => WeightType::Mxfp4,
        _ => return None,
    })
}

/// GGML's name for a type that is not supported.
fn ggml_name(id: u32) -> String {
    let name = match id {
        9 => "q8_1",
        15 => "q8_k",
        24 => "i8",
        25 => "i16",
        26 => "i32",
        27 => "i64",
        28 => "f64",
        40 => "nvfp4",
        41 => "q1_0",
        _ => return format!("number {id}"),
    };
    name.to_owned()
}
