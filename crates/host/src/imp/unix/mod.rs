//! Calls that Linux and macOS have alike.

#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
mod abort;
mod child;
mod files;
mod folder;
mod open_files;
#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
mod signals;
mod socket;
#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
mod terminal;

pub(crate) use abort::exit_when_out_of_memory;
pub(crate) use child::{kill_group, runs, tie_to_this_process};
pub(crate) use files::{change_mark, free_space, kind_of, open_to_own, open_to_read};
pub(super) use folder::socket_folder;
pub(crate) use open_files::raise_open_files;
pub(crate) use signals::hear_signals;
pub(crate) use socket::{Listener, Stream, remove_sockets, socket_files, socket_is_alive};
pub(crate) use terminal::{hide_typing, remember_terminal, restore_terminal};
