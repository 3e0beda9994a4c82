use std::path::{Path, PathBuf};

use crate::error::{ModelError, shown};

use super::value::ValueType;

/// The header of a GGUF file as it stands in the file, checked once, and where its pairs begin.
/// Values are read out of the header's own bytes, so a vocabulary is in memory once.
#[derive(Debug)]
pub(crate) struct Metadata {
    file: PathBuf,
    header: Vec<u8>,
    /// Offsets of the pairs, sorted by key.
    pairs: Vec<u32>,
}

impl Metadata {
    /// `header` has passed a [`Walk`](super::walk::Walk), which found `pairs`.
    pub(super) fn new(
        file: &Path,
        header: Vec<u8>,
        mut pairs: Vec<u32>,
    ) -> Result<Self, ModelError> {
        let key = |at: &u32| name_at(&header, *at as usize);
        // By offset among equals, so that the second of two is the one that is named.
        pairs.sort_unstable_by(|a, b| key(a).cmp(key(b)).then(a.cmp(b)));
        if let Some(twins) = pairs.windows(2).find(|w| key(&w[0]) == key(&w[1])) {
            return Err(ModelError::Malformed {
                file: file.to_owned(),
                field: shown(&String::from_utf8_lossy(key(&twins[1]))),
                offset: Some(u64::from(twins[1])),
                what: format!("key is there twice, first at byte {}", twins[0]),
            });
        }
        let file = file.to_owned();
        Ok(Self {
            file,
            header,
            pairs,
        })
    }

