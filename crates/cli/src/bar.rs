//! The progress of a fetch, on standard error: a bar in a terminal, a line a phase elsewhere.

use gogrid_hub::{Attempt, Progress};
use gogrid_units::Bytes;
use indicatif::{ProgressBar, ProgressStyle};

use crate::escape::escaped;
use crate::interrupt::InterruptGuard;
use crate::out;

pub(crate) struct Bar<'a> {
    bar: ProgressBar,
    watch: &'a InterruptGuard,
}

impl<'a> Bar<'a> {
    pub(crate) fn new(watch: &'a InterruptGuard) -> Self {
        let template = "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes}";
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        let bar = match out::is_quiet() {
            true => ProgressBar::hidden(),
            false => ProgressBar::no_length(),
        };
        Self {
            bar: bar.with_style(style.progress_chars("=> ")),
            watch,
        }
    }

    fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            out::note(line);
        } else {
            self.bar.println(escaped(line));
        }
    }
}

impl Progress for Bar<'_> {
    fn phase(&mut self, label: &str, total: Option<Bytes>) {
        if self.bar.is_hidden() {
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
        self.say(&format!("{attempt}"));
    }

    fn waiting(&mut self) {
        self.say("another process is fetching this model; waiting for it");
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
