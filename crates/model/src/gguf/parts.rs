//! A model's GGUF files: one, or the parts that `llama-gguf-split` makes of one. The first part has all
//! keys; each has tensors of its own, and says which part of how many it is.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{ModelError, shown};
use crate::files::{Files, malformed};
use crate::limits::{HEADER_BYTES_MAX, PARTS_MAX, TENSORS_MAX};
use crate::tensors::{Tensor, TensorSource};

use super::metadata::Metadata;
use super::tensors::Gguf;

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";
const WHAT_TO_DO: &str = "put all parts of the model into one folder under the names that they were made with, or \
     join them with llama-gguf-split --merge";

/// The headers of all parts of a model, in their order.
#[derive(Debug)]
pub(crate) struct GgufFiles {
    first: Gguf,
    others: Vec<Gguf>,
    /// The part that a tensor is in. Empty where there is one part.
    places: HashMap<String, usize>,
}

impl GgufFiles {
    /// Opens the file at `path` and, if it is a part of a model, all other parts, and keeps them in
    /// files: part `i` has the index `i`.
    pub(crate) fn open(path: &Path) -> Result<(Self, Files), ModelError> {
        let mut files = Files::default();
        let opened = add(path, &mut files)?;
        let Some(names) = PartNames::of(path, opened.metadata())? else {
            let whole = Self {
                first: opened,
                others: Vec::new(),
                places: HashMap::new(),
            };
            return Ok((whole, files));
        };
        if names.opened == 0 {
            return Self::open_others(&names, opened, files);
        }
        let mut files = Files::default();
        let first = names.add(0, None, &mut files)?;
        Self::open_others(&names, first, files)
    }

    fn open_others(
        names: &PartNames,
        first: Gguf,
        mut files: Files,
    ) -> Result<(Self, Files), ModelError> {
        let mut parts = Self {
            first,
            others: Vec::new(),
            places: HashMap::new(),
        };
        parts.place(0)?;
        let mut bytes = parts.first.metadata().header().len() as u64;
        for number in 1..names.count {
            let part = names.add(number, Some(parts.first.metadata()), &mut files)?;
            bytes += part.metadata().header().len() as u64;
            if bytes > HEADER_BYTES_MAX {
                let what = format!("all parts together have over {HEADER_BYTES_MAX} bytes of them");
                return Err(malformed(part.metadata().file(), "header", what));
            }
            parts.others.push(part);
            parts.place(number)?;
        }
        parts.check_count()?;
        Ok((parts, files))
    }

    /// The pairs of the first part, which has all of the model.
    pub(crate) fn metadata(&self) -> &Metadata {
        self.first.metadata()
    }

    fn part(&self, number: usize) -> &Gguf {
        match number.checked_sub(1) {
            None => &self.first,
            Some(other) => &self.others[other],
        }
    }

    /// Notes where the tensors of a part are.
    fn place(&mut self, number: usize) -> Result<(), ModelError> {
        let mut names = Vec::new();
        self.part(number)
            .names(&mut |name| names.push(name.to_owned()));
        for name in names {
            if let Some(before) = self.places.get(&name) {
                let before = self.part(*before).metadata().file().display();
                let what = format!("the tensor is in {before} too; {WHAT_TO_DO}");
                return Err(malformed(
                    self.part(number).metadata().file(),
                    &shown(&name),
                    what,
                ));
            }
            self.places.insert(name, number);
        }
        match self.places.len() as u64 > TENSORS_MAX {
            true => {
                let what = format!("all parts together have more than {TENSORS_MAX} tensors");
                Err(malformed(
                    self.part(number).metadata().file(),
                    "header",
                    what,
                ))
            }
            false => Ok(()),
        }
    }

    /// Whether there are as many tensors as the first part says.
    fn check_count(&self) -> Result<(), ModelError> {
        let metadata = self.metadata();
        let there = self.places.len() as u64;
        match metadata.u64(TENSORS)? {
            Some(count) if count != there => {
                let what =
                    format!("{count}, and the parts have {there} together; are all of one model?");
                Err(metadata.refuse(TENSORS, what))
            }
            _ => Ok(()),
        }
    }
}

impl TensorSource for GgufFiles {
    fn find(&self, name: &str) -> Option<Tensor> {
        if self.others.is_empty() {
            return self.first.find(name);
        }
        let file = *self.places.get(name)?;
        let tensor = self.part(file).find(name)?;
        Some(Tensor { file, ..tensor })
    }

