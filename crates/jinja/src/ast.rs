use crate::text::Text;

/// A name of the template, as an index into its list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NameId(pub(crate) u32);

/// What a source is read into. Bodies that run from elsewhere than where they stand have a number.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) body: Vec<Statement>,
    pub(crate) names: Vec<Text>,
    pub(crate) known_names: KnownNames,
    pub(crate) macros: Vec<MacroNode>,
    pub(crate) loops: Vec<ForNode>,
}

/// Names that a rendering sets by itself, where they are among the template's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KnownNames {
    pub(crate) loop_: Option<NameId>,
    pub(crate) caller: Option<NameId>,
    pub(crate) kwargs: Option<NameId>,
    pub(crate) varargs: Option<NameId>,
}

#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) line: u32,
    pub(crate) kind: StatementKind,
}

#[derive(Debug)]
pub(crate) enum StatementKind {
    Data(Text),
    Print(Expr),
    If(Box<IfNode>),
    /// The loop's number.
    For(usize),
    Set(Target, Expr),
    /// The same within an `if`.
    SetInBranch(Target, Expr),
    SetBlock(Target, Capture),
    /// The macro's number.
    Macro(usize),
    /// The call, and the number of the macro that its body is.
    Call(Expr, usize),
    Filter(Capture),
    With(Vec<(Target, Expr)>, Vec<Statement>),
    /// A body with a scope of its own, printed as one text.
    Scope(Vec<Statement>),
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct IfNode {
    pub(crate) arms: Vec<(Expr, Vec<Statement>)>,
    pub(crate) otherwise: Vec<Statement>,
}

#[derive(Debug)]
pub(crate) struct ForNode {
    pub(crate) target: Target,
    pub(crate) items: Expr,
    pub(crate) filter: Option<Expr>,
    pub(crate) recursive: bool,
    pub(crate) body: Vec<Statement>,
    pub(crate) otherwise: Vec<Statement>,
}

/// What a body prints, through filters.
#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) filters: Vec<Post>,
    pub(crate) body: Vec<Statement>,
}

#[derive(Debug)]
pub(crate) struct MacroNode {
    /// `None` for the body of a call block.
    pub(crate) name: Option<NameId>,
    pub(crate) parameters: Vec<(NameId, Option<Expr>)>,
    pub(crate) body: Vec<Statement>,
    pub(crate) uses: Uses,
}

/// Which of the names that a macro may be given without declaring them stand in its body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Uses {
    pub(crate) caller: bool,
    pub(crate) varargs: bool,
    pub(crate) kwargs: bool,
}

#[derive(Debug)]
pub(crate) enum Target {
    Name(NameId),
    Attribute(NameId, Text),
    Tuple(Vec<Target>),
}

/// Chains of operators are lists, so that only brackets and conditions nest.
#[derive(Debug)]
pub(crate) enum Expr {
    Const(Const),
    Name(NameId),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// Signs, the outermost first.
    Signed(Vec<Sign>, Box<Expr>),
    /// Negated so many times.
    Not(usize, Box<Expr>),
    /// Operators of one rank, applied from the left.
    Chain(Box<Expr>, Vec<(Operator, Expr)>),
    /// Operands of `~`.
    Concat(Vec<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    Condition(Box<ConditionNode>),
    Postfix(Box<Expr>, Vec<Post>),
}

#[derive(Debug)]
pub(crate) enum Const {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Text),
}

/// Values by the first test that holds.
#[derive(Debug)]
pub(crate) struct ConditionNode {
    pub(crate) arms: Vec<(Expr, Expr)>,
    pub(crate) otherwise: Option<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Minus,
    Plus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

/// What follows an expression and takes it.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) line: u32,
    pub(crate) kind: PostKind,
}

#[derive(Debug)]
pub(crate) enum PostKind {
    Attribute(Text),
    Item(Expr),
    Slice(Box<SliceNode>),
    Call(CallArgs),
    /// An attribute that is called at once.
    Method(Text, CallArgs),
    Filter(Text, CallArgs),
    Test(TestNode),
}

#[derive(Debug)]
pub(crate) struct SliceNode {
    pub(crate) start: Option<Expr>,
    pub(crate) stop: Option<Expr>,
    pub(crate) step: Option<Expr>,
}

#[derive(Debug)]
pub(crate) struct TestNode {
    pub(crate) name: Text,
    pub(crate) args: CallArgs,
    pub(crate) negated: bool,
}

#[derive(Debug, Default)]
pub(crate) struct CallArgs {
    pub(crate) positional: Vec<Expr>,
    pub(crate) named: Vec<(Text, Expr)>,
    /// After `*`.
    pub(crate) rest: Option<Box<Expr>>,
    /// After `**`.
    pub(crate) named_rest: Option<Box<Expr>>,
}
