//! The operating system: what the machine has, what this process uses, and what its threads may
//! take. The only crate that knows which system it runs on.
//!
//! What a system cannot do is reported by name, never passed over: see [`abilities`] and
//! [`InEffect::problems`].
//!
//! ```
//! use gogrid_host::{Restraint, restrain_this_thread};
//!
//! std::thread::spawn(|| {
//!     let asked = Restraint { nice: 19, io_class: 3, io_level: 7, cores: None };
//!     let held = restrain_this_thread(&asked);
//!     // Either the system says the thread is at 19, or the report says why not.
//!     assert!(held.nice == Some(19) || !held.problems.is_empty());
//! })
//! .join()
//! .unwrap();
//! ```

#![cfg_attr(not(target_os = "linux"), forbid(unsafe_code))]

#[cfg(not(target_os = "linux"))]
#[path = "absent.rs"]
mod imp;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod imp;

mod ability;
mod clock;
mod memory;
mod restraint;

pub use ability::{Ability, abilities};
pub use clock::{Clock, process_cpu_nanos, thread_cpu_nanos};
pub use memory::{ProcessMemory, SystemMemory, cores, cpu_name, process_memory, system_memory};
pub use restraint::{InEffect, Restraint, restrain_this_thread};
