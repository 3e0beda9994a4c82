//! Filters that look into items, or apply filters and tests to each.

use crate::access::{attribute, item, iterate};
use crate::args::{Args, flag, required, text, wrong};
use crate::budget::Budget;
use crate::error::Error;
use crate::methods;
use crate::ops::{equal, sorted_by_keys};
use crate::predicates;
use crate::text::Text;
use crate::value::{Seq, Value};

/// What items are compared by: an attribute of theirs, or they themselves.
pub(super) struct Key {
    path: Vec<Value>,
    case_sensitive: bool,
}

impl Key {
    pub(super) fn new(
        attribute: Option<Value>,
        case_sensitive: bool,
        budget: &Budget,
    ) -> Result<Self, Error> {
        let path = match attribute {
            None | Some(Value::None) => Vec::new(),
            Some(Value::Str(path)) => parts(&path, budget)?,
            Some(index @ (Value::Int(_) | Value::Bool(_))) => vec![index],
            Some(other) => return Err(wrong("an attribute", "a string or an integer", &other)),
        };
        Ok(Self {
            path,
            case_sensitive,
        })
    }

    /// Keys for attributes with commas between them.
    pub(super) fn several(
        attribute: Option<Value>,
        case: bool,
        budget: &Budget,
    ) -> Result<Vec<Self>, Error> {
        match attribute {
            Some(Value::Str(all)) => {
                let each = all.as_str().split(',').map(|part| all.part_of(part));
                each.map(|part| {
                    budget.memory(2 * size_of::<Self>())?;
                    Self::new(Some(Value::Str(part)), case, budget)
                })
                .collect()
            }
            other => Ok(vec![Self::new(other, case, budget)?]),
        }
    }

    pub(super) fn of(&self, value: &Value, budget: &Budget) -> Result<Value, Error> {
        let mut value = value.clone();
        for part in &self.path {
            value = item(&value, part, budget)?;
        }
        match value {
            Value::Str(text) if !self.case_sensitive => {
                methods::lower(&text, budget).map(Value::Str)
            }
            value => Ok(value),
        }
    }
}

/// The parts of `a.0.b`.
fn parts(path: &Text, budget: &Budget) -> Result<Vec<Value>, Error> {
    budget.work(path.len())?;
    budget.memory(path.as_str().split('.').count() * 2 * size_of::<Value>())?;
    let part = |part: &str| match part.parse() {
        Ok(index) if part.bytes().all(|byte| byte.is_ascii_digit()) => Value::Int(index),
        _ => Value::Str(path.part_of(part)),
    };
    Ok(path.as_str().split('.').map(part).collect())
}

pub(super) fn attr(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [name] = args.bind("attr", ["name"])?;
    let name = text(required(name, "attr", "name")?, "attr")?;
    if matches!(value, Value::Dict(_)) && !methods::is_method(&value, name.as_str()) {
        // Only real attributes count here, and keys are none.
        return Ok(Value::Undefined(Some(name)));
    }
    attribute(&value, &name, budget)
}

pub(super) fn map(value: Value, mut args: Args, budget: &Budget) -> Result<Value, Error> {
    if !value.is_true() {
        return Value::iter(Vec::new(), budget);
    }
    let by_attribute = args
        .named
        .iter()
        .any(|(name, _)| name.as_str() == "attribute");
    let items = iterate(&value, budget)?;
    let mut mapped = Vec::new();
    if args.positional.is_empty() && by_attribute {
        let named = Args {
            positional: Vec::new(),
            named: args.named,
        };
        let [path, default] = named.bind("map", ["attribute", "default"])?;
        let default = default.filter(|default| !matches!(default, Value::None));
        let key = Key::new(path, true, budget)?;
        for value in items.items() {
            let mut found = value.clone();
            for part in &key.path {
                found = item(&found, part, budget)?;
                if let (Value::Undefined(_), Some(default)) = (&found, &default) {
                    found = default.clone();
                }
            }
            budget.memory(size_of::<Value>())?;
            mapped.push(found);
        }
        return Value::iter(mapped, budget);
    }
    if args.positional.is_empty() {
        return Err(Error::runtime("map needs a filter's name"));
    }
    let name = text(args.positional.remove(0), "map")?;
    for value in items.items() {
        let given = Args {
            positional: args.positional.clone(),
            named: args.named.clone(),
        };
        budget.steps(given.positional.len() as u64 + given.named.len() as u64)?;
        budget.memory(size_of::<Value>())?;
        mapped.push(super::apply(name.as_str(), value.clone(), given, budget)?);
    }
    Value::iter(mapped, budget)
}

