//! Renders templates for a comparison with another Jinja: reads lines of JSON with `template`,
//! `context` and perhaps `now` (six numbers), and writes a line of JSON for each, with `text` and
//! the `ranges` of it that are the template's own, or with `error` and its `kind`.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, Write};

use gogrid_jinja::{CivilTime, Data, Template};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::json;

#[derive(Deserialize)]
struct Line {
    template: String,
    context: Json,
    now: Option<[u16; 6]>,
}

/// A value whose objects keep their order.
struct Json(Data<'static>);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Json)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Data<'static>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Data::None)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Data::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Data::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        i64::try_from(value).map(Data::Int).map_err(E::custom)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Data::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Data::Given(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Json(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Data::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut dict = Vec::new();
        while let Some((key, Json(value))) = entries.next_entry::<String, Json>()? {
            dict.push((Cow::Owned(key), value));
        }
        Ok(Data::Dict(dict))
    }
}

fn answer(line: &str) -> serde_json::Value {
    let line: Line = match serde_json::from_str(line) {
        Ok(line) => line,
        Err(error) => return json!({"error": error.to_string(), "kind": "Input"}),
    };
    let Json(Data::Dict(context)) = line.context else {
        return json!({"error": "the context is no object", "kind": "Input"});
    };
    let now = line
        .now
        .and_then(|[year, month, day, hour, minute, second]| {
            let time = [hour, minute, second].map(|part| u8::try_from(part).unwrap_or(u8::MAX));
            CivilTime::new([year, month, day].map(i32::from), time)
        });
    let variables: Vec<_> = context
        .iter()
        .map(|(name, value)| (name.as_ref(), value.clone()))
        .collect();
    let rendered = Template::parse(&line.template)
        .and_then(|template| template.render(&variables, now.as_ref()));
    match rendered {
        Ok(rendered) => {
            let ranges: Vec<_> = rendered
                .own
                .iter()
                .map(|own| [own.start, own.end])
                .collect();
            json!({"text": rendered.text, "ranges": ranges})
        }
        Err(error) => json!({"error": error.to_string(), "kind": format!("{:?}", error.kind())}),
    }
}

fn main() -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        writeln!(out, "{}", answer(&line?))?;
    }
    out.flush()
}
