//! The block formats: what GGML's bytes mean, and how to make them.

mod block;
mod code_book;
mod coded_block;
mod format;
mod quantise;
mod super_block;
mod super_quantise;
#[cfg(test)]
pub(crate) mod tests;
mod whole_numbers;

pub(crate) use block::Block;
pub(crate) use code_book::CodeBook;
pub(crate) use format::{Format, Levels, ScaleOf, units_in_line};
#[cfg(test)]
pub(crate) use quantise::quantise_row;
pub use quantise::{CannotKeep, kept_row};
pub(crate) use quantise::{can_keep, read_floats};
pub use whole_numbers::WholeNumbers;
