use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use corpgrid_scheduler::{Changes, Mode, Settings};
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::control::Control;
use crate::limits::{QUIET, REQUEST_BYTES_MAX, UNREST_MAX};

/// A file of settings, and the mode it changes if it names none itself.
#[derive(Clone, Debug)]
pub struct SettingsFile {
    path: PathBuf,
    mode: Option<Mode>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The fault, and where it is.
    pub problem: String,
}

/// The outcome of a change to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Its settings are in force.
    Taken,
    /// It cannot be used, for this reason; the settings that were in force still are.
    Kept(String),
}

impl SettingsFile {
    /// The file at `path`, whose settings change those of `mode`. A file that names a mode
    /// itself cannot be used where one is asked for besides.
    pub fn new(path: &Path, mode: Option<Mode>) -> Self {
        Self {
            path: path.to_owned(),
            mode,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its settings now, and the mode that they rest on.
    pub fn read(&self) -> Result<(Mode, Settings), FileError> {
        let read = self.text().and_then(|text| self.settings(&text));
        read.map_err(|problem| self.error(problem))
    }

    fn error(&self, problem: String) -> FileError {
        FileError {
            path: self.path.clone(),
            problem,
        }
    }

    fn text(&self) -> Result<String, String> {
        let mut bytes = Vec::new();
        // Reading a pipe would wait for a writer.
        if self.path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err("it is not a regular file".to_owned());
        }
        let file = File::open(&self.path);
        let read = file.and_then(|file| {
            file.take(REQUEST_BYTES_MAX as u64 + 1)
                .read_to_end(&mut bytes)
        });
        read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "it is not there".to_owned(),
            _ => format!("cannot read it: {error}"),
        })?;
        String::from_utf8(bytes)
            .map_err(|error| format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
    }

    fn settings(&self, text: &str) -> Result<(Mode, Settings), String> {
        let changes = Changes::from_toml(text).map_err(|error| error.to_string())?;
        if let (Some(asked), Some(named)) = (self.mode, changes.mode()) {
            let (asked, named) = (asked.name(), named.name());
            return Err(format!(
                "it names the mode {named}, and {asked} is asked for besides; leave one of them out"
            ));
        }
        let mode = changes.mode().or(self.mode).unwrap_or(Mode::Conservative);
        let settings = changes.onto(&Settings::of(mode));
        Ok((mode, settings.map_err(|error| error.to_string())?))
    }
}

/// Puts a file's settings in force each time it changes, until the watch is dropped. The file may be
/// written over, replaced, removed and made again; its folder must stay, and where the file is a
/// link, the link is watched. While nothing changes in the folder, its threads sleep.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    changes: SyncSender<Change>,
    thread: Option<JoinHandle<()>>,
}

enum Change {
    Seen,
    Over,
}

impl Watch {
    /// Puts the settings of `file` in force, now and after each change from here on. `report`
    /// hears once of each change, on a thread of its own, and here if the file is no good now.
    pub fn start(
        file: SettingsFile,
        control: Arc<Control>,
        report: impl Fn(&News) + Send + 'static,
    ) -> Result<Self, FileError> {
        let (changes, seen) = sync_channel(1);
        let watcher = watcher(&file, changes.clone())?;
        let mut follower = Follower {
            file: file.clone(),
            control,
            last: None,
        };
        if let Some(news @ News::Kept(_)) = follower.look() {
            report(&news);
        }
        let thread = Builder::new().name("gogrid-settings".to_owned());
        let started = thread.spawn(move || follower.follow(&seen, &report));
        let thread =
            started.map_err(|error| file.error(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            watcher: Some(watcher),
            changes,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.watcher.take());
        // Both fail only if the thread panicked, which was reported then.
        let _ = self.changes.send(Change::Over);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Watches the file's folder, since an editor that replaces a file makes another one.
fn watcher(
    file: &SettingsFile,
    changes: SyncSender<Change>,
) -> Result<RecommendedWatcher, FileError> {
    let Some(name) = file.path.file_name().map(ToOwned::to_owned) else {
        return Err(file.error("is no name of a file".to_owned()));
    };
    let folder = match file.path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let itself = folder.to_owned();
    let on_event = move |event: notify::Result<Event>| {
        let concerns = |path: &PathBuf| path.file_name() == Some(&name) || *path == itself;
        // An error may be a change that was not seen.
        if event.is_ok_and(|event| !changes_file(&event, &concerns)) {
            return;
        }
        // If there is no room, one that has not been looked at stands for this one too.
        let _ = changes.try_send(Change::Seen);
    };
    let failed = |error: notify::Error| file.error(format!("cannot be watched: {error}"));
    let mut watcher = notify::recommended_watcher(on_event).map_err(failed)?;
    watcher
        .watch(folder, RecursiveMode::NonRecursive)
        .map_err(failed)?;
    Ok(watcher)
}

/// Whether the file may be another after this. Reading it is an event too, and changes nothing.
fn changes_file(event: &Event, concerns: &dyn Fn(&PathBuf) -> bool) -> bool {
    let changes = match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    };
    changes && (event.need_rescan() || event.paths.iter().any(concerns))
}

/// The state of the watch's thread.
struct Follower {
    file: SettingsFile,
    control: Arc<Control>,
    /// The result of the last reading: the text, or why there was none.
    last: Option<Result<String, String>>,
}

impl Follower {
    fn follow(mut self, seen: &Receiver<Change>, report: &dyn Fn(&News)) {
        while let Ok(Change::Seen) = seen.recv() {
            for _ in 0..UNREST_MAX {
                match seen.recv_timeout(QUIET) {
                    Ok(Change::Seen) => {}
                    Ok(Change::Over) => return,
                    Err(_) => break,
                }
            }
            if let Some(news) = self.look() {
                report(&news);
            }
        }
    }

    /// Takes the settings in the file, if its text is another than at the last look.
    fn look(&mut self) -> Option<News> {
        let text = self.file.text();
        if self.last.as_ref() == Some(&text) {
            return None;
        }
        let said = match &text {
            Ok(text) => self.file.settings(text).map(|(_, settings)| settings),
            Err(problem) => Err(problem.clone()),
        };
        self.last = Some(text);
        let problem = self.control.take_file(self.file.path.clone(), said);
        Some(problem.map_or(News::Taken, News::Kept))
    }
}
