use std::borrow::Cow;

use crate::budget::Budget;
use crate::error::Error;
use crate::limits::{GIVEN_BYTES_MAX, GIVEN_VALUES_MAX, KEPT_DEPTH_MAX};
use crate::text::Text;
use crate::value::{Map, Seq, Value};

/// What a caller gives a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Data<'a> {
    /// No value.
    None,
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text that is not trusted: none of it counts as the template's own.
    Given(Cow<'a, str>),
    /// Text that counts as the template's own, as the text of a control token does.
    Trusted(Cow<'a, str>),
    /// Values in order.
    List(Vec<Data<'a>>),
    /// Values by name, in order; of those with one name the last counts. Names are not trusted.
    Dict(Vec<(Cow<'a, str>, Data<'a>)>),
}

/// How much is given.
#[derive(Default)]
struct Size {
    values: usize,
    bytes: usize,
}

impl Size {
    fn add(&mut self, data: &Data<'_>, depth: u16) -> Result<(), Error> {
        self.values += 1;
        let refusal = match data {
            _ if depth > KEPT_DEPTH_MAX => {
                format!(
                    "a variable has lists or dicts more than {KEPT_DEPTH_MAX} inside each other"
                )
            }
            _ if self.values > GIVEN_VALUES_MAX => {
                format!("the variables have more than {GIVEN_VALUES_MAX} values")
            }
            Data::Given(text) | Data::Trusted(text) => return self.text(text),
            Data::List(items) => {
                return items.iter().try_for_each(|item| self.add(item, depth + 1));
            }
            Data::Dict(entries) => {
                return entries.iter().try_for_each(|(key, value)| {
                    self.values += 1;
                    self.text(key)?;
                    self.add(value, depth + 1)
                });
            }
            Data::None | Data::Bool(_) | Data::Int(_) | Data::Float(_) => return Ok(()),
        };
        Err(Error::limit(refusal))
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(text.len());
        match self.bytes > GIVEN_BYTES_MAX {
            true => Err(Error::limit(format!(
                "the variables have more than {GIVEN_BYTES_MAX} bytes of text"
            ))),
            false => Ok(()),
        }
    }
}

/// What rendering with `variables` may do, as long as `goes_on` says so.
pub(crate) fn budget_for<'a>(
    variables: &[(&str, Data<'_>)],
    goes_on: &'a dyn Fn() -> bool,
) -> Result<Budget<'a>, Error> {
    let mut size = Size::default();
    variables
        .iter()
        .try_for_each(|(_, data)| size.add(data, 0))?;
    Ok(Budget::of_given(size.values, size.bytes, goes_on))
}

/// The value that was given; its depth and size are checked.
pub(crate) fn value_of(data: &Data<'_>, budget: &Budget) -> Result<Value, Error> {
    Ok(match data {
        Data::None => Value::None,
        Data::Bool(value) => Value::Bool(*value),
        Data::Int(value) => Value::Int(*value),
        Data::Float(value) => Value::Float(*value),
        Data::Given(text) => Value::Str(Text::given(&**text)),
        Data::Trusted(text) => Value::Str(Text::own(&**text)),
        Data::List(items) => {
            let items = items.iter().map(|item| value_of(item, budget));
            Value::List(Seq::new(items.collect::<Result<_, _>>()?, budget)?)
        }
        Data::Dict(entries) => {
            let mut pairs: Vec<(Value, Value)> = Vec::with_capacity(entries.len());
            let mut places = std::collections::HashMap::new();
            for (key, value) in entries {
                let value = value_of(value, budget)?;
                match places.get(&**key) {
                    Some(&at) => {
                        let pair: &mut (Value, Value) = &mut pairs[at];
                        pair.1 = value;
                    }
                    None => {
                        places.insert(&**key, pairs.len());
                        pairs.push((Value::Str(Text::given(&**key)), value));
                    }
                }
            }
            Value::Dict(Map::new(pairs, budget)?)
        }
    })
}
