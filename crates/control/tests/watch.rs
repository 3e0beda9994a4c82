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
        fs::write(folder.path().join("limits.toml"), text).unwrap();
        Self::on(folder)
    }

    /// Watches the file in this folder.
    fn on(folder: TempDir) -> Self {
        let path = folder.path().join("limits.toml");
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

/// A link in the place of the file, to a file in another folder: what changes there counts, and so does
/// another link.
#[cfg(unix)]
#[test]
fn a_file_that_is_a_link_counts_when_what_it_leads_to_changes() {
    use std::os::unix::fs::symlink;

    let elsewhere = tempfile::tempdir().unwrap();
    let (first, second) = (
        elsewhere.path().join("first.toml"),
        elsewhere.path().join("second.toml"),
    );
    fs::write(&first, batch(5)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    symlink(&first, folder.path().join("limits.toml")).unwrap();
    let rig = Rig::on(folder);
    fs::write(&first, batch(6)).unwrap();
    assert_eq!(rig.next_batch(), 6);
    fs::remove_file(&first).unwrap();
    assert_eq!(rig.next_problem(6), "it is not there");
    fs::write(&first, batch(7)).unwrap();
    assert_eq!(rig.next_batch(), 7);

    fs::write(&second, batch(8)).unwrap();
    let other = rig.folder.path().join("other");
    symlink(&second, &other).unwrap();
    fs::rename(&other, rig.file()).unwrap();
    assert_eq!(rig.next_batch(), 8);
    fs::write(&second, batch(9)).unwrap();
    assert_eq!(rig.next_batch(), 9);
}

/// As Kubernetes puts files into containers: the file is a link through a link to a folder, which is put in the
/// place of the one before.
#[cfg(unix)]
#[test]
fn a_link_on_the_way_that_leads_elsewhere_counts() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for size in [5, 6, 7] {
        fs::create_dir(at(&size.to_string())).unwrap();
        fs::write(at(&format!("{size}/limits.toml")), batch(size)).unwrap();
    }
    symlink("5", at("newest")).unwrap();
    symlink("newest/limits.toml", at("limits.toml")).unwrap();
    let (newest, other) = (at("newest"), at("other"));
    let rig = Rig::on(folder);
    for size in [6, 7] {
        symlink(size.to_string(), &other).unwrap();
        fs::rename(&other, &newest).unwrap();
        assert_eq!(rig.next_batch(), size);
    }
    fs::write(rig.folder.path().join("7/limits.toml"), batch(8)).unwrap();
    assert_eq!(rig.next_batch(), 8);
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_round_is_refused() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("limits.toml");
    symlink("limits.toml", &path).unwrap();
    let control = Arc::new(Control::new(Arc::new(Fake::new())));
    let refused = Watch::start(SettingsFile::new(&path, None), control, |_| {});
    let problem = refused.map(drop).unwrap_err().to_string();
    assert!(problem.contains("links lead to it"), "{problem}");
}
