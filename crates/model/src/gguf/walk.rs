//! Walks a GGUF header from front to back and allocates nothing that the file could size: the
//! buffer for a name is bounded, and everything else is skipped over.

use std::io::{Read, Seek};
use std::path::Path;

use crate::error::{ModelError, shown};
use crate::limits::{
    ARRAY_DEPTH_MAX, DIMENSIONS_MAX, HEADER_BYTES_MAX, KEY_BYTES_MAX, PAIRS_MAX,
    TENSOR_NAME_BYTES_MAX, TENSORS_MAX,
};

use super::value::ValueType;

/// The least a pair takes: key length, one letter, type, one byte of value.
const PAIR_BYTES_MIN: u64 = 8 + 1 + 4 + 1;
/// The least a tensor takes: name length, one letter, dimensions' count, one dimension, type, offset.
const TENSOR_BYTES_MIN: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// Something in the header, by the offset of its first byte (its name's length).
pub(super) enum Item {
    Pair(u64),
    Tensor(u64),
}

/// A reader that knows where it is and where its end is.
pub(super) struct Walk<'a, R> {
    source: R,
    file: &'a Path,
    at: u64,
    end: u64,
    /// What is being read, for messages.
    field: String,
}

impl<'a, R: Read + Seek> Walk<'a, R> {
    /// A walk over `source`, which stands at its first byte of `end`.
    pub(super) fn new(source: R, end: u64, file: &'a Path) -> Self {
        let field = "magic".to_owned();
        Self {
            source,
            file,
            at: 0,
            end,
            field,
        }
    }

    /// Walks the whole header, calls `on` for each thing in it, and returns the header's length.
    pub(super) fn header(mut self, on: &mut dyn FnMut(Item)) -> Result<u64, ModelError> {
        self.magic()?;
        let tensors = self.count("tensor count", TENSORS_MAX, TENSOR_BYTES_MIN)?;
        let pairs = self.count("key count", PAIRS_MAX, PAIR_BYTES_MIN)?;
        for index in 0..pairs {
            on(Item::Pair(self.at));
            self.pair(index)?;
        }
        for index in 0..tensors {
            on(Item::Tensor(self.at));
            self.tensor(index)?;
        }
        Ok(self.at)
    }

    fn magic(&mut self) -> Result<(), ModelError> {
        let magic = self.take::<4>()?;
        if &magic != b"GGUF" {
            let begins = magic.escape_ascii();
            let what = format!("it begins with \"{begins}\" instead of \"GGUF\"");
            return Err(ModelError::Malformed {
                file: self.file.to_owned(),
                field: "no GGUF file".to_owned(),
                offset: None,
                what,
            });
        }
        self.enter("version");
        let (at, version) = (self.at, self.u32()?);
        let found = match version {
            2 | 3 => return Ok(()),
            v if matches!(v.swap_bytes(), 1..=3) => {
                format!("version {} in big-endian order", v.swap_bytes())
            }
            v => format!("version {v}"),
        };
        Err(ModelError::Unsupported {
            file: self.file.to_owned(),
            field: self.field.clone(),
            offset: Some(at),
            found,
            supported: "versions 2 and 3, little-endian".to_owned(),
        })
    }

    fn count(&mut self, field: &str, max: u64, bytes_min: u64) -> Result<u64, ModelError> {
        self.enter(field);
        let (at, count) = (self.at, self.u64()?);
        if count > max {
            return Err(self.malformed(at, format!("{count} is over the limit of {max}")));
        }
        // Both factors are small constants' worth, so the product cannot overflow.
        self.room(at, count * bytes_min, "entries")?;
        Ok(count)
    }

    fn pair(&mut self, index: u64) -> Result<(), ModelError> {
        self.name(&format!("key {index}"), KEY_BYTES_MAX)?;
        let at = self.at;
        let id = self.u32()?;
        let ty = self.value_type(at, id)?;
        self.value(ty, 0)
    }

    fn value_type(&self, at: u64, id: u32) -> Result<ValueType, ModelError> {
        ValueType::from_id(id).ok_or_else(|| {
            self.malformed(at, format!("value type {id} is unknown; known are 0 to 12"))
        })
    }

    fn value(&mut self, ty: ValueType, depth: usize) -> Result<(), ModelError> {
        match ty {
            ValueType::String => self.string(),
            ValueType::Array => self.array(depth),
            ValueType::Bool => {
                let (at, [byte]) = (self.at, self.take::<1>()?);
                if byte > 1 {
                    let what = format!("a bool is 0 or 1, this one is {byte}");
                    return Err(self.malformed(at, what));
                }
                Ok(())
            }
            _ => self.skip(self.at, ty.bytes().unwrap_or(0)),
        }
    }

