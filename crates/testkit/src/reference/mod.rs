//! The meaning of a model, in the plainest arithmetic.

mod coded;
mod dequantise;
mod forward;
mod math;

pub use self::dequantise::dequantise;
pub use self::forward::Reference;
pub use self::math::log_softmax;
