use super::Eval;
use crate::access::attribute;
use crate::args::Args;
use crate::ast::{CallArgs, Expr, MacroNode, PostKind};
use crate::error::Error;
use crate::show::show;
use crate::text::Text;
use crate::value::{Definition, Function, Macro, Value};
use crate::{globals, methods, ops};

impl<'t> Eval<'t> {
    /// `value.name(args)`.
    pub(super) fn method(
        &mut self,
        value: &Value,
        name: &Text,
        args: &'t CallArgs,
    ) -> Result<Value, Error> {
        if let Value::Undefined(of) = value {
            return Err(Value::undefined_error(of.as_ref()));
        }
        if methods::is_method(value, name.as_str()) {
            let args = self.args(args)?;
            return self.native_method(value, name, args);
        }
        self.namespace_reads += u64::from(matches!(value, Value::Namespace(_)));
        match attribute(value, name, self.budget)? {
            Value::Undefined(_) => Err(methods::no_method(value, name.as_str())),
            callee => {
                let args = self.args(args)?;
                self.call(callee, args)
            }
        }
    }

    fn native_method(&mut self, value: &Value, name: &Text, args: Args) -> Result<Value, Error> {
        match value {
            Value::Function(Function::Dict) => Err(Error::unsupported("'dict.fromkeys'")),
            value => methods::call(value, name.as_str(), args, self.budget),
        }
    }

    pub(super) fn call(&mut self, callee: Value, args: Args) -> Result<Value, Error> {
        match callee {
            Value::Macro(of) => self.call_macro(&of, args).map(Value::Str),
            Value::Function(function) => globals::call(function, args, self.now, self.budget),
            Value::Method(method) => self.native_method(&method.of, &method.name, args),
            Value::Joiner(joiner) => {
                let [] = args.bind("a joiner", [])?;
                Ok(match joiner.used.replace(true) {
                    false => Value::own(""),
                    true => joiner.separator.clone(),
                })
            }
            Value::Loop(of) => {
                let [items] = args.bind("loop", ["iterable"])?;
                let items = crate::args::required(items, "loop", "iterable")?;
                if !self.tree.loops[of.definition.node].recursive {
                    return Err(Error::runtime("only a recursive loop can be called"));
                }
                self.check_alive(&of.definition, "a loop")?;
                self.enter()?;
                let (definition, depth) = (of.definition, of.depth + 1);
                let text = self.captured(|eval| eval.run_loop(&items, definition, depth))?;
                self.leave();
                Ok(Value::Str(text))
            }
            Value::Undefined(name) => Err(Value::undefined_error(name.as_ref())),
            other => {
                let found = other.type_name();
                Err(Error::runtime(format!(
                    "a value of type {found} cannot be called"
                )))
            }
        }
    }

    fn check_alive(&self, definition: &Definition, what: &str) -> Result<(), Error> {
        match self.scopes.is_alive(definition.scope, definition.scope_id) {
            true => Ok(()),
            false => Err(Error::unsupported(format!(
                "calling {what} outside of the block that it was defined in"
            ))),
        }
    }

    fn call_macro(&mut self, of: &Macro, args: Args) -> Result<Text, Error> {
        self.check_alive(&of.definition, "a macro")?;
        self.enter()?;
        let node = &self.tree.macros[of.definition.node];
        self.scopes.enter(Some(of.definition.scope), self.budget)?;
        self.bind(node, args)?;
        let text = self.captured(|eval| eval.body(&node.body).map(|_| ()))?;
        self.scopes.leave();
        self.leave();
        Ok(text)
    }

    /// Gives a macro's parameters their values, in its scope.
    fn bind(&mut self, node: &'t MacroNode, args: Args) -> Result<(), Error> {
        let Args {
            positional,
            mut named,
        } = args;
        let given = positional.len();
        let mut positional = positional.into_iter();
        for (name, default) in &node.parameters {
            let text = &self.tree.names[name.0 as usize];
            self.budget.steps(1)?;
            let value = match positional.next() {
                Some(value) => Some(value),
                None => self.taken(&mut named, text.as_str())?,
            };
            let value = match (value, default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.expr(default)?,
                (None, None) => Value::Undefined(Some(text.clone())),
            };
            self.scopes.set(*name, value, self.budget)?;
        }
        self.special(node, &mut named, positional.collect())?;
        let name = || {
            node.name
                .map_or("caller", |name| self.tree.names[name.0 as usize].as_str())
        };
        if let Some((unknown, _)) = named.first() {
            let (name, unknown) = (name(), unknown.as_str());
            return Err(Error::runtime(format!(
                "{name} takes no argument '{unknown}'"
            )));
        }
        if given > node.parameters.len() && !node.uses.varargs {
            let (name, most) = (name(), node.parameters.len());
            return Err(Error::runtime(format!(
                "{name} takes at most {most} arguments"
            )));
        }
        Ok(())
    }

    /// `caller`, `varargs` and `kwargs`, where the macro has a use for them.
    fn special(
        &mut self,
        node: &MacroNode,
        named: &mut Vec<(Text, Value)>,
        rest: Vec<Value>,
    ) -> Result<(), Error> {
        let known = self.tree.known_names;
        let declares = |id| node.parameters.iter().any(|(other, _)| *other == id);
        let caller = known.caller.filter(|_| node.uses.caller);
        let kwargs = known.kwargs.filter(|_| node.uses.kwargs);
        let varargs = known.varargs.filter(|_| node.uses.varargs);
        if let Some(id) = caller.filter(|id| !declares(*id)) {
            let caller = self.taken(named, "caller")?;
            let caller = caller.unwrap_or_else(|| Value::Undefined(Some(Text::own("caller"))));
            self.scopes.set(id, caller, self.budget)?;
        }
        if let Some(id) = kwargs {
            let named = std::mem::take(named).into_iter();
            let pairs = named.map(|(name, value)| (Value::Str(name), value));
            let kwargs = ops::dict(pairs.collect(), self.budget)?;
            self.scopes.set(id, kwargs, self.budget)?;
        }
        if let Some(id) = varargs {
            let varargs = Value::tuple(rest, self.budget)?;
            self.scopes.set(id, varargs, self.budget)?;
        }
        Ok(())
    }

    /// Takes an argument out of those with names; pays for going through them.
    fn taken(&self, named: &mut Vec<(Text, Value)>, name: &str) -> Result<Option<Value>, Error> {
        self.budget.steps(named.len() as u64 / 8)?;
        for at in 0..named.len() {
            if named[at].0.is(name, self.budget)? {
                return Ok(Some(named.remove(at).1));
            }
        }
        Ok(None)
    }

    /// Calls with the block's body as `caller`, and prints what comes of it.
    pub(super) fn call_block(&mut self, call: &'t Expr, number: usize) -> Result<(), Error> {
        let caller = self.macro_value(number, None)?;
        let Expr::Postfix(operand, posts) = call else {
            return Err(Error::runtime("a call block must call something"));
        };
        let Some((last, before)) = posts.split_last() else {
            return Err(Error::runtime("a call block must call something"));
        };
        let value = self.expr(operand)?;
        let value = self.posts(value, before)?;
        let (callee, args) = match &last.kind {
            PostKind::Call(args) => (value, args),
            PostKind::Method(name, args) => (attribute(&value, name, self.budget)?, args),
            _ => return Err(Error::runtime("a call block must call something")),
        };
        let mut args = self.args(args)?;
        args.named.push((Text::own("caller"), caller));
        let printed = self.call(callee, args)?;
        show(&printed, &mut self.out, self.budget)
    }
}