    fn string(&mut self) -> Result<(), ModelError> {
        let (at, len) = (self.at, self.u64()?);
        self.skip(at, len)
    }

    fn array(&mut self, depth: usize) -> Result<(), ModelError> {
        let at = self.at;
        if depth == ARRAY_DEPTH_MAX {
            let what = format!("arrays are nested deeper than {ARRAY_DEPTH_MAX}");
            return Err(self.malformed(at, what));
        }
        let id = self.u32()?;
        let ty = self.value_type(at, id)?;
        let (at, count) = (self.at, self.u64()?);
        if let Some(bytes) = ty.bytes() {
            let len = count
                .checked_mul(bytes)
                .ok_or_else(|| self.malformed(at, format!("{count} elements overflow")))?;
            return self.skip(at, len);
        }
        self.room(at, count.saturating_mul(ty.bytes_min()), "elements")?;
        for _ in 0..count {
            self.value(ty, depth + 1)?;
        }
        Ok(())
    }

    fn tensor(&mut self, index: u64) -> Result<(), ModelError> {
        self.name(&format!("tensor {index}"), TENSOR_NAME_BYTES_MAX)?;
        let (at, dimensions) = (self.at, self.u32()?);
        if dimensions == 0 || dimensions > DIMENSIONS_MAX {
            let what = format!("{dimensions} dimensions; between 1 and {DIMENSIONS_MAX} expected");
            return Err(self.malformed(at, what));
        }
        // Dimensions, type and offset.
        self.skip(self.at, u64::from(dimensions) * 8 + 4 + 8)
    }

    /// Reads a name and makes it the current field.
    fn name(&mut self, field: &str, max: u64) -> Result<(), ModelError> {
        self.enter(field);
        let (at, len) = (self.at, self.u64()?);
        if len == 0 || len > max {
            let what = format!("name of {len} bytes; between 1 and {max} expected");
            return Err(self.malformed(at, what));
        }
        self.room(at, len, "bytes of name")?;
        // `len` is at most `max`, a small constant.
        let mut name = vec![0; len as usize];
        self.read(&mut name)?;
        match std::str::from_utf8(&name) {
            Ok(name) => {
                self.field = shown(name);
                Ok(())
            }
            Err(_) => {
                let start = &name[..name.len().min(80)];
                let name = start.escape_ascii();
                Err(self.malformed(at + 8, format!("name \"{name}\" is not UTF-8")))
            }
        }
    }

    fn enter(&mut self, field: &str) {
        self.field.clear();
        self.field.push_str(field);
    }

    fn u32(&mut self) -> Result<u32, ModelError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ModelError> {
        self.take().map(u64::from_le_bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut bytes = [0; N];
        self.room(self.at, N as u64, "bytes")?;
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), ModelError> {
        let read = self.source.read_exact(bytes);
        read.map_err(|source| self.io(bytes.len() as u64, source))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Passes over `len` bytes that a field at `at` speaks of.
    fn skip(&mut self, at: u64, len: u64) -> Result<(), ModelError> {
        self.room(at, len, "bytes")?;
        // `room` holds it below the header's limit.
        let moved = self.source.seek_relative(len as i64);
        moved.map_err(|source| self.io(len, source))?;
        self.at += len;
        Ok(())
    }

    /// Refuses when less than `want` bytes are left of the file, or of what a header may take.
    fn room(&self, at: u64, want: u64, of: &str) -> Result<(), ModelError> {
        let left = self.end - self.at;
        if want > left {
            let what = format!("{want} bytes expected ({of}), the file has {left} left");
            return Err(self.malformed(at, what));
        }
        if self.at + want > HEADER_BYTES_MAX {
            let what = format!("the header is longer than the limit of {HEADER_BYTES_MAX} bytes");
            return Err(self.malformed(at, what));
        }
        Ok(())
    }

    fn malformed(&self, at: u64, what: String) -> ModelError {
        ModelError::Malformed {
            file: self.file.to_owned(),
            field: self.field.clone(),
            offset: Some(at),
            what,
        }
    }

    fn io(&self, len: u64, source: std::io::Error) -> ModelError {
        ModelError::Io {
            file: self.file.to_owned(),
            action: format!("read {len} bytes at byte {} ({})", self.at, self.field),
            source,
        }
    }
}
