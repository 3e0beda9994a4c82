use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use gogrid_units::{Bytes, WeightType};

use crate::assemble::Assembly;
use crate::decoder::{Decoder, Weight};
use crate::error::ModelError;
use crate::family::Norms;
use crate::files::Files;
use crate::gguf::{self, GgufFiles};
use crate::hugging_face::{self, Config, Shards};
use crate::names::{GGUF, HUGGING_FACE, HUGGING_FACE_POST_NORMS};
use crate::sampling::SamplingDefaults;
use crate::source::ModelSource;
use crate::synthetic::{SyntheticShape, SyntheticWeights};
use crate::tensors::{Content, Position};
use crate::text::{ChatTemplate, GgufVocabulary, Tokenizer, read_directory};

/// How to open a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Tokens in the longest sequence that will be run: at most what the model was made for, which
    /// is also what `None` means.
    pub context: Option<usize>,
    /// What float matrices are quantised to while loading, where their rows are whole blocks of it.
    /// Matrices that are stored in blocks stay as they are.
    pub quantise: Option<WeightType>,
}

/// Tells the models that a process has opened apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelId(u64);

impl ModelId {
    fn next() -> Self {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        Self(OPENED.fetch_add(1, Ordering::Relaxed))
    }
}

/// A model: what it computes, and what its weights are read from.
#[derive(Debug)]
pub struct Model {
    id: ModelId,
    name: String,
    decoder: Decoder,
    tokenizer: Tokenizer,
    chat_template: Option<ChatTemplate>,
    pooling: Option<Pooling>,
    sampling: SamplingDefaults,
    warnings: Vec<String>,
    content: Box<dyn Content>,
}

/// How a model that is made for it makes one vector of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all rows.
    Mean,
    /// The last row.
    Last,
}

