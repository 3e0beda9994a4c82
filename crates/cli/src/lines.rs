//! The lines of a conversation: typed at a terminal, with its editing, or read from elsewhere.

use std::io::{self, BufRead, IsTerminal, Read};
use std::path::PathBuf;
use std::{env, fs};

use anyhow::Context;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Editor, Event, EventContext, EventHandler,
    ExternalPrinter, KeyCode, KeyEvent, Modifiers, Movement, RepeatCount,
};

use crate::exit::BadInput;
use crate::model_file::TEXT_BYTES_MAX;
use crate::out;

/// Where the lines come from.
pub(crate) enum Lines {
    Typed(Box<Typed>),
    Read,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line without its end, or several that belong together.
    Text(String),
    /// A text of several lines between quotes, which is no order.
    Quoted(String),
    /// Ctrl-C within a text of several lines.
    Dropped,
    /// Ctrl-C on an empty line.
    Interrupted,
    /// Nothing more.
    Ended,
}

/// A line editor with what was typed before, in this conversation and others.
pub(crate) struct Typed {
    editor: Editor<(), FileHistory>,
    /// `None` where the user has no folder for it: then nothing is kept.
    history: Option<PathBuf>,
}

const PROMPT: &str = ">>> ";
const PROMPT_WITHIN: &str = "... ";
/// Around a text of several lines.
const QUOTES: &str = "\"\"\"";
/// The name of the file of the lines of all conversations.
const HISTORY: &str = "chat-history";

/// Ctrl-C: clears a line, and asks to leave from an empty one.
struct ClearOrLeave;

impl ConditionalEventHandler for ClearOrLeave {
    fn handle(
        &self,
        _event: &Event,
        _count: RepeatCount,
        _positive: bool,
        context: &EventContext<'_>,
    ) -> Option<Cmd> {
        Some(match context.line().is_empty() {
            true => Cmd::Interrupt,
            false => Cmd::Kill(Movement::WholeBuffer),
        })
    }
}

impl Lines {
    pub(crate) fn new() -> anyhow::Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Read);
        }
        Ok(Self::Typed(Box::new(Typed::new()?)))
    }

    /// Whether somebody types them.
    pub(crate) fn are_typed(&self) -> bool {
        matches!(self, Self::Typed(_))
    }

    /// The next line, or text of several lines.
    pub(crate) fn next(&mut self) -> anyhow::Result<Line> {
        let line = match self.line(PROMPT)? {
            Line::Text(first) => match first.trim_start().strip_prefix(QUOTES) {
                Some(quoted) => self.quoted(quoted)?,
                None => self.continued(first)?,
            },
            other => return Ok(other),
        };
        if let (Self::Typed(typed), Line::Text(text) | Line::Quoted(text)) = (self, &line) {
            typed.remember(text);
        }
        Ok(line)
    }

    /// A line, with those that follow where it ends with a backslash.
    fn continued(&mut self, first: String) -> anyhow::Result<Line> {
        let mut text = first;
        while text.ends_with('\\') {
            text.pop();
            match self.line(PROMPT_WITHIN)? {
                Line::Text(more) => add_line(&mut text, &more)?,
                Line::Interrupted => return Ok(Line::Dropped),
                _ => break,
            }
        }
        Ok(Line::Text(text))
    }

    /// The rest of a text in quotes, whose first line begins with this.
    fn quoted(&mut self, first: &str) -> anyhow::Result<Line> {
        let (mut text, mut line) = (String::new(), first.to_owned());
        loop {
            if let Some((end, after)) = line.split_once(QUOTES) {
                add_line(&mut text, end)?;
                // What follows the quotes belongs to it too.
                text.push_str(after);
                break;
            }
            add_line(&mut text, &line)?;
            match self.line(PROMPT_WITHIN)? {
                Line::Text(more) => line = more,
                Line::Interrupted => return Ok(Line::Dropped),
                _ => break,
            }
        }
        Ok(Line::Quoted(text.trim_matches('\n').to_owned()))
    }

    fn line(&mut self, prompt: &str) -> anyhow::Result<Line> {
        match self {
            Self::Typed(typed) => typed.line(prompt),
            Self::Read => Ok(read(&mut io::stdin().lock())?.map_or(Line::Ended, Line::Text)),
        }
    }
}

