//! Which of several processes is meant.

use super::lines::{Line, Page, Tone};

/// A list of processes, one of which is marked.
pub(super) struct Choice<'a> {
    pids: &'a [u32],
    at: usize,
}

impl<'a> Choice<'a> {
    /// The first of at least one.
    pub(super) fn new(pids: &'a [u32]) -> Self {
        Self { pids, at: 0 }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pids[self.at]
    }

    /// Marks the one so many places further down, as far as there are any.
    pub(super) fn scroll(&mut self, by: i32) {
        let at = self.at.saturating_add_signed(by as isize);
        self.at = at.min(self.pids.len() - 1);
    }

    pub(super) fn lines(&self, width: usize) -> Vec<Line> {
        let mut page = Page::new(width);
        page.add(Tone::Strong, "several gogrids are running; which one?");
        for (at, pid) in self.pids.iter().enumerate() {
            match at == self.at {
                true => page.add(Tone::Open, &format!("> {pid}")),
                false => page.add(Tone::Plain, &format!("  {pid}")),
            }
        }
        page.into_lines()
    }

    /// The line of the one that is marked, where every entry has one.
    pub(super) fn line(&self) -> usize {
        self.at + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stays_in_the_list() {
        let mut choice = Choice::new(&[5, 6, 7]);
        let mut after = |by| {
            choice.scroll(by);
            let marked = choice.lines(80);
            let marked: Vec<_> = marked
                .iter()
                .filter(|line| line.text.starts_with('>'))
                .collect();
            assert_eq!(marked.len(), 1);
            assert_eq!(marked[0].text, format!("> {}", choice.pid()));
            choice.pid()
        };
        assert_eq!(
            [after(0), after(1), after(10), after(-1), after(-10)],
            [5, 6, 7, 6, 5]
        );
    }
}
