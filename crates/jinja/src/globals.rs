//! Functions that every template has.

use std::rc::Rc;

use crate::access::iterate;
use crate::args::{Args, int, required, text};
use crate::budget::Budget;
use crate::error::{Error, ErrorKind};
use crate::limits::RANGE_MAX;
use crate::ops;
use crate::show::string;
use crate::strftime::CivilTime;
use crate::value::{Cycler, Function, Joiner, Namespace, Span, Value};

pub(crate) fn find(name: &str) -> Option<Value> {
    let function = match name {
        "range" => Function::Range,
        "dict" => Function::Dict,
        "namespace" => Function::Namespace,
        "joiner" => Function::Joiner,
        "cycler" => Function::Cycler,
        "raise_exception" => Function::RaiseException,
        "strftime_now" => Function::StrftimeNow,
        _ => return None,
    };
    Some(Value::Function(function))
}

pub(crate) fn call(
    function: Function,
    args: Args,
    now: Option<&CivilTime>,
    budget: &Budget,
) -> Result<Value, Error> {
    match function {
        Function::Range => range(&args),
        Function::Dict => ops::dict(pairs(args, budget)?, budget),
        Function::Namespace => {
            let namespace = Namespace::default();
            budget.memory(size_of::<Namespace>())?;
            for (key, value) in pairs(args, budget)? {
                let name = text(key, "namespace")?;
                namespace.set(&name, value, budget)?;
            }
            Ok(Value::Namespace(Rc::new(namespace)))
        }
        Function::Joiner => {
            let [separator] = args.bind("joiner", ["sep"])?;
            let separator = separator.unwrap_or_else(|| Value::own(", "));
            Ok(Value::Joiner(Joiner::new(separator, budget)?))
        }
        Function::Cycler => {
            if args.positional.is_empty() || !args.named.is_empty() {
                return Err(Error::runtime("a cycler needs items without names"));
            }
            Ok(Value::Cycler(Cycler::new(args.positional, budget)?))
        }
        Function::RaiseException => {
            let [message] = args.bind("raise_exception", ["message"])?;
            let message = string(&required(message, "raise_exception", "message")?, budget)?;
            Err(Error::new(ErrorKind::Raised, message.as_str()))
        }
        Function::StrftimeNow => {
            let [format] = args.bind("strftime_now", ["format"])?;
            let format = text(required(format, "strftime_now", "format")?, "strftime_now")?;
            let Some(now) = now else {
                return Err(Error::unsupported(
                    "the date, which this rendering was not told,",
                ));
            };
            now.format(&format, budget).map(Value::Str)
        }
    }
}

/// What `dict` takes: a mapping or pairs, and named values.
fn pairs(args: Args, budget: &Budget) -> Result<Vec<(Value, Value)>, Error> {
    let mut pairs = Vec::new();
    let mut positional = args.positional.into_iter();
    match positional.next() {
        None => {}
        Some(Value::Dict(map)) => {
            budget.memory(map.entries.len() * size_of::<(Value, Value)>())?;
            pairs.extend(map.entries.iter().cloned());
        }
        Some(items) => {
            for item in iterate(&items, budget)?.items() {
                let pair = iterate(item, budget)?;
                let [key, value] = pair.items() else {
                    return Err(Error::runtime("a dict is made of pairs"));
                };
                budget.memory(size_of::<(Value, Value)>())?;
                pairs.push((key.clone(), value.clone()));
            }
        }
    }
    if positional.next().is_some() {
        return Err(Error::runtime(
            "a dict takes at most one value without a name",
        ));
    }
    pairs.extend(
        args.named
            .into_iter()
            .map(|(name, value)| (Value::Str(name), value)),
    );
    Ok(pairs)
}

fn range(args: &Args) -> Result<Value, Error> {
    if !args.named.is_empty() {
        return Err(Error::runtime("range takes no named arguments"));
    }
    let part = |at: usize| int(&args.positional[at], "range");
    let (start, stop, step) = match args.positional.len() {
        1 => (0, part(0)?, 1),
        2 => (part(0)?, part(1)?, 1),
        3 => (part(0)?, part(1)?, part(2)?),
        count => {
            return Err(Error::runtime(format!(
                "range takes 1 to 3 arguments, not {count}"
            )));
        }
    };
    if step == 0 {
        return Err(Error::runtime("a range's step cannot be zero"));
    }
    let span = Span { start, stop, step };
    match span.len() > RANGE_MAX {
        true => Err(Error::runtime(format!(
            "a range of more than {RANGE_MAX} numbers"
        ))),
        false => Ok(Value::Range(span)),
    }
}
