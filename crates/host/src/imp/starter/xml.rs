use crate::service::ServiceError;

/// A text as XML has it between tags. Control characters are refused: XML 1.0 has none but white space, which its
/// readers may change.
pub(crate) fn text(text: &str) -> Result<String, ServiceError> {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {
                let problem =
                    format!("the character {c:?} in {text:?}, in a service of this system");
                return Err(ServiceError::NotSupported(problem));
            }
            c => escaped.push(c),
        }
    }
    Ok(escaped)
}

/// The texts between `<tag>` and `</tag>`.
pub(crate) fn between<'a>(xml: &'a str, tag: &str) -> impl Iterator<Item = String> + use<'a> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (text, after) = after.split_once(&close)?;
        rest = after;
        Some(plain(text))
    })
}

fn plain(escaped: &str) -> String {
    let text = escaped.replace("&lt;", "<").replace("&gt;", ">");
    text.replace("&amp;", "&")
}
