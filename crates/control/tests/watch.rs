//! A watched file, edited as people and programs edit files.

mod fake;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use corpgrid_scheduler::{Mode, Settings};
use gogrid_control::{Control, News, Request, SettingsFile, View, Watch};
use tempfile::TempDir;

use crate::fake::Fake;

/// Far more than any change takes to be seen.
const PATIENCE: Duration = Duration::from_secs(30);

struct Rig {
    folder: TempDir,
    control: Arc<Control>,
    news: Receiver<News>,
    _watch: Watch,
}

impl Rig {
    /// Watches a file that has this text.
    fn watch(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limits.toml");
        fs::write(&path, text).unwrap();
        let control = Arc::new(Control::new(Arc::new(Fake::new())));
        let (tell, news) = channel();
        let report = move |news: &News| tell.send(news.clone()).unwrap();
        let file = SettingsFile::new(&path, None);
        let watch = Watch::start(file, Arc::clone(&control), report).unwrap();
        Self {
            folder,
            control,
            news,
            _watch: watch,
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("limits.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.file(), text).unwrap();
    }

    /// What came of the next change, and how things are after it.
    fn next(&self) -> (News, View) {
        let news = self.news.recv_timeout(PATIENCE).unwrap();
        (news, self.control.answer(Request::Get).unwrap())
    }

    /// The batch in force once the next change is taken.
    fn next_batch(&self) -> usize {
        let (news, view) = self.next();
        assert_eq!(news, News::Taken);
        assert_eq!(view.settings_file.unwrap().problem, None);
        view.settings.limits.max_batch_size
    }

    /// Why the next change is not taken; the batch is still this one.
    fn next_problem(&self, batch: usize) -> String {
        let (news, view) = self.next();
        let News::Kept(problem) = news else {
            panic!("{news:?}")
        };
        assert_eq!(view.settings.limits.max_batch_size, batch);
        let file = view.settings_file.unwrap();
        assert_eq!(
            (file.path, file.problem.as_ref()),
            (self.file(), Some(&problem))
        );
        problem
    }
}

fn batch(size: usize) -> String {
    format!("[limits]\nmax_batch_size = {size}\n")
}

#[test]
fn what_the_file_says_at_first_is_in_force_at_once() {
    let rig = Rig::watch(&batch(7));
    let view = rig.control.answer(Request::Get).unwrap();
    assert_eq!(view.settings.limits.max_batch_size, 7);
    assert_eq!(view.settings_file.unwrap().problem, None);
}

#[test]
fn a_file_written_over_counts() {
    let rig = Rig::watch("");
    for size in [5, 6, 7] {
        rig.write(&batch(size));
        assert_eq!(rig.next_batch(), size);
    }
}

#[test]
fn a_file_put_in_its_place_counts() {
    let rig = Rig::watch("");
    for size in [5, 6] {
        let other = rig.folder.path().join("limits.toml.swp");
        fs::write(&other, batch(size)).unwrap();
        fs::rename(&other, rig.file()).unwrap();
        assert_eq!(rig.next_batch(), size);
    }
}

#[test]
fn a_file_removed_changes_nothing_and_is_said_until_it_is_back() {
    let rig = Rig::watch(&batch(5));
    fs::remove_file(rig.file()).unwrap();
    assert_eq!(rig.next_problem(5), "it is not there");
    rig.write(&batch(5));
    assert_eq!(rig.next_batch(), 5);
}

#[test]
fn a_file_with_a_mistake_changes_nothing_until_it_is_mended() {
    let rig = Rig::watch(&batch(5));
    rig.write("mode = \"aggressive\"\n[limits]\nmax_batch_size = 0\n");
    let problem = "line 3, column 1: limits.max_batch_size is 0, must be in 1..=64";
    assert_eq!(rig.next_problem(5), problem);
    fs::write(rig.file(), b"\xff").unwrap();
    assert_eq!(rig.next_problem(5), "not UTF-8 at byte 0");
    rig.write(&batch(64));
    assert_eq!(rig.next_problem(5), "the batch is too large for me");
    rig.write("mode = \"aggressive\"\n");
    let size = Settings::of(Mode::Aggressive).limits.max_batch_size;
    assert_eq!(rig.next_batch(), size);
}

#[test]
fn a_mode_is_named_in_one_place_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("limits.toml");
    let read = |text: &str, mode| {
        fs::write(&path, text).unwrap();
        SettingsFile::new(&path, mode).read()
    };
    let away = "[away]\nmax_batch_size = 9\n";
    let (_, settings) = read(away, Some(Mode::Aggressive)).unwrap();
    assert_eq!(settings.limits, Settings::of(Mode::Aggressive).limits);
    assert_eq!(settings.away.max_batch_size, 9);
    let named = format!("mode = \"default\"\n{away}");
    let (mode, settings) = read(&named, None).unwrap();
    assert_eq!(mode, Mode::Default);
    assert_eq!(settings.limits, Settings::of(Mode::Default).limits);
    let error = read(&named, Some(Mode::Aggressive))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with(path.to_str().unwrap()), "{error}");
    assert!(
        error.contains("the mode default, and aggressive is asked for"),
        "{error}"
    );
}
