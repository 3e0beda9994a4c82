use crate::budget::Budget;
use crate::error::Error;
use crate::text::{Builder, Text};

pub(crate) fn upper(text: &Text, budget: &Budget) -> Result<Text, Error> {
    budget.work(2 * text.len())?;
    let mut out = Builder::default();
    for (run, own) in text.runs() {
        // Upper case does not depend on what is around a character.
        budget.memory(3 * run.len())?;
        out.push_str(&run.to_uppercase(), own, budget)?;
    }
    Ok(out.finish())
}

pub(crate) fn lower(text: &Text, budget: &Budget) -> Result<Text, Error> {
    let is_ascii = text.as_str().is_ascii();
    budget.work(if is_ascii { 4 } else { 8 } * text.len())?;
    budget.memory(3 * text.len())?;
    let all = text.as_str().to_lowercase();
    let mut out = Builder::default();
    let mut at = 0;
    for (run, own) in text.runs() {
        // A sigma at a word's end differs from others in its letter, not in its length.
        let len: usize = run
            .chars()
            .flat_map(char::to_lowercase)
            .map(char::len_utf8)
            .sum();
        out.push_str(&all[at..at + len], own, budget)?;
        at += len;
    }
    Ok(out.finish())
}

/// The first character in title case, the others in lower case.
pub(crate) fn capitalized(text: &Text, budget: &Budget) -> Result<Text, Error> {
    let len = text.as_str().chars().next().map_or(0, char::len_utf8);
    let mut out = Builder::default();
    out.push(&first_upper(&text.part(0..len), budget)?, budget)?;
    out.push(&lower(&text.part(len..text.len()), budget)?, budget)?;
    Ok(out.finish())
}

/// One character in title case.
fn first_upper(first: &Text, budget: &Budget) -> Result<Text, Error> {
    let Some(char) = first.as_str().chars().next() else {
        return Ok(first.clone());
    };
    let is_digraph = matches!(char, '\u{1c4}'..='\u{1cc}' | '\u{1f1}'..='\u{1f3}');
    let is_georgian = matches!(char, '\u{10d0}'..='\u{10ff}');
    if is_digraph || is_georgian || char.to_uppercase().count() > 1 {
        return Err(Error::unsupported(format!("the title case of '{char}'")));
    }
    upper(first, budget)
}

/// Python's `str.title`: every letter after what is none in title case.
pub(crate) fn title(text: &Text, budget: &Budget) -> Result<Text, Error> {
    budget.work(4 * text.len())?;
    let mut out = Builder::default();
    let mut inside = false;
    let all = text.as_str();
    for (at, char) in all.char_indices() {
        let part = text.part(at..at + char.len_utf8());
        let is_cased = char.is_lowercase() || char.is_uppercase();
        if char == 'Σ' && inside {
            return Err(Error::unsupported("the title case of a capital sigma"));
        }
        let written = match (is_cased, inside) {
            (true, true) => lower(&part, budget)?,
            (true, false) => first_upper(&part, budget)?,
            (false, _) => part,
        };
        out.push(&written, budget)?;
        inside = is_cased;
    }
    Ok(out.finish())
}
