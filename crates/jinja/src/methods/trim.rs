use crate::access::char_count;
use crate::budget::Budget;
use crate::error::Error;
use crate::lexer::is_space;
use crate::limits::WIDTH_MAX;
use crate::text::{Builder, Text};

/// Which ends of a text are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
    Both,
}

/// The text without white space, or any of `chars`, at its ends.
pub(crate) fn trimmed(
    text: &Text,
    chars: Option<&str>,
    side: Side,
    budget: &Budget,
) -> Result<Text, Error> {
    budget.work(text.len())?;
    let Some(chars) = chars else {
        let rest = text.as_str();
        let rest = if side == Side::Right {
            rest
        } else {
            rest.trim_start_matches(is_space)
        };
        let rest = if side == Side::Left {
            rest
        } else {
            rest.trim_end_matches(is_space)
        };
        return Ok(text.part_of(rest));
    };
    let mut rest = text.as_str().chars();
    // Each character that goes is looked up among `chars`.
    while side != Side::Right && rest.clone().next().is_some_and(|char| chars.contains(char)) {
        budget.work(chars.len())?;
        rest.next();
    }
    while side != Side::Left
        && rest
            .clone()
            .next_back()
            .is_some_and(|char| chars.contains(char))
    {
        budget.work(chars.len())?;
        rest.next_back();
    }
    Ok(text.part_of(rest.as_str()))
}

/// In the middle of `width` characters. Where the space is odd, Python puts the more to the left
/// if the width is odd.
pub(crate) fn centered(
    text: &Text,
    width: i64,
    fill: &Text,
    budget: &Budget,
) -> Result<Text, Error> {
    let missing = missing(text, width)?;
    let width = usize::try_from(width).unwrap_or(0);
    let left = missing / 2 + (missing & width & 1);
    filled(text, (left, missing - left), fill, budget)
}

/// Characters that a text lacks to be `width` wide.
pub(super) fn missing(text: &Text, width: i64) -> Result<usize, Error> {
    let width = usize::try_from(width).unwrap_or(0);
    if width > WIDTH_MAX {
        return Err(Error::limit(format!(
            "a width of {width}; the limit is {WIDTH_MAX}"
        )));
    }
    Ok(width.saturating_sub(char_count(text.as_str())))
}

pub(super) fn filled(
    text: &Text,
    (left, right): (usize, usize),
    fill: &Text,
    budget: &Budget,
) -> Result<Text, Error> {
    budget.work(text.len())?;
    let mut out = Builder::default();
    out.repeat(fill, left, budget)?;
    out.push(text, budget)?;
    out.repeat(fill, right, budget)?;
    Ok(out.finish())
}
