//! A file of limits that is watched while the machine runs, as that of `--limits` is: written, broken
//! and taken away.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use corpgrid_scheduler::{Machine, PeerUse, Settings};
use futures_executor::block_on;
use gogrid_control::{
    Cause, Command, Control, Controlled, FileError, News, Refused, SettingsFile, StageAt, Watch,
};

use super::limits::{CHANGE_MAX, NEWS_MAX};

/// Texts that are no limits.
pub(super) const BROKEN: [&str; 8] = [
    "[limits",
    "limits = 3",
    "[limits]\nmax_compute_usage_percent = 7.0",
    "[limits]\nmax_compute_usage_percent = \"a half\"",
    "[limits]\nno_such_key = 1",
    "[limits]\nmax_batch_size = -1",
    "mode = \"no such mode\"",
    "\0\u{202e}",
];

/// The file and its watch. Its folder goes away with it.
pub(super) struct Watched {
    /// Ends first.
    _watch: Watch,
    folder: Folder,
    /// A lock, held for a change: one thread makes changes.
    news: Mutex<Receiver<News>>,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn file(&self) -> PathBuf {
        self.0.join("limits.toml")
    }
}

impl Watched {
    /// A file with these settings, watched from now on.
    pub(super) fn start(machine: &Arc<Machine>, settings: &Settings) -> Result<Self, String> {
        let name = format!("gogrid-soak-limits-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).map_err(|error| error.to_string())?;
        let path = folder.file();
        fs::write(&path, text_of(settings)?).map_err(|error| error.to_string())?;
        let (tell, news) = sync_channel(NEWS_MAX);
        let controlled = Arc::new(Through(Arc::clone(machine)));
        let control = Arc::new(Control::new(controlled));
        let file = SettingsFile::new(&path, None);
        let report = move |news: &News| {
            // One that finds no room was not waited for.
            let _ = tell.try_send(news.clone());
        };
        let watch = Watch::start(file, control, report);
        Ok(Self {
            _watch: watch.map_err(|error: FileError| error.to_string())?,
            folder,
            news: Mutex::new(news),
        })
    }

    /// Writes settings, and waits until they are taken.
    pub(super) fn write(&self, settings: &Settings) -> Result<(), String> {
        match self.put(Some(text_of(settings)?))? {
            News::Taken => Ok(()),
            News::Kept(problem) => Err(format!("good settings were not taken: {problem}")),
        }
    }

    /// Writes a text that is no limits, or takes the file away, and waits until that is told.
    pub(super) fn spoil(&self, text: Option<&str>) -> Result<(), String> {
        match self.put(text.map(str::to_owned))? {
            News::Kept(_) => Ok(()),
            News::Taken => Err(format!("taken as limits: {text:?}")),
        }
    }

    fn put(&self, text: Option<String>) -> Result<News, String> {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        while news.try_recv().is_ok() {}
        let path = self.folder.file();
        let done = match text {
            Some(text) => fs::write(path, text),
            None => fs::remove_file(path),
        };
        done.map_err(|error| error.to_string())?;
        let told = news.recv_timeout(CHANGE_MAX);
        told.map_err(|_| "nobody told of another file".to_owned())
    }
}

fn text_of(settings: &Settings) -> Result<String, String> {
    settings.to_toml().map_err(|error| error.to_string())
}

/// The machine as its file sees it.
struct Through(Arc<Machine>);

impl Controlled for Through {
    fn settings(&self) -> Settings {
        self.0.settings()
    }

    fn apply(&self, settings: Settings) -> Result<(), String> {
        block_on(self.0.set_settings(settings)).map_err(|error| error.to_string())
    }

    fn command(&self, command: Command) -> Result<(), String> {
        Err(format!("a file gives no command, as {command:?}"))
    }

    fn move_stages(&self, _stages: &[StageAt]) -> Result<(), Refused> {
        Err(Refused {
            cause: Cause::Pipeline,
            message: "a file moves no stages".to_owned(),
        })
    }

    fn usage(&self) -> PeerUse {
        self.0.usage()
    }

    fn note_failure(&self, thread: &str, problem: &str) {
        self.0.note_failure(thread, problem);
    }

    fn snapshot(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
