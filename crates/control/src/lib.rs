//! The limits of a running gogrid, changed from outside: by a watched file of settings and by
//! commands over a local socket that only its owner can reach. Knows neither models nor stages:
//! the thing that is changed is behind [`Controlled`].
//!
//! ```
//! use gogrid_control::Request;
//!
//! let line = serde_json::to_string(&Request::Snooze { seconds: 1800 })?;
//! assert_eq!(line, r#"{"snooze":{"seconds":1800}}"#);
//! # Ok::<(), serde_json::Error>(())
//! ```

#![forbid(unsafe_code)]

mod client;
mod control;
mod controlled;
mod exchange;
mod limits;
mod peers;
mod protocol;
mod server;
mod turns;
mod watch;

pub use client::{ClientError, ask, is_running, running};
pub use control::Control;
pub use controlled::{Command, Controlled};
pub use peers::PeerWatch;
pub use protocol::{Cause, FileStatus, Refused, Request, StageAt, View};
pub use server::{Server, ServerError};
pub use watch::{FileError, News, SettingsFile, Watch};