pub(super) fn select(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    pick(&value, args, (false, true), budget)
}

pub(super) fn reject(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    pick(&value, args, (false, false), budget)
}

pub(super) fn selectattr(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    pick(&value, args, (true, true), budget)
}

pub(super) fn rejectattr(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    pick(&value, args, (true, false), budget)
}

/// Items for which a test, of themselves or an attribute of theirs, gives `wanted`.
fn pick(
    value: &Value,
    mut args: Args,
    (by_attribute, wanted): (bool, bool),
    budget: &Budget,
) -> Result<Value, Error> {
    if !value.is_true() {
        return Value::iter(Vec::new(), budget);
    }
    let mut next = || match args.positional.is_empty() {
        true => None,
        false => Some(args.positional.remove(0)),
    };
    let path = match by_attribute {
        true => Some(next().ok_or_else(|| Error::runtime("an attribute's name is needed"))?),
        false => None,
    };
    let test = match next() {
        Some(name) => Some(text(name, "select")?),
        None => None,
    };
    let key = Key::new(path, true, budget)?;
    let mut kept = Vec::new();
    for value in iterate(value, budget)?.items() {
        let tested = key.of(value, budget)?;
        let holds = match &test {
            Some(name) => {
                let given = Args {
                    positional: args.positional.clone(),
                    named: args.named.clone(),
                };
                budget.steps(given.positional.len() as u64 + given.named.len() as u64)?;
                predicates::apply(name.as_str(), &tested, given, budget)?
            }
            None => tested.is_true(),
        };
        if holds == wanted {
            budget.memory(size_of::<Value>())?;
            kept.push(value.clone());
        }
    }
    Value::iter(kept, budget)
}

pub(super) fn groupby(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [path, default, case] = args.bind("groupby", ["attribute", "default", "case_sensitive"])?;
    if default.is_some_and(|default| !matches!(default, Value::None)) {
        return Err(Error::unsupported("groupby with a default"));
    }
    let path = required(path, "groupby", "attribute")?;
    let exact = Key::new(Some(path.clone()), true, budget)?;
    let key = Key::new(Some(path), flag(case.as_ref()), budget)?;
    let mut pairs = Vec::new();
    for item in iterate(&value, budget)?.items() {
        budget.memory(size_of::<(Value, Value)>())?;
        pairs.push((key.of(item, budget)?, item.clone()));
    }
    let (mut groups, mut members): (_, Vec<Value>) = (Vec::new(), Vec::new());
    let mut last: Option<Value> = None;
    let close = |members: &mut Vec<Value>, groups: &mut Vec<Value>| {
        let Some(first) = members.first() else {
            return Ok::<_, Error>(());
        };
        let key = exact.of(first, budget)?;
        let items = Value::list(std::mem::take(members), budget)?;
        groups.push(Value::Tuple(Seq::group(key, items, budget)?));
        Ok(())
    };
    for item in sorted_by_keys(pairs, false, budget)? {
        let key = key.of(&item, budget)?;
        let is_same = match &last {
            Some(last) => equal(last, &key, budget)?,
            None => true,
        };
        if !is_same {
            close(&mut members, &mut groups)?;
        }
        last = Some(key);
        members.push(item);
    }
    close(&mut members, &mut groups)?;
    Value::list(groups, budget)
}
