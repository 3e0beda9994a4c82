use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::budget::Budget;
use crate::error::Error;
use crate::limits::{KEPT_DEPTH_MAX, VALUE_DEPTH_MAX};
use crate::text::Text;

/// What an expression gives. Whatever holds values is made here alone, is charged, and is at most
/// [`VALUE_DEPTH_MAX`] deep; none contains itself. So going through a value may recurse, and
/// dropping one frees all of it. The test `whatever_holds_values_has_a_depth_and_a_price` holds this.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A variable or an attribute that is not there, by name.
    Undefined(Option<Text>),
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Text),
    /// A text that was marked as safe, or escaped.
    Markup(Text),
    List(Rc<Seq>),
    Tuple(Rc<Seq>),
    Dict(Rc<Map>),
    Range(Span),
    View(View, Rc<Map>),
    /// Items that can be gone through once, as a Python generator's.
    Iter(Rc<Iter>),
    Namespace(Rc<Namespace>),
    Loop(Rc<Loop>),
    Macro(Rc<Macro>),
    Joiner(Rc<Joiner>),
    Cycler(Rc<Cycler>),
    /// A method that was not called at once.
    Method(Rc<Method>),
    Function(Function),
}

/// A sequence, with what was found out about its items when it was made.
#[derive(Debug)]
pub(crate) struct Seq {
    items: Vec<Value>,
    nature: Nature,
    /// A pair that `groupby` made: its parts have names.
    is_group: bool,
}

/// Pairs in the order of their insertion, keys unequal.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) entries: Vec<(Value, Value)>,
    nature: Nature,
}

/// What is known of a value from when it was made, so that nobody has to go through it.
#[derive(Clone, Copy, Debug)]
struct Nature {
    /// Values that hold values inside each other, this one counted.
    depth: u16,
    /// No namespace or loop is inside.
    plain: bool,
    /// What it holds may be a key: it has no list or dict, however deep inside of tuples.
    hashable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Keys,
    Values,
    Items,
}

/// A `range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: i64,
    pub(crate) stop: i64,
    pub(crate) step: i64,
}

#[derive(Debug)]
pub(crate) struct Iter {
    pub(crate) items: Rc<Seq>,
    pub(crate) at: Cell<usize>,
    nature: Nature,
}

/// A namespace keeps only plain values, so that none can contain itself.
#[derive(Debug, Default)]
pub(crate) struct Namespace {
    pub(crate) entries: RefCell<Vec<(Text, Value)>>,
}

/// The variable `loop`.
#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) items: Rc<Seq>,
    pub(crate) index: Cell<usize>,
    pub(crate) depth: usize,
    pub(crate) definition: Definition,
    /// What `loop.changed` was given the last time: plain values.
    pub(crate) changed: RefCell<Option<Vec<Value>>>,
    nature: Nature,
}

#[derive(Debug)]
pub(crate) struct Macro {
    /// Empty for the body of a call block.
    pub(crate) name: Option<Text>,
    pub(crate) definition: Definition,
}

/// A macro or a loop of the tree, and the scope that it was met in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Definition {
    pub(crate) node: usize,
    pub(crate) scope: usize,
    /// Tells the scope from others that had its place.
    pub(crate) scope_id: u64,
}

#[derive(Debug)]
pub(crate) struct Joiner {
    pub(crate) separator: Value,
    pub(crate) used: Cell<bool>,
    nature: Nature,
}

#[derive(Debug)]
pub(crate) struct Cycler {
    pub(crate) items: Rc<Seq>,
    pub(crate) at: Cell<usize>,
    nature: Nature,
}

#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) of: Value,
    pub(crate) name: Text,
    nature: Nature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Range,
    Dict,
    Namespace,
    Joiner,
    Cycler,
    RaiseException,
    StrftimeNow,
}

impl Seq {
    pub(crate) fn new(items: Vec<Value>, budget: &Budget) -> Result<Rc<Self>, Error> {
        Self::made(items, false, budget)
    }

