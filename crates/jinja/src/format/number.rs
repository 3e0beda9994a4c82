use crate::error::Error;
use crate::limits::{FLOAT_DIGITS_MAX, WIDTH_MAX};

/// The digits that are worked out one by one to write `value` with `precision` of them after its
/// point, or in all.
pub(crate) fn digits(value: f64, precision: usize) -> u64 {
    // Up to 308; the bound holds for what is no number, and for infinity too.
    let whole = value.abs().log10().max(0.0) as usize;
    whole.saturating_add(precision).min(FLOAT_DIGITS_MAX) as u64
}

/// `value` as `e`, `f` or `g` of C write it, in upper case for the upper-case letters.
pub(super) fn float(
    value: f64,
    kind: char,
    precision: usize,
    alternate: bool,
) -> Result<String, Error> {
    if precision > WIDTH_MAX {
        return Err(Error::limit(format!(
            "a precision of {precision}; the limit is {WIDTH_MAX}"
        )));
    }
    let text = match kind.to_ascii_lowercase() {
        _ if value.is_nan() => "nan".to_owned(),
        _ if value.is_infinite() => if value > 0.0 { "inf" } else { "-inf" }.to_owned(),
        'e' => scientific(value, precision),
        'f' => format!("{value:.precision$}"),
        _ => general(value, precision.max(1), alternate),
    };
    Ok(match kind.is_ascii_uppercase() {
        true => text.to_ascii_uppercase(),
        false => text,
    })
}

fn scientific(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn general(value: f64, precision: usize, alternate: bool) -> String {
    let text = scientific(value, precision - 1);
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i64 = exponent.parse().unwrap_or(0);
    let bare = |digits: &str| match digits.contains('.') && !alternate {
        true => digits
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
        false => digits.to_owned(),
    };
    // At most as many digits as the precision, which is bounded.
    match (-4..precision as i64).contains(&power) {
        true => bare(&format!(
            "{value:.*}",
            (precision as i64 - 1 - power) as usize
        )),
        false => format!("{}e{exponent}", bare(digits)),
    }
}

/// The digits of an integer without its sign, and what says their base.
pub(super) fn int(value: i64, kind: char) -> (String, &'static str) {
    let size = value.unsigned_abs();
    match kind {
        'x' => (format!("{size:x}"), "0x"),
        'X' => (format!("{size:X}"), "0X"),
        'o' => (format!("{size:o}"), "0o"),
        'b' => (format!("{size:b}"), "0b"),
        _ => (size.to_string(), ""),
    }
}

/// Puts a separator between groups of three digits before the point.
pub(super) fn grouped(text: &str, separator: char) -> String {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let whole = rest
        .find(|char: char| !char.is_ascii_digit())
        .unwrap_or(rest.len());
    let mut out = sign.to_owned();
    for (at, digit) in rest[..whole].chars().enumerate() {
        if at > 0 && (whole - at) % 3 == 0 {
            out.push(separator);
        }
        out.push(digit);
    }
    out.push_str(&rest[whole..]);
    out
}
