//! Models whose weights are made as they are read: for benchmarks of shapes that nobody has to fetch.

mod shape;
mod stretches;
mod weights;

pub use shape::SyntheticShape;

pub(crate) use weights::SyntheticWeights;
