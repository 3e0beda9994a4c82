//! The terminal while `gogrid top` has it.

use std::io;
use std::time::{Duration, Instant};

use anyhow::Context;
use gogrid_control::Request;
use ratatui::Terminal;
use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line as Shown;
use ratatui::widgets::Paragraph;

use super::asker::{Asker, Told};
use super::choice::Choice;
use super::keys::{HELP, Wish, wish};
use super::lines::{Line, Page, Tone, lines};
use super::seen::Seen;
use crate::exit::NotRunning;
use crate::interrupt::InterruptGuard;
use crate::out;

/// How often the process is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long a key is waited for before signals and answers are looked at.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// How it came to an end.
pub(super) enum Ended {
    Quit,
    Interrupted,
    Lost(NotRunning),
}

/// The terminal, with a screen of its own and single keys. Dropping it gives the terminal back as it was:
/// at the end, and while a panic unwinds.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
    /// The lines that are scrolled out above.
    above: usize,
}

impl Screen {
    pub(super) fn open() -> anyhow::Result<Self> {
        const NO_TERMINAL: &str = "cannot use the terminal";
        let opened =
            out::open_screen().and_then(|screen| Terminal::new(CrosstermBackend::new(screen)));
        // Before the error is told.
        let terminal = opened.inspect_err(|_| out::close_screen());
        Ok(Self {
            terminal: terminal.context(NO_TERMINAL)?,
            above: 0,
        })
    }

    /// The process that is chosen of several; the only one at once. None to quit.
    pub(super) fn choose(
        &mut self,
        pids: &[u32],
        watch: &InterruptGuard,
    ) -> anyhow::Result<Option<u32>> {
        if let [pid] = pids {
            return Ok(Some(*pid));
        }
        let (mut choice, nothing) = (Choice::new(pids), Seen::new(0));
        while !watch.asked() {
            let width = self.width()?;
            let line = choice.line();
            self.draw(
                &choice.lines(width),
                "up and down, Enter takes it, q quits",
                line,
            )?;
            match next_key()?.and_then(|key| wish(&key, &nothing)) {
                Some(Wish::Scroll(by)) => choice.scroll(by),
                Some(Wish::Choose) => return Ok(Some(choice.pid())),
                Some(Wish::Quit | Wish::Interrupt) => return Ok(None),
                Some(Wish::Ask(_)) | None => {}
            }
        }
        Ok(None)
    }

    /// Shows a process until a key, a signal or the end of the process ends it.
    pub(super) fn follow(
        &mut self,
        asker: &mut Asker,
        watch: &InterruptGuard,
    ) -> anyhow::Result<Ended> {
        let mut seen = Seen::new(asker.pid);
        let begun = now();
        let mut due = begun;
        while !watch.asked() {
            if now() >= due && asker.is_idle() && asker.put(Request::Get) {
                due = now() + ASK_EVERY;
            }
            let lines = lines(&seen, self.width()?);
            self.draw(&lines, HELP, self.above)?;
            match next_key()?.and_then(|key| wish(&key, &seen)) {
                Some(Wish::Quit) => return Ok(Ended::Quit),
                Some(Wish::Interrupt) => return Ok(Ended::Interrupted),
                Some(Wish::Scroll(by)) => self.scroll(by, lines.len()),
                Some(Wish::Ask(request)) => {
                    if !asker.put(request) {
                        seen.problem =
                            Some("it has not answered yet; that key did nothing".to_owned());
                    }
                }
                Some(Wish::Choose) | None => {}
            }
            while let Some(told) = asker.told()? {
                let now_s = begun.elapsed().as_secs_f64();
                match told {
                    Told::View(view) => seen.take(*view, now_s)?,
                    Told::Problem(problem) => seen.problem = Some(problem),
                    Told::Ended(problem) => return Ok(Ended::Lost(problem)),
                }
            }
        }
        Ok(Ended::Interrupted)
    }

    fn scroll(&mut self, by: i32, lines: usize) {
        let above = self.above.saturating_add_signed(by as isize);
        self.above = above.min(lines.saturating_sub(1));
    }

