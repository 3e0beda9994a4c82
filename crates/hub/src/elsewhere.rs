//! Models that other programs of the user's have fetched: they are read where they are, and never changed.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use gogrid_host::read_regular;
use gogrid_units::Bytes;
use serde::Deserialize;

use crate::cache::Held;
use crate::folders::{files_under, folders_in};
use crate::limits::NOTE_MAX;
use crate::name::{HubName, is_part};
use crate::proxy::Variable;
use crate::quant::{self, Listed};

/// A program that keeps models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The Hugging Face hub's own tools.
    HuggingFace,
    /// LM Studio.
    LmStudio,
    /// Ollama.
    Ollama,
}

impl Program {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HuggingFace => "Hugging Face",
            Self::LmStudio => "LM Studio",
            Self::Ollama => "Ollama",
        }
    }
}

/// The models of other programs, in order of the programs and their names. Of two with one name the first is
/// meant.
pub fn elsewhere() -> Vec<(Program, Held)> {
    found(&|name| env::var(name).ok())
}

/// Where Ollama keeps models that its installer on Linux has run as a service of the system.
const OLLAMA_OF_THE_SYSTEM: &str = "/usr/share/ollama/.ollama/models";

/// The folder that the hub's own tools keep everything in
/// (<https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>).
pub(crate) fn hugging_face_home(variable: Variable<'_>) -> Option<PathBuf> {
    let cache = folder_in(variable, "XDG_CACHE_HOME");
    let cache = cache.or_else(|| home(variable).map(|home| home.join(".cache")));
    folder_in(variable, "HF_HOME").or_else(|| Some(cache?.join("huggingface")))
}

fn home(variable: Variable<'_>) -> Option<PathBuf> {
    folder_in(variable, "HOME").or_else(|| folder_in(variable, "USERPROFILE"))
}

fn folder_in(variable: Variable<'_>, name: &str) -> Option<PathBuf> {
    let value = variable(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// The one of these models that `name` means: as it is called, a repository without its quantisation, or a name
/// of Ollama's without its tag.
pub fn named<'a>(models: &'a [(Program, Held)], name: &str) -> Option<&'a (Program, Held)> {
    let same = |wanted: &str| {
        let mut models = models.iter();
        models.find(|(_, held)| held.name.eq_ignore_ascii_case(wanted))
    };
    let exact = same(name).or_else(|| same(&format!("{name}:latest")));
    exact.or_else(|| {
        let repository = HubName::parse(name)?;
        match repository.quant() {
            Some(_) => same(&repository.to_string()),
            None => {
                let start = format!("{repository}:");
                let of_repository = models
                    .iter()
                    .filter(|(_, held)| held.name.starts_with(&start));
                of_repository.min_by_key(|(_, held)| quant::rank(&held.name[start.len()..]))
            }
        }
    })
}

fn found(variable: Variable<'_>) -> Vec<(Program, Held)> {
    let set = |name: &str| folder_in(variable, name);
    let below_home = |below: &str| home(variable).map(|home| home.join(below));
    let hugging_face = set("HF_HUB_CACHE")
        .or_else(|| hugging_face_home(variable).map(|folder| folder.join("hub")));
    let lm_studio = below_home(".lmstudio/models");
    let ollama = set("OLLAMA_MODELS")
        .or_else(|| below_home(".ollama/models").filter(|folder| folder.is_dir()))
        .or_else(|| home(variable).map(|_| OLLAMA_OF_THE_SYSTEM.into()));
    let of = |program, folder: Option<PathBuf>, models: fn(&Path) -> Vec<Held>| {
        let held = folder.map(|folder| models(&folder)).unwrap_or_default();
        held.into_iter().map(move |held| (program, held))
    };
    of(Program::HuggingFace, hugging_face, in_hugging_face)
        .chain(of(Program::LmStudio, lm_studio, in_lm_studio))
        .chain(of(Program::Ollama, ollama, in_ollama))
        .collect()
}

