//! Calls that Linux and macOS have alike.

mod folder;
mod socket;

pub(super) use folder::socket_folder;
pub(crate) use socket::{Listener, Stream, socket_files, socket_is_alive};