    /// The file, for messages.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the key is there, whatever its type.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Every key, in the order of the bytes. A key that is not UTF-8 is none that anything reads.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let names = self
            .pairs
            .iter()
            .map(|at| name_at(&self.header, *at as usize));
        names.filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// A number of any type, or a flag as 0 or 1; `None` for a key of another type.
    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        let value = self.find(key)?;
        match value.ty {
            ValueType::Bool => Some(f64::from(self.header[value.at])),
            ValueType::F32 => Some(f32::from_le_bytes(self.take(value.at)).into()),
            ValueType::F64 => Some(f64::from_le_bytes(self.take(value.at))),
            // Whole numbers past 2^53 are none that a rule names.
            _ => self.integer(value).map(|number| match number {
                Ok(number) => number as f64,
                Err(number) => number as f64,
            }),
        }
    }

    /// A string.
    pub(crate) fn str(&self, key: &str) -> Result<Option<&str>, ModelError> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        if value.ty != ValueType::String {
            return Err(self.wrong_type(key, value, "string"));
        }
        let bytes = name_at(&self.header, value.at);
        let text = std::str::from_utf8(bytes);
        text.map(Some)
            .map_err(|_| self.malformed(key, value.at, "the string is not UTF-8".to_owned()))
    }

    /// A whole number of any integer type, zero or more.
    pub(crate) fn u64(&self, key: &str) -> Result<Option<u64>, ModelError> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        match self.integer(value) {
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(number)) => {
                Err(self.malformed(key, value.at, format!("{number} is less than zero")))
            }
            None => Err(self.wrong_type(key, value, "whole number")),
        }
    }

    /// A whole number below 2^32.
    pub(crate) fn u32(&self, key: &str) -> Result<Option<u32>, ModelError> {
        let Some(number) = self.u64(key)? else {
            return Ok(None);
        };
        let small = u32::try_from(number);
        small.map(Some).map_err(|_| {
            let at = self.find(key).map_or(0, |value| value.at);
            self.malformed(key, at, format!("{number} does not fit in 32 bits"))
        })
    }

    /// A finite number of either float type.
    pub(crate) fn f32(&self, key: &str) -> Result<Option<f32>, ModelError> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        let number = match value.ty {
            ValueType::F32 => f32::from_le_bytes(self.take(value.at)),
            // Keys of this kind are written as f32; the nearest one is what a writer meant.
            ValueType::F64 => f64::from_le_bytes(self.take(value.at)) as f32,
            _ => return Err(self.wrong_type(key, value, "f32")),
        };
        if !number.is_finite() {
            return Err(self.malformed(key, value.at, format!("{number} is not finite")));
        }
        Ok(Some(number))
    }

    /// A bool.
    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>, ModelError> {
        match self.find(key) {
            None => Ok(None),
            Some(value) if value.ty == ValueType::Bool => Ok(Some(self.header[value.at] == 1)),
            Some(value) => Err(self.wrong_type(key, value, "bool")),
        }
    }

    /// An array of strings, read out one by one.
    pub(crate) fn strings(&self, key: &str) -> Result<Option<Strings<'_>>, ModelError> {
        let Some(array) = self.array(key, "array of strings", &[ValueType::String])? else {
            return Ok(None);
        };
        Ok(Some(Strings {
            metadata: self,
            key: key.to_owned(),
            at: array.at,
            index: 0,
            len: array.len,
        }))
    }

    /// An array of f32.
    pub(crate) fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(array) = self.array(key, "array of f32", &[ValueType::F32])? else {
            return Ok(None);
        };
        let bytes = &self.header[array.at..array.at + array.len * 4];
        let numbers = bytes.as_chunks::<4>().0.iter();
        Ok(Some(numbers.map(|b| f32::from_le_bytes(*b)).collect()))
    }

    /// An array of 32-bit integers, signed or not; the unsigned must be below 2^31.
    pub(crate) fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, ModelError> {
        let types = [ValueType::I32, ValueType::U32];
        let Some(array) = self.array(key, "array of i32", &types)? else {
            return Ok(None);
        };
        let bytes = &self.header[array.at..array.at + array.len * 4];
        let numbers = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| i32::from_le_bytes(*b));
        let numbers: Vec<i32> = numbers.collect();
        if array.ty == ValueType::U32
            && let Some(index) = numbers.iter().position(|n| *n < 0)
        {
            let what = format!("element {index} is over {}", i32::MAX);
            return Err(self.malformed(key, array.at + 4 * index, what));
        }
        Ok(Some(numbers))
    }

    /// An array of bools; anything but 0 counts as true, as in llama.cpp.
    pub(crate) fn bools(&self, key: &str) -> Result<Option<Vec<bool>>, ModelError> {
        let Some(array) = self.array(key, "array of bools", &[ValueType::Bool])? else {
            return Ok(None);
        };
        let bytes = &self.header[array.at..array.at + array.len];
        Ok(Some(bytes.iter().map(|b| *b != 0).collect()))
    }

    /// What `value` holds, or the error that says that `key` is missing.
    pub(crate) fn required<T>(
        &self,
        key: &str,
        value: Result<Option<T>, ModelError>,
    ) -> Result<T, ModelError> {
        value?.ok_or_else(|| ModelError::Missing {
            file: self.file.clone(),
            field: key.to_owned(),
            remedy: "convert the model again with a converter that writes it".to_owned(),
        })
    }

    /// The error that says what is wrong with the value of `key`.
    pub(crate) fn refuse(&self, key: &str, what: String) -> ModelError {
        let at = self.find(key).map_or(0, |value| value.at);
        self.malformed(key, at, what)
    }

    /// The error that says that the value of `key` names something that is not built.
    pub(crate) fn unsupported(&self, key: &str, found: String, supported: String) -> ModelError {
        ModelError::Unsupported {
            file: self.file.clone(),
            field: key.to_owned(),
            offset: self.find(key).map(|value| value.at as u64),
            found,
            supported,
        }
    }

    /// The header's own bytes.
    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }

    fn find(&self, key: &str) -> Option<Value> {
        let name = |at: &u32| name_at(&self.header, *at as usize);
        let found = self
            .pairs
            .binary_search_by(|at| name(at).cmp(key.as_bytes()));
        let at = self.pairs[found.ok()?] as usize + 8 + key.len();
        let ty = ValueType::from_id(u32::from_le_bytes(self.take(at)))?;
        Some(Value { ty, at: at + 4 })
    }

    fn integer(&self, value: Value) -> Option<Result<u64, i64>> {
        let at = value.at;
        let signed = match value.ty {
            ValueType::U8 => return Some(Ok(u64::from(self.header[at]))),
            ValueType::U16 => return Some(Ok(u16::from_le_bytes(self.take(at)).into())),
            ValueType::U32 => return Some(Ok(u32::from_le_bytes(self.take(at)).into())),
            ValueType::U64 => return Some(Ok(u64::from_le_bytes(self.take(at)))),
            ValueType::I8 => i8::from_le_bytes(self.take(at)).into(),
            ValueType::I16 => i16::from_le_bytes(self.take(at)).into(),
            ValueType::I32 => i32::from_le_bytes(self.take(at)).into(),
            ValueType::I64 => i64::from_le_bytes(self.take(at)),
            _ => return None,
        };
        Some(u64::try_from(signed).map_err(|_| signed))
    }

    fn array(
        &self,
        key: &str,
        wanted: &str,
        types: &[ValueType],
    ) -> Result<Option<Array>, ModelError> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        if value.ty != ValueType::Array {
            return Err(self.wrong_type(key, value, wanted));
        }
        let ty = ValueType::from_id(u32::from_le_bytes(self.take(value.at)));
        let Some(ty) = ty.filter(|ty| types.contains(ty)) else {
            let name = ty.map_or("unknown", ValueType::name);
            let what = format!("an array of {name}, not the {wanted} it must be");
            return Err(self.malformed(key, value.at, what));
        };
        // The walk has held the count below the header's length.
        let len = u64::from_le_bytes(self.take(value.at + 4)) as usize;
        let at = value.at + 12;
        Ok(Some(Array { ty, len, at }))
    }

    fn take<const N: usize>(&self, at: usize) -> [u8; N] {
        take(&self.header, at)
    }

    fn wrong_type(&self, key: &str, value: Value, wanted: &str) -> ModelError {
        let what = format!(
            "a value of type {}, not the {wanted} it must be",
            value.ty.name()
        );
        self.malformed(key, value.at, what)
    }

    fn malformed(&self, key: &str, at: usize, what: String) -> ModelError {
        ModelError::Malformed {
            file: self.file.clone(),
            field: key.to_owned(),
            offset: Some(at as u64),
            what,
        }
    }
}

