//! Text that comes in pieces, broken between words at the terminal's width.

use unicode_width::UnicodeWidthChar;

/// A line of a program in a text, which is left as it is.
const FENCE: &str = "```";

/// Breaks lines. Of each piece it gives what is certain: a word whose end has not come is kept.
#[derive(Debug)]
pub(crate) struct Wrap {
    /// Columns; `None` breaks nothing.
    columns: Option<usize>,
    /// Columns of the line so far.
    at: usize,
    word: String,
    /// White space before the word, that falls away where a line is broken.
    space: String,
    /// The line so far, as far as it may be a fence.
    line: String,
    in_code: bool,
}

impl Wrap {
    pub(crate) fn new(columns: Option<usize>) -> Self {
        Self {
            columns,
            at: 0,
            word: String::new(),
            space: String::new(),
            line: String::new(),
            in_code: false,
        }
    }

    /// The text to show after this piece.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        if self.columns.is_none() {
            return piece.to_owned();
        }
        let mut shown = String::new();
        for char in piece.chars() {
            if char == '\n' {
                self.end_word(&mut shown);
                // White space at a line's end shows nothing.
                self.space.clear();
                shown.push('\n');
                if self.line.trim_start().starts_with(FENCE) {
                    self.in_code = !self.in_code;
                }
                self.line.clear();
                self.at = 0;
                continue;
            }
            if self.line.len() < 16 {
                self.line.push(char);
            }
            // Lines may break on either side of a wide character, such as an ideograph.
            let is_wide = UnicodeWidthChar::width(char) == Some(2);
            if char == ' ' || char == '\t' {
                self.end_word(&mut shown);
                self.space.push(char);
            } else if is_wide {
                self.end_word(&mut shown);
                self.word.push(char);
                self.end_word(&mut shown);
            } else {
                self.word.push(char);
            }
            // A word that is longer than a line is broken where the line ends.
            if self.in_code || self.width_of_word() >= self.columns.unwrap_or(usize::MAX) {
                self.end_word(&mut shown);
            }
        }
        shown
    }

    /// What is kept, once no more comes.
    pub(crate) fn finish(&mut self) -> String {
        let mut shown = String::new();
        self.end_word(&mut shown);
        shown + &std::mem::take(&mut self.space)
    }

    fn width_of_word(&self) -> usize {
        width(&self.word)
    }

    fn end_word(&mut self, shown: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let (word, space) = (
            std::mem::take(&mut self.word),
            std::mem::take(&mut self.space),
        );
        let (word_width, space_width) = (width(&word), width(&space));
        let columns = self.columns.unwrap_or(usize::MAX);
        let breaks = !self.in_code && self.at > 0 && self.at + space_width + word_width > columns;
        if breaks {
            shown.push('\n');
            self.at = word_width;
        } else {
            shown.push_str(&space);
            self.at += space_width + word_width;
        }
        shown.push_str(&word);
    }
}

/// Columns of a text.
fn width(text: &str) -> usize {
    text.chars().filter_map(UnicodeWidthChar::width).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(columns: usize, pieces: &[&str]) -> String {
        let mut wrap = Wrap::new(Some(columns));
        let shown: String = pieces.iter().map(|piece| wrap.push(piece)).collect();
        shown + &wrap.finish()
    }

    #[test]
    fn lines_break_between_words_however_the_text_is_cut() {
        let text = "The quick brown fox  jumps\nover it. 一二三四五六七八 end";
        let expected = "The quick\nbrown fox\njumps\nover it.\n一二三四五\n六七八 end";
        let whole = wrapped(10, &[text]);
        assert_eq!(whole, expected);
        let singles: Vec<String> = text.chars().map(String::from).collect();
        let singles: Vec<&str> = singles.iter().map(String::as_str).collect();
        assert_eq!(wrapped(10, &singles), expected);
    }

    #[test]
    fn programs_are_left_as_they_are_and_so_is_everything_without_columns() {
        let text = "See:\n```\nlet a_long_line = 1 + 2;\n```\nand then more words";
        let expected = "See:\n```\nlet a_long_line = 1 + 2;\n```\nand then\nmore words";
        assert_eq!(wrapped(10, &[text]), expected);
        let mut wrap = Wrap::new(None);
        assert_eq!(wrap.push(text) + &wrap.finish(), text);
    }

    #[test]
    fn a_word_is_shown_when_its_end_has_come() {
        let mut wrap = Wrap::new(Some(40));
        assert_eq!(wrap.push("一二"), "一二");
        let mut wrap = Wrap::new(Some(40));
        assert_eq!(wrap.push("Hel"), "");
        assert_eq!(wrap.push("lo wor"), "Hello");
        assert_eq!(wrap.finish(), " wor");
    }
}
