use std::env;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use gogrid_host::{ScratchNote, free_space, open_own};
use gogrid_units::Bytes;

use crate::catalogue::{Entry, Source, catalogue};
use crate::error::{Attempt, HubError, NoChoice, Problem, SourceError};
use crate::fetch::{Fetch, Network};
use crate::folders::{files_named, files_under, folders_in};
use crate::item::{Item, beside, partial_of};
use crate::name::{HUB_FOLDER, HubName, Name};
use crate::progress::Progress;
use crate::quant::{self, Listed};
use crate::sink::{Fault, Sink, sha256_of};
use crate::verified::{Record, Stamp};

/// The folder that holds fetched models, each a plain file under its own name.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache in this folder, which is made when something is first fetched.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The user's cache: the folder `GOGRID_CACHE` if set, else `gogrid/models` in
    /// `XDG_CACHE_HOME`, `LOCALAPPDATA` or `~/.cache`, the first that is known.
    ///
    /// # Errors
    /// [`HubError::NoCacheFolder`] when none is.
    pub fn of_user() -> Result<Self, HubError> {
        Self::from_variables(&|name| env::var_os(name).map(PathBuf::from))
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Result<Self, HubError> {
        if let Some(own) = variable("GOGRID_CACHE").filter(|path| !path.as_os_str().is_empty()) {
            return Ok(Self::at(own));
        }
        // The XDG specification has relative paths ignored.
        let absolute = |name| variable(name).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("LOCALAPPDATA"))
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        base.map(|base| Self::at(base.join("gogrid").join("models")))
            .ok_or(HubError::NoCacheFolder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The model's file, or its first part, if it is here with the right length. Never touches the network, and
    /// reads nothing of the file.
    pub fn find(&self, name: &Name) -> Option<PathBuf> {
        let items = self.items_here(name)?;
        items.first().map(|item| self.path(item))
    }

    /// The model's file, or its first part, if it is here and right. A file is hashed unless it was found right
    /// before and has not changed since. Never touches the network.
    ///
    /// # Errors
    /// When a file cannot be read, or the caller gives up.
    pub fn find_verified(
        &self,
        name: &Name,
        progress: &mut dyn Progress,
    ) -> Result<Option<PathBuf>, HubError> {
        let Some(items) = self.items_here(name) else {
            return Ok(None);
        };
        for item in &items {
            let path = self.path(item);
            let stamp = Stamp::of(&path).map_err(failed_to("read", &path))?;
            let is_known = Record::of(&path).holds(item, &stamp);
            if !is_known && self.find_hashed(item, progress)?.is_none() {
                return Ok(None);
            }
        }
        Ok(items.first().map(|item| self.path(item)))
    }

    /// The model's files, fetched if they are not here. A file that is here is hashed first, and
    /// fetched again if it is another. Of two calls at once, one waits for the other.
    ///
    /// # Errors
    /// See [`HubError`]; whatever it is, no part of a file has the file's name. What came of one is kept beside
    /// for the next call.
    pub fn pull(&self, name: &Name, progress: &mut dyn Progress) -> Result<Pulled, HubError> {
        self.pull_with(&Network, name, progress)
    }

    /// Removes a model's files, and what came of them; gives the bytes that became free, or `None` where none was
    /// here. Waits for another process that fetches it.
    ///
    /// # Errors
    /// When a file cannot be removed, or the caller gives up.
    pub fn remove(
        &self,
        name: &Name,
        progress: &mut dyn Progress,
    ) -> Result<Option<Bytes>, HubError> {
        let items = match name {
            Name::Entry(entry) => Item::of(entry).into_iter().collect(),
            Name::Hub(name) => self.items_begun(name)?,
        };
        let mut freed = None;
        for item in &items {
            let path = self.path(item);
            let partial = path.with_file_name(item.partial());
            let length = |path: &Path| fs::symlink_metadata(path).map(|found| Bytes(found.len()));
            let (whole, begun) = (length(&path), length(&partial));
            if whole.is_err() && begun.is_err() {
                continue;
            }
            let _lock = self.lock(item, progress)?;
            self.remove_leftovers(item, None);
            if whole.is_ok() {
                fs::remove_file(&path).map_err(failed_to("remove", &path))?;
                Record::of(&path).forget();
            }
            let found = whole.unwrap_or_default() + begun.unwrap_or_default();
            *freed.get_or_insert(Bytes::ZERO) += found;
        }
        Ok(freed)
    }

    /// The models of the hub that are here, in order of their names.
    pub fn hub_models(&self) -> Vec<Held> {
        let top = self.folder.join(HUB_FOLDER);
        let mut held = Vec::new();
        for owner in folders_in(&top) {
            for repository in folders_in(&top.join(&owner)) {
                let Some(name) = HubName::parse(&format!("{owner}/{repository}")) else {
                    continue;
                };
                for model in quant::models(self.listed_here(&name)) {
                    let name = name.with_quant(Some(&model.label));
                    held.push(Held {
                        bytes: Bytes(model.bytes()),
                        path: self.folder.join(name.folder()).join(&model.files[0].path),
                        name: name.to_string(),
                    });
                }
            }
        }
        held
    }

    /// What a file of the cache is fetched as.
    pub fn name_of(&self, file: &Path) -> Option<String> {
        let place = file.strip_prefix(&self.folder).ok()?;
        let is_this = |entry: &&Entry| {
            let known = entry.known_file();
            known.is_some_and(|known| place == Path::new(known.file))
        };
        if let Some(entry) = catalogue().iter().find(is_this) {
            return Some(entry.name.to_owned());
        }
        let mut below = place.strip_prefix(HUB_FOLDER).ok()?.iter();
        let [owner, repository] = [below.next()?.to_str()?, below.next()?.to_str()?];
        let name = HubName::parse(&format!("{owner}/{repository}"))?;
        let (_, _, label) = Record::of(file).right()?;
        Some(name.with_quant(Some(&label)).to_string())
    }

    /// The files of a model that is here whole, as far as lengths tell.
    fn items_here(&self, name: &Name) -> Option<Vec<Item>> {
        match name {
            Name::Entry(entry) => {
                let item = Item::of(entry)?;
                let data = fs::metadata(self.path(&item)).ok()?;
                let is_here = data.is_file() && Bytes(data.len()) == item.bytes;
                is_here.then(|| vec![item])
            }
            Name::Hub(name) => {
                let models = quant::models(self.listed_here(name));
                let model = quant::choose(models, name.quant()).ok()?;
                let (label, files) = (model.label, model.files.into_iter());
                let items = files.map(|file| Item::listed(name, &label, file, None));
                Some(items.collect())
            }
        }
    }

    /// The files of a repository that came here whole, by the records beside them.
    fn listed_here(&self, name: &HubName) -> Vec<Listed> {
        let top = self.folder.join(name.folder());
        let mut listed = Vec::new();
        for path in files_under(&top) {
            let Some((bytes, sha256, label)) = Record::of(&path).right() else {
                continue;
            };
            let below = path.strip_prefix(&top).ok();
            let names = below.map(|below| below.iter().map(|part| part.to_str()));
            let names: Option<Vec<_>> = names.and_then(Iterator::collect);
            let length = fs::metadata(&path).map(|data| data.len());
            if let (Some(names), Ok(length)) = (names, length)
                && length == bytes
            {
                listed.push(Listed {
                    path: names.join("/"),
                    label: Some(label),
                    bytes,
                    sha256,
                });
            }
        }
        listed
    }

    /// Every file that is here of one model, whole or begun.
    fn items_begun(&self, name: &HubName) -> Result<Vec<Item>, HubError> {
        let top = self.folder.join(name.folder());
        let begun = files_named(&top, &|file| partial_of(file).is_some());
        let begun = begun.iter().filter_map(|path| {
            let (file, version) = partial_of(path.file_name()?.to_str()?)?;
            let folder = path.parent()?.strip_prefix(&top).ok()?;
            let folder: Option<Vec<_>> = folder.iter().map(|part| part.to_str()).collect();
            let parts = folder?.into_iter().chain([file]).collect::<Vec<_>>();
            Some(Listed {
                path: parts.join("/"),
                bytes: 0,
                sha256: version.to_owned(),
                label: Some(quant::label_of(file)?),
            })
        });
        let listed = self.listed_here(name).into_iter().chain(begun);
        let mut listed: Vec<_> = listed
            .filter_map(|file| Some((file.label.clone()?, file)))
            .collect();
        if let Some(wanted) = name.quant() {
            listed.retain(|(label, _)| label.eq_ignore_ascii_case(wanted));
        }
        let mut has: Vec<_> = listed.iter().map(|(label, _)| label.clone()).collect();
        has.sort();
        has.dedup();
        if has.len() > 1 {
            return Err(HubError::NoChoice {
                repository: name.repository(),
                choice: NoChoice {
                    problem: Problem::Which,
                    has,
                },
            });
        }
        let items = listed.into_iter();
        let items = items.map(|(label, file)| Item::listed(name, &label, file, None));
        Ok(items.collect())
    }

    fn path(&self, item: &Item) -> PathBuf {
        self.folder.join(&item.place)
    }

    fn pull_with(
        &self,
        fetch: &dyn Fetch,
        name: &Name,
        progress: &mut dyn Progress,
    ) -> Result<Pulled, HubError> {
        if let Some(items) = self.items_here(name) {
            let mut are_right = true;
            for item in &items {
                are_right &= self.find_hashed(item, progress)?.is_some();
            }
            if are_right {
                return Ok(self.pulled(&items, None));
            }
        }
        let (items, licence) = match name {
            Name::Entry(entry) => (Item::of(entry).into_iter().collect(), None),
            Name::Hub(name) => Self::items_of_hub(fetch, name, progress)?,
        };
        if let [first, ..] = items.as_slice() {
            self.make_folder(first, &self.folder)?;
            let missing = items.iter().map(|item| self.missing(item)).sum();
            if has_room(&self.folder, missing).is_err() {
                return Err(self.full(first, missing));
            }
        }
        for item in &items {
            self.pull_item(fetch, item, progress)?;
        }
        Ok(self.pulled(&items, licence))
    }

    fn make_folder(&self, item: &Item, folder: &Path) -> Result<(), HubError> {
        fs::create_dir_all(folder).map_err(|error| match is_full(&error) {
            true => self.full(item, item.bytes),
            false => failed_to("make the folder", folder)(error),
        })
    }

    /// The bytes of a file that are not here, by its length alone.
    fn missing(&self, item: &Item) -> Bytes {
        let path = self.path(item);
        let length = |path: &Path| fs::metadata(path).map_or(Bytes::ZERO, |data| Bytes(data.len()));
        let here = match length(&path) {
            whole if whole == item.bytes => whole,
            _ => length(&path.with_file_name(item.partial())),
        };
        item.bytes.saturating_sub(here)
    }

    fn pulled(&self, items: &[Item], licence: Option<String>) -> Pulled {
        let files = items.iter().map(|item| PulledFile {
            path: self.path(item),
            bytes: item.bytes,
            sha256: item.sha256.clone(),
        });
        Pulled {
            files: files.collect(),
            licence,
        }
    }

    /// The files that the hub's repository has of a model, and its licence.
    fn items_of_hub(
        fetch: &dyn Fetch,
        name: &HubName,
        progress: &mut dyn Progress,
    ) -> Result<(Vec<Item>, Option<String>), HubError> {
        let failed = |fault| match fault {
            Fault::Source(SourceError::NotShown(problem)) => HubError::NotShown {
                name: name.to_string(),
                problem,
            },
            Fault::Source(error) => HubError::AllSourcesFailed {
                name: name.to_string(),
                attempts: vec![Attempt {
                    source: "hugging face hub".to_owned(),
                    error,
                }],
            },
            Fault::Cancelled => HubError::Cancelled {
                name: name.to_string(),
            },
            Fault::Local(error) => failed_to("read", Path::new("the hub's answer"))(error),
        };
        let repository = fetch.repository(&name.repository(), progress);
        let repository = repository.map_err(failed)?;
        let models = quant::models(repository.files);
        let model = quant::choose(models, name.quant()).map_err(|choice| HubError::NoChoice {
            repository: name.repository(),
            choice,
        })?;
        let revision = Some(repository.revision.as_str());
        let (label, files) = (model.label, model.files.into_iter());
        let items = files.map(|file| Item::listed(name, &label, file, revision));
        Ok((items.collect(), repository.licence))
    }

    fn pull_item(
        &self,
        fetch: &dyn Fetch,
        item: &Item,
        progress: &mut dyn Progress,
    ) -> Result<(), HubError> {
        let path = self.path(item);
        let folder = path.parent().unwrap_or(&self.folder);
        self.make_folder(item, folder)?;
        let _lock = self.lock(item, progress)?;
        if self.find_hashed(item, progress)?.is_some() {
            return Ok(());
        }
        self.remove_leftovers(item, Some(&item.partial()));
        let mut attempts = Vec::new();
        for source in &item.sources {
            match self.pull_from(&Way { fetch, source }, item, progress) {
                Ok(()) => return Ok(()),
                Err(Fault::Source(SourceError::NotShown(problem))) if item.sources.len() == 1 => {
                    return Err(HubError::NotShown {
                        name: item.name.clone(),
                        problem,
                    });
                }
                Err(Fault::Source(error)) => {
                    let attempt = Attempt {
                        source: source.to_string(),
                        error,
                    };
                    progress.failed(&attempt);
                    attempts.push(attempt);
                }
                Err(Fault::Cancelled) => return Err(item.cancelled()),
                Err(Fault::Local(error)) => return Err(self.local(item, error)),
            }
            if !progress.keep_going() {
                return Err(item.cancelled());
            }
        }
        Err(HubError::AllSourcesFailed {
            name: item.name.clone(),
            attempts,
        })
    }

    /// Fetches into a file beside, and gives it its name when it has proved right. Until then it stays there, and
    /// the next fetch goes on with it; the folder for all else goes when this returns.
    fn pull_from(
        &self,
        way: &Way<'_>,
        item: &Item,
        progress: &mut dyn Progress,
    ) -> Result<(), Fault> {
        let path = self.path(item);
        let folder = path.parent().unwrap_or(&self.folder);
        let scratch = tempfile::Builder::new()
            .prefix(&item.scratch_prefix())
            .tempdir_in(folder)
            .map_err(Fault::Local)?;
        let _note = ScratchNote::new(scratch.path());
        let partial = folder.join(item.partial());
        let fetched =
            Sink::open(&partial, (item.bytes, &item.sha256), progress).and_then(|mut sink| {
                let left = item.bytes.saturating_sub(Bytes(sink.written()));
                has_room(folder, left + way.source.room_beside())?;
                way.fetch.fetch(way.source, scratch.path(), &mut sink)?;
                sink.finish()
            });
        if let Err(fault) = fetched {
            // Bytes that are known to be wrong, and a file without any, are of no use to anybody.
            let is_wrong = matches!(
                fault,
                Fault::Source(SourceError::WrongHash { .. } | SourceError::WrongLength { .. })
            );
            let is_empty = fs::metadata(&partial).is_ok_and(|data| data.len() == 0);
            if is_wrong || is_empty {
                let _ = fs::remove_file(&partial);
            }
            return Err(fault);
        }
        fs::rename(&partial, &path).map_err(Fault::Local)?;
        let stamp = Stamp::of(&path).map_err(Fault::Local)?;
        Record::of(&path)
            .write(item, &stamp)
            .map_err(Fault::Local)?;
        // So that the name survives a power cut; not every platform can open a folder.
        if let Ok(folder) = File::open(folder) {
            let _ = folder.sync_all();
        }
        Ok(())
    }

    fn find_hashed(
        &self,
        item: &Item,
        progress: &mut dyn Progress,
    ) -> Result<Option<PathBuf>, HubError> {
        let path = self.path(item);
        match fs::metadata(&path) {
            Ok(data) if data.is_file() && Bytes(data.len()) == item.bytes => {}
            _ => return Ok(None),
        }
        let stamp = || Stamp::of(&path).map_err(failed_to("read", &path));
        let before = stamp()?;
        progress.phase("checking the file in the cache", Some(item.bytes));
        match sha256_of(&path, progress).map_err(failed_to("read", &path))? {
            None => Err(item.cancelled()),
            Some(hash) if hash == item.sha256 => {
                // A file that changed meanwhile is not remembered as right.
                if stamp()? == before {
                    // Where it cannot be noted, it is hashed each time.
                    let _ = Record::of(&path).write(item, &before);
                }
                Ok(Some(path))
            }
            Some(_) => Ok(None),
        }
    }

    /// The lock lies in a file of its own, since the model's file is replaced; the operating
    /// system frees it when the process ends, however it ends.
    fn lock(&self, item: &Item, progress: &mut dyn Progress) -> Result<File, HubError> {
        let path = beside(&self.path(item), ".lock");
        let failed = failed_to("lock", &path);
        let file = open_own(&path).map_err(|error| match is_full(&error) {
            true => self.full(item, item.bytes),
            false => failed(error),
        })?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if !told => progress.waiting(),
                Err(TryLockError::WouldBlock) => wait_for_lock(),
            }
            told = true;
            if !progress.keep_going() {
                return Err(item.cancelled());
            }
        }
    }

    /// Removes what a killed process left, and beginnings of other versions of the file than `kept`. Under the
    /// lock, so none of them is in use.
    fn remove_leftovers(&self, item: &Item, kept: Option<&str>) {
        let path = self.path(item);
        let folder = path.parent().unwrap_or(&self.folder);
        let Ok(files) = fs::read_dir(folder) else {
            return;
        };
        for file in files.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            // What cannot be removed costs room, and harms nothing.
            if name.starts_with(&item.scratch_prefix()) {
                let _ = fs::remove_dir_all(file.path());
            } else if item.is_partial(&name) && kept != Some(&name) {
                let _ = fs::remove_file(file.path());
            }
        }
    }

    fn local(&self, item: &Item, error: io::Error) -> HubError {
        let partial = self.path(item).with_file_name(item.partial());
        let there = fs::metadata(partial).map_or(0, |data| data.len());
        match is_full(&error) {
            true => self.full(item, item.bytes.saturating_sub(Bytes(there))),
            false => failed_to("write to", &self.folder)(error),
        }
    }

    fn full(&self, item: &Item, left: Bytes) -> HubError {
        let path = self.path(item);
        let folder = path.parent().unwrap_or(&self.folder);
        // The rest of the file, and the largest package it may come in.
        let beside = item.sources.iter().map(Source::room_beside).max();
        HubError::DiskFull {
            name: item.name.clone(),
            path: self.folder.clone(),
            needed: left + beside.unwrap_or_default(),
            free: free_space(folder).or_else(|| free_space(&self.folder)),
        }
    }
}

