//! What an answer must be, in the ways that clients say it.

use gogrid_grammar::Spec;
use serde_json::Value;

use super::body::Body;
use crate::ask::Form;
use crate::error::ApiError;

impl Body {
    /// The form that the answer is held to; none where any text will do.
    pub(crate) fn form(&self) -> Result<Option<Form>, ApiError> {
        let others = [
            ("guided_choice", &self.guided_choice),
            ("guided_grammar", &self.guided_grammar),
            ("functions", &self.functions),
            ("function_call", &self.function_call),
        ];
        let named = others
            .iter()
            .find(|(_, value)| value.as_ref().is_some_and(|v| !v.is_null()));
        if let Some((field, _)) = named {
            return Err(ApiError::unsupported(field, "this field"));
        }
        let forms = [
            (
                "response_format",
                response_format(self.response_format.as_ref())?,
            ),
            (
                "guided_json",
                self.guided_json.clone().map(Spec::JsonSchema),
            ),
            ("guided_regex", self.guided_regex.clone().map(Spec::Regex)),
            (
                "json_schema",
                self.json_schema.clone().map(Spec::JsonSchema),
            ),
            (
                "structured_outputs",
                structured(self.structured_outputs.as_ref())?,
            ),
        ];
        if self
            .grammar
            .as_ref()
            .is_some_and(|grammar| !grammar.is_empty())
        {
            return Err(ApiError::unsupported(
                "grammar",
                "a grammar in GBNF; a response_format of \
                type lark takes one in Lark, and that",
            ));
        }
        let mut forms = forms.into_iter().filter_map(|(field, spec)| {
            let spec = spec?;
            Some(Form { spec, field })
        });
        match (forms.next(), forms.next()) {
            (form, None) => Ok(form),
            _ => Err(ApiError::bad(
                "response_format",
                "an answer can be held to one form only",
            )),
        }
    }
}

fn response_format(format: Option<&Value>) -> Result<Option<Spec>, ApiError> {
    let Some(format) = format.filter(|format| !format.is_null()) else {
        return Ok(None);
    };
    let wrong = |field: &str, problem: &str| {
        let field = format!("response_format{field}");
        Err(ApiError::bad(field, problem))
    };
    let text_at = |names: [&str; 2]| names.iter().find_map(|name| format[*name].as_str());
    match format["type"].as_str() {
        Some("text") => Ok(None),
        // llama.cpp takes a schema here too.
        Some("json_object") => Ok(Some(match &format["schema"] {
            Value::Null => Spec::JsonObject,
            schema => Spec::JsonSchema(schema.clone()),
        })),
        Some("json_schema") => {
            let inner = &format["json_schema"]["schema"];
            let schema = if inner.is_null() {
                &format["schema"]
            } else {
                inner
            };
            match schema.is_object() || schema.is_boolean() {
                true => Ok(Some(Spec::JsonSchema(schema.clone()))),
                false => wrong(".json_schema.schema", "is missing, or no schema"),
            }
        }
        Some("regex") => match text_at(["regex", "pattern"]) {
            Some(regex) => Ok(Some(Spec::Regex(regex.to_owned()))),
            None => wrong(".regex", "is missing"),
        },
        Some("lark" | "grammar") => match text_at(["lark", "grammar"]) {
            Some(grammar) => Ok(Some(Spec::Lark(grammar.to_owned()))),
            None => wrong(".lark", "is missing"),
        },
        _ => wrong(
            ".type",
            "must be text, json_object, json_schema, regex or lark",
        ),
    }
}

/// vLLM's way.
fn structured(outputs: Option<&Value>) -> Result<Option<Spec>, ApiError> {
    let outputs = match outputs {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(outputs)) => outputs,
        Some(_) => return Err(ApiError::bad("structured_outputs", "must be an object")),
    };
    let mut named = outputs.iter().filter(|(_, value)| !value.is_null());
    let form = match named.next() {
        None => return Ok(None),
        Some((name, value)) => match (name.as_str(), value) {
            ("json", schema) => Spec::JsonSchema(schema.clone()),
            ("json_object", Value::Bool(true)) => Spec::JsonObject,
            ("regex", Value::String(regex)) => Spec::Regex(regex.clone()),
            ("grammar", Value::String(grammar)) => Spec::Lark(grammar.clone()),
            (name, _) => return Err(ApiError::unsupported("structured_outputs", name)),
        },
    };
    match named.next() {
        None => Ok(Some(form)),
        Some(_) => Err(ApiError::bad(
            "structured_outputs",
            "names more than one form",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::body::parse_json;

    fn form(body: Value) -> Result<Option<Spec>, Option<String>> {
        let body: Body = parse_json(body.to_string().as_bytes()).unwrap();
        let form = body.form().map_err(|error| error.param)?;
        Ok(form.map(|form| form.spec))
    }

    #[test]
    fn every_way_of_saying_it_is_read() {
        let schema = json!({"type": "object"});
        let expected = Ok(Some(Spec::JsonSchema(schema.clone())));
        let ways = [
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}),
            json!({"response_format": {"type": "json_object", "schema": schema}}),
            json!({"guided_json": schema}),
            json!({"json_schema": schema}),
            json!({"structured_outputs": {"json": schema}}),
        ];
        for way in ways {
            assert_eq!(form(way.clone()), expected, "{way}");
        }
        assert_eq!(form(json!({"response_format": {"type": "text"}})), Ok(None));
        assert_eq!(form(json!({"response_format": null})), Ok(None));
        let object = json!({"response_format": {"type": "json_object"}});
        assert_eq!(form(object), Ok(Some(Spec::JsonObject)));
        let regex = json!({"response_format": {"type": "regex", "pattern": "a+"}});
        assert_eq!(form(regex), Ok(Some(Spec::Regex("a+".to_owned()))));
    }

    #[test]
    fn a_form_that_is_not_understood_is_refused_and_never_left_out() {
        let cases = [
            (
                json!({"response_format": {"type": "xml"}}),
                "response_format.type",
            ),
            (json!({"response_format": {}}), "response_format.type"),
            (
                json!({"response_format": {"type": "json_schema"}}),
                "response_format.json_schema.schema",
            ),
            (
                json!({"response_format": {"type": "regex"}}),
                "response_format.regex",
            ),
            (json!({"grammar": "root ::= x"}), "grammar"),
            (
                json!({"guided_json": {}, "guided_regex": "a"}),
                "response_format",
            ),
            (
                json!({"structured_outputs": {"choice": ["a"]}}),
                "structured_outputs",
            ),
        ];
        for wrong in [json!("json"), json!([]), json!(true), json!(1)] {
            let body = json!({"structured_outputs": wrong});
            let field = "structured_outputs".to_owned();
            assert_eq!(form(body.clone()), Err(Some(field)), "{body}");
        }
        for (body, field) in cases {
            assert_eq!(form(body.clone()), Err(Some(field.to_owned())), "{body}");
        }
    }
}
