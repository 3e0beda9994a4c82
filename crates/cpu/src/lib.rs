//! A pipeline stage on CPU cores: [`gogrid_pipeline::Stage`] on [`gogrid_kernels`].
//!
//! [`CpuBackend`] is one device: a set of cores with a thread team of its own. Its stages share
//! the team, since the device's driver runs one step at a time.
//!
//! ```
//! use gogrid_cpu::{CpuBackend, CpuOptions};
//!
//! let backend = CpuBackend::new(&CpuOptions::threads(2))?;
//! assert_eq!(backend.threads(), 2);
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

mod backend;
mod buffers;
mod half_layers;
mod kv;
mod measure;
mod stage;
mod team;
mod weights;

pub use backend::{CpuBackend, CpuOptions};
