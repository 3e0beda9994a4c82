use crate::args::{Args, int_or, text, wrong};
use crate::budget::Budget;
use crate::error::Error;
use crate::format;
use crate::lexer::is_space;
use crate::limits::FLOAT_DIGITS_MAX;
use crate::ops::{self, Number};
use crate::value::Value;

fn overflow() -> Error {
    Error::unsupported("an integer of more than 64 bits")
}

pub(super) fn abs(value: Value, args: Args, _: &Budget) -> Result<Value, Error> {
    let [] = args.bind("abs", [])?;
    match ops::number(&value) {
        Some(Number::Int(value)) => value.checked_abs().map(Value::Int).ok_or_else(overflow),
        Some(Number::Float(value)) => Ok(Value::Float(value.abs())),
        None => Err(wrong("abs", "a number", &value)),
    }
}

pub(super) fn int(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [default, base] = args.bind("int", ["default", "base"])?;
    let base = int_or(base.as_ref(), 10, "int")?;
    let default = default.unwrap_or(Value::Int(0));
    let float = match &value {
        Value::Undefined(name) => return Err(Value::undefined_error(name.as_ref())),
        Value::Int(_) => return Ok(value),
        Value::Bool(value) => return Ok(Value::Int(i64::from(*value))),
        Value::Float(value) => Some(*value),
        Value::Str(text) | Value::Markup(text) => {
            budget.work(4 * text.len())?;
            if let Some(value) = int_of_text(text.as_str(), base)? {
                return Ok(Value::Int(value));
            }
            float_of_text(text.as_str(), budget)?
        }
        _ => None,
    };
    match float {
        Some(float) if float.is_finite() && float.abs() < 9.2e18 => {
            Ok(Value::Int(float.trunc() as i64))
        }
        Some(float) if float.is_finite() => Err(overflow()),
        Some(float) if matches!(value, Value::Float(_)) && float.is_infinite() => {
            Err(Error::runtime("infinity has no integer"))
        }
        _ => Ok(default),
    }
}

/// As Python's `int(text, base)`; `None` where that raises.
fn int_of_text(text: &str, base: i64) -> Result<Option<i64>, Error> {
    let trimmed = text.trim_matches(is_space);
    let (sign, digits) = match trimmed.strip_prefix(['-', '+']) {
        Some(digits) if trimmed.starts_with('-') => ("-", digits),
        Some(digits) => ("", digits),
        None => ("", trimmed),
    };
    if base != 10 {
        let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        return match u32::try_from(base) {
            Ok(base @ (2 | 8 | 16)) if is_plain => {
                Ok(i64::from_str_radix(&format!("{sign}{digits}"), base).ok())
            }
            _ => Err(Error::unsupported("int with this base and text")),
        };
    }
    let Some(digits) = decimal(digits)? else {
        return Ok(None);
    };
    format!("{sign}{digits}")
        .parse()
        .map(Some)
        .map_err(|_| overflow())
}

/// The digits without the single underscores between them; `None` where there is something else.
fn decimal(text: &str) -> Result<Option<String>, Error> {
    let is_other_digit = |char: char| !char.is_ascii() && char.is_numeric();
    if text.contains(is_other_digit) {
        return Err(Error::unsupported("digits other than 0 to 9 in a number"));
    }
    let fits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    Ok(text.split('_').all(fits).then(|| text.replace('_', "")))
}

pub(super) fn float(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [default] = args.bind("float", ["default"])?;
    let float = match &value {
        Value::Undefined(name) => return Err(Value::undefined_error(name.as_ref())),
        Value::Str(text) | Value::Markup(text) => {
            budget.work(4 * text.len())?;
            float_of_text(text.as_str(), budget)?
        }
        other => ops::number(other).map(ops::float_of),
    };
    Ok(float.map_or_else(|| default.unwrap_or(Value::Float(0.0)), Value::Float))
}

/// As Python's `float(text)`; `None` where that raises.
fn float_of_text(text: &str, budget: &Budget) -> Result<Option<f64>, Error> {
    let text = text.trim_matches(is_space);
    budget.steps(text.len().min(FLOAT_DIGITS_MAX) as u64)?;
    let is_other_digit = |char: char| !char.is_ascii() && char.is_numeric();
    if text.contains(is_other_digit) {
        return Err(Error::unsupported("digits other than 0 to 9 in a number"));
    }
    let digit_at = |at: Option<usize>| {
        at.and_then(|at| text.as_bytes().get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    let joins = |(at, _): (usize, &str)| digit_at(at.checked_sub(1)) && digit_at(Some(at + 1));
    if !text.match_indices('_').all(joins) {
        return Ok(None);
    }
    Ok(text.replace('_', "").parse().ok())
}

pub(super) fn round(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [precision, method] = args.bind("round", ["precision", "method"])?;
    let precision = int_or(precision.as_ref(), 0, "round")?;
    let method = match method {
        None => None,
        Some(method) => Some(text(method, "round")?),
    };
    let method = method.as_ref().map_or("common", |method| method.as_str());
    let Some(number) = ops::number(&value) else {
        return Err(wrong("round", "a number", &value));
    };
    if !(-300..=300).contains(&precision) {
        return Err(Error::unsupported(format!(
            "rounding to {precision} places"
        )));
    }
    let places = precision as i32;
    match (method, number) {
        ("common", Number::Int(value)) if places >= 0 => Ok(Value::Int(value)),
        ("common", Number::Int(_)) => Err(Error::unsupported("rounding an integer to tens")),
        ("common", Number::Float(value)) => rounded(value, places, budget).map(Value::Float),
        ("ceil" | "floor", number) => {
            if places < 0 {
                return Err(Error::unsupported("rounding up or down to tens"));
            }
            let scale = 10f64.powi(places);
            let scaled = ops::float_of(number) * scale;
            let whole = if method == "ceil" {
                scaled.ceil()
            } else {
                scaled.floor()
            };
            match whole.is_finite() {
                true => Ok(Value::Float(whole / scale)),
                false => Err(Error::runtime("infinity cannot be rounded")),
            }
        }
        _ => Err(Error::runtime(
            "round takes the methods common, ceil and floor",
        )),
    }
}

/// To the nearest, halves to even, by the exact value of the float.
fn rounded(value: f64, places: i32, budget: &Budget) -> Result<f64, Error> {
    match usize::try_from(places) {
        Ok(places) if value.is_finite() => {
            budget.steps(format::digits(value, places))?;
            let text = format!("{value:.places$}");
            text.parse()
                .map_err(|_| Error::runtime("the number cannot be rounded"))
        }
        Ok(_) => Ok(value),
        Err(_) => Err(Error::unsupported("rounding a float to tens")),
    }
}
