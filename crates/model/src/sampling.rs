//! How a model's makers would have its tokens chosen, where its files say so.

use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{ModelError, shown};
use crate::gguf::Metadata;
use crate::text::read_generation_config;

/// Values for sampling, as far as somebody names them. All are finite and within their bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplingDefaults {
    /// 0 takes the likeliest token; 0 to 100.
    pub temperature: Option<f32>,
    /// Only the `k` likeliest tokens; 0 for all, at most 2^24.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together reach this probability; 0 to 1.
    pub top_p: Option<f32>,
    /// Only tokens at least this share as likely as the likeliest; 0 to 1.
    pub min_p: Option<f32>,
    /// What logits of tokens seen are divided by; 0.01 to 100.
    pub repetition_penalty: Option<f32>,
}

/// The names of the five values in a kind of file, and the ways of sampling there that are not built.
struct Names {
    temperature: &'static str,
    top_k: &'static str,
    top_p: &'static str,
    min_p: &'static str,
    repetition_penalty: &'static str,
    not_built: &'static [&'static str],
}

/// llama.cpp's, of late 2025.
const GGUF: Names = Names {
    temperature: "general.sampling.temp",
    top_k: "general.sampling.top_k",
    top_p: "general.sampling.top_p",
    min_p: "general.sampling.min_p",
    repetition_penalty: "general.sampling.penalty_repeat",
    not_built: &[
        "general.sampling.mirostat",
        "general.sampling.xtc_probability",
    ],
};

/// transformers' `GenerationConfig`.
const HUGGING_FACE: Names = Names {
    temperature: "temperature",
    top_k: "top_k",
    top_p: "top_p",
    min_p: "min_p",
    repetition_penalty: "repetition_penalty",
    not_built: &[],
};

const TEMPERATURES: RangeInclusive<f64> = 0.0..=100.0;
const COUNTS: RangeInclusive<f64> = 0.0..=16_777_216.0;
const SHARES: RangeInclusive<f64> = 0.0..=1.0;
const PENALTIES: RangeInclusive<f64> = 0.01..=100.0;

impl SamplingDefaults {
    /// What the keys of a GGUF file say, with a warning for each that says nothing that can be done.
    pub(crate) fn of_gguf(metadata: &Metadata) -> (Self, Vec<String>) {
        let mut reader = Reader {
            file: metadata.file(),
            names: &GGUF,
            value: &|key| metadata.has(key).then(|| metadata.number(key)),
            warnings: Vec::new(),
        };
        (reader.all(), reader.warnings)
    }

    /// The same for `generation_config.json` in a Hugging Face directory, which may be missing. With
    /// `do_sample` off, transformers takes the likeliest token and no notice of the rest but the penalty.
    pub(crate) fn of_directory(directory: &Path) -> Result<(Self, Vec<String>), ModelError> {
        let config: Map<String, Value> = read_generation_config(directory)?;
        let file = directory.join("generation_config.json");
        let mut reader = Reader {
            file: &file,
            names: &HUGGING_FACE,
            value: &|key| {
                let value = config.get(key).filter(|value| !value.is_null());
                value.map(Value::as_f64)
            },
            warnings: Vec::new(),
        };
        let all = reader.all();
        let warnings = reader.warnings;
        match config.get("do_sample") {
            Some(Value::Bool(false)) => {
                let greedy = Self {
                    temperature: Some(0.0),
                    repetition_penalty: all.repetition_penalty,
                    ..Self::default()
                };
                Ok((greedy, warnings))
            }
            _ => Ok((all, warnings)),
        }
    }
}

/// Reads the values of one file. They are advice: one that is wrong is told and left out, and the model
/// runs without it as it would without the advice.
struct Reader<'a> {
    file: &'a Path,
    names: &'static Names,
    /// What a key holds: nothing, something that is no number, or a number.
    value: &'a dyn Fn(&str) -> Option<Option<f64>>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn all(&mut self) -> SamplingDefaults {
        let names = self.names;
        for key in names.not_built {
            if (self.value)(key).is_some_and(|value| value != Some(0.0)) {
                self.warn(key, "not supported, and left out");
            }
        }
        // Each is within its bounds, which an f32 and a usize hold.
        SamplingDefaults {
            temperature: self
                .number(names.temperature, TEMPERATURES)
                .map(|n| n as f32),
            top_k: self.whole(names.top_k).map(|n| n as usize),
            top_p: self.number(names.top_p, SHARES).map(|n| n as f32),
            min_p: self.number(names.min_p, SHARES).map(|n| n as f32),
            repetition_penalty: self
                .number(names.repetition_penalty, PENALTIES)
                .map(|n| n as f32),
        }
    }

    fn whole(&mut self, key: &str) -> Option<f64> {
        let number = self.number(key, COUNTS)?;
        if number.fract() != 0.0 {
            self.warn(key, &format!("{number}, and no whole number: left out"));
            return None;
        }
        Some(number)
    }

    fn number(&mut self, key: &str, allowed: RangeInclusive<f64>) -> Option<f64> {
        match (self.value)(key)? {
            Some(number) if allowed.contains(&number) => Some(number),
            Some(number) => {
                let (least, most) = (allowed.start(), allowed.end());
                self.warn(
                    key,
                    &format!("{number}, and must be from {least} to {most}: left out"),
                );
                None
            }
            None => {
                self.warn(key, "no number: left out");
                None
            }
        }
    }

    fn warn(&mut self, key: &str, what: &str) {
        let file = self.file.display();
        self.warnings
            .push(format!("{file}: {} is {what}", shown(key)));
    }
}
