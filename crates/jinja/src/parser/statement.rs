use super::Parser;
use crate::ast::{
    Capture, Expr, ForNode, IfNode, MacroNode, NameId, Post, PostKind, Statement, StatementKind,
    Target, Uses,
};
use crate::error::Error;
use crate::lexer::Kind;
use crate::text::Text;

/// Statements of Jinja that chat templates have no use for: they take other templates, or change
/// how all of this one is written.
const REFUSED: [&str; 6] = [
    "block",
    "extends",
    "include",
    "import",
    "from",
    "autoescape",
];

impl Parser {
    /// Statements up to one of the tags `ends`, which stays; or up to the end where there are none.
    pub(super) fn body(&mut self, ends: &[&str]) -> Result<Vec<Statement>, Error> {
        let mut body = Vec::new();
        loop {
            let line = self.stream.line();
            let kind = match self.stream.peek() {
                Kind::End if ends.is_empty() => return Ok(body),
                Kind::End => {
                    let expected = ends.join(" or ");
                    let message = format!("the template ends where {expected} is expected");
                    return Err(Error::syntax(line, message));
                }
                Kind::Data(_) => self.data()?,
                Kind::PrintBegin => self.print()?,
                _ => {
                    self.stream.expect(&Kind::BlockBegin)?;
                    if ends.iter().any(|end| self.stream.is_name(end)) {
                        return Ok(body);
                    }
                    let kind = self.statement()?;
                    self.stream.expect(&Kind::BlockEnd)?;
                    kind
                }
            };
            self.node()?;
            body.extend(kind.into_iter().map(|kind| Statement { line, kind }));
        }
    }

    fn data(&mut self) -> Result<Vec<StatementKind>, Error> {
        match self.stream.next() {
            Kind::Data(text) => Ok(vec![StatementKind::Data(Text::own(text))]),
            _ => Err(self.stream.unexpected("text")),
        }
    }

    fn print(&mut self) -> Result<Vec<StatementKind>, Error> {
        self.stream.next();
        let printed = self.tuple(true, &[])?;
        self.stream.expect(&Kind::PrintEnd)?;
        Ok(vec![StatementKind::Print(printed)])
    }

    fn statement(&mut self) -> Result<Vec<StatementKind>, Error> {
        let line = self.stream.line();
        let name = self.stream.expect_name()?;
        if name == "print" {
            return self.print_statement();
        }
        let kind = self.nested(|parser| match name.as_str() {
            "if" => parser.if_(),
            "for" => parser.for_(),
            "set" => parser.set(),
            "macro" => parser.macro_(),
            "call" => parser.call(),
            "filter" => parser.filter(),
            "with" => parser.with(),
            "generation" => parser.generation(),
            "break" | "continue" => parser.jump(&name),
            name if REFUSED.contains(&name) => {
                Err(Error::unsupported(format!("the statement '{name}'")).at(line))
            }
            name => Err(Error::syntax(line, format!("unknown tag '{name}'"))),
        });
        Ok(vec![kind?])
    }

    fn print_statement(&mut self) -> Result<Vec<StatementKind>, Error> {
        let mut printed = Vec::new();
        while *self.stream.peek() != Kind::BlockEnd {
            if !printed.is_empty() {
                self.stream.expect_op(",")?;
            }
            printed.push(StatementKind::Print(self.expression()?));
        }
        Ok(printed)
    }

    /// The body of a tag, whose end is taken up to the end of its name.
    fn block(&mut self, ends: &[&str]) -> Result<(Vec<Statement>, String), Error> {
        self.stream.skip_op(":");
        self.stream.expect(&Kind::BlockEnd)?;
        let body = self.body(ends)?;
        let end = self.stream.expect_name()?;
        Ok((body, end))
    }

    fn if_(&mut self) -> Result<StatementKind, Error> {
        self.deferring(true, |parser| {
            let mut arms = Vec::new();
            loop {
                let test = parser.tuple(false, &[])?;
                let (body, end) = parser.block(&["elif", "else", "endif"])?;
                arms.push((test, body));
                let otherwise = match end.as_str() {
                    "elif" => continue,
                    "else" => parser.block(&["endif"])?.0,
                    _ => Vec::new(),
                };
                return Ok(StatementKind::If(Box::new(IfNode { arms, otherwise })));
            }
        })
    }

    fn for_(&mut self) -> Result<StatementKind, Error> {
        let target = self.target(&["in"], false)?;
        if !self.stream.skip_name("in") {
            return Err(self.stream.unexpected("'in'"));
        }
        let items = self.tuple(false, &["recursive"])?;
        let filter = match self.stream.skip_name("if") {
            true => Some(self.hard(Self::expression)?),
            false => None,
        };
        let recursive = self.stream.skip_name("recursive");
        self.loops += 1;
        let body = self.hard(|parser| parser.block(&["endfor", "else"]));
        self.loops -= 1;
        let (body, end) = body?;
        let otherwise = match end.as_str() {
            "else" => self.hard(|parser| parser.block(&["endfor"]))?.0,
            _ => Vec::new(),
        };
        self.tree.loops.push(ForNode {
            target,
            items,
            filter,
            recursive,
            body,
            otherwise,
        });
        Ok(StatementKind::For(self.tree.loops.len() - 1))
    }

    fn set(&mut self) -> Result<StatementKind, Error> {
        let target = self.target(&[], true)?;
        if self.stream.skip_op("=") {
            let value = self.tuple(true, &[])?;
            return Ok(match self.deferred {
                true => StatementKind::SetInBranch(target, value),
                false => StatementKind::Set(target, value),
            });
        }
        let filters = self.filters()?;
        let body = self.apart(|parser| parser.block(&["endset"]))?.0;
        Ok(StatementKind::SetBlock(target, Capture { filters, body }))
    }

