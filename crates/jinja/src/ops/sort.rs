use super::is_less;
use crate::budget::Budget;
use crate::error::Error;
use crate::value::Value;

/// The second of each pair, by the order of the first; equal ones as they stood. Sorting is our
/// own, because a comparison may fail and be inconsistent, and pays for its work.
pub(crate) fn sorted_by_keys(
    mut pairs: Vec<(Value, Value)>,
    reverse: bool,
    budget: &Budget,
) -> Result<Vec<Value>, Error> {
    budget.memory(3 * pairs.len() * size_of::<(Value, Value)>())?;
    let len = pairs.len();
    let mut width = 1;
    while width < len {
        let mut merged = Vec::with_capacity(len);
        for chunk in pairs.chunks(2 * width) {
            let (left, right) = chunk.split_at(width.min(chunk.len()));
            merge((left, right), reverse, &mut merged, budget)?;
        }
        pairs = merged;
        width *= 2;
    }
    Ok(pairs.into_iter().map(|(_, item)| item).collect())
}

type Pairs<'p> = &'p [(Value, Value)];

fn merge(
    (left, right): (Pairs<'_>, Pairs<'_>),
    reverse: bool,
    out: &mut Vec<(Value, Value)>,
    budget: &Budget,
) -> Result<(), Error> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(first), Some(second)) = (left.peek(), right.peek()) {
        // Reversed, equal items keep their order too.
        let takes_right = match reverse {
            false => is_less(&second.0, &first.0, budget)?,
            true => is_less(&first.0, &second.0, budget)?,
        };
        let taken = if takes_right {
            right.next()
        } else {
            left.next()
        };
        out.extend(taken.cloned());
    }
    out.extend(left.cloned());
    out.extend(right.cloned());
    Ok(())
}
