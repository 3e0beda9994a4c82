//! The CPU's arithmetic for quantised decoders: weights packed for the machine's instructions, and a
//! team of threads that runs the operations of a step in short chunks, asking before each.
//!
//! Each output value is one fixed sequence of operations, so results have equal bits on any number
//! of threads, in any batch, and on every instruction set of [`Isa`].
//!
//! ```
//! use std::sync::Arc;
//! use gogrid_kernels::{Isa, RmsNorm, Team};
//! use gogrid_units::{FullSpeed, PlainThreads};
//!
//! let mut team = Team::new(2, Arc::new(PlainThreads))?;
//! let norm = RmsNorm { weight: &[1.0, 2.0], epsilon: 0.0 };
//! let mut out = [0.0; 2];
//! let done = team.step(&FullSpeed, Isa::detect(), |ops| {
//!     ops.rms_norm(norm, &[1.0, 1.0], &mut out)?;
//!     ops.add(&mut out, &[0.5, 0.5])
//! });
//! assert_eq!((done, out), (Ok(()), [1.5, 2.5]));
//! # Ok::<(), std::io::Error>(())
//! ```

mod activations;
mod attention;
mod buffer;
pub mod capability;
mod cost;
mod crew;
mod disjoint;
mod exp;
mod kv;
mod log_prob;
mod matmul;
mod neighbours;
mod norm;
mod ops;
mod packed;
mod pointwise;
mod quant;
mod region;
mod rope;
mod shared_out;
mod simd;
mod sync;
mod team;
mod yielding;

pub use activations::{Activations, Forms};
pub use attention::{Attention, AttentionRows, attention_scratch};
pub use buffer::{Buffer, Region};
pub use kv::{KV_TOKENS, KvBlock, KvLayer, KvLayout};
pub use norm::RmsNorm;
pub use ops::{Embed, KvRows, Ops, RopeRows};
pub use packed::{PackError, Packed, Packing, ReadRows};
pub use pointwise::GateKind;
pub use quant::{CannotKeep, WholeNumbers, kept_row};
pub use region::Abandoned;
pub use rope::{Rotary, RotaryPairs, Rotations, TurnedRow};
pub use simd::Isa;
pub use team::Team;
