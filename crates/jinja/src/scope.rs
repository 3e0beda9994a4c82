use crate::ast::NameId;
use crate::budget::Budget;
use crate::error::Error;
use crate::value::Value;

/// The variables of a rendering: a stack of scopes, each of which sees the one that it stands in.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    stack: Vec<Scope>,
    ids: u64,
}

#[derive(Debug)]
struct Scope {
    id: u64,
    /// The scope that this one stands in: the one below, or a macro's place of definition.
    parent: Option<usize>,
    variables: Vec<(NameId, Value)>,
    /// Names without a variable that were asked for here, and from scopes inside.
    asked: Vec<NameId>,
    asked_inside: Vec<NameId>,
}

impl Scopes {
    /// Enters a scope inside of the scope `parent`.
    pub(crate) fn enter(&mut self, parent: Option<usize>, budget: &Budget) -> Result<(), Error> {
        budget.steps(1)?;
        self.ids += 1;
        let id = self.ids;
        self.stack.push(Scope {
            id,
            parent,
            variables: Vec::new(),
            asked: Vec::new(),
            asked_inside: Vec::new(),
        });
        Ok(())
    }

    pub(crate) fn leave(&mut self) {
        self.stack.pop();
    }

    /// Makes the innermost scope a fresh one.
    pub(crate) fn renew(&mut self) {
        self.ids += 1;
        if let Some(scope) = self.stack.last_mut() {
            scope.id = self.ids;
            scope.variables.clear();
            scope.asked.clear();
            scope.asked_inside.clear();
        }
    }

    /// The innermost scope: its place, and what tells it from others that had the place.
    pub(crate) fn innermost(&self) -> (usize, u64) {
        let id = self.stack.last().map_or(0, |scope| scope.id);
        (self.stack.len().saturating_sub(1), id)
    }

    pub(crate) fn is_alive(&self, place: usize, id: u64) -> bool {
        self.stack.get(place).is_some_and(|scope| scope.id == id)
    }

    pub(crate) fn get(&mut self, name: NameId, budget: &Budget) -> Result<Option<Value>, Error> {
        let innermost = self.stack.len().checked_sub(1);
        let mut place = innermost;
        while let Some(scope) = place.and_then(|place| self.stack.get_mut(place)) {
            budget.steps(1 + scope.variables.len() as u64 / 16)?;
            if let Some((_, value)) = scope.variables.iter().find(|(other, _)| *other == name) {
                return Ok(Some(value.clone()));
            }
            let asked = match place == innermost {
                true => &mut scope.asked,
                false => &mut scope.asked_inside,
            };
            if !asked.contains(&name) {
                budget.memory(size_of::<NameId>())?;
                asked.push(name);
            }
            budget.steps(asked.len() as u64 / 32)?;
            place = scope.parent;
        }
        Ok(None)
    }

    /// Whether setting `name` here would have hidden, in Jinja, what a scope inside has read: Jinja
    /// decides for a whole block whether a name is a variable of the block.
    pub(crate) fn hides(&self, name: NameId, budget: &Budget) -> Result<bool, Error> {
        let asked_inside = self.stack.last().map_or(&[][..], |s| &s.asked_inside);
        budget.steps(asked_inside.len() as u64 / 32)?;
        if !asked_inside.contains(&name) {
            return Ok(false);
        }
        let mut place = self.stack.len().checked_sub(1);
        while let Some(scope) = place.and_then(|place| self.stack.get(place)) {
            let passed = scope.variables.len() / 16 + scope.asked.len() / 32;
            budget.steps(1 + passed as u64)?;
            let is_variable = place != Some(0) && scope.variables.iter().any(|(v, _)| *v == name);
            if is_variable || scope.asked.contains(&name) {
                return Ok(false);
            }
            place = scope.parent;
        }
        Ok(true)
    }

    pub(crate) fn set(&mut self, name: NameId, value: Value, budget: &Budget) -> Result<(), Error> {
        let Some(scope) = self.stack.last_mut() else {
            return Ok(());
        };
        budget.steps(scope.variables.len() as u64 / 16)?;
        match scope.variables.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = value,
            None => {
                budget.memory(2 * size_of::<(NameId, Value)>())?;
                scope.variables.push((name, value));
            }
        }
        Ok(())
    }
}
