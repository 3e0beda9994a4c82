//! The meaning of a model, in the plainest arithmetic.

mod dequantise;

pub use self::dequantise::dequantise;