    fn width(&self) -> anyhow::Result<usize> {
        let size = self
            .terminal
            .size()
            .context("cannot ask the terminal for its size")?;
        Ok(usize::from(size.width))
    }

    /// Shows the lines from `from` on, as far down as they need to go, and the keys in the last ones.
    fn draw(&mut self, lines: &[Line], keys: &str, from: usize) -> anyhow::Result<()> {
        draw(&mut self.terminal, lines, keys, from).context("cannot write to the terminal")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        out::close_screen();
    }
}

fn draw<B: Backend>(
    terminal: &mut Terminal<B>,
    lines: &[Line],
    keys: &str,
    from: usize,
) -> Result<(), B::Error> {
    terminal.draw(|frame| {
        let area = frame.area();
        let mut foot = Page::new(usize::from(area.width));
        foot.add(Tone::Muted, keys);
        let foot = foot.into_lines();
        let foot_rows = (foot.len() as u16).min(area.height);
        let rows = area.height - foot_rows;
        // No further than to where the last line stands in the last row.
        let from = from.min(lines.len().saturating_sub(usize::from(rows)));
        let body: Vec<_> = lines.iter().skip(from).map(shown).collect();
        frame.render_widget(
            Paragraph::new(body),
            Rect {
                height: rows,
                ..area
            },
        );
        let place = Rect {
            y: area.y + rows,
            height: foot_rows,
            ..area
        };
        let foot: Vec<_> = foot.iter().map(shown).collect();
        frame.render_widget(Paragraph::new(foot), place);
    })?;
    Ok(())
}

fn shown(line: &Line) -> Shown<'_> {
    let style = match line.tone {
        Tone::Plain => Style::new(),
        Tone::Strong => Style::new().add_modifier(Modifier::BOLD),
        Tone::Muted => Style::new().add_modifier(Modifier::DIM),
        Tone::Open => Style::new().fg(Color::Green),
        Tone::Limited => Style::new().fg(Color::Yellow),
        Tone::Problem => Style::new().fg(Color::Red),
    };
    Shown::styled(line.text.as_str(), style)
}

/// A key that was pressed, if one is within a moment.
fn next_key() -> anyhow::Result<Option<KeyEvent>> {
    const NO_KEYS: &str = "cannot read keys from the terminal";
    if !event::poll(KEY_WAIT).context(NO_KEYS)? {
        return Ok(None);
    }
    match event::read().context(NO_KEYS)? {
        Event::Key(key) if key.kind != KeyEventKind::Release => Ok(Some(key)),
        _ => Ok(None),
    }
}

#[expect(clippy::disallowed_methods, reason = "a screen is drawn in time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::top::lines::tests::seen;

    fn rows(width: u16, height: u16, from: usize) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let lines = lines(&seen(), usize::from(width));
        draw(&mut terminal, &lines, HELP, from).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |cells: &[ratatui::buffer::Cell]| {
            let text: String = cells.iter().map(|cell| cell.symbol()).collect();
            text.trim_end().to_owned()
        };
        buffer.content.chunks(usize::from(width)).map(row).collect()
    }

    #[test]
    fn the_keys_stand_at_the_foot_at_every_size() {
        for (width, height) in [(80, 24), (40, 24), (40, 6), (20, 4), (1, 1)] {
            let rows = rows(width, height, 0);
            assert_eq!(rows.len(), usize::from(height));
            if width >= 40 {
                assert!(rows.last().unwrap().contains("quit"), "{rows:?}");
                assert!(rows[0].starts_with("gogrid 7"), "{rows:?}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_scrolled_to_and_no_further_than_the_end() {
        let first = rows(80, 6, 0);
        let second = rows(80, 6, 1);
        assert_eq!(first[1], second[0]);
        assert_eq!(rows(80, 6, 1000), rows(80, 6, 500));
        let all = lines(&seen(), 80);
        assert_eq!(rows(80, 6, 1000)[4], all.last().unwrap().text);
    }
}
