//! Calls that Linux and macOS have alike.

mod child;
mod file;
mod folder;
mod socket;

pub(crate) use child::{kill_with_its_own, tie_to_this_process};
pub(crate) use file::{open_to_lock, open_to_read};
pub(super) use folder::socket_folder;
pub(crate) use socket::{Listener, Stream, socket_files, socket_is_alive};
