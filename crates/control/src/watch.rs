use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::{fs, io};

use corpgrid_scheduler::{Changes, Mode, Settings};
use gogrid_host::read_regular;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::control::Control;
use crate::limits::{
    LINK_CHANGES_MAX, LINKS_MAX, QUIET, REQUEST_BYTES_MAX, UNREST_MAX, UNWATCHED_LOOK_EVERY,
};
use crate::turns::take_turns;

/// What the thread that follows a file is called in the status.
const FOLLOWER: &str = "watched file";

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
        let read = read_regular(&self.path, REQUEST_BYTES_MAX);
        let bytes = read.map_err(|error| match error.kind() {
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
/// written over, replaced, removed and made again; its folder must stay. Where the file is a link, the links and
/// the file they lead to are watched. While nothing changes in these folders, its threads sleep.
pub struct Watch {
    /// Whether it is over.
    is_over: Arc<AtomicBool>,
    wake: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Puts the settings of `file` in force, now and after each change from here on. `report`
    /// hears once of each change, on a thread of its own, and here if the file is no good now.
    pub fn start(
        file: SettingsFile,
        control: Arc<Control>,
        report: impl Fn(&News) + Send + 'static,
    ) -> Result<Self, FileError> {
        let (wake, woken) = sync_channel(1);
        let folder_watch = FolderWatch::start(&file, wake.clone())?;
        let is_over = Arc::new(AtomicBool::new(false));
        let mut follower = Follower {
            file: file.clone(),
            control,
            last: None,
            folder_watch: Some(folder_watch),
            wake: wake.clone(),
            is_over: Arc::clone(&is_over),
        };
        if let Some(news @ News::Kept(_)) = follower.look() {
            report(&news);
        }
        let thread = Builder::new().name("gogrid-settings".to_owned());
        let started = thread.spawn(move || follower.follow(&woken, &report));
        let thread =
            started.map_err(|error| file.error(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            is_over,
            wake,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // If there is no room, it is woken anyway.
        let _ = self.wake.try_send(());
        if let Some(thread) = self.thread.take() {
            // Its turns do not panic out of it.
            let _ = thread.join();
        }
    }
}

/// The system's watch on the folders in which the file may become another: an editor that replaces a file makes
/// another one, and a link may be made to lead elsewhere.
struct FolderWatch {
    _watcher: RecommendedWatcher,
    /// The names that are watched.
    places: Vec<Place>,
    /// Whether the library's thread has ended.
    is_lost: Arc<AtomicBool>,
}

/// Held by what the library's thread calls: dropped when that thread ends, however it ends.
struct Lost {
    is_lost: Arc<AtomicBool>,
    wake: SyncSender<()>,
}

impl Drop for Lost {
    fn drop(&mut self) {
        self.is_lost.store(true, Ordering::Relaxed);
        let _ = self.wake.try_send(());
    }
}

impl FolderWatch {
    fn start(file: &SettingsFile, wake: SyncSender<()>) -> Result<Self, FileError> {
        let mut places = places(file)?;
        for _ in 0..LINK_CHANGES_MAX {
            let watch = Self::on(file, places, wake.clone())?;
            places = self::places(file)?;
            // A link that was changed before it was watched is looked at again.
            if watch.places == places {
                return Ok(watch);
            }
        }
        Err(file.error("cannot be watched: it is a link that changes all the time".to_owned()))
    }

    fn on(
        file: &SettingsFile,
        places: Vec<Place>,
        wake: SyncSender<()>,
    ) -> Result<Self, FileError> {
        let folders: BTreeSet<_> = places.iter().map(|place| place.folder.clone()).collect();
        let is_lost = Arc::new(AtomicBool::new(false));
        let lost = Lost {
            is_lost: Arc::clone(&is_lost),
            wake,
        };
        let (names, watched) = (places.clone(), folders.clone());
        let on_event = move |event: notify::Result<Event>| {
            let concerns = |path: &PathBuf| {
                let is_named = |place: &Place| path.file_name() == Some(&place.name);
                names.iter().any(is_named) || watched.contains(path)
            };
            // An error may be a change that was not seen.
            if event.is_ok_and(|event| !changes_file(&event, &concerns)) {
                return;
            }
            // If there is no room, one that has not been looked at stands for this one too.
            let _ = lost.wake.try_send(());
        };
        let failed = |error: notify::Error| file.error(format!("cannot be watched: {error}"));
        let mut watcher = notify::recommended_watcher(on_event).map_err(failed)?;
        for folder in &folders {
            let watched = watcher.watch(folder, RecursiveMode::NonRecursive);
            watched.map_err(failed)?;
        }
        Ok(Self {
            _watcher: watcher,
            places,
            is_lost,
        })
    }
}

/// A name in a folder by which the file is found: its own, or that of a link on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    folder: PathBuf,
    name: OsString,
}

/// Where the file may become another: its name, and where that is a link, every link on the way that it leads, to the
/// name of what is at the end or is not there.
fn places(file: &SettingsFile) -> Result<Vec<Place>, FileError> {
    let Some(name) = file.path.file_name() else {
        return Err(file.error("is no name of a file".to_owned()));
    };
    let mut folder = match file.path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut places = Vec::new();
    let mut way = VecDeque::from([name.to_owned()]);
    while let Some(name) = way.pop_front() {
        let at = folder.join(&name);
        let target = fs::read_link(&at).ok();
        let is_end = target.is_none() && (way.is_empty() || !at.exists());
        if target.is_none() && !is_end {
            folder = at;
            continue;
        }
        let folder = folder.clone();
        places.push(Place { folder, name });
        if is_end {
            return Ok(places);
        }
        if places.len() > LINKS_MAX {
            return Err(file.error(format!("more than {LINKS_MAX} links lead to it")));
        }
        for part in target.iter().flat_map(|target| target.components().rev()) {
            way.push_front(part.as_os_str().to_owned());
        }
    }
    Ok(places)
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
    /// The result of the last reading that was acted upon: the text, or why there was none.
    last: Option<Result<String, String>>,
    /// None where the last one was lost and another is not to be had yet.
    folder_watch: Option<FolderWatch>,
    /// For another watch on the folder.
    wake: SyncSender<()>,
    is_over: Arc<AtomicBool>,
}

impl Follower {
    fn follow(mut self, woken: &Receiver<()>, report: &dyn Fn(&News)) {
        let (control, path) = (Arc::clone(&self.control), self.file.path.clone());
        let ended = take_turns(|| self.turn(woken, report), &mut |problem| {
            control.fail_file(path.clone(), format!("looking at it failed: {problem}"));
            control.note_failure(FOLLOWER, problem);
        });
        if !ended {
            control.fail_file(path, "nobody looks at it any more".to_owned());
        }
    }

    /// Waits for a change and takes it, once there is quiet.
    fn turn(&mut self, woken: &Receiver<()>, report: &dyn Fn(&News)) -> ControlFlow<()> {
        let is_woken = match self.folder_watch {
            Some(_) => woken.recv().is_ok(),
            // Nothing tells of a change.
            None => woken.recv_timeout(UNWATCHED_LOOK_EVERY) != Err(RecvTimeoutError::Disconnected),
        };
        for _ in 0..UNREST_MAX {
            if self.is_over.load(Ordering::Relaxed) || !is_woken {
                return ControlFlow::Break(());
            }
            if woken.recv_timeout(QUIET).is_err() {
                break;
            }
        }
        self.keep_watching();
        if let Some(news) = self.look() {
            report(&news);
        }
        ControlFlow::Continue(())
    }

    /// Takes another watch on the folders where the one before was lost, or a link leads elsewhere now.
    fn keep_watching(&mut self) {
        let lost = match &self.folder_watch {
            Some(watch) if watch.is_lost.load(Ordering::Relaxed) => {
                Some("the system's watch on its folder has ended")
            }
            // What leads nowhere is told when it is read.
            Some(watch) if places(&self.file).is_ok_and(|places| places != watch.places) => None,
            Some(_) => return,
            None => Some("the system's watch on its folder has ended"),
        };
        let had_one = self.folder_watch.is_some();
        match FolderWatch::start(&self.file, self.wake.clone()) {
            Ok(watch) => {
                self.folder_watch = Some(watch);
                if let Some(lost) = lost {
                    let problem = format!("{lost}; another took over");
                    self.control.note_failure(FOLLOWER, &problem);
                }
                if !had_one {
                    // The file is taken anew, and the status says so.
                    self.last = None;
                }
            }
            Err(error) if had_one => {
                self.folder_watch = None;
                let every = UNWATCHED_LOOK_EVERY.as_secs();
                let lost = lost.unwrap_or("its link leads elsewhere");
                let problem = format!(
                    "{lost}, and there is no other watch: {}; it is looked at every {every} s",
                    error.problem
                );
                self.control.note_failure(FOLLOWER, &problem);
                self.control.fail_file(self.file.path.clone(), problem);
            }
            // That was said when it was lost.
            Err(_) => {}
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
        let problem = self.control.take_file(self.file.path.clone(), said);
        self.last = Some(text);
        Some(problem.map_or(News::Taken, News::Kept))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use corpgrid_scheduler::PeerUse;
    use serde_json::Value;

    use super::*;
    use crate::StageAt;
    use crate::controlled::{Command, Controlled};
    use crate::protocol::{Refused, Request};

    /// Takes whatever it is told.
    struct Willing;

    impl Controlled for Willing {
        fn settings(&self) -> Settings {
            Settings::of(Mode::Conservative)
        }
        fn apply(&self, _settings: Settings) -> Result<(), String> {
            Ok(())
        }
        fn command(&self, _command: Command) -> Result<(), String> {
            Ok(())
        }
        fn move_stages(&self, _stages: &[StageAt]) -> Result<(), Refused> {
            Ok(())
        }
        fn usage(&self) -> PeerUse {
            PeerUse::default()
        }
        fn note_failure(&self, _thread: &str, _problem: &str) {}
        fn snapshot(&self) -> Value {
            Value::Null
        }
    }

    #[test]
    fn a_folder_that_cannot_be_watched_again_is_told_and_tried_later() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("folder");
        let path = folder.join("limits.toml");
        let write = || {
            fs::create_dir(&folder).unwrap();
            fs::write(&path, "").unwrap();
        };
        write();
        let (wake, _woken) = sync_channel(1);
        let file = SettingsFile::new(&path, None);
        let mut follower = Follower {
            folder_watch: Some(FolderWatch::start(&file, wake.clone()).unwrap()),
            file,
            control: Arc::new(Control::new(Arc::new(Willing))),
            last: None,
            wake,
            is_over: Arc::default(),
        };
        let problem = |follower: &Follower| {
            let view = follower.control.answer(Request::Get).unwrap();
            view.settings_file.unwrap().problem
        };
        assert_eq!(follower.look(), Some(News::Taken));
        follower.keep_watching();
        assert_eq!(problem(&follower), None);

        fs::remove_dir_all(&folder).unwrap();
        let watch = follower.folder_watch.as_ref().unwrap();
        watch.is_lost.store(true, Ordering::Relaxed);
        follower.keep_watching();
        let told = problem(&follower).unwrap();
        assert!(told.contains("there is no other"), "{told}");
        follower.keep_watching();
        assert!(follower.folder_watch.is_none());

        write();
        follower.keep_watching();
        assert!(follower.folder_watch.is_some());
        assert_eq!(follower.look(), Some(News::Taken));
        assert_eq!(problem(&follower), None);
    }
}
