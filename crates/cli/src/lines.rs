//! The lines of a conversation: typed at a terminal, with its editing, or read from elsewhere.

use std::io::{self, BufRead, IsTerminal, Read};

use anyhow::Context;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::exit::{BadInput, Interrupted};
use crate::model_file::TEXT_BYTES_MAX;

/// Where the lines come from.
pub(crate) enum Lines {
    Typed(Box<DefaultEditor>),
    Read,
}

impl Lines {
    pub(crate) fn new() -> anyhow::Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Read);
        }
        let editor = DefaultEditor::new().context("cannot use the terminal")?;
        Ok(Self::Typed(Box::new(editor)))
    }

    /// The next line, without its end; `None` after the last.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<String>> {
        match self {
            Self::Typed(editor) => typed(editor),
            Self::Read => read(&mut io::stdin().lock()),
        }
    }
}

fn typed(editor: &mut DefaultEditor) -> anyhow::Result<Option<String>> {
    match editor.readline("> ") {
        Ok(line) => {
            // Only the convenience of the arrow keys is lost if it cannot be remembered.
            let _ = editor.add_history_entry(&line);
            Ok(Some(line))
        }
        Err(ReadlineError::Eof) => Ok(None),
        Err(ReadlineError::Interrupted) => Err(Interrupted.into()),
        Err(error) => Err(error).context("cannot read the line"),
    }
}

fn read(source: &mut dyn BufRead) -> anyhow::Result<Option<String>> {
    let mut line = Vec::new();
    let mut bounded = source.take(TEXT_BYTES_MAX + 1);
    let read = bounded.read_until(b'\n', &mut line);
    if read.context("cannot read the line")? == 0 {
        return Ok(None);
    }
    if line.len() as u64 > TEXT_BYTES_MAX {
        let problem = format!("a line of over {TEXT_BYTES_MAX} bytes, the most that is taken");
        return Err(BadInput(problem).into());
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
