//! Texts as OpenAI's protocol takes them: to go on with, or to make vectors of.

use serde_json::Value;

use crate::error::ApiError;

/// A text, or its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TextOrIds {
    Text(String),
    Ids(Vec<u32>),
}

/// One text or list of ids, or several, of which there may be `most`.
pub(crate) fn texts(
    value: Option<&Value>,
    field: &str,
    most: usize,
) -> Result<Vec<TextOrIds>, ApiError> {
    let wrong = || ApiError::bad(field, "must be a text, token ids, or a list of either");
    let one = |value: &Value| match value {
        Value::String(text) => Some(TextOrIds::Text(text.clone())),
        Value::Array(ids) => {
            let ids = ids.iter().map(|id| u32::try_from(id.as_u64()?).ok());
            Some(TextOrIds::Ids(ids.collect::<Option<_>>()?))
        }
        _ => None,
    };
    let texts = match value {
        None | Some(Value::Null) => return Err(ApiError::bad(field, "is missing")),
        Some(Value::Array(list)) if list.first().is_none_or(|first| !first.is_number()) => {
            let all = list.iter().map(one).collect::<Option<Vec<_>>>();
            all.ok_or_else(wrong)?
        }
        Some(value) => vec![one(value).ok_or_else(wrong)?],
    };
    match texts.len() {
        many if (1..=most).contains(&many) => Ok(texts),
        many => {
            let problem = format!("{many} texts; 1 to {most} can be sent");
            Err(ApiError::bad(field, problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_come_in_four_shapes() {
        let text = |text: &str| TextOrIds::Text(text.to_owned());
        let read = |value: Value| texts(Some(&value), "input", 2).map_err(|error| error.message);
        assert_eq!(read(json!("a")), Ok(vec![text("a")]));
        assert_eq!(read(json!(["a", "b"])), Ok(vec![text("a"), text("b")]));
        assert_eq!(read(json!([1, 2])), Ok(vec![TextOrIds::Ids(vec![1, 2])]));
        assert_eq!(
            read(json!([[1], "b"])),
            Ok(vec![TextOrIds::Ids(vec![1]), text("b")])
        );
        for wrong in [json!(1), json!([-1]), json!([null]), json!([]), json!({})] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(read(json!(["a", "b", "c"])).is_err());
    }
}
