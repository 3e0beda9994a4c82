//! The models that `gogrid serve` offers: the catalogue's, those named on the command line, and a folder's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use corpgrid_scheduler::{HeterogeneousPipeline, Machine, Options};
use gogrid_hub::{Cache, Name, catalogue, elsewhere, find};
use gogrid_server::{ModelCard, NotOpened, Shelf};

use crate::exit::BadInput;
use crate::interrupt::Interrupt;
use crate::model_file;

/// Files of a folder that are looked at, at most.
const FOLDER_FILES_MAX: usize = 4096;

/// See the module.
pub(crate) struct Models {
    options: Options,
    cache: Cache,
    /// Those named by path, each with its name, in the order of the command line.
    named: Vec<(String, PathBuf)>,
    folder: Option<PathBuf>,
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
            let name = match find(model) {
                Ok(entry) => entry.name.to_owned(),
                Err(_) => name_of(&path),
            };
            if names.contains(&name) {
                return Err(BadInput(format!(
                    "two models are called {name:?}; rename one of their files"
                ))
                .into());
            }
            if find(model).is_err() {
                named.push((name.clone(), path));
            }
            names.push(name);
        }
        let models = Self {
            options,
            cache: Cache::of_user()?,
            named,
            folder: folder.map(Path::to_path_buf),
        };
        Ok((models, names))
    }

    /// Every name with its file, where that is here: those of the command line go before a catalogue's,
    /// then come a folder's, the hub's in the cache, and other programs'.
    fn files(&self) -> Vec<(String, Option<PathBuf>)> {
        let named = self.named.iter().cloned();
        let mut files: Vec<_> = named.map(|(name, path)| (name, Some(path))).collect();
        let entries = catalogue().iter();
        let of_catalogue = entries.map(|entry| {
            let path = self.cache.find(&Name::of(entry));
            (entry.name.to_owned(), path)
        });
        let in_folder = self.folder.iter().flat_map(|folder| models_in(folder));
        let in_folder = in_folder.map(|path| (name_of(&path), Some(path)));
        let others = elsewhere().into_iter().map(|(_, held)| held);
        let held = self.cache.hub_models().into_iter().chain(others);
        let held = held.map(|held| (held.name, Some(held.path)));
        for (name, path) in of_catalogue.chain(in_folder).chain(held) {
            if !files.iter().any(|(other, _)| *other == name) {
                files.push((name, path));
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
    let is_gguf = |path: &Path| path.extension().is_some_and(|kind| kind == "gguf");
    let mut models: Vec<_> = paths
        .filter(|path| is_gguf(path) || path.join("config.json").is_file())
        .collect();
    models.sort();
    models
}

impl Shelf for Models {
    fn models(&self) -> Vec<ModelCard> {
        let cards = self.files().into_iter().map(|(name, path)| {
            let entry = find(&name).ok();
            let metadata = path.as_ref().and_then(|path| fs::metadata(path).ok());
            let bytes = metadata.as_ref().map(fs::Metadata::len);
            let modified = metadata.and_then(|metadata| metadata.modified().ok());
            let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            ModelCard {
                bytes: entry.map_or(bytes.unwrap_or(0), |entry| entry.bytes.0),
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
        let Some((_, path)) = files.iter().find(|(other, _)| other == name) else {
            return Err(NotOpened::Unknown {
                name: name.to_owned(),
                known: files
                    .into_iter()
                    .filter_map(|(name, path)| path.map(|_| name))
                    .collect(),
            });
        };
        let Some(path) = path else {
            return Err(NotOpened::NotHere(name.to_owned()));
        };
        let opened = HeterogeneousPipeline::open_on(machine, path.clone(), &self.options);
        opened.map_err(|problem| NotOpened::Open(Arc::new(problem)))
    }
}
