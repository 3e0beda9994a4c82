//! The models that `gogrid serve` offers: the catalogue's, those named on the command line, and a folder's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use corpgrid_scheduler::{HeterogeneousPipeline, Machine, Options};
use gogrid_host::Clock;
use gogrid_hub::{Cache, Held, Name, catalogue, elsewhere, find, is_further_part};
use gogrid_server::{ModelCard, NotOpened, Shelf};
use gogrid_units::{Bytes, Moment};

use crate::exit::BadInput;
use crate::interrupt::Interrupt;
use crate::model_file;

/// Files of a folder that are looked at, at most.
const FOLDER_FILES_MAX: usize = 4096;
/// How often models are looked for where other programs keep them.
const HELD_EVERY_NS: u64 = 30_000_000_000;

/// See the module.
pub(crate) struct Models {
    options: Options,
    cache: Cache,
    /// Those named by path, each with its name, in the order of the command line.
    named: Vec<(String, PathBuf)>,
    folder: Option<PathBuf>,
    clock: Clock,
    /// What was found elsewhere, and when. A lock, held for a look.
    held: Mutex<Option<(Moment, Vec<Held>)>>,
}

/// A model that can be asked for.
struct File {
    name: String,
    /// Where it is, if it is here.
    path: Option<PathBuf>,
    /// The bytes of all its files, where they are known.
    bytes: Option<Bytes>,
}

impl Models {
    /// Looks up the models named, which may fetch some. Says what each is called.
    pub(crate) fn new(
        asked: &[String],
        folder: Option<&Path>,
        options: Options,
        interrupt: &Interrupt,
    ) -> anyhow::Result<(Self, Vec<String>)> {
        if let Some(folder) = folder {
            fs::read_dir(folder).map_err(|error| {
                BadInput(format!(
                    "cannot read the folder {}: {error}; --models takes a folder of models",
                    folder.display()
                ))
            })?;
        }
        let (mut named, mut names) = (Vec::new(), Vec::<String>::new());
        for model in asked {
            let path = model_file::resolve(model, interrupt)?;
            let name = match (find(model), model_file::path_of(model)) {
                (Ok(entry), _) => entry.name.to_owned(),
                (Err(_), Some(path)) => name_of(path),
                (Err(_), None) => match Name::parse(model) {
                    Ok(name) => name.to_string(),
                    Err(_) => model.clone(),
                },
            };
            if names.contains(&name) {
                return Err(BadInput(format!(
                    "two models are called {name:?}; rename one of their files"
                ))
                .into());
            }
            named.push((name.clone(), path));
            names.push(name);
        }
        let models = Self {
            options,
            cache: Cache::of_user()?,
            named,
            folder: folder.map(Path::to_path_buf),
            clock: Clock::start(),
            held: Mutex::default(),
        };
        Ok((models, names))
    }

    /// The hub's models in the cache and other programs', as they were lately: to find them takes many looks at the
    /// disk.
    fn held(&self) -> Vec<Held> {
        let mut seen = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        match &*seen {
            Some((at, held)) if now.0 - at.0 < HELD_EVERY_NS => held.clone(),
            _ => {
                let others = elsewhere().into_iter().map(|(_, held)| held);
                let held: Vec<_> = self.cache.hub_models().into_iter().chain(others).collect();
                *seen = Some((now, held.clone()));
                held
            }
        }
    }

    /// Every name with its file, where that is here: those of the command line go before a catalogue's,
    /// then come a folder's, the hub's in the cache, and other programs'.
    fn files(&self) -> Vec<File> {
        let file = |name: String, path: Option<PathBuf>| File {
            bytes: None,
            name,
            path,
        };
        let named = self.named.iter().cloned();
        let mut files: Vec<_> = named.map(|(name, path)| file(name, Some(path))).collect();
        let entries = catalogue().iter();
        let of_catalogue = entries.map(|entry| File {
            bytes: Some(entry.bytes),
            ..file(entry.name.to_owned(), self.cache.find(&Name::of(entry)))
        });
        let in_folder = self.folder.iter().flat_map(|folder| models_in(folder));
        let in_folder = in_folder.map(|path| file(name_of(&path), Some(path)));
        let held = self.held().into_iter().map(|held| File {
            bytes: Some(held.bytes),
            ..file(held.name, Some(held.path))
        });
        for file in of_catalogue.chain(in_folder).chain(held) {
            // One file has one name, so that it is not opened twice.
            let is_there = |other: &File| {
                other.name == file.name || (file.path.is_some() && other.path == file.path)
            };
            if !files.iter().any(is_there) {
                files.push(file);
            }
        }
        files
    }
}

/// What a file is called: its name without `.gguf`, or its folder's.
fn name_of(path: &Path) -> String {
    let name = match path
        .extension()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("gguf"))
    {
        true => path.file_stem(),
        false => path.file_name(),
    };
    name.unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// The models in a folder, in order of their names: GGUF files, and folders with a config.json.
fn models_in(folder: &Path) -> Vec<PathBuf> {
    // A folder that is gone meanwhile holds none.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.take(FOLDER_FILES_MAX).map(|entry| entry.path());
    let is_gguf = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.to_ascii_lowercase().ends_with(".gguf") && !is_further_part(&name)
    };
    let mut models: Vec<_> = paths
        .filter(|path| is_gguf(path) || path.join("config.json").is_file())
        .collect();
    models.sort();
    models
}

impl Shelf for Models {
    fn models(&self) -> Vec<ModelCard> {
        let cards = self.files().into_iter().map(|File { name, path, bytes }| {
            let entry = find(&name).ok();
            let metadata = path.as_ref().and_then(|path| fs::metadata(path).ok());
            let length = metadata.as_ref().map(fs::Metadata::len);
            let modified = metadata.and_then(|metadata| metadata.modified().ok());
            let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            ModelCard {
                bytes: bytes.map(|bytes| bytes.0).or(length).unwrap_or(0),
                created: since.map_or(0, |since| since.as_secs()),
                is_here: path.is_some(),
                licence: entry.map(|entry| entry.licence.to_owned()),
                name,
            }
        });
        cards.collect()
    }

    fn open(&self, name: &str, machine: &Arc<Machine>) -> Result<HeterogeneousPipeline, NotOpened> {
        let files = self.files();
        let Some(file) = files.iter().find(|file| file.name == name) else {
            return Err(NotOpened::Unknown {
                name: name.to_owned(),
                known: files
                    .into_iter()
                    .filter_map(|file| file.path.map(|_| file.name))
                    .collect(),
            });
        };
        let Some(path) = &file.path else {
            return Err(NotOpened::NotHere(name.to_owned()));
        };
        let opened = HeterogeneousPipeline::open_on(machine, path.clone(), &self.options);
        opened.map_err(|problem| NotOpened::Open(Arc::new(problem)))
    }
}
