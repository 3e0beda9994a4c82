use crate::error::Error;
use crate::text::Text;
use crate::value::Value;

/// The arguments of a call.
#[derive(Debug, Default)]
pub(crate) struct Args {
    pub(crate) positional: Vec<Value>,
    pub(crate) named: Vec<(Text, Value)>,
}

impl Args {
    /// The arguments for the parameters `names` of `callee`, in their order.
    pub(crate) fn bind<const N: usize>(
        self,
        callee: &str,
        names: [&str; N],
    ) -> Result<[Option<Value>; N], Error> {
        let mut bound = [const { None }; N];
        let count = self.positional.len();
        if count > N {
            return Err(Error::runtime(format!(
                "{callee} takes at most {N} arguments, {count} were given"
            )));
        }
        for (place, value) in bound.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (name, value) in self.named {
            let index = names.iter().position(|other| *other == name.as_str());
            match index.map(|index| &mut bound[index]) {
                Some(place @ None) => *place = Some(value),
                Some(_) => {
                    let name = name.as_str();
                    return Err(Error::runtime(format!("{callee} was given '{name}' twice")));
                }
                None => {
                    let name = name.as_str();
                    return Err(Error::runtime(format!(
                        "{callee} takes no argument '{name}'"
                    )));
                }
            }
        }
        Ok(bound)
    }
}

/// An argument that must be there.
pub(crate) fn required(value: Option<Value>, callee: &str, name: &str) -> Result<Value, Error> {
    value.ok_or_else(|| Error::runtime(format!("{callee} needs the argument '{name}'")))
}

pub(crate) fn text(value: Value, callee: &str) -> Result<Text, Error> {
    match value {
        Value::Str(text) => Ok(text),
        other => Err(wrong(callee, "a string", &other)),
    }
}

pub(crate) fn int(value: &Value, callee: &str) -> Result<i64, Error> {
    match value {
        Value::Int(value) => Ok(*value),
        Value::Bool(value) => Ok(i64::from(*value)),
        other => Err(wrong(callee, "an integer", other)),
    }
}

/// The integer given, or `default` where none was.
pub(crate) fn int_or(value: Option<&Value>, default: i64, callee: &str) -> Result<i64, Error> {
    value.map_or(Ok(default), |value| int(value, callee))
}

pub(crate) fn flag(value: Option<&Value>) -> bool {
    value.is_some_and(Value::is_true)
}

pub(crate) fn wrong(callee: &str, expected: &str, found: &Value) -> Error {
    if let Value::Undefined(name) = found {
        return Value::undefined_error(name.as_ref());
    }
    if let Value::Markup(_) = found {
        return Error::unsupported(format!("a text marked as safe given to {callee}"));
    }
    let found = found.type_name();
    Error::runtime(format!("{callee} needs {expected}, found {found}"))
}
