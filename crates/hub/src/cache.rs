use std::env;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use gogrid_host::{ScratchNote, open_own};
use gogrid_units::Bytes;

use crate::catalogue::Entry;
use crate::error::{Attempt, HubError};
use crate::fetch::{Fetch, Network};
use crate::progress::Progress;
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

    /// The model's file, if it is here with the right length. Never touches the network, and reads
    /// nothing of the file.
    pub fn find(&self, entry: &Entry) -> Option<PathBuf> {
        let path = self.folder.join(entry.file);
        let data = fs::metadata(&path).ok()?;
        (data.is_file() && Bytes(data.len()) == entry.bytes).then_some(path)
    }

    /// The model's file, if it is here and right. It is hashed unless it was found right before and has
    /// not changed since. Never touches the network.
    ///
    /// # Errors
    /// When the file cannot be read, or the caller gives up.
    pub fn find_verified(
        &self,
        entry: &Entry,
        progress: &mut dyn Progress,
    ) -> Result<Option<PathBuf>, HubError> {
        let Some(path) = self.find(entry) else {
            return Ok(None);
        };
        let stamp = Stamp::of(&path).map_err(failed_to("read", &path))?;
        match Record::of(&self.folder, entry).holds(entry, &stamp) {
            true => Ok(Some(path)),
            false => self.find_hashed(entry, progress),
        }
    }

    /// The model's file, fetched if it is not here. A file that is here is hashed first, and
    /// fetched again if it is not the catalogue's. Of two calls at once, one waits for the other.
    ///
    /// # Errors
    /// See [`HubError`]; whatever it is, no part of a file stays behind.
    pub fn pull(
        &self,
        entry: &'static Entry,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, HubError> {
        self.pull_with(&Network, entry, progress)
    }

    /// Removes a model's file; gives where it was, or `None` where it was not here. Waits for another process
    /// that fetches it.
    ///
    /// # Errors
    /// When the file cannot be removed, or the caller gives up.
    pub fn remove(
        &self,
        entry: &'static Entry,
        progress: &mut dyn Progress,
    ) -> Result<Option<PathBuf>, HubError> {
        let path = self.folder.join(entry.file);
        if !path.exists() {
            return Ok(None);
        }
        let _lock = self.lock(entry, progress)?;
        self.remove_leftovers(entry);
        fs::remove_file(&path).map_err(failed_to("remove", &path))?;
        Record::of(&self.folder, entry).forget();
        Ok(Some(path))
    }

    fn pull_with(
        &self,
        fetch: &dyn Fetch,
        entry: &'static Entry,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, HubError> {
        fs::create_dir_all(&self.folder).map_err(|error| match is_full(&error) {
            true => self.full(entry),
            false => failed_to("make the folder", &self.folder)(error),
        })?;
        let _lock = match self.lock(entry, progress) {
            Err(error @ (HubError::Cache { .. } | HubError::DiskFull { .. })) => {
                // Where nothing can be written, what is here and right needs nothing.
                return self.find_hashed(entry, progress)?.ok_or(error);
            }
            lock => lock?,
        };
        if let Some(path) = self.find_hashed(entry, progress)? {
            return Ok(path);
        }
        self.remove_leftovers(entry);
        let mut attempts = Vec::new();
        for source in entry.sources {
            match self.pull_from(
                &|scratch, sink| fetch.fetch(source, scratch, sink),
                entry,
                progress,
            ) {
                Ok(path) => return Ok(path),
                Err(Fault::Source(error)) => {
                    let attempt = Attempt {
                        source: source.to_string(),
                        error,
                    };
                    progress.failed(&attempt);
                    attempts.push(attempt);
                }
                Err(Fault::Cancelled) => return Err(HubError::Cancelled { name: entry.name }),
                Err(Fault::Local(error)) => return Err(self.local(entry, error)),
            }
            if !progress.keep_going() {
                return Err(HubError::Cancelled { name: entry.name });
            }
        }
        Err(HubError::AllSourcesFailed {
            name: entry.name,
            attempts,
        })
    }

    /// Fetches into a scratch folder, and gives the file its name when it has proved right. The
    /// scratch folder goes when this returns, whatever happens.
    fn pull_from(
        &self,
        fetch: &dyn Fn(&Path, &mut Sink<'_>) -> Result<(), Fault>,
        entry: &'static Entry,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, Fault> {
        let scratch = tempfile::Builder::new()
            .prefix(&scratch_prefix(entry))
            .tempdir_in(&self.folder)
            .map_err(Fault::Local)?;
        let _note = ScratchNote::new(scratch.path());
        let partial = scratch.path().join(entry.file);
        let mut sink =
            Sink::create(&partial, (entry.bytes, entry.sha256), progress).map_err(Fault::Local)?;
        fetch(scratch.path(), &mut sink)?;
        sink.finish()?;
        let path = self.folder.join(entry.file);
        fs::rename(&partial, &path).map_err(Fault::Local)?;
        let stamp = Stamp::of(&path).map_err(Fault::Local)?;
        Record::of(&self.folder, entry).write(entry, &stamp);
        // So that the name survives a power cut; not every platform can open a folder.
        if let Ok(folder) = File::open(&self.folder) {
            let _ = folder.sync_all();
        }
        Ok(path)
    }

    fn find_hashed(
        &self,
        entry: &Entry,
        progress: &mut dyn Progress,
    ) -> Result<Option<PathBuf>, HubError> {
        let Some(path) = self.find(entry) else {
            return Ok(None);
        };
        let stamp = || Stamp::of(&path).map_err(failed_to("read", &path));
        let before = stamp()?;
        progress.phase("checking the file in the cache", Some(entry.bytes));
        match sha256_of(&path, progress).map_err(failed_to("read", &path))? {
            None => Err(HubError::Cancelled { name: entry.name }),
            Some(hash) if hash == entry.sha256 => {
                // A file that changed meanwhile is not remembered as right.
                if stamp()? == before {
                    Record::of(&self.folder, entry).write(entry, &before);
                }
                Ok(Some(path))
            }
            Some(_) => Ok(None),
        }
    }

    /// The lock lies in a file of its own, since the model's file is replaced; the operating
    /// system frees it when the process ends, however it ends.
    fn lock(&self, entry: &Entry, progress: &mut dyn Progress) -> Result<File, HubError> {
        let path = self.folder.join(format!(".{}.lock", entry.file));
        let failed = failed_to("lock", &path);
        let file = open_own(&path).map_err(|error| match is_full(&error) {
            true => self.full(entry),
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
                return Err(HubError::Cancelled { name: entry.name });
            }
        }
    }

    /// Removes the files that a killed process left. Under the lock, so none of them is in use.
    fn remove_leftovers(&self, entry: &Entry) {
        let Ok(files) = fs::read_dir(&self.folder) else {
            return;
        };
        for file in files.flatten() {
            if file
                .file_name()
                .to_string_lossy()
                .starts_with(&scratch_prefix(entry))
            {
                // A file that cannot be removed costs room, and harms nothing.
                let _ = fs::remove_dir_all(file.path());
            }
        }
    }

    fn local(&self, entry: &Entry, error: io::Error) -> HubError {
        match is_full(&error) {
            true => self.full(entry),
            false => failed_to("write to", &self.folder)(error),
        }
    }

    fn full(&self, entry: &Entry) -> HubError {
        HubError::DiskFull {
            name: entry.name,
            path: self.folder.clone(),
            // The file, and the largest package it may come in.
            needed: entry.bytes.times(2),
        }
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

fn scratch_prefix(entry: &Entry) -> String {
    format!(".{}.part-", entry.file)
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
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::catalogue::Source;
    use crate::error::SourceError;
    use crate::progress::Silent;

    const CONTENT: &[u8] = b"hello world";

    static ENTRY: Entry = Entry {
        name: "greeting",
        file: "greeting.gguf",
        bytes: Bytes(11),
        sha256: "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
        licence: "none",
        notice: None,
        sources: &[
            Source::Hub {
                repo: "first",
                revision: "main",
                file: "f",
            },
            Source::Hub {
                repo: "second",
                revision: "main",
                file: "f",
            },
        ],
    };

    /// The answer of each source, by its repository's name; any other request fails the test.
    struct Fake {
        gives: Vec<(&'static str, Vec<u8>)>,
        asked: RefCell<Vec<&'static str>>,
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
            }
        }
    }

    impl Fetch for Fake {
        fn fetch(&self, source: &Source, scratch: &Path, sink: &mut Sink<'_>) -> Result<(), Fault> {
            let Source::Hub { repo, .. } = source else {
                panic!("the test has no wheels")
            };
            self.asked.borrow_mut().push(repo);
            fs::write(scratch.join("rubbish"), "left in scratch").map_err(Fault::Local)?;
            let unreachable = SourceError::Unreachable {
                detail: "no route".into(),
            };
            let given = self
                .gives
                .iter()
                .find(|(name, _)| name == repo)
                .ok_or(unreachable)?;
            sink.take_all(&mut given.1.as_slice(), &|after, error| {
                SourceError::BrokeOff {
                    after,
                    detail: error.to_string(),
                }
            })
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

    fn pull(fake: &Fake) -> (tempfile::TempDir, Cache, Result<PathBuf, HubError>) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("models"));
        let result = cache.pull_with(fake, &ENTRY, &mut Silent);
        (folder, cache, result)
    }

    #[test]
    fn a_file_that_is_here_is_given_where_nothing_can_be_locked() {
        let fake = Fake::giving(&[("first", CONTENT)]);
        let (_folder, cache, path) = pull(&fake);
        let path = path.unwrap();
        let lock = cache.folder().join(".greeting.gguf.lock");
        fs::remove_file(&lock).unwrap();
        // As a folder that cannot be written to has it: no lock is to be had.
        fs::create_dir(&lock).unwrap();
        let found = cache.pull_with(&Fake::giving(&[]), &ENTRY, &mut Silent);
        assert_eq!(found.unwrap(), path);
        fs::write(&path, "damaged").unwrap();
        let refused = cache.pull_with(&Fake::giving(&[]), &ENTRY, &mut Silent);
        assert!(
            matches!(refused, Err(HubError::Cache { doing: "lock", .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn the_first_source_that_has_the_file_gives_it() {
        let fake = Fake::giving(&[("second", CONTENT)]);
        let (_folder, cache, path) = pull(&fake);
        assert_eq!(fs::read(path.unwrap()).unwrap(), CONTENT);
        assert_eq!(files(&cache), ["greeting.gguf"]);
        assert_eq!(*fake.asked.borrow(), ["first", "second"]);
    }

    #[test]
    fn a_file_in_the_cache_is_not_fetched_again() {
        let fake = Fake::giving(&[("first", CONTENT)]);
        let (_folder, cache, path) = pull(&fake);
        assert_eq!(cache.find(&ENTRY), path.ok());
        cache.pull_with(&fake, &ENTRY, &mut Silent).unwrap();
        assert_eq!(*fake.asked.borrow(), ["first"]);
    }

    #[test]
    fn a_damaged_file_in_the_cache_is_fetched_again() {
        let fake = Fake::giving(&[("first", CONTENT)]);
        let (_folder, cache, path) = pull(&fake);
        let path = path.unwrap();
        fs::write(&path, b"hellO world").unwrap();
        cache.pull_with(&fake, &ENTRY, &mut Silent).unwrap();
        assert_eq!(fs::read(&path).unwrap(), CONTENT);
        fs::write(&path, b"short").unwrap();
        assert_eq!(cache.find(&ENTRY), None);
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
        let path = path.unwrap();
        let mut hashed = Hashings::default();
        let found = |hashed: &mut Hashings| cache.find_verified(&ENTRY, hashed).unwrap();
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
        cache.pull_with(&fake, &ENTRY, &mut hashed).unwrap();
        assert!(cache.find_verified(&ENTRY, &mut hashed).unwrap().is_some());
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
    fn a_cancelled_fetch_leaves_nothing() {
        for questions in 1..4 {
            let folder = tempfile::tempdir().unwrap();
            let cache = Cache::at(folder.path());
            let fake = Fake::giving(&[("second", CONTENT)]);
            let mut stop = StopAfter(Cell::new(questions));
            let result = cache.pull_with(&fake, &ENTRY, &mut stop);
            assert!(
                matches!(result, Err(HubError::Cancelled { .. })),
                "{questions}: {result:?}"
            );
            assert!(files(&cache).is_empty(), "{:?}", files(&cache));
        }
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        fs::create_dir(folder.path().join(".greeting.gguf.part-x1")).unwrap();
        fs::write(folder.path().join("other.gguf"), "kept").unwrap();
        cache
            .pull_with(&Fake::giving(&[("first", CONTENT)]), &ENTRY, &mut Silent)
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
                        cache.pull_with(&fake, &ENTRY, &mut Silent).unwrap();
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
            .pull_with(&Fake::giving(&[]), &ENTRY, &mut Silent)
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("cannot make the folder") && text.contains("GOGRID_CACHE"),
            "{text}"
        );
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let error = Cache::at("models").local(&ENTRY, io::ErrorKind::StorageFull.into());
        assert!(
            matches!(
                error,
                HubError::DiskFull {
                    needed: Bytes(22),
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
