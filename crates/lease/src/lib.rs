//! Limits that are held, not checked: a device's memory, and places in a queue. A lease or permit
//! gives itself back when dropped.
//!
//! ```
//! use gogrid_lease::{Kind, Ledger};
//! use gogrid_units::Bytes;
//!
//! let memory = Ledger::new(Bytes::mib(100));
//! let weights = memory.reserve(Kind::Weights, Bytes::mib(80))?;
//! let refusal = memory.reserve(Kind::Kv, Bytes::mib(30)).unwrap_err();
//! assert_eq!(refusal.used, Bytes::mib(80));
//! drop(weights);
//! assert_eq!(memory.room(), Bytes::mib(100));
//! # Ok::<(), gogrid_lease::Refusal>(())
//! ```

#![forbid(unsafe_code)]

mod ledger;
mod permits;
mod sync;

pub use ledger::{Kind, Lease, Ledger, Refusal, reserve_all};
pub use permits::{Permit, Permits};
