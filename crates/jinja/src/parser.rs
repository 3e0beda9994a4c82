mod arguments;
mod expression;
mod statement;
mod stream;

use std::collections::HashMap;

use crate::ast::{KnownNames, NameId, Tree, Uses};
use crate::error::Error;
use crate::lexer;
use crate::limits::{NODES_MAX, STATEMENT_DEPTH_MAX};
use crate::text::Text;
use stream::Stream;

/// Reads a template.
pub(crate) fn parse(source: &str) -> Result<Tree, Error> {
    let mut parser = Parser {
        stream: Stream::new(lexer::tokens(source)?),
        tree: Tree::default(),
        ids: HashMap::new(),
        macros: Vec::new(),
        loops: 0,
        depth: 0,
        expression_depth: 0,
        nodes: 0,
        deferred: false,
    };
    let body = parser.body(&[])?;
    parser.tree.body = body;
    let known = |name| parser.ids.get(name).copied();
    parser.tree.known_names = KnownNames {
        loop_: known("loop"),
        caller: known("caller"),
        kwargs: known("kwargs"),
        varargs: known("varargs"),
    };
    Ok(parser.tree)
}

struct Parser {
    stream: Stream,
    tree: Tree,
    ids: HashMap<String, NameId>,
    /// Special names met in the macros around here.
    macros: Vec<Uses>,
    /// Loops around here that `break` may leave.
    loops: usize,
    depth: usize,
    expression_depth: usize,
    nodes: usize,
    /// Here unknown filters and tests are errors only once they are used.
    deferred: bool,
}

impl Parser {
    /// Counts a node of the tree.
    fn node(&mut self) -> Result<(), Error> {
        self.nodes += 1;
        match self.nodes > NODES_MAX {
            true => Err(Error::limit(format!(
                "the template has more than {NODES_MAX} expressions and statements"
            ))
            .at(self.stream.line())),
            false => Ok(()),
        }
    }

    fn name_id(&mut self, name: &str) -> NameId {
        for uses in &mut self.macros {
            match name {
                "caller" => uses.caller = true,
                "varargs" => uses.varargs = true,
                "kwargs" => uses.kwargs = true,
                _ => {}
            }
        }
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = NameId(self.tree.names.len() as u32);
        self.tree.names.push(Text::own(name));
        self.ids.insert(name.to_owned(), id);
        id
    }

    /// Runs `read` one statement deeper.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth == STATEMENT_DEPTH_MAX {
            return Err(Error::limit(format!(
                "more than {STATEMENT_DEPTH_MAX} statements inside each other"
            ))
            .at(self.stream.line()));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Reads a body whose `break` cannot leave a loop around it, and where a macro's names are its
    /// own if `uses` is asked for.
    fn apart<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let loops = std::mem::take(&mut self.loops);
        let result = self.hard(read);
        self.loops = loops;
        result
    }

    /// Reads something in which unknown filters are errors at once.
    fn hard<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.deferring(false, read)
    }

    fn deferring<T>(
        &mut self,
        deferred: bool,
        read: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let before = std::mem::replace(&mut self.deferred, deferred);
        let result = read(self);
        self.deferred = before;
        result
    }
}