/// `models--OWNER--NAME/snapshots/COMMIT/` with the files of a commit; the commit that a branch is at is in
/// `refs/main` (<https://huggingface.co/docs/huggingface_hub/guides/manage-cache>).
fn in_hugging_face(folder: &Path) -> Vec<Held> {
    let repositories = folders_in(folder).into_iter().filter_map(|repository| {
        let below = repository.strip_prefix("models--")?.replacen("--", "/", 1);
        let name = HubName::parse(&below)?;
        let top = folder.join(&repository);
        let commit = read_regular(&top.join("refs/main"), NOTE_MAX).ok()?;
        let commit = String::from_utf8(commit).ok()?;
        let commit = Some(commit.trim()).filter(|commit| is_part(commit))?;
        Some((name, top.join("snapshots").join(commit)))
    });
    let held = repositories.flat_map(|(name, snapshot)| {
        let mut held = gguf_models(&name, &snapshot);
        let files = files_under(&snapshot);
        if files.iter().any(|file| file.ends_with("config.json")) && has_weights(&files) {
            held.push(Held {
                bytes: files.iter().map(|file| length(file)).sum(),
                name: name.to_string(),
                path: snapshot,
            });
        }
        held
    });
    held.collect()
}

fn has_weights(files: &[PathBuf]) -> bool {
    files
        .iter()
        .any(|file| file.extension() == Some(OsStr::new("safetensors")))
}

/// `OWNER/NAME/` with a repository's files.
fn in_lm_studio(folder: &Path) -> Vec<Held> {
    let owners = folders_in(folder).into_iter();
    let repositories = owners.flat_map(|owner| {
        let repositories = folders_in(&folder.join(&owner)).into_iter();
        repositories.filter_map(move |name| HubName::parse(&format!("{owner}/{name}")))
    });
    repositories
        .flat_map(|name| gguf_models(&name, &folder.join(name.repository())))
        .collect()
}

/// The models that the GGUF files of a folder make up.
fn gguf_models(name: &HubName, folder: &Path) -> Vec<Held> {
    let listed = files_under(folder).into_iter().filter_map(|file| {
        let below = file.strip_prefix(folder).ok()?;
        let names: Option<Vec<_>> = below.iter().map(OsStr::to_str).collect();
        Some(Listed {
            path: names?.join("/"),
            bytes: length(&file).0,
            sha256: String::new(),
            label: None,
        })
    });
    let models = quant::models(listed).into_iter();
    let held = models.map(|model| Held {
        name: name.with_quant(Some(&model.label)).to_string(),
        path: folder.join(&model.files[0].path),
        bytes: Bytes(model.bytes()),
    });
    held.collect()
}

fn length(file: &Path) -> Bytes {
    fs::metadata(file).map_or(Bytes::ZERO, |data| Bytes(data.len()))
}

/// What Ollama keeps of a model: layers by their hashes
/// (<https://github.com/ollama/ollama/blob/main/docs/modelfile.md>).
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
}

/// The kind of the layer that is a GGUF file.
const MODEL_LAYER: &str = "application/vnd.ollama.image.model";

