use std::rc::Rc;

use super::{Eval, Flow};
use crate::access::iterate;
use crate::ast::{Capture, Expr, ForNode, IfNode, Statement, StatementKind, Target};
use crate::error::Error;
use crate::show::show;
use crate::value::{Definition, Loop, Macro, Seq, Value};

impl<'t> Eval<'t> {
    /// Runs statements up to the end or a jump.
    pub(super) fn body(&mut self, body: &'t [Statement]) -> Result<Flow, Error> {
        self.enter()?;
        for statement in body {
            self.budget.steps(1)?;
            let flow = self.statement(&statement.kind);
            let flow = flow.map_err(|error| error.at(statement.line))?;
            if flow != Flow::On {
                self.leave();
                return Ok(flow);
            }
        }
        self.leave();
        Ok(Flow::On)
    }

    fn statement(&mut self, statement: &'t StatementKind) -> Result<Flow, Error> {
        match statement {
            StatementKind::Data(text) => self.out.push(text, self.budget)?,
            StatementKind::Print(expr) => {
                let value = self.expr(expr)?;
                show(&value, &mut self.out, self.budget)?;
            }
            StatementKind::If(node) => return self.if_(node),
            StatementKind::For(number) => self.for_(*number)?,
            StatementKind::Set(target, expr) => {
                let value = self.expr(expr)?;
                if let Target::Name(name) = target
                    && self.scopes.hides(*name, self.budget)?
                {
                    let name = self.tree.names[name.0 as usize].as_str();
                    return Err(Error::unsupported(format!(
                        "setting '{name}' after a block inside has read it"
                    )));
                }
                self.assign(target, value)?;
            }
            StatementKind::SetInBranch(target, expr) => {
                let value = self.expr(expr)?;
                self.assign(target, value)?;
            }
            StatementKind::SetBlock(target, capture) => {
                let value = self.capture(capture)?;
                self.assign(target, value)?;
            }
            StatementKind::Macro(number) => self.define(*number)?,
            StatementKind::Call(call, number) => self.call_block(call, *number)?,
            StatementKind::Filter(capture) => {
                let value = self.capture(capture)?;
                show(&value, &mut self.out, self.budget)?;
            }
            StatementKind::With(pairs, body) => return self.with(pairs, body),
            StatementKind::Scope(body) => {
                let inner = self.captured(|eval| eval.scoped(body).map(|_| ()))?;
                self.out.push(&inner, self.budget)?;
            }
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    /// Runs a body in a scope of its own.
    fn scoped(&mut self, body: &'t [Statement]) -> Result<Flow, Error> {
        let (here, _) = self.scopes.innermost();
        self.scopes.enter(Some(here), self.budget)?;
        let flow = self.body(body)?;
        self.scopes.leave();
        Ok(flow)
    }

    fn if_(&mut self, node: &'t IfNode) -> Result<Flow, Error> {
        for (test, body) in &node.arms {
            if self.expr(test)?.is_true() {
                return self.body(body);
            }
        }
        self.body(&node.otherwise)
    }

    fn with(&mut self, pairs: &'t [(Target, Expr)], body: &'t [Statement]) -> Result<Flow, Error> {
        let values = pairs.iter().map(|(_, expr)| self.expr(expr));
        let values: Vec<_> = values.collect::<Result<_, _>>()?;
        let (here, _) = self.scopes.innermost();
        self.scopes.enter(Some(here), self.budget)?;
        for ((target, _), value) in pairs.iter().zip(values) {
            self.assign(target, value)?;
        }
        let flow = self.body(body)?;
        self.scopes.leave();
        Ok(flow)
    }

    /// What a body prints, in a scope of its own, through filters.
    fn capture(&mut self, capture: &'t Capture) -> Result<Value, Error> {
        let text = self.captured(|eval| eval.scoped(&capture.body).map(|_| ()))?;
        self.posts(Value::Str(text), &capture.filters)
    }

    fn define(&mut self, number: usize) -> Result<(), Error> {
        let Some(name) = self.tree.macros[number].name else {
            return Ok(());
        };
        let text = self.tree.names[name.0 as usize].clone();
        let value = self.macro_value(number, Some(text))?;
        self.scopes.set(name, value, self.budget)
    }

    /// A macro of the tree, defined here.
    pub(super) fn macro_value(
        &mut self,
        number: usize,
        name: Option<crate::text::Text>,
    ) -> Result<Value, Error> {
        self.budget.memory(size_of::<Macro>())?;
        let definition = self.definition(number);
        Ok(Value::Macro(Rc::new(Macro { name, definition })))
    }

    fn definition(&self, node: usize) -> Definition {
        let (scope, scope_id) = self.scopes.innermost();
        Definition {
            node,
            scope,
            scope_id,
        }
    }

    fn assign(&mut self, target: &'t Target, value: Value) -> Result<(), Error> {
        match target {
            Target::Name(name) => self.scopes.set(*name, value, self.budget),
            Target::Attribute(name, attribute) => {
                self.namespace_writes += 1;
                match self.scopes.get(*name, self.budget)? {
                    Some(Value::Namespace(namespace)) => {
                        namespace.set(attribute, value, self.budget)
                    }
                    _ => Err(Error::runtime("only a namespace's attributes can be set")),
                }
            }
            Target::Tuple(targets) => {
                let items = iterate(&value, self.budget)?;
                if items.items().len() != targets.len() {
                    let (expected, found) = (targets.len(), items.items().len());
                    return Err(Error::runtime(format!(
                        "{found} values for {expected} names"
                    )));
                }
                for (target, item) in targets.iter().zip(items.items()) {
                    self.assign(target, item.clone())?;
                }
                Ok(())
            }
        }
    }

    fn for_(&mut self, number: usize) -> Result<(), Error> {
        let items = self.expr(&self.tree.loops[number].items)?;
        let definition = self.definition(number);
        self.run_loop(&items, definition, 0)
    }

    /// Runs a loop's body for each of `items`, or what it has for none; `depth` counts loops that
    /// called themselves.
    pub(super) fn run_loop(
        &mut self,
        items: &Value,
        definition: Definition,
        depth: usize,
    ) -> Result<(), Error> {
        let node = &self.tree.loops[definition.node];
        let items = iterate(items, self.budget)?;
        let reads = self.namespace_reads;
        let items = match &node.filter {
            Some(filter) => self.filtered(node, filter, (&items, definition.scope))?,
            None => items,
        };
        // The filter ran for all items at once, and must not see what the body changes.
        let writes = (self.namespace_reads != reads).then_some(self.namespace_writes);
        self.scopes.enter(Some(definition.scope), self.budget)?;
        let state = Loop::new(Rc::clone(&items), definition, depth, self.budget)?;
        // Jinja counts an iteration once it comes to its end.
        let mut is_empty = true;
        for (index, item) in items.items().iter().enumerate() {
            state.index.set(index);
            if index > 0 {
                self.scopes.renew();
            }
            if let Some(id) = self.tree.known_names.loop_ {
                self.scopes
                    .set(id, Value::Loop(Rc::clone(&state)), self.budget)?;
            }
            self.assign(&node.target, item.clone())?;
            let flow = self.body(&node.body)?;
            if writes.is_some_and(|before| before != self.namespace_writes) {
                return Err(Error::unsupported(
                    "a loop whose filter reads a namespace that its body changes",
                ));
            }
            match flow {
                Flow::On => is_empty = false,
                Flow::Continue => {}
                Flow::Break => break,
            }
        }
        if is_empty {
            self.scopes.renew();
            self.body(&node.otherwise)?;
        }
        self.scopes.leave();
        Ok(())
    }

    fn filtered(
        &mut self,
        node: &'t ForNode,
        filter: &'t Expr,
        (items, scope): (&Seq, usize),
    ) -> Result<Rc<Seq>, Error> {
        let mut kept = Vec::new();
        self.scopes.enter(Some(scope), self.budget)?;
        for item in items.items() {
            self.scopes.renew();
            self.assign(&node.target, item.clone())?;
            if self.expr(filter)?.is_true() {
                self.budget.memory(size_of::<Value>())?;
                kept.push(item.clone());
            }
        }
        self.scopes.leave();
        Seq::new(kept, self.budget)
    }
}
