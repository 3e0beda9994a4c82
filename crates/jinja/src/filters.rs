//! Filters, by name.

mod numbers;
mod pick;
mod sequences;
mod texts;

use crate::args::{Args, flag, text};
use crate::budget::Budget;
use crate::error::Error;
use crate::format;
use crate::json::to_json;
use crate::ops;
use crate::show::{escape, string};
use crate::value::{Value, View};

type Filter = fn(Value, Args, &Budget) -> Result<Value, Error>;

/// In the order of their names.
const FILTERS: [(&str, Filter); 46] = [
    ("abs", numbers::abs),
    ("attr", pick::attr),
    ("batch", sequences::batch),
    ("capitalize", texts::capitalize),
    ("center", texts::center),
    ("count", length),
    ("d", default),
    ("default", default),
    ("dictsort", sequences::dictsort),
    ("e", escaped),
    ("escape", escaped),
    ("first", sequences::first),
    ("float", numbers::float),
    ("forceescape", escaped),
    ("format", formatted),
    ("groupby", pick::groupby),
    ("indent", texts::indent),
    ("int", numbers::int),
    ("items", items),
    ("join", sequences::join),
    ("last", sequences::last),
    ("length", length),
    ("list", sequences::list),
    ("lower", texts::lower),
    ("map", pick::map),
    ("max", sequences::max),
    ("min", sequences::min),
    ("reject", pick::reject),
    ("rejectattr", pick::rejectattr),
    ("replace", texts::replace),
    ("reverse", sequences::reverse),
    ("round", numbers::round),
    ("safe", safe),
    ("select", pick::select),
    ("selectattr", pick::selectattr),
    ("slice", sequences::slice),
    ("sort", sequences::sort),
    ("string", as_string),
    ("sum", sequences::sum),
    ("title", texts::title),
    ("tojson", tojson),
    ("trim", texts::trim),
    ("truncate", texts::truncate),
    ("unique", sequences::unique),
    ("upper", texts::upper),
    ("wordcount", texts::wordcount),
];
/// Filters of Jinja that are not here.
const REFUSED: [&str; 8] = [
    "filesizeformat",
    "pprint",
    "random",
    "striptags",
    "urlencode",
    "urlize",
    "wordwrap",
    "xmlattr",
];

fn find(name: &str) -> Option<Filter> {
    let found = FILTERS.binary_search_by(|(other, _)| (*other).cmp(name));
    found.ok().map(|at| FILTERS[at].1)
}

pub(crate) fn is_known(name: &str) -> bool {
    find(name).is_some()
}

/// The error of using a filter that is not here.
pub(crate) fn unknown(name: &str) -> Error {
    match REFUSED.contains(&name) {
        true => Error::unsupported(format!("the filter '{name}'")),
        false => Error::runtime(format!("there is no filter '{name}'")),
    }
}

/// `value | name(args)`.
pub(crate) fn apply(name: &str, value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    budget.steps(1)?;
    let filter = find(name).ok_or_else(|| unknown(name))?;
    filter(value, args, budget)
}

fn default(value: Value, args: Args, _: &Budget) -> Result<Value, Error> {
    let [default, boolean] = args.bind("default", ["default_value", "boolean"])?;
    let takes = value.is_undefined() || (flag(boolean.as_ref()) && !value.is_true());
    Ok(match takes {
        true => default.unwrap_or_else(|| Value::own("")),
        false => value,
    })
}

fn length(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [] = args.bind("length", [])?;
    let len = match &value {
        Value::Undefined(_) => 0,
        Value::Str(text) | Value::Markup(text) => {
            budget.work(text.len())?;
            crate::access::char_count(text.as_str()) as u64
        }
        Value::List(seq) | Value::Tuple(seq) => seq.items().len() as u64,
        Value::Dict(map) | Value::View(_, map) => map.entries.len() as u64,
        Value::Range(span) => span.len(),
        Value::Loop(of) => of.items.items().len() as u64,
        other => {
            let found = other.type_name();
            return Err(Error::runtime(format!(
                "a value of type {found} has no length"
            )));
        }
    };
    Ok(Value::Int(len as i64))
}

fn items(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [] = args.bind("items", [])?;
    match value {
        Value::Undefined(_) => Value::iter(Vec::new(), budget),
        Value::Dict(map) => {
            let items = crate::access::iterate(&Value::View(View::Items, map), budget)?;
            Value::iter(items.items().to_vec(), budget)
        }
        other => Err(crate::args::wrong("items", "a mapping", &other)),
    }
}

fn tojson(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    to_json(&value, args, budget)
}

fn as_string(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [] = args.bind("string", [])?;
    match value {
        Value::Markup(_) => Ok(value),
        other => string(&other, budget).map(Value::Str),
    }
}

fn safe(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [] = args.bind("safe", [])?;
    string(&value, budget).map(Value::Markup)
}

fn escaped(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [] = args.bind("escape", [])?;
    match value {
        Value::Markup(_) => Ok(value),
        other => escape(&string(&other, budget)?, budget).map(Value::Markup),
    }
}

/// `text | format(values)`.
fn formatted(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let pattern = text(value, "format")?;
    let values = match (args.positional.is_empty(), args.named.is_empty()) {
        (_, true) => Value::tuple(args.positional, budget)?,
        (true, false) => {
            let named = args
                .named
                .into_iter()
                .map(|(name, value)| (Value::Str(name), value));
            ops::dict(named.collect(), budget)?
        }
        (false, false) => {
            return Err(Error::runtime(
                "format takes values with names or without, not both",
            ));
        }
    };
    format::percent(&pattern, &values, budget).map(Value::Str)
}
