//! A model's text taken apart: its reasoning, its answer, and the tools that it calls.

#![forbid(unsafe_code)]
