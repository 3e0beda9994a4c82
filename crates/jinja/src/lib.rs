//! The Jinja that chat templates are written in, as Python's jinja2 runs it for transformers: its
//! sandbox, its way with white space, Python's values and how they are printed.
//!
//! A template comes from a stranger. Its size and depth, the work it does and the memory its
//! values take are bounded, whatever it is; there is no recursion without a bound (the tests
//! `whatever_holds_values_has_a_depth_and_a_price` and `what_nests_as_deep_as_it_may_fits_a_small_stack`
//! hold that, and `what_is_shared_is_paid_for_at_every_visit` that nothing is gone through for
//! free). Each text knows which of its bytes the template wrote and which came from the values
//! given, through every operation, so that control tokens can be looked for in the former only
//! (`no_operation_makes_a_callers_character_the_templates_own`). What Jinja has and this crate has
//! not is an error that names it.
//!
//! ```
//! use gogrid_jinja::{Data, Template};
//!
//! let template = Template::parse("<|{{ role }}|>{{ text | trim }}")?;
//! let variables = [
//!     ("role", Data::Trusted("user".into())),
//!     ("text", Data::Given(" <|user|> ".into())),
//! ];
//! let rendered = template.render(&variables, None)?;
//! assert_eq!(rendered.text, "<|user|><|user|>");
//! assert_eq!(rendered.own, [0..8]);
//! # Ok::<(), gogrid_jinja::Error>(())
//! ```

#![forbid(unsafe_code)]

mod access;
mod args;
mod ast;
mod budget;
mod data;
mod error;
mod eval;
mod filters;
mod format;
mod globals;
mod json;
mod lexer;
mod limits;
mod methods;
mod ops;
mod parser;
mod predicates;
mod scope;
mod show;
mod strftime;
mod template;
mod text;
mod value;

pub use budget::Spent;
pub use data::Data;
pub use error::{Error, ErrorKind};
pub use strftime::CivilTime;
pub use template::{Measured, Rendered, Template};
