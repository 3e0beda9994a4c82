//! A checker of the keywords that the walks use, apart from the library's.

use serde_json::Value;

/// Whether `value` is what `schema` allows; `root` is where references begin.
pub(crate) fn allows(schema: &Value, value: &Value, root: &Value) -> bool {
    let Some(schema) = schema.as_object() else {
        return schema.as_bool().unwrap();
    };
    schema.iter().all(|(key, rule)| match key.as_str() {
        "type" => match rule {
            Value::Array(types) => types.iter().any(|rule| is_type(rule, value)),
            _ => is_type(rule, value),
        },
        "const" => rule == value,
        "enum" => rule.as_array().unwrap().contains(value),
        "anyOf" | "oneOf" => {
            let rules = rule.as_array().unwrap().iter();
            rules.filter(|rule| allows(rule, value, root)).count() >= 1
        }
        "$ref" => {
            let at = rule.as_str().unwrap().strip_prefix('#').unwrap();
            allows(root.pointer(at).unwrap(), value, root)
        }
        "properties" => value.as_object().is_none_or(|members| {
            let rules = rule.as_object().unwrap().iter();
            rules.clone().all(|(key, rule)| {
                members
                    .get(key)
                    .is_none_or(|value| allows(rule, value, root))
            })
        }),
        "additionalProperties" => value.as_object().is_none_or(|members| {
            let named = |key: &String| schema["properties"].get(key).is_some();
            let mut others = members.iter().filter(|(key, _)| !named(key));
            others.all(|(_, value)| allows(rule, value, root))
        }),
        "required" => value.as_object().is_none_or(|members| {
            let mut keys = rule.as_array().unwrap().iter();
            keys.all(|key| members.contains_key(key.as_str().unwrap()))
        }),
        "items" => value
            .as_array()
            .is_none_or(|items| items.iter().all(|item| allows(rule, item, root))),
        "minItems" => value
            .as_array()
            .is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
        "maxItems" => value
            .as_array()
            .is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
        "minLength" => value
            .as_str()
            .is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().unwrap()),
        "maxLength" => value
            .as_str()
            .is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().unwrap()),
        "minimum" => value
            .as_f64()
            .is_none_or(|number| number >= rule.as_f64().unwrap()),
        "maximum" => value
            .as_f64()
            .is_none_or(|number| number <= rule.as_f64().unwrap()),
        "$defs" => true,
        _ => panic!("the checker does not know {key}"),
    })
}

fn is_type(rule: &Value, value: &Value) -> bool {
    match rule.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}
