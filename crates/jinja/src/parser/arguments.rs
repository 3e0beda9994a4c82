use super::Parser;
use crate::ast::CallArgs;
use crate::error::Error;
use crate::lexer::Kind;
use crate::limits::ARGUMENTS_MAX;
use crate::text::Text;

impl Parser {
    /// The arguments of a call, in their parentheses.
    pub(super) fn call_args(&mut self) -> Result<CallArgs, Error> {
        let line = self.stream.line();
        let mut args = CallArgs::default();
        self.stream.expect_op("(")?;
        let mut count = 0;
        while !self.stream.is_op(")") {
            if count > 0 {
                self.stream.expect_op(",")?;
                if self.stream.is_op(")") {
                    break;
                }
            }
            count += 1;
            self.argument(&mut args).map_err(|error| error.at(line))?;
        }
        if count > ARGUMENTS_MAX {
            let message = format!("a call has {count} arguments; the limit is {ARGUMENTS_MAX}");
            return Err(Error::limit(message).at(line));
        }
        self.stream.expect_op(")")?;
        Ok(args)
    }

    fn argument(&mut self, args: &mut CallArgs) -> Result<(), Error> {
        let is_named =
            matches!(self.stream.peek(), Kind::Name(_)) && self.stream.followed_by_op("=");
        let (no_rest, no_named_rest) = (args.rest.is_none(), args.named_rest.is_none());
        let fits = if self.stream.skip_op("*") {
            args.rest = Some(Box::new(self.expression()?));
            no_rest && no_named_rest
        } else if self.stream.skip_op("**") {
            args.named_rest = Some(Box::new(self.expression()?));
            no_named_rest
        } else if is_named {
            let name = self.stream.expect_name()?;
            self.stream.expect_op("=")?;
            let repeated = args.named.iter().any(|(other, _)| other.as_str() == name);
            args.named.push((Text::own(name), self.expression()?));
            no_named_rest && !repeated
        } else {
            args.positional.push(self.expression()?);
            no_rest && no_named_rest && args.named.is_empty()
        };
        match fits {
            true => Ok(()),
            false => Err(Error::syntax(
                0,
                "the arguments of a call are in a wrong order",
            )),
        }
    }
}
