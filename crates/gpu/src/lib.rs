//! A pipeline stage on a GPU: [`gogrid_pipeline::Stage`] on compute kernels in WGSL.
//!
//! [`GpuBackend`] is one adapter: a driver found at run time (Vulkan, Metal or DX12), with a queue of its
//! own. A machine without one has no adapter, and everything else works.
//!
//! ```
//! for adapter in gogrid_gpu::adapters() {
//!     println!("{}: {} through {}", adapter.index, adapter.name, adapter.api);
//! }
//! ```

#![deny(unsafe_code)]

mod adapter;
mod attention;
mod backend;
mod cost;
mod device;
mod driver_memory;
mod flight;
mod formats;
mod info;
mod kernel;
mod kv;
mod limits;
mod op;
mod parts;
mod passes;
mod products;
mod program;
mod recorder;
mod repack;
mod results;
mod scratch;
mod self_test;
mod stage;
#[cfg(test)]
mod tests;
mod weights;

pub use adapter::{Adapter, AdapterKind, adapters, interfaces};
pub use backend::{Gpu, GpuBackend, GpuOptions};
pub use products::Reduction;