    /// What `groupby` puts together.
    pub(crate) fn group(key: Value, items: Value, budget: &Budget) -> Result<Rc<Self>, Error> {
        Self::made(vec![key, items], true, budget)
    }

    fn made(items: Vec<Value>, is_group: bool, budget: &Budget) -> Result<Rc<Self>, Error> {
        budget.memory(size_of::<Self>() + items.len() * size_of::<Value>())?;
        let nature = Nature::of_all(items.iter()).outside()?;
        Ok(Rc::new(Self {
            items,
            nature,
            is_group,
        }))
    }

    pub(crate) fn is_group(&self) -> bool {
        self.is_group
    }

    pub(crate) fn items(&self) -> &[Value] {
        &self.items
    }
}

impl Map {
    /// Pairs whose keys are known to be unequal.
    pub(crate) fn new(entries: Vec<(Value, Value)>, budget: &Budget) -> Result<Rc<Self>, Error> {
        budget.memory(size_of::<Self>() + entries.len() * 2 * size_of::<Value>())?;
        let parts = entries.iter().flat_map(|(key, value)| [key, value]);
        let nature = Nature::of_all(parts).outside()?;
        Ok(Rc::new(Self { entries, nature }))
    }
}

impl Iter {
    fn new(items: Rc<Seq>, budget: &Budget) -> Result<Rc<Self>, Error> {
        budget.memory(size_of::<Self>())?;
        let (at, nature) = (Cell::new(0), items.nature.outside()?);
        Ok(Rc::new(Self { items, at, nature }))
    }
}

impl Cycler {
    pub(crate) fn new(items: Vec<Value>, budget: &Budget) -> Result<Rc<Self>, Error> {
        let items = Seq::new(items, budget)?;
        budget.memory(size_of::<Self>())?;
        let (at, nature) = (Cell::new(0), items.nature.outside()?);
        Ok(Rc::new(Self { items, at, nature }))
    }
}

impl Joiner {
    pub(crate) fn new(separator: Value, budget: &Budget) -> Result<Rc<Self>, Error> {
        separator.check_keepable("a joiner")?;
        budget.memory(size_of::<Self>())?;
        let (used, nature) = (Cell::new(false), separator.nature().outside()?);
        Ok(Rc::new(Self {
            separator,
            used,
            nature,
        }))
    }
}

impl Method {
    pub(crate) fn new(of: Value, name: Text, budget: &Budget) -> Result<Rc<Self>, Error> {
        budget.memory(size_of::<Self>())?;
        let nature = of.nature().outside()?;
        Ok(Rc::new(Self { of, name, nature }))
    }
}

impl Loop {
    /// The loop over `items`, at the first; `depth` counts loops that called themselves.
    pub(crate) fn new(
        items: Rc<Seq>,
        definition: Definition,
        depth: usize,
        budget: &Budget,
    ) -> Result<Rc<Self>, Error> {
        budget.memory(size_of::<Self>())?;
        let inside = Nature {
            depth: items.nature.depth.max(KEPT_DEPTH_MAX),
            ..Nature::LIVE
        };
        Ok(Rc::new(Self {
            items,
            index: Cell::new(0),
            depth,
            definition,
            changed: RefCell::new(None),
            nature: inside.outside()?,
        }))
    }
}

impl Nature {
    const SCALAR: Self = Self {
        depth: 0,
        plain: true,
        hashable: true,
    };
    /// A namespace may come to hold values as deep as it may keep.
    const LIVE: Self = Self {
        depth: KEPT_DEPTH_MAX + 1,
        plain: false,
        hashable: true,
    };

    /// Of all items together.
    fn of_all<'v>(items: impl Iterator<Item = &'v Value>) -> Self {
        let mut all = Self::SCALAR;
        for item in items {
            let nature = item.nature();
            all.depth = all.depth.max(nature.depth);
            all.plain &= nature.plain;
            all.hashable &= item.is_hashable();
        }
        all
    }

    /// What holds this is one deeper.
    fn outside(self) -> Result<Self, Error> {
        let depth = self.depth + 1;
        if depth > VALUE_DEPTH_MAX {
            return Err(Error::limit(format!(
                "a value has lists or dicts more than {VALUE_DEPTH_MAX} inside each other"
            )));
        }
        Ok(Self { depth, ..self })
    }
}