/// `manifests/REGISTRY/OWNER/NAME/TAG`, each a manifest whose layers are in `blobs/`.
fn in_ollama(folder: &Path) -> Vec<Held> {
    let manifests = folder.join("manifests");
    let held = files_under(&manifests).into_iter().filter_map(|path| {
        let below = path.strip_prefix(&manifests).ok()?;
        let parts: Option<Vec<_>> = below.iter().map(OsStr::to_str).collect();
        let name = match parts?.as_slice() {
            [_, "library", name, tag] => format!("{name}:{tag}"),
            [_, owner, name, tag] => format!("{owner}/{name}:{tag}"),
            _ => return None,
        };
        let bytes = read_regular(&path, NOTE_MAX).ok()?;
        let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
        let mut models = manifest.layers.into_iter();
        let model = models.find(|layer| layer.media_type == MODEL_LAYER)?;
        let hash = model.digest.strip_prefix("sha256:")?;
        let is_hash = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let blob = folder.join("blobs").join(format!("sha256-{hash}"));
        (is_hash && blob.is_file()).then(|| Held {
            bytes: length(&blob),
            path: blob,
            name,
        })
    });
    held.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds what is found in a home with these files, whose contents stand beside, against whose models with which
    /// names, bytes and places these should be.
    fn check(files: &[(String, &str)], expected: &[(Program, &str, u64, &str)]) {
        let home = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let variable =
            |name: &str| (name == "HOME").then(|| home.path().to_string_lossy().into_owned());
        let found = found(&variable);
        let found = found.iter().map(|(program, held)| {
            let place = held.path.strip_prefix(home.path()).unwrap();
            (
                *program,
                held.name.as_str(),
                held.bytes.0,
                place.to_str().unwrap(),
            )
        });
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_hubs_own_tools_keep_the_files_of_a_commit() {
        let hub = |below: &str| format!(".cache/huggingface/hub/{below}");
        let files = [
            (hub("models--some--Model--x/refs/main"), "c0ffee\n"),
            (
                hub("models--some--Model--x/snapshots/c0ffee/m-Q8_0.gguf"),
                "12345",
            ),
            (
                hub("models--some--Model--x/snapshots/beef/m-Q4_0.gguf"),
                "1",
            ),
            (hub("models--other--Plain/refs/main"), "c0ffee"),
            (
                hub("models--other--Plain/snapshots/c0ffee/config.json"),
                "{}",
            ),
            (
                hub("models--other--Plain/snapshots/c0ffee/model.safetensors"),
                "123",
            ),
            (hub("models--no--Weights/refs/main"), "c0ffee"),
            (
                hub("models--no--Weights/snapshots/c0ffee/config.json"),
                "{}",
            ),
            (hub("datasets--a--b/refs/main"), "c0ffee"),
            (
                hub("models--out--Side/refs/main"),
                "../../models--other--Plain/snapshots/c0ffee",
            ),
        ];
        let folder = hub("models--other--Plain/snapshots/c0ffee");
        let file = hub("models--some--Model--x/snapshots/c0ffee/m-Q8_0.gguf");
        let expected = [
            (Program::HuggingFace, "other/Plain", 5, folder.as_str()),
            (Program::HuggingFace, "some/Model--x:Q8_0", 5, &file),
        ];
        check(&files, &expected);
    }

    #[test]
    fn lm_studio_keeps_repositories_by_their_owners() {
        let file = ".lmstudio/models/someone/Qwen-GGUF/Qwen-Q4_K_M.gguf";
        let beside = ".lmstudio/models/someone/Qwen-GGUF/mmproj-Qwen-f16.gguf";
        let files = [(file.to_owned(), "123456"), (beside.to_owned(), "1")];
        check(
            &files,
            &[(Program::LmStudio, "someone/Qwen-GGUF:Q4_K_M", 6, file)],
        );
    }

    #[test]
    fn ollama_keeps_layers_by_their_hashes() {
        let layers = |hash: &str| {
            let layer = |kind: &str, hash: &str| {
                format!(
                    r#"{{"mediaType": "application/vnd.ollama.image.{kind}", "digest": "sha256:{hash}"}}"#
                )
            };
            format!(
                r#"{{"layers": [{}, {}]}}"#,
                layer("license", "aa"),
                layer("model", hash)
            )
        };
        let (right, gone, evil) = (layers("0f"), layers("ff"), layers("../../x"));
        let library = |below: &str| format!(".ollama/models/manifests/registry.ollama.ai/{below}");
        let blob = ".ollama/models/blobs/sha256-0f";
        let files = [
            (library("library/llama3.2/1b"), right.as_str()),
            (library("someone/other/latest"), &right),
            (library("library/gone/latest"), &gone),
            (library("library/evil/latest"), &evil),
            (library("library/broken/latest"), "{"),
            (blob.to_owned(), "1234"),
        ];
        let expected = [
            (Program::Ollama, "llama3.2:1b", 4, blob),
            (Program::Ollama, "someone/other:latest", 4, blob),
        ];
        check(&files, &expected);
    }

    #[test]
    fn a_model_is_meant_by_each_of_its_names() {
        let held = |program, name: &str| {
            let name = name.to_owned();
            let (path, bytes) = (PathBuf::new(), Bytes(1));
            (program, Held { name, path, bytes })
        };
        let models = [
            held(Program::LmStudio, "some/Model:Q8_0"),
            held(Program::LmStudio, "some/Model:Q4_K_M"),
            held(Program::Ollama, "mistral:latest"),
        ];
        let check = |name: &str, expected: Option<&str>| {
            let found = named(&models, name).map(|(_, held)| held.name.as_str());
            assert_eq!(found, expected, "{name}");
        };
        check("some/Model", Some("some/Model:Q4_K_M"));
        check("hf.co/some/Model:q8_0", Some("some/Model:Q8_0"));
        check("some/Model:Q2_K", None);
        check("mistral", Some("mistral:latest"));
        check("mistral:7b", None);
    }

    #[test]
    fn where_nothing_is_nothing_is_found() {
        assert_eq!(found(&|_| None), []);
        assert_eq!(found(&|_| Some("/no/such/folder".to_owned())), []);
    }
}
