//! The one seam to the processor's vector instructions.
//!
//! An instruction set is a token (`InstructionSet`): a value of its type can be made only where the
//! processor was found to have the instructions, so the methods of a token are safe. There are two
//! sets of operations. [`Floats`] is for attention, norms, activations and rounding: sixteen floats a
//! vector on every instruction set. [`Dots`] is for the products of packed weights: as many output
//! rows a vector as the registers hold. [`Isa`] names what a team runs on; [`Simd`] is the proof that
//! the machine has it, made once a step.
//!
//! # Where other instruction sets go
//!
//! AMX (x86-64) multiplies tiles: 16 rows by 64 bytes by 16 tokens at once. It has no float
//! operations of its own, and it wants many tokens, so it does not fit [`Dots`], which works for a
//! few tokens at a time. Its `Simd` holds two tokens: AVX-512's, which [`Simd::run`] uses, and its
//! own. `matmul::run` is where products choose: blocks of 16 tokens or more go to a kernel on tiles,
//! the rest to AVX-512's `Dots`. The tiles' shape is configured once a thread, before its first
//! product, and released when the thread parks: while it is in use, the system saves 8 KiB more at
//! each switch of threads.

mod dots;
mod floats;
mod isa;
mod scalar;
mod token;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod prefetch;

pub(crate) use dots::{Dots, Word};
pub(crate) use floats::{Floats, Kernel, LANES, load_part, store_part};
pub use isa::Isa;
pub(crate) use isa::Simd;
pub(crate) use token::Call;

#[cfg(test)]
mod tests;