impl Value {
    fn nature(&self) -> Nature {
        match self {
            Self::List(seq) | Self::Tuple(seq) => seq.nature,
            Self::Dict(map) | Self::View(_, map) => map.nature,
            Self::Iter(iter) => iter.nature,
            Self::Cycler(cycler) => cycler.nature,
            Self::Joiner(joiner) => joiner.nature,
            Self::Method(method) => method.nature,
            Self::Loop(of) => of.nature,
            Self::Namespace(_) => Nature::LIVE,
            Self::Undefined(_)
            | Self::None
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::Str(_)
            | Self::Markup(_)
            | Self::Range(_)
            // A macro has no values: it knows the place of its scope.
            | Self::Macro(_)
            | Self::Function(_) => Nature::SCALAR,
        }
    }

    /// Whether it may be a key of a dict.
    pub(crate) fn is_hashable(&self) -> bool {
        match self {
            Self::List(_) | Self::Dict(_) | Self::View(View::Keys | View::Items, _) => false,
            Self::Tuple(seq) => seq.nature.hashable,
            _ => true,
        }
    }

    /// Whether it may be put into something that lives on: it holds nothing that can change, and
    /// is not too deep.
    pub(crate) fn check_keepable(&self, place: &str) -> Result<(), Error> {
        let nature = self.nature();
        if !nature.plain {
            return Err(Error::unsupported(format!(
                "a namespace or a loop in {place}"
            )));
        }
        if nature.depth > KEPT_DEPTH_MAX {
            return Err(Error::limit(format!(
                "{place} would have lists or dicts more than {KEPT_DEPTH_MAX} inside each other"
            )));
        }
        Ok(())
    }

    pub(crate) fn own(text: impl Into<Box<str>>) -> Self {
        Self::Str(Text::own(text))
    }

    /// A list, charged.
    pub(crate) fn list(items: Vec<Self>, budget: &Budget) -> Result<Self, Error> {
        Ok(Self::List(Seq::new(items, budget)?))
    }

    pub(crate) fn tuple(items: Vec<Self>, budget: &Budget) -> Result<Self, Error> {
        Ok(Self::Tuple(Seq::new(items, budget)?))
    }

    /// Items that can be gone through once.
    pub(crate) fn iter(items: Vec<Self>, budget: &Budget) -> Result<Self, Error> {
        Ok(Self::Iter(Iter::new(Seq::new(items, budget)?, budget)?))
    }

    /// The text of a string, marked safe or not.
    pub(crate) fn text(&self) -> Option<&Text> {
        match self {
            Self::Str(text) | Self::Markup(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    /// As Python names its type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Markup(_) => "Markup",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Range(_) => "range",
            Self::View(View::Keys, _) => "dict_keys",
            Self::View(View::Values, _) => "dict_values",
            Self::View(View::Items, _) => "dict_items",
            Self::Iter(_) => "generator",
            Self::Namespace(_) => "Namespace",
            Self::Loop(_) => "LoopContext",
            Self::Macro(_) => "Macro",
            Self::Joiner(_) => "Joiner",
            Self::Cycler(_) => "Cycler",
            Self::Method(..) => "method",
            Self::Function(_) => "function",
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) | Self::Markup(text) => !text.is_empty(),
            Self::List(seq) | Self::Tuple(seq) => !seq.items.is_empty(),
            Self::Dict(map) | Self::View(_, map) => !map.entries.is_empty(),
            Self::Range(span) => span.len() != 0,
            Self::Loop(of) => !of.items.items.is_empty(),
            _ => true,
        }
    }

    pub(crate) fn is_callable(&self) -> bool {
        matches!(
            self,
            Self::Macro(_)
                | Self::Joiner(_)
                | Self::Method(..)
                | Self::Function(_)
                | Self::Loop(_)
                // Calling a value that is not there fails, but Python's test finds a way to.
                | Self::Undefined(_)
        )
    }

