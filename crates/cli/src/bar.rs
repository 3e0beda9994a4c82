//! The progress of a fetch, on standard error: a bar in a terminal, a line a phase elsewhere.

use gogrid_hub::{Attempt, Progress};
use gogrid_units::Bytes;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::escape::escaped;
use crate::interrupt::InterruptGuard;
use crate::out;

/// The place of all bars: each has a line of its own, under what is said meanwhile.
pub(crate) struct Bars(MultiProgress);

impl Bars {
    pub(crate) fn new() -> Self {
        Self(MultiProgress::new())
    }

    /// One more.
    pub(crate) fn bar<'a>(&self, watch: &'a InterruptGuard) -> Bar<'a> {
        let template = "{msg} [{bar:20}] {binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        let bar = match out::is_quiet() {
            true => ProgressBar::hidden(),
            false => ProgressBar::no_length(),
        };
        Bar {
            bar: self.0.add(bar.with_style(style.progress_chars("=> "))),
            bars: self.0.clone(),
            watch,
        }
    }

    /// Writes a line above them.
    pub(crate) fn say(&self, line: &str) {
        say(&self.0, line);
    }
}

fn say(bars: &MultiProgress, line: &str) {
    // Where nothing is drawn, nothing is drawn over.
    if bars.is_hidden() || bars.println(escaped(line)).is_err() {
        out::note(line);
    }
}

/// One of them.
pub(crate) struct Bar<'a> {
    bar: ProgressBar,
    bars: MultiProgress,
    watch: &'a InterruptGuard,
}

impl Progress for Bar<'_> {
    fn phase(&mut self, label: &str, total: Option<Bytes>) {
        if self.bars.is_hidden() {
            let total = total.map(|total| format!(" ({total})")).unwrap_or_default();
            out::note(format!("{label}{total}"));
            return;
        }
        self.bar.reset();
        self.bar.set_length(total.unwrap_or_default().0);
        self.bar.set_message(escaped(label).into_owned());
    }

    fn advance(&mut self, done: Bytes) {
        self.bar.set_position(done.0);
    }

    fn failed(&mut self, attempt: &Attempt) {
        say(&self.bars, &attempt.to_string());
    }

    fn waiting(&mut self) {
        say(
            &self.bars,
            "another process is fetching this model; waiting for it",
        );
    }

    fn keep_going(&self) -> bool {
        !self.watch.asked()
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