    fn filter(&mut self) -> Result<StatementKind, Error> {
        let mut filters = vec![self.filter_call()?];
        filters.extend(self.filters()?);
        let body = self.apart(|parser| parser.block(&["endfilter"]))?.0;
        Ok(StatementKind::Filter(Capture { filters, body }))
    }

    /// Filters with a bar before each.
    fn filters(&mut self) -> Result<Vec<Post>, Error> {
        let mut filters = Vec::new();
        while self.stream.skip_op("|") {
            filters.push(self.filter_call()?);
        }
        Ok(filters)
    }

    fn with(&mut self) -> Result<StatementKind, Error> {
        let mut pairs = Vec::new();
        while *self.stream.peek() != Kind::BlockEnd {
            if !pairs.is_empty() {
                self.stream.expect_op(",")?;
            }
            let target = self.target(&[], false)?;
            self.stream.expect_op("=")?;
            pairs.push((target, self.expression()?));
        }
        let body = self.hard(|parser| parser.block(&["endwith"]))?.0;
        Ok(StatementKind::With(pairs, body))
    }

    /// What was learnt in training; it prints its body.
    fn generation(&mut self) -> Result<StatementKind, Error> {
        let body = self.apart(|parser| parser.block(&["endgeneration"]))?.0;
        Ok(StatementKind::Scope(body))
    }

    fn jump(&mut self, name: &str) -> Result<StatementKind, Error> {
        if self.loops == 0 {
            let message =
                format!("'{name}' outside of a loop, or in a body that a loop cannot leave");
            return Err(Error::syntax(self.stream.line(), message));
        }
        Ok(match name {
            "break" => StatementKind::Break,
            _ => StatementKind::Continue,
        })
    }

    fn macro_(&mut self) -> Result<StatementKind, Error> {
        let name = self.stream.expect_name()?;
        let name = self.name_id(&name);
        let number = self.macro_body(Some(name), "endmacro", |parser| parser.signature())?;
        Ok(StatementKind::Macro(number))
    }

    fn call(&mut self) -> Result<StatementKind, Error> {
        let mut call = None;
        let number = self.macro_body(None, "endcall", |parser| {
            let parameters = match parser.stream.is_op("(") {
                true => parser.signature()?,
                false => Vec::new(),
            };
            call = Some(parser.expression()?);
            Ok(parameters)
        })?;
        match call {
            Some(call) if is_call(&call) => Ok(StatementKind::Call(call, number)),
            _ => Err(Error::syntax(
                self.stream.line(),
                "a call block must call something",
            )),
        }
    }

    fn macro_body(
        &mut self,
        name: Option<NameId>,
        end: &str,
        head: impl FnOnce(&mut Self) -> Result<Vec<(NameId, Option<Expr>)>, Error>,
    ) -> Result<usize, Error> {
        let parameters = head(self)?;
        self.macros.push(Uses::default());
        let body = self.apart(|parser| parser.block(&[end]));
        let uses = self.macros.pop().unwrap_or_default();
        let body = body?.0;
        self.tree.macros.push(MacroNode {
            name,
            parameters,
            body,
            uses,
        });
        Ok(self.tree.macros.len() - 1)
    }

    fn signature(&mut self) -> Result<Vec<(NameId, Option<Expr>)>, Error> {
        let mut parameters: Vec<(NameId, Option<Expr>)> = Vec::new();
        self.stream.expect_op("(")?;
        while !self.stream.is_op(")") {
            if !parameters.is_empty() {
                self.stream.expect_op(",")?;
            }
            let name = self.stream.expect_name()?;
            let name = self.name_id(&name);
            let default = match self.stream.skip_op("=") {
                true => Some(self.expression()?),
                false
                    if parameters
                        .last()
                        .is_some_and(|(_, default)| default.is_some()) =>
                {
                    let message = "a parameter without a default follows one with";
                    return Err(Error::syntax(self.stream.line(), message));
                }
                false => None,
            };
            parameters.push((name, default));
        }
        self.stream.expect_op(")")?;
        Ok(parameters)
    }

    /// What is assigned to, up to a name of `ends` or what cannot belong to it.
    fn target(&mut self, ends: &[&str], attributes: bool) -> Result<Target, Error> {
        let first = self.target_part(attributes)?;
        if !self.stream.is_op(",") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.stream.skip_op(",") {
            let ended = ends.iter().any(|end| self.stream.is_name(end));
            if ended || matches!(self.stream.peek(), Kind::BlockEnd | Kind::Op("=" | ")")) {
                break;
            }
            parts.push(self.target_part(attributes)?);
        }
        Ok(Target::Tuple(parts))
    }

    fn target_part(&mut self, attributes: bool) -> Result<Target, Error> {
        self.node()?;
        if self.stream.skip_op("(") {
            let target = self.nested(|parser| parser.target(&[], false))?;
            self.stream.expect_op(")")?;
            return Ok(target);
        }
        let line = self.stream.line();
        let name = self.stream.expect_name()?;
        if matches!(
            name.as_str(),
            "true" | "false" | "none" | "True" | "False" | "None"
        ) {
            return Err(Error::syntax(line, format!("cannot assign to '{name}'")));
        }
        let id = self.name_id(&name);
        if attributes && self.stream.skip_op(".") {
            let attribute = self.stream.expect_name()?;
            return Ok(Target::Attribute(id, Text::own(attribute)));
        }
        Ok(Target::Name(id))
    }
}

fn is_call(expr: &Expr) -> bool {
    let Expr::Postfix(_, posts) = expr else {
        return false;
    };
    let last = posts.last().map(|post| &post.kind);
    matches!(last, Some(PostKind::Call(_) | PostKind::Method(..)))
}
