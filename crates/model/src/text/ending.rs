//! Where a text ends whose last message the model goes on with.

use std::ops::Range;

/// Stands after the content that is gone on with while the template writes it. As transformers has
/// it, it ends in a space, which shows whether the template trims what is said.
pub(super) const MARK: &str = "THE_FINAL_MESSAGE_GOES_ON_HERE ";

/// The text before the mark, and the ranges of it that are the template's own; `None` where the
/// mark is not in it. Where the template trimmed the content, the white space before the mark goes
/// too: that of the content, not the template's own.
pub(super) fn before_mark(text: &str, own: &[Range<usize>]) -> Option<(String, Vec<Range<usize>>)> {
    let at = text.rfind(MARK.trim_end())?;
    let before = own.iter().take_while(|range| range.start < at);
    let own: Vec<_> = before.map(|range| range.start..range.end.min(at)).collect();
    let end = match text[at..].starts_with(MARK) {
        true => at,
        false => {
            let said = own.last().map_or(0, |range| range.end);
            said + text[said..at].trim_end().len()
        }
    };
    Some((text[..end].to_owned(), own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::single_range_in_vec_init,
        reason = "one range is the template's own"
    )]
    #[test]
    fn a_text_ends_where_its_last_content_does() {
        let check = |rest: &str, said: &str, expected: &str| {
            let text = format!("<a>\n{said}{}{rest}", MARK.trim_end());
            let own = [
                0..4,
                text.len() - rest.len() + rest.find('<').unwrap()..text.len(),
            ];
            let (text, own) = before_mark(&text, &own).expect("the mark is there");
            assert_eq!((text.as_str(), own), (expected, vec![0..4]));
        };
        check(" <b>", "said ", "<a>\nsaid ");
        check("<b>", "said \n", "<a>\nsaid");
        check("<b>", "", "<a>\n");
        check(" <b>", "", "<a>\n");
        assert_eq!(before_mark("<a>", &[0..3]), None);
    }
}
