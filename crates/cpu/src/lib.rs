//! A pipeline stage on CPU cores: [`gogrid_pipeline::Stage`] on [`gogrid_kernels`].
//!
//! [`CpuBackend`] is one device: a set of cores with a thread team of its own. Its stages share
//! the team, since the device's driver runs one step at a time.
//!
//! ```
//! use std::sync::Arc;
//!
//! use gogrid_cpu::{CpuBackend, CpuOptions};
//! use gogrid_lease::Ledger;
//! use gogrid_units::{Bytes, FullSpeed};
//!
//! let options = CpuOptions::new(2, Ledger::new(Bytes::gib(1)), Arc::new(FullSpeed));
//! let backend = CpuBackend::new(&options)?;
//! assert_eq!(backend.threads(), 2);
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

mod attention_scratch;
mod backend;
mod buffers;
mod capability;
mod half_layers;
mod kv;
mod limits;
mod pace;
mod stage;
mod team;
mod weights;

pub use backend::{CpuBackend, CpuOptions, instructions};
