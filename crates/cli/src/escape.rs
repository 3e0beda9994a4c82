//! Text from outside, made harmless for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with everything in it that steers a terminal written out: `\u{1b}` for an escape. Each
/// character is judged by itself, so that a sequence in pieces is caught as one that comes whole.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if steers(char) {
            // Writing to a text cannot fail.
            let _ = write!(shown, "{}", char.escape_unicode());
        } else {
            shown.push(char);
        }
    }
    Cow::Owned(shown)
}

/// Control characters, C0 and C1, other than line end and tab; what turns the direction of the text
/// around it (UAX #9: embeddings, overrides and isolates); and letters that are not seen (tags).
fn steers(char: char) -> bool {
    match char {
        '\n' | '\t' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' => true,
        '\u{e0000}'..='\u{e007f}' => true,
        _ => char.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_out_and_the_rest_is_kept() {
        let cases = [
            ("plain\n\ttext", "plain\n\ttext"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\rb\u{7}\u{7f}", "a\\u{d}b\\u{7}\\u{7f}"),
            ("user\u{202e}fdp.exe", "user\\u{202e}fdp.exe"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("\u{e0041}", "\\u{e0041}"),
            (
                "Grüße, 你好, שלום, 👩\u{200d}🚀",
                "Grüße, 你好, שלום, 👩\u{200d}🚀",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(escaped(text), expected);
        }
    }

    #[test]
    fn no_character_of_unicode_gets_through_that_a_terminal_obeys() {
        for char in ('\0'..=char::MAX).filter(|char| steers(*char)) {
            let shown = escaped(char.encode_utf8(&mut [0; 4])).into_owned();
            assert!(shown.chars().all(|char| char.is_ascii_graphic()), "{shown}");
        }
    }

    #[test]
    fn a_sequence_in_two_pieces_is_caught_as_one_that_comes_whole() {
        let whole = "before \u{1b}]0;title\u{7} after \u{9b}2J";
        for (cut, _) in whole.char_indices() {
            let (first, second) = whole.split_at(cut);
            let pieces = [escaped(first), escaped(second)].concat();
            assert_eq!(pieces, escaped(whole));
        }
    }
}