/// The strings of an array, in order.
#[derive(Debug)]
pub(crate) struct Strings<'a> {
    metadata: &'a Metadata,
    key: String,
    at: usize,
    index: usize,
    len: usize,
}

impl<'a> Iterator for Strings<'a> {
    type Item = Result<&'a str, ModelError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index == self.len {
            return None;
        }
        let (at, index) = (self.at, self.index);
        let bytes = name_at(&self.metadata.header, at);
        self.at += 8 + bytes.len();
        self.index += 1;
        Some(std::str::from_utf8(bytes).map_err(|_| {
            let what = format!("string {index} is not UTF-8");
            self.metadata.malformed(&self.key, at, what)
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len - self.index, Some(self.len - self.index))
    }
}

impl ExactSizeIterator for Strings<'_> {}

/// A value by the offset of its first byte.
#[derive(Clone, Copy)]
struct Value {
    ty: ValueType,
    at: usize,
}

/// An array by the offset of its first element.
struct Array {
    ty: ValueType,
    len: usize,
    at: usize,
}

/// The `N` bytes at `at` of a header that has been walked.
pub(super) fn take<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

/// The bytes of the string whose length is at `at` of a header that has been walked.
pub(super) fn name_at(header: &[u8], at: usize) -> &[u8] {
    // The walk has held the length below the header's.
    let len = u64::from_le_bytes(take(header, at)) as usize;
    &header[at + 8..at + 8 + len]
}
