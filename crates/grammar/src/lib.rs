//! Output held to a JSON schema, a regular expression or a Lark grammar.

#![forbid(unsafe_code)]
