//! The CPU's arithmetic for quantised decoders.

mod activations;
mod aligned;
mod isa;
mod matmul;
mod packed;
mod quant;
mod shared_out;
mod team;
mod sync;
mod rope;
mod region;
mod pointwise;
mod ops;
mod norm;
mod lanes;
mod kv;
mod exp;
mod disjoint;
mod cost;
mod attention;

pub use activations::{Activations, Forms};
pub use isa::Isa;
pub use packed::{Packed, ReadRows};
pub use quant::CannotKeep;
pub use attention::{Attention, AttentionRows, attention_scratch};
pub use kv::{HEAD_DIM_MAX, KV_TOKENS, KvBlock, KvLayer, KvLayout};
pub use norm::RmsNorm;
pub use ops::{Embed, KvRows, Ops, RopeRows};
pub use pointwise::GateKind;
pub use region::Abandoned;
pub use rope::{Rotary, RotaryPairs, Rotations};
pub use team::{StartHook, Team};