    /// The error of an operation on a value that is not there.
    pub(crate) fn undefined_error(name: Option<&Text>) -> Error {
        match name {
            Some(name) => Error::runtime(format!("'{}' is undefined", name.as_str())),
            None => Error::runtime("the value is undefined"),
        }
    }
}

impl Span {
    pub(crate) fn len(&self) -> u64 {
        let (start, stop, step) = (self.start as i128, self.stop as i128, self.step as i128);
        let len = match step > 0 {
            true => (stop - start + step - 1) / step,
            false => (start - stop - step - 1) / -step,
        };
        // At most 2^64 - 1: the distance between two 64-bit numbers.
        len.max(0) as u64
    }

    /// The item at `index`, which is below the length.
    pub(crate) fn at(&self, index: u64) -> i64 {
        (self.start as i128 + index as i128 * self.step as i128) as i64
    }
}

impl Namespace {
    /// The place of an attribute among the entries; pays for those gone through.
    fn place(&self, name: &Text, budget: &Budget) -> Result<Option<usize>, Error> {
        let entries = self.entries.borrow();
        budget.steps(1 + entries.len() as u64 / 4)?;
        for (at, (key, _)) in entries.iter().enumerate() {
            if key.is(name.as_str(), budget)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    pub(crate) fn get(&self, name: &Text, budget: &Budget) -> Result<Option<Value>, Error> {
        let place = self.place(name, budget)?;
        Ok(place.map(|at| self.entries.borrow()[at].1.clone()))
    }

    pub(crate) fn set(&self, name: &Text, value: Value, budget: &Budget) -> Result<(), Error> {
        if name.as_str().starts_with('_') {
            return Err(Error::runtime(format!(
                "a namespace cannot have the attribute '{}', which begins with an underscore",
                name.as_str()
            )));
        }
        value.check_keepable("a namespace")?;
        let place = self.place(name, budget)?;
        let mut entries = self.entries.borrow_mut();
        match place {
            Some(at) => entries[at].1 = value,
            None => {
                budget.memory(2 * size_of::<(Text, Value)>())?;
                entries.push((name.clone(), value));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use gogrid_testkit::Rng;

    use super::*;
    use crate::error::ErrorKind;
    use crate::json::to_json;
    use crate::show::string;

    type Wrap = fn(Value, &Budget) -> Result<Value, Error>;

    /// All ways to make a value that holds another.
    const WRAPS: [Wrap; 13] = [
        |value, budget| Value::list(vec![value], budget),
        |value, budget| Value::tuple(vec![Value::None, value], budget),
        |value, budget| Ok(Value::Tuple(Seq::group(Value::None, value, budget)?)),
        |value, budget| Ok(Value::Dict(dict_of(value, budget)?)),
        |value, budget| Ok(Value::View(View::Values, dict_of(value, budget)?)),
        |value, budget| Ok(Value::View(View::Items, dict_of(value, budget)?)),
        |value, budget| Value::iter(vec![value], budget),
        |value, budget| Ok(Value::Cycler(Cycler::new(vec![value], budget)?)),
        |value, budget| Ok(Value::Joiner(Joiner::new(value, budget)?)),
        |value, budget| {
            let method = Method::new(value, Text::own("copy"), budget)?;
            Ok(Value::Method(method))
        },
        |value, budget| {
            let namespace = Namespace::default();
            namespace.set(&Text::own("a"), value, budget)?;
            Ok(Value::Namespace(Rc::new(namespace)))
        },
        |value, budget| {
            let items = Seq::new(vec![value], budget)?;
            Ok(Value::Loop(Loop::new(items, DEFINITION, 0, budget)?))
        },
        |value, budget| {
            value.check_keepable("'loop.changed'")?;
            let of = Loop::new(Seq::new(Vec::new(), budget)?, DEFINITION, 0, budget)?;
            *of.changed.borrow_mut() = Some(vec![value]);
            Ok(Value::Loop(of))
        },
    ];
    const DEFINITION: Definition = Definition {
        node: 0,
        scope: 0,
        scope_id: 0,
    };

    fn dict_of(value: Value, budget: &Budget) -> Result<Rc<Map>, Error> {
        Map::new(vec![(Value::Int(1), value)], budget)
    }

    /// What a value holds, found by going through it; a variant that is new must be named here.
    fn held(value: &Value) -> Vec<Value> {
        match value {
            Value::List(seq) | Value::Tuple(seq) => seq.items().to_vec(),
            Value::Dict(map) | Value::View(_, map) => {
                let parts = map.entries.iter().cloned();
                parts.flat_map(|(key, value)| [key, value]).collect()
            }
            Value::Iter(iter) => iter.items.items().to_vec(),
            Value::Cycler(cycler) => cycler.items.items().to_vec(),
            Value::Joiner(joiner) => vec![joiner.separator.clone()],
            Value::Method(method) => vec![method.of.clone()],
            Value::Namespace(namespace) => {
                let entries = namespace.entries.borrow();
                entries.iter().map(|(_, value)| value.clone()).collect()
            }
            Value::Loop(of) => {
                let changed = of.changed.borrow();
                let changed = changed.iter().flatten().cloned();
                changed.chain(of.items.items().iter().cloned()).collect()
            }
            Value::Undefined(_)
            | Value::None
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::Str(_)
            | Value::Markup(_)
            | Value::Range(_)
            | Value::Macro(_)
            | Value::Function(_) => Vec::new(),
        }
    }

    fn depth(value: &Value) -> u16 {
        let held = held(value);
        let inside = held.iter().map(depth).max();
        inside.map_or(0, |inside| inside + 1)
    }

    /// Wraps at random until it is refused; gives the last value made and how often it was wrapped.
    fn wrapped(pick: &mut impl FnMut() -> Wrap, budget: &Budget) -> (Value, u16) {
        let (mut value, mut times) = (Value::Int(1), 0);
        loop {
            let before = budget.spent().bytes;
            let wrap = pick();
            match wrap(value.clone(), budget) {
                Ok(made) => {
                    let charged = budget.spent().bytes - before;
                    assert!(charged >= 16, "{} cost {charged}", made.type_name());
                    value = made;
                    times += 1;
                }
                Err(error) => {
                    let is_refusal =
                        matches!(error.kind(), ErrorKind::Limit | ErrorKind::Unsupported);
                    assert!(is_refusal, "{error}");
                    return (value, times);
                }
            }
            assert!(times <= VALUE_DEPTH_MAX, "{}", value.type_name());
        }
    }

    fn check(pick: &mut impl FnMut() -> Wrap) {
        let budget = Budget::of_given(100, 100_000, &|| true);
        let (value, times) = wrapped(pick, &budget);
        let deep = depth(&value);
        assert!(deep >= times, "{deep} of {times}");
        assert!(deep <= value.nature().depth && deep <= VALUE_DEPTH_MAX);
        let hashable = held(&value).iter().all(Value::is_hashable);
        if let Value::Tuple(_) = value {
            assert_eq!(value.is_hashable(), hashable);
        }
        // Both recurse as deep as the value is; what they say of it does not matter here.
        let _ = string(&value, &budget);
        let _ = to_json(&value, crate::args::Args::default(), &budget);
    }

    #[test]
    fn whatever_holds_values_has_a_depth_and_a_price() {
        let run = || {
            for wrap in WRAPS {
                check(&mut || wrap);
            }
            let mut rng = Rng::new(1);
            for _ in 0..2_000 {
                // Mostly of what may be put into anything, so that the values grow deep.
                let all = if rng.below(8) == 0 { WRAPS.len() } else { 10 };
                check(&mut || WRAPS[rng.below(all)]);
            }
        };
        // A small stack, so that a recursion without a bound is found.
        let thread = thread::Builder::new().stack_size(256 << 10).spawn(run);
        thread.unwrap().join().unwrap();
    }
}