/// One of the ways to a file.
struct Way<'a> {
    fetch: &'a dyn Fetch,
    source: &'a Source,
}

/// A model that was fetched, or was here.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Its files in their order: the first is the one to open.
    pub files: Vec<PulledFile>,
    /// The licence that the hub names, where it was asked.
    pub licence: Option<String>,
}

/// A file of a model.
#[derive(Clone, Debug)]
pub struct PulledFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: Bytes,
    /// Its SHA-256, in lower-case hexadecimal.
    pub sha256: String,
}

/// A model of the hub's that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The name by which it is found again.
    pub name: String,
    /// Its file, or the first.
    pub path: PathBuf,
    /// The bytes of all its files.
    pub bytes: Bytes,
}

/// Whether so much more fits on the disk of `folder`, as far as the system says.
fn has_room(folder: &Path, needed: Bytes) -> Result<(), Fault> {
    match free_space(folder) {
        Some(free) if free < needed => Err(Fault::Local(io::ErrorKind::StorageFull.into())),
        _ => Ok(()),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "waiting in the lock itself could not be cancelled"
)]
fn wait_for_lock() {
    thread::sleep(Duration::from_millis(100));
}

fn failed_to(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> HubError + use<> {
    let path = path.to_owned();
    move |source| HubError::Cache {
        doing,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::catalogue::{KnownFile, Origin};
    use crate::error::NotShown;
    use crate::progress::Silent;
    use crate::repository::Repository;

    const CONTENT: &[u8] = b"hello world";

    const SHA256: &str = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

    const fn source(repo: &'static str) -> Source {
        Source::Hub {
            repo: Cow::Borrowed(repo),
            revision: Cow::Borrowed("main"),
            file: Cow::Borrowed("f"),
        }
    }

    static ENTRY: Entry = Entry {
        name: "greeting",
        bytes: Bytes(11),
        licence: "none",
        notice: None,
        good_for: "saying hello",
        kv_bytes_per_token: Bytes(1),
        origin: Origin::File(KnownFile {
            file: "greeting.gguf",
            sha256: SHA256,
            sources: &[source("first"), source("second")],
        }),
    };
    const NAME: Name = Name::Entry(&ENTRY);

    /// The answer of each source, by its repository's name; any other request fails the test.
    struct Fake {
        gives: Vec<(&'static str, Vec<u8>)>,
        asked: RefCell<Vec<String>>,
        /// The files that the hub lists.
        lists: Vec<Listed>,
    }

    impl Fake {
        fn giving(gives: &[(&'static str, &[u8])]) -> Self {
            let gives = gives
                .iter()
                .map(|(repo, bytes)| (*repo, bytes.to_vec()))
                .collect();
            Self {
                gives,
                asked: RefCell::default(),
                lists: Vec::new(),
            }
        }

        fn asked(&self) -> Vec<String> {
            self.asked.borrow().clone()
        }
    }

    impl Fetch for Fake {
        fn fetch(&self, source: &Source, scratch: &Path, sink: &mut Sink<'_>) -> Result<(), Fault> {
            let Source::Hub { repo, file, .. } = source else {
                panic!("the test has no wheels")
            };
            let asked = if self.lists.is_empty() { repo } else { file };
            self.asked.borrow_mut().push(asked.to_string());
            fs::write(scratch.join("rubbish"), "left in scratch").map_err(Fault::Local)?;
            let unreachable = SourceError::Unreachable {
                detail: "no route".into(),
            };
            let given = self
                .gives
                .iter()
                .find(|(name, _)| name == asked)
                .ok_or(unreachable)?;
            let beginning = usize::try_from(sink.written()).unwrap();
            let mut rest = given.1.get(beginning..).unwrap_or_default();
            sink.take_all(&mut rest, &|after, error| SourceError::BrokeOff {
                after,
                detail: error.to_string(),
            })
        }

        fn repository(
            &self,
            repository: &str,
            _progress: &mut dyn Progress,
        ) -> Result<Repository, Fault> {
            self.asked.borrow_mut().push(repository.to_owned());
            match self.lists.is_empty() {
                true => Err(SourceError::NotShown(NotShown::Unknown).into()),
                false => Ok(Repository {
                    revision: "c0ffee".into(),
                    licence: Some("mit".into()),
                    files: self.lists.clone(),
                }),
            }
        }
    }

    /// Says stop at the `n`th question.
    struct StopAfter(Cell<usize>);

    impl Progress for StopAfter {
        fn phase(&mut self, _label: &str, _total: Option<Bytes>) {}
        fn advance(&mut self, _done: Bytes) {}
        fn failed(&mut self, _attempt: &Attempt) {}
        fn waiting(&mut self) {}
        fn keep_going(&self) -> bool {
            self.0.set(self.0.get().saturating_sub(1));
            self.0.get() > 0
        }
    }

    /// Names of the files in the cache but for the lock and the record.
    fn files(cache: &Cache) -> Vec<String> {
        let names = fs::read_dir(cache.folder())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap());
        let own = [".lock", ".verified"];
        names
            .filter(|name| !own.iter().any(|end| name.ends_with(end)))
            .collect()
    }

    fn path_of(pulled: Result<Pulled, HubError>) -> PathBuf {
        pulled.unwrap().files[0].path.clone()
    }

    fn pull(fake: &Fake) -> (tempfile::TempDir, Cache, Result<Pulled, HubError>) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("models"));
        let result = cache.pull_with(fake, &NAME, &mut Silent);
        (folder, cache, result)
    }

    #[test]
    fn the_first_source_that_has_the_file_gives_it() {
        let fake = Fake::giving(&[("second", CONTENT)]);
        let (_folder, cache, path) = pull(&fake);
        assert_eq!(fs::read(path_of(path)).unwrap(), CONTENT);
        assert_eq!(files(&cache), ["greeting.gguf"]);
        assert_eq!(fake.asked(), ["first", "second"]);
    }

    #[test]
    fn a_file_in_the_cache_is_not_fetched_again() {
        let fake = Fake::giving(&[("first", CONTENT)]);
        let (_folder, cache, path) = pull(&fake);
        assert_eq!(cache.find(&NAME), Some(path_of(path)));
        cache.pull_with(&fake, &NAME, &mut Silent).unwrap();
        assert_eq!(fake.asked(), ["first"]);
    }

    #[test]
    fn a_damaged_file_in_the_cache_is_fetched_again() {
        let fake = Fake::giving(&[("first", CONTENT)]);
        let (_folder, cache, path) = pull(&fake);
        let path = path_of(path);
        fs::write(&path, b"hellO world").unwrap();
        cache.pull_with(&fake, &NAME, &mut Silent).unwrap();
        assert_eq!(fs::read(&path).unwrap(), CONTENT);
        fs::write(&path, b"short").unwrap();
        assert_eq!(cache.find(&NAME), None);
    }

    /// Counts the times that a file is hashed.
    #[derive(Default)]
    struct Hashings(usize);

    impl Progress for Hashings {
        fn phase(&mut self, label: &str, _total: Option<Bytes>) {
            self.0 += usize::from(label.contains("checking"));
        }
        fn advance(&mut self, _done: Bytes) {}
        fn failed(&mut self, _attempt: &Attempt) {}
        fn waiting(&mut self) {}
        fn keep_going(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_file_is_hashed_again_only_after_a_change() {
        let (_folder, cache, path) = pull(&Fake::giving(&[("first", CONTENT)]));
        let path = path_of(path);
        let mut hashed = Hashings::default();
        let found = |hashed: &mut Hashings| cache.find_verified(&NAME, hashed).unwrap();
        assert_eq!(found(&mut hashed).as_ref(), Some(&path));
        assert_eq!(hashed.0, 0, "it was checked when it was fetched");

        let touch = |at| {
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(at).unwrap();
        };
        touch(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        assert_eq!(found(&mut hashed).as_ref(), Some(&path));
        assert_eq!(found(&mut hashed).as_ref(), Some(&path));
        assert_eq!(hashed.0, 1, "once after the change");

        // Another file of the same length and times, as a copy with its attributes is.
        let (before, other) = (fs::metadata(&path).unwrap(), path.with_extension("copy"));
        fs::copy(&path, &other).unwrap();
        let copy = fs::File::options().write(true).open(&other).unwrap();
        copy.set_modified(before.modified().unwrap()).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(found(&mut hashed).as_ref(), Some(&path));
        assert_eq!(hashed.0, 2, "once after it was replaced");

        // Zeros in its place, of the same length.
        fs::write(&path, [0; 11]).unwrap();
        assert_eq!(found(&mut hashed), None);
        assert_eq!(found(&mut hashed), None);
        assert_eq!(hashed.0, 4, "what was never right is hashed each time");
    }

    #[test]
    fn a_file_that_somebody_put_there_is_hashed_by_the_pull_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        fs::write(folder.path().join("greeting.gguf"), CONTENT).unwrap();
        let mut hashed = Hashings::default();
        let fake = Fake::giving(&[]);
        cache.pull_with(&fake, &NAME, &mut hashed).unwrap();
        assert!(cache.find_verified(&NAME, &mut hashed).unwrap().is_some());
        assert_eq!((hashed.0, fake.asked.borrow().len()), (1, 0));
    }

    #[test]
    fn wrong_content_is_never_kept() {
        let wrong: [(&[u8], &str); 3] = [
            (b"hellO world", "SHA-256"),
            (b"hello", "5 bytes"),
            (b"hello world and more", "20 bytes"),
        ];
        for (content, evidence) in wrong {
            let (_folder, cache, result) = pull(&Fake::giving(&[("first", content)]));
            let text = result.unwrap_err().to_string();
            assert!(
                text.contains(evidence) && text.contains("no route"),
                "{text}"
            );
            assert!(files(&cache).is_empty(), "{:?}", files(&cache));
        }
    }

    #[test]
    fn a_cancelled_fetch_leaves_a_beginning_at_most() {
        for questions in 1..6 {
            let folder = tempfile::tempdir().unwrap();
            let cache = Cache::at(folder.path());
            let fake = Fake::giving(&[("second", CONTENT)]);
            let mut stop = StopAfter(Cell::new(questions));
            let result = cache.pull_with(&fake, &NAME, &mut stop);
            assert!(
                matches!(result, Err(HubError::Cancelled { .. })),
                "{questions}: {result:?}"
            );
            let left = files(&cache);
            assert!(left.iter().all(|name| name.ends_with(".part")), "{left:?}");
        }
    }

    #[test]
    fn a_fetch_goes_on_where_an_earlier_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let other = ".greeting.gguf.0123456789ab.part";
        fs::write(folder.path().join(other), "another version").unwrap();
        // The beginning came from the source, and does not come again: its place is held by other letters.
        let rest = Fake::giving(&[("first", b"xxxxxxworld")]);
        fs::write(
            folder.path().join(".greeting.gguf.b94d27b9934d.part"),
            "hello ",
        )
        .unwrap();
        let path = path_of(cache.pull_with(&rest, &NAME, &mut Silent));
        assert_eq!(fs::read(path).unwrap(), CONTENT);
        assert_eq!(files(&cache), ["greeting.gguf"]);
    }

    /// A repository with one model in two parts and another in one file.
    fn repository() -> Fake {
        let listed = |path: &str, sha256: &str, bytes| Listed {
            path: path.into(),
            bytes,
            sha256: sha256.into(),
            label: None,
        };
        let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let parts = [
            "q/m-Q8_0-00001-of-00002.gguf",
            "q/m-Q8_0-00002-of-00002.gguf",
        ];
        let gives: [(_, &[u8]); 3] = [
            (parts[0], b"hello"),
            (parts[1], CONTENT),
            ("m-Q4_0.gguf", CONTENT),
        ];
        Fake {
            lists: vec![
                listed(parts[0], hello, 5),
                listed(parts[1], SHA256, 11),
                listed("m-Q4_0.gguf", SHA256, 11),
            ],
            ..Fake::giving(&gives)
        }
    }

    #[test]
    fn a_model_of_the_hub_comes_with_all_its_parts_and_is_found_again_without_the_hub() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let name = |text: &str| Name::parse(text).unwrap();
        let hub = repository();
        let pulled = cache
            .pull_with(&hub, &name("hf.co/some/Model:q8_0"), &mut Silent)
            .unwrap();
        let place = folder.path().join("hf.co/some/Model/q");
        let expected = ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"];
        let paths: Vec<_> = pulled.files.iter().map(|file| file.path.clone()).collect();
        assert_eq!(paths, expected.map(|part| place.join(part)));
        assert_eq!(pulled.licence.as_deref(), Some("mit"));

        let nobody = Fake::giving(&[]);
        for text in ["some/Model:Q8_0", "some/Model"] {
            let found = cache.pull_with(&nobody, &name(text), &mut Silent).unwrap();
            assert_eq!(found.files[0].path, paths[0], "{text}");
            let found = cache.find_verified(&name(text), &mut Silent).unwrap();
            assert_eq!(found.as_ref(), Some(&paths[0]), "{text}");
        }
        let held = Held {
            name: "some/Model:Q8_0".into(),
            path: paths[0].clone(),
            bytes: Bytes(16),
        };
        assert_eq!(cache.hub_models(), [held]);
        assert_eq!(cache.name_of(&paths[1]).as_deref(), Some("some/Model:Q8_0"));
        let known = cache.folder().join("SmolLM2-135M-Instruct.Q4_1.gguf");
        assert_eq!(cache.name_of(&known).as_deref(), Some("smollm2-135m"));
        assert_eq!(cache.name_of(Path::new("/elsewhere/model.gguf")), None);
        assert_eq!(nobody.asked(), Vec::<String>::new());

        // A part that is gone or damaged is no model, and comes again alone.
        fs::write(&paths[0], "hellO").unwrap();
        assert_eq!(
            cache
                .find_verified(&name("some/Model"), &mut Silent)
                .unwrap(),
            None
        );
        let again = repository();
        cache
            .pull_with(&again, &name("some/Model:Q8_0"), &mut Silent)
            .unwrap();
        assert_eq!(
            again.asked(),
            ["some/Model", "q/m-Q8_0-00001-of-00002.gguf"]
        );
        let freed = cache.remove(&name("some/Model:Q8_0"), &mut Silent).unwrap();
        assert_eq!((freed, cache.hub_models()), (Some(Bytes(16)), vec![]));
    }

    #[test]
    fn what_came_of_a_model_is_removed_with_it_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let name = |text: &str| Name::parse(text).unwrap();
        cache
            .pull_with(&repository(), &name("some/Model:Q4_0"), &mut Silent)
            .unwrap();
        let place = folder.path().join("hf.co/some/Model");
        fs::create_dir_all(place.join("q")).unwrap();
        let begun = place.join("q/.m-Q8_0-00001-of-00002.gguf.2cf24dba5fb0.part");
        fs::write(&begun, "hel").unwrap();
        let which = cache.remove(&name("some/Model"), &mut Silent).unwrap_err();
        assert!(
            which.to_string().contains("Q4_0, Q8_0: say which"),
            "{which}"
        );
        let freed = cache.remove(&name("some/Model:q8_0"), &mut Silent).unwrap();
        assert_eq!((freed, begun.exists()), (Some(Bytes(3)), false));
        assert_eq!(cache.hub_models().len(), 1);
        fs::write(
            folder.path().join(".greeting.gguf.b94d27b9934d.part"),
            "hello",
        )
        .unwrap();
        let freed = cache.remove(&NAME, &mut Silent).unwrap();
        assert_eq!(freed, Some(Bytes(5)));
        assert_eq!(cache.remove(&NAME, &mut Silent).unwrap(), None);
    }

    #[test]
    fn a_model_with_a_longer_name_is_never_taken_for_the_plain_one() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let hub = || {
            let listed = |path: &str| Listed {
                path: path.into(),
                bytes: 11,
                sha256: SHA256.into(),
                label: None,
            };
            let files = ["m-Q4_0.gguf", "m-other-Q4_0.gguf"];
            Fake {
                lists: files.map(listed).to_vec(),
                ..Fake::giving(&files.map(|file| (file, CONTENT)))
            }
        };
        let name = |text: &str| Name::parse(text).unwrap();
        cache
            .pull_with(&hub(), &name("some/Model:m-other-Q4_0"), &mut Silent)
            .unwrap();
        let plain = name("some/Model:Q4_0");
        assert_eq!(cache.find(&plain), None);
        assert_eq!(cache.remove(&plain, &mut Silent).unwrap(), None);
        let pulled = cache.pull_with(&hub(), &plain, &mut Silent).unwrap();
        assert!(pulled.files[0].path.ends_with("m-Q4_0.gguf"));
        let names: Vec<_> = cache
            .hub_models()
            .into_iter()
            .map(|held| held.name)
            .collect();
        assert_eq!(names, ["some/Model:Q4_0", "some/Model:m-other-Q4_0"]);
    }

    #[test]
    fn what_the_hub_does_not_have_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let check = |hub: &Fake, text: &str, words: &str| {
            let name = Name::parse(text).unwrap();
            let error = cache
                .pull_with(hub, &name, &mut Silent)
                .unwrap_err()
                .to_string();
            assert!(error.contains(words), "{error}");
        };
        check(
            &repository(),
            "some/Model:Q2_K",
            "no Q2_K; it has Q4_0, Q8_0",
        );
        check(&Fake::giving(&[]), "some/Model", "set HF_TOKEN");
    }

    #[test]
    fn a_model_that_is_here_needs_no_place_to_write_to() {
        let fake = Fake::giving(&[("first", CONTENT)]);
        let (_folder, cache, pulled) = pull(&fake);
        let path = path_of(pulled);
        fs::remove_file(beside(&path, ".lock")).unwrap();
        // What would be written cannot be: a folder stands in its place, for root too.
        fs::create_dir(beside(&path, ".lock")).unwrap();
        assert_eq!(path_of(cache.pull_with(&fake, &NAME, &mut Silent)), path);
        fs::write(&path, "damaged").unwrap();
        let refused = cache.pull_with(&fake, &NAME, &mut Silent);
        assert!(
            matches!(refused, Err(HubError::Cache { doing: "lock", .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        fs::create_dir(folder.path().join(".greeting.gguf.part-x1")).unwrap();
        fs::write(folder.path().join("other.gguf"), "kept").unwrap();
        cache
            .pull_with(&Fake::giving(&[("first", CONTENT)]), &NAME, &mut Silent)
            .unwrap();
        let mut left = files(&cache);
        left.sort();
        assert_eq!(left, ["greeting.gguf", "other.gguf"]);
    }

    #[test]
    fn two_pulls_at_once_fetch_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let asked: Vec<usize> = thread::scope(|scope| {
            let pulls: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let fake = Fake::giving(&[("first", CONTENT)]);
                        cache.pull_with(&fake, &NAME, &mut Silent).unwrap();
                        fake.asked.into_inner().len()
                    })
                })
                .collect();
            pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
        });
        assert_eq!(asked.iter().sum::<usize>(), 1, "{asked:?}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let cache = Cache::at(file.path().join("models"));
        let error = cache
            .pull_with(&Fake::giving(&[]), &NAME, &mut Silent)
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("cannot make the folder") && text.contains("GOGRID_CACHE"),
            "{text}"
        );
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let item = Item::of(&ENTRY).unwrap();
        let error = Cache::at("models").local(&item, io::ErrorKind::StorageFull.into());
        assert!(
            matches!(
                error,
                HubError::DiskFull {
                    needed: Bytes(11),
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn the_users_folder_follows_the_variables() {
        let check = |set: &[(&str, &str)], expected: Option<&str>| {
            let of = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
            let cache = Cache::from_variables(&of).ok();
            assert_eq!(
                cache.as_ref().map(Cache::folder),
                expected.map(Path::new),
                "{set:?}"
            );
        };
        check(&[], None);
        check(&[("HOME", "/h")], Some("/h/.cache/gogrid/models"));
        check(
            &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")],
            Some("/x/gogrid/models"),
        );
        check(
            &[("HOME", "/h"), ("XDG_CACHE_HOME", "x")],
            Some("/h/.cache/gogrid/models"),
        );
        check(&[("HOME", "/h"), ("GOGRID_CACHE", "g")], Some("g"));
    }
}
