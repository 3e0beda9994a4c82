use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::budget::Budget;
use crate::error::Error;
use crate::limits::{KEPT_DEPTH_MAX, VALUE_DEPTH_MAX};
use crate::text::Text;

/// What an expression gives. Every value is at most [`VALUE_DEPTH_MAX`] deep and none contains
/// itself, so that going through one may recurse, and dropping one frees all of it.
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
    Method(Rc<Value>, Text),
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

#[derive(Clone, Copy, Debug)]
struct Nature {
    /// Containers inside each other, this one counted.
    depth: u16,
    /// No namespace or loop is inside.
    plain: bool,
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
    pub(crate) changed: RefCell<Option<Vec<Value>>>,
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
}

#[derive(Debug)]
pub(crate) struct Cycler {
    pub(crate) items: Rc<Seq>,
    pub(crate) at: Cell<usize>,
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
        budget.memory(size_of::<Self>() + items.len() * size_of::<Value>())?;
        let nature = Nature::around(items.iter())?;
        Ok(Rc::new(Self {
            items,
            nature,
            is_group: false,
        }))
    }

    /// What `groupby` puts together.
    pub(crate) fn group(key: Value, items: Value, budget: &Budget) -> Result<Rc<Self>, Error> {
        budget.memory(size_of::<Self>() + 2 * size_of::<Value>())?;
        let items = vec![key, items];
        let nature = Nature::around(items.iter())?;
        Ok(Rc::new(Self {
            items,
            nature,
            is_group: true,
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
        let nature = Nature::around(parts)?;
        Ok(Rc::new(Self { entries, nature }))
    }
}

impl Nature {
    const SCALAR: Self = Self {
        depth: 0,
        plain: true,
    };
    /// A namespace may come to hold values as deep as it may keep.
    const LIVE: Self = Self {
        depth: KEPT_DEPTH_MAX + 1,
        plain: false,
    };

    fn around<'v>(items: impl Iterator<Item = &'v Value>) -> Result<Self, Error> {
        let mut nature = Self::SCALAR;
        for item in items {
            let item = item.nature();
            nature.depth = nature.depth.max(item.depth);
            nature.plain &= item.plain;
        }
        nature.outside()
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
            Self::Iter(iter) => iter.items.nature,
            Self::Cycler(cycler) => cycler.items.nature,
            Self::Joiner(joiner) => joiner.separator.nature(),
            Self::Method(of, _) => of.nature(),
            Self::Namespace(_) => Nature::LIVE,
            Self::Loop(of) => Nature {
                depth: of.items.nature.depth.max(KEPT_DEPTH_MAX) + 1,
                plain: false,
            },
            _ => Nature::SCALAR,
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

    /// A container around one that is one deeper than allowed cannot be made.
    pub(crate) fn check_wrappable(&self) -> Result<(), Error> {
        self.nature().outside().map(|_| ())
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
        let items = Seq::new(items, budget)?;
        Ok(Self::Iter(Rc::new(Iter {
            items,
            at: Cell::new(0),
        })))
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
    pub(crate) fn get(&self, name: &str) -> Option<Value> {
        let entries = self.entries.borrow();
        let found = entries.iter().find(|(key, _)| key.as_str() == name);
        found.map(|(_, value)| value.clone())
    }

    pub(crate) fn set(&self, name: &Text, value: Value, budget: &Budget) -> Result<(), Error> {
        if name.as_str().starts_with('_') {
            return Err(Error::runtime(format!(
                "a namespace cannot have the attribute '{}', which begins with an underscore",
                name.as_str()
            )));
        }
        value.check_keepable("a namespace")?;
        let mut entries = self.entries.borrow_mut();
        budget.steps(1 + entries.len() as u64 / 4)?;
        match entries
            .iter_mut()
            .find(|(key, _)| key.as_str() == name.as_str())
        {
            Some((_, old)) => *old = value,
            None => {
                budget.memory(2 * size_of::<(Text, Value)>())?;
                entries.push((name.clone(), value));
            }
        }
        Ok(())
    }
}