impl Typed {
    fn new() -> anyhow::Result<Self> {
        let config = Config::builder().auto_add_history(false).build();
        let editor = Editor::with_config(config).context("cannot use the terminal")?;
        let history = history_file();
        let mut typed = Self { editor, history };
        let (editor, history) = (&mut typed.editor, &typed.history);
        let interrupt = EventHandler::Conditional(Box::new(ClearOrLeave));
        editor.bind_sequence(KeyEvent::ctrl('C'), interrupt);
        for enter in [KeyCode::Enter, KeyCode::Char('\r')] {
            let newline = EventHandler::Simple(Cmd::Newline);
            editor.bind_sequence(KeyEvent(enter, Modifiers::ALT), newline);
        }
        if let Some(path) = history {
            // Only the convenience of the arrow keys is lost without it.
            let _ = editor.load_history(path);
        }
        Ok(typed)
    }

    fn line(&mut self, prompt: &str) -> anyhow::Result<Line> {
        if let Ok(mut printer) = self.editor.create_external_printer() {
            let above = move |text: &str| printer.print(text.to_owned()).is_ok();
            out::types(Some(Box::new(above)));
        }
        let line = self.editor.readline(prompt);
        out::types(None);
        match line {
            Ok(line) => Ok(Line::Text(line)),
            Err(ReadlineError::Eof) => Ok(Line::Ended),
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(error) => Err(error).context("cannot read the line"),
        }
    }

    fn remember(&mut self, text: &str) {
        let is_new = self.editor.add_history_entry(text).unwrap_or(false);
        if let (Some(path), true) = (&self.history, is_new) {
            let _ = self.editor.append_history(path);
        }
    }
}

/// Where the lines of all conversations are kept (XDG Base Directory Specification, `XDG_STATE_HOME`).
fn history_file() -> Option<PathBuf> {
    let folder = |name: &str| {
        let folder = env::var_os(name).map(PathBuf::from);
        folder.filter(|folder| folder.is_absolute())
    };
    let of_home = || Some(folder("HOME")?.join(".local/state"));
    let state = folder("XDG_STATE_HOME")
        .or_else(|| folder("LOCALAPPDATA"))
        .or_else(of_home)?;
    let state = state.join("gogrid");
    fs::create_dir_all(&state).ok()?;
    Some(state.join(HISTORY))
}

/// Appends a line to a text that is bounded as a line is.
fn add_line(text: &mut String, line: &str) -> anyhow::Result<()> {
    if (text.len() + line.len()) as u64 >= TEXT_BYTES_MAX {
        return Err(too_long().into());
    }
    text.push('\n');
    text.push_str(line);
    Ok(())
}

fn too_long() -> BadInput {
    BadInput(format!(
        "a line of over {TEXT_BYTES_MAX} bytes, the most that is taken"
    ))
}

fn read(source: &mut dyn BufRead) -> anyhow::Result<Option<String>> {
    let mut line = Vec::new();
    let mut bounded = source.take(TEXT_BYTES_MAX + 1);
    let read = bounded.read_until(b'\n', &mut line);
    if read.context("cannot read the line")? == 0 {
        return Ok(None);
    }
    if line.len() as u64 > TEXT_BYTES_MAX {
        return Err(too_long().into());
    }
    let line = String::from_utf8(line).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        BadInput(format!("a line is not UTF-8 at byte {offset}"))
    })?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    Ok(Some(line[..end].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_without_their_ends_and_a_line_without_end_is_refused() {
        let mut source: &[u8] = b"one\r\n\nlast";
        for expected in [Some("one"), Some(""), Some("last"), None] {
            assert_eq!(read(&mut source).unwrap().as_deref(), expected);
        }
        let error = read(&mut io::BufReader::new(io::repeat(b'x'))).unwrap_err();
        assert!(error.is::<BadInput>(), "{error}");
        let error = read(&mut &b"caf\xe9\n"[..]).unwrap_err().to_string();
        assert!(error.contains("byte 3"), "{error}");
    }
}
