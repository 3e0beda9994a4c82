use std::ops::Range;

use crate::ast::{NameId, Tree};
use crate::budget::Spent;
use crate::data::{Data, budget_for, value_of};
use crate::error::Error;
use crate::eval::Eval;
use crate::parser::parse;
use crate::strftime::CivilTime;

/// A template that was read.
#[derive(Debug)]
pub struct Template {
    tree: Tree,
}

/// What a template made of its variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// All of it.
    pub text: String,
    /// The byte ranges that the template wrote itself: in order, none empty, and apart from each
    /// other. What is outside of them came from values given.
    pub own: Vec<Range<usize>>,
}

/// A rendering and what it took.
#[derive(Debug)]
pub struct Measured {
    /// What came of it.
    pub result: Result<Rendered, Error>,
    /// Steps and bytes that were used.
    pub spent: Spent,
    /// Steps and bytes that were allowed.
    pub granted: Spent,
}

impl Template {
    /// Reads a template as Jinja does with `trim_blocks`, `lstrip_blocks` and loop controls.
    ///
    /// Fails when the source is no template, uses what is not supported, or is too large or too
    /// deep.
    pub fn parse(source: &str) -> Result<Self, Error> {
        Ok(Self {
            tree: parse(source)?,
        })
    }

    /// Renders with `variables`; `now` is the time that `strftime_now` tells.
    ///
    /// Fails when an operation fails as it would in Python, when the template raises an exception,
    /// or when it does more than its variables can need.
    pub fn render(
        &self,
        variables: &[(&str, Data<'_>)],
        now: Option<&CivilTime>,
    ) -> Result<Rendered, Error> {
        self.render_while(variables, now, &|| true)
    }

    /// As [`Template::render`], as long as `goes_on` says so, which is asked at the start and
    /// every few thousand steps. Fails with [`ErrorKind::Stopped`](crate::ErrorKind::Stopped) once
    /// it says no.
    pub fn render_while(
        &self,
        variables: &[(&str, Data<'_>)],
        now: Option<&CivilTime>,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Rendered, Error> {
        self.run(variables, now, goes_on)?.result
    }

    /// As [`Template::render`], with the work and the memory that it took. Fails itself only where
    /// the variables are too many or too deep.
    pub fn measure(
        &self,
        variables: &[(&str, Data<'_>)],
        now: Option<&CivilTime>,
    ) -> Result<Measured, Error> {
        self.run(variables, now, &|| true)
    }

    fn run(
        &self,
        variables: &[(&str, Data<'_>)],
        now: Option<&CivilTime>,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Measured, Error> {
        let budget = budget_for(variables, goes_on)?;
        let mut values = Vec::new();
        for (name, data) in variables {
            let names = self.tree.names.iter();
            let id = names
                .map(|other| other.as_str())
                .position(|other| other == *name);
            if let Some(id) = id {
                values.push((NameId(id as u32), value_of(data, &budget)?));
            }
        }
        let eval = Eval::new(&self.tree, values, now, &budget);
        let result = eval.and_then(Eval::run).map(|out| {
            let (text, own) = out.into_parts();
            Rendered { text, own }
        });
        let (spent, granted) = (budget.spent(), budget.granted());
        Ok(Measured {
            result,
            spent,
            granted,
        })
    }
}
