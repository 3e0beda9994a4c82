//! A model's text taken apart while it is written: its reasoning, its answer, and the tools that it
//! calls.
//!
//! ```
//! use gogrid_reply::{Part, ReplyOptions, ReplyParser, ToolFormat};
//!
//! let mut parser = ReplyParser::new(ReplyOptions {
//!     format: ToolFormat::Hermes,
//!     ..ReplyOptions::default()
//! });
//! let mut parts = parser.push("Well. <tool_call>{\"name\": \"go\", \"arg");
//! parts.extend(parser.push("uments\": {\"to\": \"B\"}}</tool_call>"));
//! parts.extend(parser.finish());
//! assert_eq!(
//!     parts,
//!     [
//!         Part::Text("Well. ".into()),
//!         Part::CallBegin { index: 0, name: "go".into() },
//!         Part::CallArguments { index: 0, json: "{\"to\": \"B\"}".into() },
//!         Part::CallEnd { index: 0 },
//!     ]
//! );
//! ```

#![forbid(unsafe_code)]

mod call;
mod format;
mod grammar;
mod json;
mod limits;
mod parser;
mod part;
mod watch;

pub use format::{IdStyle, ReasoningTags, ToolFormat};
pub use grammar::{CallRules, CallRulesError};
pub use parser::{ReplyOptions, ReplyParser};
pub use part::Part;
