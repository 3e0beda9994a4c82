use super::Kind;
use crate::error::Error;

/// The number at the start of `text`, and its length. After a dot it has no fraction.
pub(super) fn number(text: &str, after_dot: bool) -> Result<(Kind, usize), Error> {
    let whole = digits(text, 10);
    if !after_dot && let Some(len) = fraction(text, whole) {
        let plain = text[..len].replace('_', "");
        let value = plain.parse();
        let value = value.map_err(|_| Error::syntax(0, format!("no number: '{plain}'")))?;
        return Ok((Kind::Float(value), len));
    }
    let prefix = text.get(..2).map(str::to_ascii_lowercase);
    let radix = match prefix.as_deref() {
        Some("0b") => 2,
        Some("0o") => 8,
        Some("0x") => 16,
        _ => 10,
    };
    let rest = text.get(2..).unwrap_or("");
    let rest = rest.strip_prefix('_').unwrap_or(rest);
    let skipped = text.len() - rest.len();
    let len = match (radix, digits(rest, radix)) {
        (10, _) | (_, 0) if text.starts_with('0') => zeros(text),
        (10, _) | (_, 0) => return int(&text[..whole], 10, whole),
        (_, len) => return int(&rest[..len], radix, skipped + len),
    };
    Ok((Kind::Int(0), len))
}

fn int(digits: &str, radix: u32, len: usize) -> Result<(Kind, usize), Error> {
    let plain = digits.replace('_', "");
    match i64::from_str_radix(&plain, radix) {
        Ok(value) => Ok((Kind::Int(value), len)),
        Err(_) => Err(Error::unsupported("an integer of more than 64 bits")),
    }
}

/// Bytes of digits with single underscores between them.
fn digits(text: &str, radix: u32) -> usize {
    let is_digit = |byte: u8| char::from(byte).is_digit(radix);
    let bytes = text.as_bytes();
    let mut len = 0;
    while let Some(&byte) = bytes.get(len) {
        let joins = byte == b'_' && len > 0 && bytes.get(len + 1).is_some_and(|b| is_digit(*b));
        if !is_digit(byte) && !joins {
            break;
        }
        len += 1;
    }
    len
}

fn zeros(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut len = 0;
    while let Some(&byte) = bytes.get(len) {
        let joins = byte == b'_' && bytes.get(len + 1) == Some(&b'0');
        if byte != b'0' && !joins {
            break;
        }
        len += 1;
    }
    len
}

/// The length of a number with a fraction or an exponent, whose whole digits are `whole` bytes.
fn fraction(text: &str, whole: usize) -> Option<usize> {
    let mut len = whole;
    let mut is_float = false;
    if let Some(rest) = text[len..].strip_prefix('.') {
        let part = digits(rest, 10);
        if part > 0 {
            len += 1 + part;
            is_float = true;
        }
    }
    if let Some(rest) = text[len..].strip_prefix(['e', 'E']) {
        let unsigned = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let part = digits(unsigned, 10);
        if part > 0 {
            len = text.len() - unsigned.len() + part;
            is_float = true;
        }
    }
    is_float.then_some(len)
}

/// The string at the start of `text`, its escapes read, and its length.
pub(super) fn string(text: &str) -> Result<(Kind, usize), Error> {
    let quote = char::from(text.as_bytes()[0]);
    let (mut out, mut at) = (String::new(), 1);
    while let Some(char) = text[at..].chars().next() {
        at += char.len_utf8();
        match char {
            '\\' => at += escape(&text[at..], &mut out)?,
            char if char == quote => return Ok((Kind::Str(out), at)),
            char => out.push(char),
        }
    }
    Err(Error::syntax(0, "a string does not end"))
}

/// Reads what follows a backslash; gives the bytes taken.
fn escape(rest: &str, out: &mut String) -> Result<usize, Error> {
    let Some(char) = rest.chars().next() else {
        return Err(Error::syntax(0, "a string does not end"));
    };
    let plain = match char {
        '\n' => None,
        '\\' | '\'' | '"' => Some(char),
        'a' => Some('\x07'),
        'b' => Some('\x08'),
        'f' => Some('\x0c'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\x0b'),
        '0'..='7' => {
            let len = rest
                .bytes()
                .take(3)
                .take_while(|b| matches!(b, b'0'..=b'7'))
                .count();
            return code(&rest[..len], 8, out).map(|()| len);
        }
        'x' | 'u' | 'U' => {
            let len = match char {
                'x' => 2,
                'u' => 4,
                _ => 8,
            };
            let digits = rest.get(1..=len).unwrap_or("");
            return code(digits, 16, out).map(|()| 1 + len);
        }
        'N' => return Err(Error::unsupported("the escape \\N in a string")),
        // An escape that Python does not know stays as it is.
        char => {
            out.push('\\');
            Some(char)
        }
    };
    out.extend(plain);
    Ok(char.len_utf8())
}

fn code(digits: &str, radix: u32, out: &mut String) -> Result<(), Error> {
    let is_number = !digits.is_empty() && digits.chars().all(|char| char.is_digit(radix));
    let code = u32::from_str_radix(digits, radix)
        .ok()
        .filter(|_| is_number);
    match code.map(char::from_u32) {
        Some(Some(char)) => {
            out.push(char);
            Ok(())
        }
        Some(None) => Err(Error::unsupported("half a surrogate pair in a string")),
        None => Err(Error::syntax(0, "a broken escape in a string")),
    }
}