impl Model {
    /// Opens a GGUF file, or any part of one that was split, or a Hugging Face directory with config.json
    /// and safetensors. Reads headers and small vectors; matrices are read by [`read_rows`](Self::read_rows).
    ///
    /// # Errors
    /// Says which file, field and byte are wrong, missing or not supported.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, ModelError> {
        if path.is_dir() {
            Self::open_directory(path, options)
        } else {
            Self::open_gguf(path, options)
        }
    }

    /// Opens what `source` names.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`synthetic`](Self::synthetic).
    pub fn from_source(source: &ModelSource, options: &OpenOptions) -> Result<Self, ModelError> {
        match source {
            ModelSource::Path(path) => Self::open(path, options),
            ModelSource::Synthetic(shape) => Self::synthetic(shape, options),
        }
    }

    /// A model of this shape, whose weights are made by [`read_rows`](Self::read_rows): the same at each
    /// reading and in each opening. Its tokenizer knows bytes and no words.
    ///
    /// # Errors
    /// [`ModelError::Request`] where the sizes do not fit each other or `options`.
    pub fn synthetic(shape: &SyntheticShape, options: &OpenOptions) -> Result<Self, ModelError> {
        shape.check()?;
        let params = shape.params(options.context)?;
        let weights = SyntheticWeights::new(shape)?;
        let decoder = Assembly {
            params: &params,
            names: &GGUF,
            source: &weights,
            content: &weights,
            quantise: options.quantise,
            norm_offset: 0.0,
            used: Default::default(),
        }
        .decoder()?;
        Ok(Self {
            warnings: Vec::new(),
            id: ModelId::next(),
            name: shape.title(),
            decoder,
            tokenizer: Tokenizer::of_bytes(shape.vocab),
            chat_template: None,
            pooling: None,
            sampling: SamplingDefaults::default(),
            content: Box::new(weights),
        })
    }

    /// This opening's number.
    pub fn id(&self) -> ModelId {
        self.id
    }

    /// What the file calls the model, or the file's own name, or that of a synthetic shape.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it computes, and where its weights are.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Text to token ids and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How a conversation is written down; `None` for a model that only continues text.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// Has conversations written down by another template than its own, which may be broken: then a
    /// conversation is refused. Control tokens that it writes by `bos_token` and `eos_token` are the
    /// vocabulary's.
    pub fn set_chat_template(&mut self, source: String) {
        if let Some(own) = &self.chat_template {
            self.chat_template = Some(own.with_source(source));
            return;
        }
        let name = |id: Option<u32>| {
            id.and_then(|id| self.tokenizer.name(id))
                .unwrap_or_default()
        };
        let (bos, eos) = (name(self.tokenizer.bos()), name(self.tokenizer.first_end()));
        self.chat_template = Some(ChatTemplate::new(source, bos.to_owned(), eos.to_owned()));
    }

    /// How it makes one vector of a text, where it is a model for that.
    pub fn pooling(&self) -> Option<Pooling> {
        self.pooling
    }

    /// How its makers would have tokens chosen, where its files say so: `general.sampling.*` of a GGUF file,
    /// or `generation_config.json`.
    pub fn sampling_defaults(&self) -> SamplingDefaults {
        self.sampling
    }

    /// All matrices as they are kept; a table that is also the head counts once.
    pub fn weight_bytes(&self) -> Bytes {
        let mut seen = HashSet::new();
        let weights = self.decoder.weights().into_iter();
        let distinct = weights.filter(|w| seen.insert((w.file, w.offset)));
        distinct.map(Weight::kept_bytes).sum()
    }

    /// Reads rows of a weight as they are stored, into `out`.
    ///
    /// # Panics
    /// When `rows` are not all rows of `weight`, or `out` is not exactly as long as they are.
    ///
    /// # Errors
    /// When the file can no longer be read there, as when it has been cut.
    pub fn read_rows(
        &self,
        weight: &Weight,
        rows: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), ModelError> {
        let row_bytes = weight.row_bytes();
        assert!(
            rows.start <= rows.end && rows.end <= weight.rows,
            "rows {rows:?} of {} in {}",
            weight.rows,
            weight.name
        );
        assert_eq!(out.len(), rows.len() * row_bytes, "{}", weight.name);
        let position = Position {
            file: weight.file,
            offset: weight.offset + (rows.start * row_bytes) as u64,
            field: &weight.name,
        };
        self.content.read_at(position, out)
    }

    /// Whether the files are still as they were when the model was opened. To be asked when weights
    /// have been read: what was read before a change and after it does not belong together.
    ///
    /// # Errors
    /// [`ModelError::Changed`] names the file.
    pub fn check_unchanged(&self) -> Result<(), ModelError> {
        self.content.check_unchanged()
    }

    /// What is odd about the files and harmless, for an operator.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn open_gguf(path: &Path, options: &OpenOptions) -> Result<Self, ModelError> {
        let (gguf, files) = GgufFiles::open(path)?;
        let params = gguf::params(&gguf, options.context)?;
        let decoder = Assembly {
            params: &params,
            names: &GGUF,
            source: &gguf,
            content: &files,
            quantise: options.quantise,
            norm_offset: 0.0,
            used: Default::default(),
        }
        .decoder()?;
        let metadata = gguf.metadata();
        let tokenizer = Tokenizer::from_gguf(&GgufVocabulary::read(metadata)?)?;
        if tokenizer.vocab() > decoder.vocab {
            let (tokens, rows) = (tokenizer.vocab(), decoder.vocab);
            let what = format!("{tokens} tokens, the embedding table has {rows} rows");
            return Err(metadata.refuse("tokenizer.ggml.tokens", what));
        }
        let named = metadata.str("general.name")?;
        let (sampling, mut warnings) = SamplingDefaults::of_gguf(metadata);
        warnings.extend(gguf::tokens_out_of_range(metadata, tokenizer.vocab())?);
        let chat_template = ChatTemplate::from_gguf(metadata)?;
        let pooling = gguf::pooling(&gguf)?;
        files.check_unchanged()?;
        Ok(Self {
            warnings,
            id: ModelId::next(),
            name: named.map_or_else(|| file_name(path), str::to_owned),
            decoder,
            tokenizer,
            chat_template,
            pooling,
            sampling,
            content: Box::new(files),
        })
    }

    fn open_directory(path: &Path, options: &OpenOptions) -> Result<Self, ModelError> {
        let config = Config::open(path)?;
        let params = hugging_face::params(&config, options.context)?;
        let mut files = Files::default();
        let shards = Shards::open(path, &mut files)?;
        let family = params.family;
        let decoder = Assembly {
            params: &params,
            names: match family.norms {
                Norms::Both => &HUGGING_FACE_POST_NORMS,
                Norms::Before | Norms::After => &HUGGING_FACE,
            },
            source: &shards,
            content: &files,
            quantise: options.quantise,
            norm_offset: if family.hugging_face.norms_less_one {
                1.0
            } else {
                0.0
            },
            used: Default::default(),
        }
        .decoder()?;
        // A tokenizer may name more tokens than the table has rows (Gemma 3's image token), so an
        // id is held against the table where it is used.
        let (tokenizer, chat_template) = read_directory(path)?;
        let (sampling, warnings) = SamplingDefaults::of_directory(path)?;
        files.check_unchanged()?;
        Ok(Self {
            warnings,
            id: ModelId::next(),
            name: file_name(path),
            decoder,
            tokenizer,
            chat_template,
            pooling: None,
            sampling,
            content: Box::new(files),
        })
    }
}

/// The last part of a path, without a GGUF file's ending.
fn file_name(path: &Path) -> String {
    // A path such as `..` has none until it is made whole.
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = whole.file_name().unwrap_or(whole.as_os_str());
    let name = name.to_string_lossy();
    name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
}