    fn names(&self, visit: &mut dyn FnMut(&str)) {
        self.first.names(visit);
        for part in &self.others {
            part.names(visit);
        }
    }

    fn missing(&self, name: &str) -> ModelError {
        self.first.missing(name)
    }

    fn refuse(&self, tensor: &Tensor, what: String) -> ModelError {
        self.part(tensor.file).refuse(tensor, what)
    }
}

/// What the parts of a model are called: `NAME-00001-of-00003.gguf`, in one folder.
struct PartNames {
    /// The file that was asked for.
    path: PathBuf,
    /// What comes before the first part's number.
    stem: String,
    /// The number, from 0 on, of the part that was asked for.
    opened: usize,
    count: usize,
}

impl PartNames {
    /// The names of all parts of which the file at `path` is one; `None` where it is a model by itself.
    fn of(path: &Path, metadata: &Metadata) -> Result<Option<Self>, ModelError> {
        let count = match metadata.u64(COUNT)? {
            None | Some(0 | 1) => return Ok(None),
            Some(count) if count > PARTS_MAX as u64 => {
                let what = format!("{count} parts are over the limit of {PARTS_MAX}");
                return Err(metadata.refuse(COUNT, what));
            }
            // Within the limit.
            Some(count) => count as usize,
        };
        let number = metadata.required(NUMBER, metadata.u64(NUMBER))?;
        if number >= count as u64 {
            let what = format!("{number}, counted from 0, of {count} parts");
            return Err(metadata.refuse(NUMBER, what));
        }
        let opened = number as usize;
        let ending = ending(opened, count);
        let name = path.file_name().and_then(|name| name.to_str());
        let stem = name.and_then(|name| name.strip_suffix(ending.as_str()));
        let Some(stem) = stem else {
            let what = format!(
                "part {} of {count}, of which the file's name must end in {ending}; {WHAT_TO_DO}",
                opened + 1
            );
            return Err(metadata.refuse(NUMBER, what));
        };
        Ok(Some(Self {
            path: path.to_owned(),
            stem: stem.to_owned(),
            opened,
            count,
        }))
    }

    /// Opens a part, which must say that it is this one, and have no keys that only a first part has.
    fn add(
        &self,
        number: usize,
        first: Option<&Metadata>,
        files: &mut Files,
    ) -> Result<Gguf, ModelError> {
        let name = format!("{}{}", self.stem, ending(number, self.count));
        let path = self.path.with_file_name(&name);
        let part = add(&path, files).map_err(|error| match error {
            ModelError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ModelError::Missing {
                    file: self.path.clone(),
                    field: format!("part {} of {}, {}", number + 1, self.count, shown(&name)),
                    remedy: WHAT_TO_DO.to_owned(),
                }
            }
            error => error,
        })?;
        let metadata = part.metadata();
        let expected = [
            (NUMBER, Some(number as u64)),
            (COUNT, Some(self.count as u64)),
            (
                TENSORS,
                first.map(|first| first.u64(TENSORS)).transpose()?.flatten(),
            ),
        ];
        for (key, expected) in expected {
            let found = metadata.u64(key)?;
            let is_known = key != TENSORS || first.is_some() && found.is_some();
            if is_known && found != expected {
                let said =
                    |value: Option<u64>| value.map_or("nothing".to_owned(), |v| v.to_string());
                let what = format!(
                    "{} where {} belongs to this part; it is of another model. {WHAT_TO_DO}",
                    said(found),
                    said(expected)
                );
                return Err(malformed(&path, key, what));
            }
        }
        if first.is_some() {
            refuse_keys(metadata)?;
        }
        Ok(part)
    }
}

/// Refuses keys that no loader reads in a part after the first.
fn refuse_keys(metadata: &Metadata) -> Result<(), ModelError> {
    let mut keys = metadata.keys();
    let stranger = keys.find(|key| !key.starts_with("split.") && !key.starts_with("general."));
    match stranger {
        None => Ok(()),
        Some(key) => {
            let what = format!("a key that only the first of a model's parts has. {WHAT_TO_DO}");
            Err(malformed(metadata.file(), &shown(key), what))
        }
    }
}

/// How the name of a part ends.
fn ending(number: usize, count: usize) -> String {
    format!("-{:05}-of-{count:05}.gguf", number + 1)
}

/// Opens a file, keeps it in `files`, and reads its header.
fn add(path: &Path, files: &mut Files) -> Result<Gguf, ModelError> {
    let (_, header): (usize, File) = files.add(path)?;
    Gguf::open(path, &header)
}
