use super::Eval;
use crate::access::{attribute, item, slice};
use crate::args::Args;
use crate::ast::{
    CallArgs, Comparison, ConditionNode, Const, Expr, NameId, Operator, Post, PostKind, SliceNode,
    TestNode,
};
use crate::error::Error;
use crate::show::{show, string};
use crate::text::{Builder, Text};
use crate::value::Value;
use crate::{filters, globals, ops, predicates};

impl<'t> Eval<'t> {
    pub(super) fn expr(&mut self, expr: &'t Expr) -> Result<Value, Error> {
        match expr {
            Expr::Const(constant) => {
                self.budget.steps(1)?;
                return Ok(value_of(constant));
            }
            Expr::Name(name) => return self.name(*name),
            _ => {}
        }
        self.enter()?;
        let value = self.inner(expr);
        self.leave();
        value
    }

    fn inner(&mut self, expr: &'t Expr) -> Result<Value, Error> {
        match expr {
            Expr::Const(constant) => Ok(value_of(constant)),
            Expr::Name(name) => self.name(*name),
            Expr::List(items) => {
                let items = self.all(items)?;
                Value::list(items, self.budget)
            }
            Expr::Tuple(items) => {
                let items = self.all(items)?;
                Value::tuple(items, self.budget)
            }
            Expr::Dict(pairs) => self.dict(pairs),
            Expr::Signed(signs, operand) => {
                let mut value = self.expr(operand)?;
                for sign in signs.iter().rev() {
                    value = ops::signed(*sign, &value)?;
                }
                Ok(value)
            }
            Expr::Not(count, operand) => {
                let value = self.expr(operand)?.is_true();
                Ok(Value::Bool(value != (count % 2 == 1)))
            }
            Expr::Chain(first, rest) => self.chain(first, rest),
            Expr::Concat(operands) => self.concat(operands),
            Expr::And(operands) => self.until(operands, false),
            Expr::Or(operands) => self.until(operands, true),
            Expr::Compare(first, rest) => self.compare(first, rest),
            Expr::Condition(node) => self.condition(node),
            Expr::Postfix(operand, posts) => {
                let value = self.expr(operand)?;
                self.posts(value, posts)
            }
        }
    }

    pub(super) fn name(&mut self, name: NameId) -> Result<Value, Error> {
        self.budget.steps(1)?;
        if let Some(value) = self.scopes.get(name, self.budget)? {
            return Ok(value);
        }
        let text = &self.tree.names[name.0 as usize];
        let global = globals::find(text.as_str());
        Ok(global.unwrap_or_else(|| Value::Undefined(Some(text.clone()))))
    }

    fn all(&mut self, exprs: &'t [Expr]) -> Result<Vec<Value>, Error> {
        exprs.iter().map(|expr| self.expr(expr)).collect()
    }

