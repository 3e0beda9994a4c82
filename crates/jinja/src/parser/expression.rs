use super::Parser;
use crate::ast::{
    CallArgs, Comparison, ConditionNode, Const, Expr, Operator, Post, PostKind, Sign, SliceNode,
    TestNode,
};
use crate::error::Error;
use crate::lexer::Kind;
use crate::limits::EXPRESSION_DEPTH_MAX;
use crate::text::Text;
use crate::{filters, predicates};

/// Operators by rank, the loosest first; `~` stands between the two.
const SUMS: [(&str, Operator); 2] = [("+", Operator::Add), ("-", Operator::Sub)];
const PRODUCTS: [(&str, Operator); 4] = [
    ("*", Operator::Mul),
    ("/", Operator::Div),
    ("//", Operator::FloorDiv),
    ("%", Operator::Mod),
];
const POWERS: [(&str, Operator); 1] = [("**", Operator::Pow)];
const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Eq),
    ("!=", Comparison::Ne),
    ("<", Comparison::Lt),
    ("<=", Comparison::Le),
    (">", Comparison::Gt),
    (">=", Comparison::Ge),
];

impl Parser {
    /// Runs `read` one bracket or condition deeper.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.expression_depth == EXPRESSION_DEPTH_MAX {
            return Err(Error::limit(format!(
                "an expression has more than {EXPRESSION_DEPTH_MAX} brackets inside each other"
            ))
            .at(self.stream.line()));
        }
        self.expression_depth += 1;
        let result = read(self);
        self.expression_depth -= 1;
        result
    }

    pub(super) fn expression(&mut self) -> Result<Expr, Error> {
        self.deeper(Self::condition)
    }

    /// `a if b else c if d else e`.
    fn condition(&mut self) -> Result<Expr, Error> {
        let mut value = self.or()?;
        let mut arms = Vec::new();
        while self.stream.skip_name("if") {
            let test = self.deferring(true, Self::or)?;
            arms.push((test, value));
            if self.stream.skip_name("else") {
                value = self.deferring(true, Self::or)?;
                continue;
            }
            // Without `else` the whole so far is a value that further conditions may take.
            let whole = ConditionNode {
                arms: std::mem::take(&mut arms),
                otherwise: None,
            };
            value = Expr::Condition(Box::new(whole));
            if self.stream.is_name("if") {
                return Err(Error::unsupported("a condition after one without 'else'")
                    .at(self.stream.line()));
            }
        }
        self.node()?;
        Ok(match arms.is_empty() {
            true => value,
            false => Expr::Condition(Box::new(ConditionNode {
                arms,
                otherwise: Some(value),
            })),
        })
    }

    /// Expressions with commas between them, or a single one.
    pub(super) fn tuple(&mut self, conditions: bool, ends: &[&str]) -> Result<Expr, Error> {
        let first = self.tuple_part(conditions)?;
        if !self.stream.is_op(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.stream.skip_op(",") {
            let ended = ends.iter().any(|end| self.stream.is_name(end));
            let closed = matches!(
                self.stream.peek(),
                Kind::PrintEnd | Kind::BlockEnd | Kind::Op(")")
            );
            if ended || closed {
                break;
            }
            items.push(self.tuple_part(conditions)?);
        }
        Ok(Expr::Tuple(items))
    }

    fn tuple_part(&mut self, conditions: bool) -> Result<Expr, Error> {
        match conditions {
            true => self.expression(),
            false => self.deeper(Self::or),
        }
    }

    fn or(&mut self) -> Result<Expr, Error> {
        let mut operands = vec![self.and()?];
        while self.stream.skip_name("or") {
            operands.push(self.and()?);
        }
        self.joined(operands, Expr::Or)
    }

    fn and(&mut self) -> Result<Expr, Error> {
        let mut operands = vec![self.not()?];
        while self.stream.skip_name("and") {
            operands.push(self.not()?);
        }
        self.joined(operands, Expr::And)
    }

    /// The only operand, or all of them joined.
    fn joined(
        &mut self,
        mut operands: Vec<Expr>,
        join: impl FnOnce(Vec<Expr>) -> Expr,
    ) -> Result<Expr, Error> {
        self.node()?;
        match (operands.len(), operands.pop()) {
            (1, Some(only)) => Ok(only),
            (_, last) => {
                operands.extend(last);
                Ok(join(operands))
            }
        }
    }

    fn not(&mut self) -> Result<Expr, Error> {
        let mut count = 0;
        while self.stream.skip_name("not") {
            self.node()?;
            count += 1;
        }
        let operand = self.comparison()?;
        Ok(match count {
            0 => operand,
            count => Expr::Not(count, Box::new(operand)),
        })
    }

    fn comparison(&mut self) -> Result<Expr, Error> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let found = COMPARISONS.iter().find(|(op, _)| self.stream.is_op(op));
            let comparison = if let Some((_, comparison)) = found {
                self.stream.next();
                *comparison
            } else if self.stream.skip_name("in") {
                Comparison::In
            } else if self.stream.is_name("not") && self.stream.followed_by_name("in") {
                self.stream.next();
                self.stream.next();
                Comparison::NotIn
            } else {
                break;
            };
            rest.push((comparison, self.sum()?));
        }
        Ok(match rest.is_empty() {
            true => first,
            false => Expr::Compare(Box::new(first), rest),
        })
    }

    fn sum(&mut self) -> Result<Expr, Error> {
        self.chain(&SUMS, Self::concat)
    }

    fn concat(&mut self) -> Result<Expr, Error> {
        let mut operands = vec![self.product()?];
        while self.stream.skip_op("~") {
            operands.push(self.product()?);
        }
        self.joined(operands, Expr::Concat)
    }

    fn product(&mut self) -> Result<Expr, Error> {
        self.chain(&PRODUCTS, |parser| parser.chain(&POWERS, Self::unary))
    }

    fn chain(
        &mut self,
        operators: &[(&str, Operator)],
        operand: impl Fn(&mut Self) -> Result<Expr, Error>,
    ) -> Result<Expr, Error> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some((_, operator)) = operators.iter().find(|(op, _)| self.stream.is_op(op)) {
            self.stream.next();
            rest.push((*operator, operand(self)?));
        }
        Ok(match rest.is_empty() {
            true => first,
            false => Expr::Chain(Box::new(first), rest),
        })
    }

    fn unary(&mut self) -> Result<Expr, Error> {
        let mut signs = Vec::new();
        while let Some(op) = self.stream.op_of(&["-", "+"]) {
            self.stream.next();
            self.node()?;
            signs.push(match op {
                "-" => Sign::Minus,
                _ => Sign::Plus,
            });
        }
        let primary = self.primary()?;
        let posts = self.postfixes()?;
        let operand = postfix(primary, posts);
        let operand = match signs.is_empty() {
            true => operand,
            false => Expr::Signed(signs, Box::new(operand)),
        };
        let posts = self.filters_and_tests()?;
        Ok(postfix(operand, posts))
    }

    fn primary(&mut self) -> Result<Expr, Error> {
        self.node()?;
        if matches!(
            self.stream.peek(),
            Kind::Name(_) | Kind::Str(_) | Kind::Int(_) | Kind::Float(_)
        ) {
            return Ok(match self.stream.next() {
                Kind::Name(name) => self.name(&name),
                Kind::Str(text) => self.string(text)?,
                Kind::Int(value) => Expr::Const(Const::Int(value)),
                Kind::Float(value) => Expr::Const(Const::Float(value)),
                _ => return Err(self.stream.unexpected("an expression")),
            });
        }
        match self.stream.op_of(&["(", "[", "{"]) {
            Some("(") => self.parentheses(),
            Some("[") => Ok(Expr::List(self.items("[", "]", Self::expression)?)),
            Some(_) => {
                let pair = |parser: &mut Self| {
                    let key = parser.expression()?;
                    parser.stream.expect_op(":")?;
                    Ok((key, parser.expression()?))
                };
                Ok(Expr::Dict(self.items("{", "}", pair)?))
            }
            None => Err(self.stream.unexpected("an expression")),
        }
    }

    fn name(&mut self, name: &str) -> Expr {
        match name {
            "true" | "True" => Expr::Const(Const::Bool(true)),
            "false" | "False" => Expr::Const(Const::Bool(false)),
            "none" | "None" => Expr::Const(Const::None),
            name => Expr::Name(self.name_id(name)),
        }
    }

    /// Strings one after the other are one.
    fn string(&mut self, mut text: String) -> Result<Expr, Error> {
        while matches!(self.stream.peek(), Kind::Str(_)) {
            if let Kind::Str(more) = self.stream.next() {
                text.push_str(&more);
            }
        }
        Ok(Expr::Const(Const::Str(Text::own(text))))
    }

    fn parentheses(&mut self) -> Result<Expr, Error> {
        self.stream.expect_op("(")?;
        if self.stream.skip_op(")") {
            return Ok(Expr::Tuple(Vec::new()));
        }
        let inner = self.tuple(true, &[])?;
        self.stream.expect_op(")")?;
        Ok(inner)
    }

    /// Parts with commas between them, and perhaps after the last, in brackets.
    fn items<T>(
        &mut self,
        open: &str,
        close: &str,
        part: impl Fn(&mut Self) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.stream.expect_op(open)?;
        let mut items = Vec::new();
        while !self.stream.is_op(close) {
            if !items.is_empty() {
                self.stream.expect_op(",")?;
                if self.stream.is_op(close) {
                    break;
                }
            }
            items.push(part(self)?);
        }
        self.stream.expect_op(close)?;
        Ok(items)
    }

    /// Attributes, subscripts and calls.
    fn postfixes(&mut self) -> Result<Vec<Post>, Error> {
        let mut posts = Vec::new();
        while let Some(op) = self.stream.op_of(&[".", "[", "("]) {
            self.node()?;
            let line = self.stream.line();
            let kind = match op {
                "." => self.attribute()?,
                "[" => self.subscript()?,
                _ => match (self.call_args()?, posts.pop()) {
                    (
                        args,
                        Some(Post {
                            kind: PostKind::Attribute(name),
                            ..
                        }),
                    ) => PostKind::Method(name, args),
                    (args, before) => {
                        posts.extend(before);
                        PostKind::Call(args)
                    }
                },
            };
            posts.push(Post { line, kind });
        }
        Ok(posts)
    }

    fn attribute(&mut self) -> Result<PostKind, Error> {
        self.stream.expect_op(".")?;
        if let Kind::Int(index) = *self.stream.peek() {
            self.stream.next();
            return Ok(PostKind::Item(Expr::Const(Const::Int(index))));
        }
        Ok(PostKind::Attribute(Text::own(self.stream.expect_name()?)))
    }

    fn subscript(&mut self) -> Result<PostKind, Error> {
        let line = self.stream.line();
        self.stream.expect_op("[")?;
        let start = match self.stream.is_op(":") {
            true => None,
            false => Some(self.expression()?),
        };
        let kind = if self.stream.skip_op(":") {
            let part = |parser: &mut Self| match parser.stream.op_of(&[":", "]", ","]) {
                Some(_) => Ok(None),
                None => parser.expression().map(Some),
            };
            let stop = part(self)?;
            let step = match self.stream.skip_op(":") {
                true => part(self)?,
                false => None,
            };
            PostKind::Slice(Box::new(SliceNode { start, stop, step }))
        } else if let Some(index) = start {
            PostKind::Item(index)
        } else {
            return Err(self.stream.unexpected("a subscript"));
        };
        if self.stream.is_op(",") {
            return Err(Error::unsupported("a subscript with commas").at(line));
        }
        self.stream.expect_op("]")?;
        Ok(kind)
    }

    fn filters_and_tests(&mut self) -> Result<Vec<Post>, Error> {
        let mut posts = Vec::new();
        loop {
            let line = self.stream.line();
            if self.stream.skip_op("|") {
                posts.push(self.filter_call()?);
            } else if self.stream.skip_name("is") {
                self.node()?;
                let kind = PostKind::Test(self.test()?);
                posts.push(Post { line, kind });
            } else if self.stream.is_op("(") {
                self.node()?;
                let kind = PostKind::Call(self.call_args()?);
                posts.push(Post { line, kind });
            } else {
                return Ok(posts);
            }
        }
    }

    /// A filter's name, which may have dots, and its arguments.
    pub(super) fn filter_call(&mut self) -> Result<Post, Error> {
        self.node()?;
        let line = self.stream.line();
        let name = self.dotted_name()?;
        if !self.deferred && !filters::is_known(&name) {
            return Err(filters::unknown(&name).at(line));
        }
        let args = match self.stream.is_op("(") {
            true => self.call_args()?,
            false => CallArgs::default(),
        };
        let kind = PostKind::Filter(Text::own(name), args);
        Ok(Post { line, kind })
    }

    fn dotted_name(&mut self) -> Result<String, Error> {
        let mut name = self.stream.expect_name()?;
        while self.stream.skip_op(".") {
            name.push('.');
            name.push_str(&self.stream.expect_name()?);
        }
        Ok(name)
    }

    fn test(&mut self) -> Result<TestNode, Error> {
        let line = self.stream.line();
        let negated = self.stream.skip_name("not");
        let name = self.dotted_name()?;
        if !self.deferred && !predicates::is_known(&name) {
            return Err(predicates::unknown(&name).at(line));
        }
        let takes_operand = match self.stream.peek() {
            Kind::Name(next) => !matches!(next.as_str(), "else" | "or" | "and"),
            Kind::Str(_) | Kind::Int(_) | Kind::Float(_) | Kind::Op("[" | "{") => true,
            _ => false,
        };
        let args = if self.stream.is_op("(") {
            self.call_args()?
        } else if takes_operand {
            if self.stream.is_name("is") {
                return Err(Error::syntax(line, "tests cannot be chained with 'is'"));
            }
            let operand = self.primary()?;
            let posts = self.postfixes()?;
            CallArgs {
                positional: vec![postfix(operand, posts)],
                ..CallArgs::default()
            }
        } else {
            CallArgs::default()
        };
        let name = Text::own(name);
        Ok(TestNode {
            name,
            args,
            negated,
        })
    }
}

fn postfix(operand: Expr, posts: Vec<Post>) -> Expr {
    match posts.is_empty() {
        true => operand,
        false => Expr::Postfix(Box::new(operand), posts),
    }
}
