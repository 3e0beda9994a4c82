//! Runs a tree.

mod call;
mod expression;
mod statement;

use crate::ast::{NameId, Tree};
use crate::budget::Budget;
use crate::error::Error;
use crate::limits::RENDER_DEPTH_MAX;
use crate::scope::Scopes;
use crate::strftime::CivilTime;
use crate::text::{Builder, Text};
use crate::value::Value;

/// A rendering under way.
pub(crate) struct Eval<'t> {
    tree: &'t Tree,
    budget: &'t Budget<'t>,
    now: Option<&'t CivilTime>,
    scopes: Scopes,
    out: Builder,
    depth: usize,
    /// Times that an attribute of a namespace was read, and set.
    namespace_reads: u64,
    namespace_writes: u64,
}

/// What comes after a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl<'t> Eval<'t> {
    /// `variables` are those that the template's names have a value for.
    pub(crate) fn new(
        tree: &'t Tree,
        variables: Vec<(NameId, Value)>,
        now: Option<&'t CivilTime>,
        budget: &'t Budget<'t>,
    ) -> Result<Self, Error> {
        let mut scopes = Scopes::default();
        scopes.enter(None, budget)?;
        for (name, value) in variables {
            scopes.set(name, value, budget)?;
        }
        scopes.enter(Some(0), budget)?;
        Ok(Self {
            tree,
            budget,
            now,
            scopes,
            out: Builder::default(),
            depth: 0,
            namespace_reads: 0,
            namespace_writes: 0,
        })
    }

    /// What the template prints.
    pub(crate) fn run(mut self) -> Result<Builder, Error> {
        self.body(&self.tree.body)?;
        Ok(self.out)
    }

    /// Pays for a node, one deeper.
    fn enter(&mut self) -> Result<(), Error> {
        self.budget.steps(1)?;
        if self.depth == RENDER_DEPTH_MAX {
            return Err(Error::limit(format!(
                "statements, expressions and macros are more than {RENDER_DEPTH_MAX} inside each other"
            )));
        }
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    /// What `run` prints, instead of printing it.
    fn captured(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<Text, Error> {
        let outer = std::mem::take(&mut self.out);
        let result = run(self);
        let inner = std::mem::replace(&mut self.out, outer);
        result.map(|()| inner.finish())
    }
}
