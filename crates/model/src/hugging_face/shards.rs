use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use gogrid_units::WeightType;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;

use crate::error::{ModelError, shown};
use crate::files::Files;
use crate::json_values::ValueLimit;
use crate::limits::{
    INDEX_BYTES_MAX, INDEX_VALUES_MAX, SAFETENSORS_HEADER_BYTES_MAX, SAFETENSORS_HEADER_VALUES_MAX,
    SHARDS_MAX, TENSORS_MAX,
};
use crate::tensors::{Tensor, TensorSource};

use super::config::{json_offset, read_json};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The tensors of all safetensors files of a directory.
#[derive(Debug)]
pub(crate) struct Shards {
    directory: PathBuf,
    /// By the files' index in the model.
    paths: Vec<PathBuf>,
    tensors: HashMap<String, Tensor>,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    /// From a tensor's name to its file's.
    weight_map: HashMap<String, String>,
}

impl Shards {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` lists, and
    /// keeps them in `files`.
    pub(crate) fn open(directory: &Path, files: &mut Files) -> Result<Self, ModelError> {
        let mut shards = Self {
            directory: directory.to_owned(),
            paths: Vec::new(),
            tensors: HashMap::new(),
        };
        let index = directory.join(INDEX);
        if directory.join(SINGLE).is_file() {
            shards.add(SINGLE, files)?;
        } else if index.is_file() {
            shards.add_all(&index, files)?;
        } else {
            return Err(ModelError::Missing {
                file: directory.to_owned(),
                field: format!("{SINGLE} or {INDEX}"),
                remedy: "only safetensors weights are read; convert pytorch files first".to_owned(),
            });
        }
        Ok(shards)
    }

    fn add_all(&mut self, path: &Path, files: &mut Files) -> Result<(), ModelError> {
        let index: Index = read_json(path, (INDEX_BYTES_MAX, INDEX_VALUES_MAX))?;
        let wrong = |field: &str, what: String| ModelError::Malformed {
            file: path.to_owned(),
            field: shown(field),
            offset: None,
            what,
        };
        let names: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
        if names.len() > SHARDS_MAX {
            let what = format!("{} shards are over the limit of {SHARDS_MAX}", names.len());
            return Err(wrong("weight_map", what));
        }
        for name in &names {
            if !is_plain_name(name) {
                let what = format!("{:?} is not the name of a file here", shown(name));
                return Err(wrong("weight_map", what));
            }
            self.add(name, files)?;
        }
        for (tensor, shard) in &index.weight_map {
            let found = self.tensors.get(tensor).map(|t| &self.paths[t.file]);
            if found.is_none_or(|path| !path.ends_with(shard)) {
                let what = format!("tensor is not in {}", shown(shard));
                return Err(wrong(tensor, what));
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, files: &mut Files) -> Result<(), ModelError> {
        let path = self.directory.join(name);
        let (index, mut file) = files.add(&path)?;
        let (header, data_at) = Header { path: &path }.read(&mut file)?;
        if (self.tensors.len() + header.tensors().len()) as u64 > TENSORS_MAX {
            let what = format!("more than {TENSORS_MAX} tensors");
            return Err(Header { path: &path }.wrong("header", None, what));
        }
        let shard = Shard {
            path: &path,
            file: index,
            data_at,
        };
        for (name, info) in header.tensors() {
            let tensor = shard.tensor(&name, info)?;
            if self.tensors.insert(name.clone(), tensor).is_some() {
                let what = "tensor is in two shards".to_owned();
                return Err(Header { path: &path }.wrong(&name, None, what));
            }
        }
        self.paths.push(path);
        Ok(())
    }
}

impl TensorSource for Shards {
    fn find(&self, name: &str) -> Option<Tensor> {
        self.tensors.get(name).cloned()
    }

    fn names(&self, visit: &mut dyn FnMut(&str)) {
        for name in self.tensors.keys() {
            visit(name);
        }
    }

    fn missing(&self, name: &str) -> ModelError {
        ModelError::Missing {
            file: self.directory.clone(),
            field: format!("tensor {name}"),
            remedy: "are all shards there, and is config.json the one of these weights?".to_owned(),
        }
    }

    fn refuse(&self, tensor: &Tensor, what: String) -> ModelError {
        let path = &self.paths[tensor.file];
        Header { path }.wrong(&tensor.name, Some(tensor.offset), what)
    }
}

/// Reads one file's header.
struct Header<'a> {
    path: &'a Path,
}

impl Header<'_> {
    /// The header, and the offset of the data after it. Its crate checks that tensors follow each
    /// other without gap or overlap and that sizes agree with shapes.
    fn read(&self, file: &mut File) -> Result<(Metadata, u64), ModelError> {
        let io = |source| ModelError::Io {
            file: self.path.to_owned(),
            action: "read the header".to_owned(),
            source,
        };
        let file_len = file.metadata().map_err(io)?.len();
        if file_len < 8 {
            let what = format!("{file_len} bytes are too short for safetensors");
            return Err(self.wrong("header length", Some(0), what));
        }
        let mut len = [0; 8];
        file.read_exact(&mut len).map_err(io)?;
        let len = u64::from_le_bytes(len);
        if len > file_len - 8 || len > SAFETENSORS_HEADER_BYTES_MAX {
            let what = format!(
                "{len} bytes; the file has {} left and the limit is {SAFETENSORS_HEADER_BYTES_MAX}",
                file_len - 8
            );
            return Err(self.wrong("header length", Some(0), what));
        }
        // Held against the limit just now.
        let mut text = vec![0; len as usize];
        file.read_exact(&mut text).map_err(io)?;
        ValueLimit::of_all(SAFETENSORS_HEADER_VALUES_MAX)
            .check(&text)
            .map_err(|what| self.wrong("header", Some(8), what))?;
        let metadata: Metadata = serde_json::from_slice(&text).map_err(|error| {
            let offset = json_offset(&text, &error).map_or(8, |at| at + 8);
            self.wrong("header", Some(offset), error.to_string())
        })?;
        let end = metadata.tensors().values().map(|t| t.data_offsets.1).max();
        let data_at = 8 + len;
        let expected = data_at.saturating_add(end.unwrap_or(0) as u64);
        if expected != file_len {
            let what = format!("{expected} bytes expected, the file has {file_len}");
            return Err(self.wrong("data", Some(data_at), what));
        }
        Ok((metadata, data_at))
    }

    fn wrong(&self, field: &str, offset: Option<u64>, what: String) -> ModelError {
        ModelError::Malformed {
            file: self.path.to_owned(),
            field: shown(field),
            offset,
            what,
        }
    }
}

/// A file whose header has been read.
struct Shard<'a> {
    path: &'a Path,
    /// Its place among the model's files.
    file: usize,
    /// The byte at which its data begins.
    data_at: u64,
}

impl Shard<'_> {
    fn tensor(&self, name: &str, info: &TensorInfo) -> Result<Tensor, ModelError> {
        let offset = self.data_at + info.data_offsets.0 as u64;
        let ty = match info.dtype {
            Dtype::F32 => WeightType::F32,
            Dtype::F16 => WeightType::F16,
            Dtype::BF16 => WeightType::Bf16,
            other => {
                return Err(ModelError::Unsupported {
                    file: self.path.to_owned(),
                    field: shown(name),
                    offset: Some(offset),
                    found: format!("type {other:?}"),
                    supported: "F32, F16, BF16".to_owned(),
                });
            }
        };
        Ok(Tensor {
            name: name.to_owned(),
            ty,
            shape: info.shape.clone(),
            file: self.file,
            offset,
            described_at: None,
        })
    }
}

/// Whether `name` is one ordinary name, so that no shard is read from outside the directory.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let first = parts.next();
    let plain = matches!(first, Some(std::path::Component::Normal(part)) if part == name);
    plain && parts.next().is_none() && !name.contains(['/', '\\', ':', '\0'])
}