    fn dict(&mut self, pairs: &'t [(Expr, Expr)]) -> Result<Value, Error> {
        let mut values = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            values.push((self.expr(key)?, self.expr(value)?));
        }
        ops::dict(values, self.budget)
    }

    /// Texts that are added one after the other grow in one place.
    fn chain(&mut self, first: &'t Expr, rest: &'t [(Operator, Expr)]) -> Result<Value, Error> {
        let mut value = self.expr(first)?;
        let mut sum: Option<Builder> = None;
        for (operator, operand) in rest {
            let right = self.expr(operand)?;
            if let (Operator::Add, Value::Str(text)) = (operator, &right) {
                if let Some(sum) = &mut sum {
                    sum.push(text, self.budget)?;
                    continue;
                }
                if let Value::Str(left) = &value {
                    let mut started = Builder::default();
                    started.push(left, self.budget)?;
                    started.push(text, self.budget)?;
                    sum = Some(started);
                    continue;
                }
            }
            if let Some(done) = sum.take() {
                value = Value::Str(done.finish());
            }
            value = ops::binary(*operator, &value, &right, self.budget)?;
        }
        Ok(sum.map_or(value, |done| Value::Str(done.finish())))
    }

    fn concat(&mut self, operands: &'t [Expr]) -> Result<Value, Error> {
        let mut out = Builder::default();
        for operand in operands {
            let value = self.expr(operand)?;
            show(&value, &mut out, self.budget)?;
        }
        Ok(Value::Str(out.finish()))
    }

    /// The first operand whose truth is `wanted`, or else the last.
    fn until(&mut self, operands: &'t [Expr], wanted: bool) -> Result<Value, Error> {
        let mut value = Value::None;
        for operand in operands {
            value = self.expr(operand)?;
            if value.is_true() == wanted {
                break;
            }
        }
        Ok(value)
    }

    fn compare(&mut self, first: &'t Expr, rest: &'t [(Comparison, Expr)]) -> Result<Value, Error> {
        let mut left = self.expr(first)?;
        for (comparison, operand) in rest {
            let right = self.expr(operand)?;
            if !ops::compare(*comparison, &left, &right, self.budget)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    fn condition(&mut self, node: &'t ConditionNode) -> Result<Value, Error> {
        for (test, value) in &node.arms {
            if self.expr(test)?.is_true() {
                return self.expr(value);
            }
        }
        match &node.otherwise {
            Some(value) => self.expr(value),
            None => Ok(Value::Undefined(None)),
        }
    }

    pub(super) fn posts(&mut self, mut value: Value, posts: &'t [Post]) -> Result<Value, Error> {
        for post in posts {
            self.budget.steps(1)?;
            let next = self.post(value, &post.kind);
            value = next.map_err(|error| error.at(post.line))?;
        }
        Ok(value)
    }

    fn post(&mut self, value: Value, post: &'t PostKind) -> Result<Value, Error> {
        match post {
            PostKind::Attribute(name) => {
                self.namespace_reads += u64::from(matches!(value, Value::Namespace(_)));
                attribute(&value, name, self.budget)
            }
            PostKind::Item(key) => {
                let key = self.expr(key)?;
                self.namespace_reads += u64::from(matches!(value, Value::Namespace(_)));
                item(&value, &key, self.budget)
            }
            PostKind::Slice(node) => self.slice(&value, node),
            PostKind::Call(args) => {
                let args = self.args(args)?;
                self.call(value, args)
            }
            PostKind::Method(name, args) => self.method(&value, name, args),
            PostKind::Filter(name, args) => {
                let args = self.args(args)?;
                filters::apply(name.as_str(), value, args, self.budget)
            }
            PostKind::Test(test) => self.test(&value, test),
        }
    }

    fn slice(&mut self, value: &Value, node: &'t SliceNode) -> Result<Value, Error> {
        let mut bounds = [Value::None, Value::None, Value::None];
        for (bound, expr) in bounds.iter_mut().zip([&node.start, &node.stop, &node.step]) {
            if let Some(expr) = expr {
                *bound = self.expr(expr)?;
            }
        }
        slice(value, [&bounds[0], &bounds[1], &bounds[2]], self.budget)
    }

    fn test(&mut self, value: &Value, test: &'t TestNode) -> Result<Value, Error> {
        let args = self.args(&test.args)?;
        let holds = predicates::apply(test.name.as_str(), value, args, self.budget)?;
        Ok(Value::Bool(holds != test.negated))
    }

    pub(super) fn args(&mut self, args: &'t CallArgs) -> Result<Args, Error> {
        let mut positional = self.all(&args.positional)?;
        let mut named = Vec::with_capacity(args.named.len());
        for (name, expr) in &args.named {
            named.push((name.clone(), self.expr(expr)?));
        }
        if let Some(rest) = &args.rest {
            let rest = self.expr(rest)?;
            let rest = crate::access::iterate(&rest, self.budget)?;
            self.budget.memory(size_of_val(rest.items()))?;
            positional.extend(rest.items().iter().cloned());
        }
        if let Some(rest) = &args.named_rest {
            let Value::Dict(map) = self.expr(rest)? else {
                return Err(Error::runtime("'**' needs a dict"));
            };
            self.budget
                .memory(map.entries.len() * size_of::<(Text, Value)>())?;
            for (name, value) in &map.entries {
                let name = string(name, self.budget)?;
                self.budget.steps(1 + named.len() as u64 / 8)?;
                for (other, _) in &named {
                    if other.is(name.as_str(), self.budget)? {
                        let message = format!("the argument '{}' was given twice", name.as_str());
                        return Err(Error::runtime(message));
                    }
                }
                named.push((name, value.clone()));
            }
        }
        Ok(Args { positional, named })
    }
}

fn value_of(constant: &Const) -> Value {
    match constant {
        Const::None => Value::None,
        Const::Bool(value) => Value::Bool(*value),
        Const::Int(value) => Value::Int(*value),
        Const::Float(value) => Value::Float(*value),
        Const::Str(text) => Value::Str(text.clone()),
    }
}
