//! Systems that are no Unix: there is no pipe at a path that opening would wait for.

use std::fs::{FileType, Metadata, OpenOptions};

use crate::error::HostError;
use crate::signals::EndSignal;

pub(crate) fn open_to_read(_options: &mut OpenOptions) {}

pub(crate) fn open_to_own(_options: &mut OpenOptions) {}

/// Not limited here.
pub(crate) fn raise_open_files() -> Option<u64> {
    None
}

/// Not told here.
pub(crate) fn change_mark(_found: &Metadata) -> String {
    String::new()
}

pub(crate) fn kind_of(found: FileType) -> &'static str {
    match found {
        found if found.is_dir() => "a folder",
        found if found.is_symlink() => "a link",
        _ => "something else",
    }
}

#[cfg(windows)]
pub(crate) fn hear_signals(mut heard: Box<dyn FnMut(EndSignal) + Send>) -> Result<(), HostError> {
    let set = ctrlc::set_handler(move || heard(EndSignal::Interrupt));
    set.map_err(|error| HostError::Call {
        call: "SetConsoleCtrlHandler",
        source: std::io::Error::other(error),
    })
}

#[cfg(not(windows))]
pub(crate) fn hear_signals(_heard: Box<dyn FnMut(EndSignal) + Send>) -> Result<(), HostError> {
    Err(HostError::Absent {
        ability: "signals that ask to end",
    })
}

pub(crate) fn remember_terminal() {}

pub(crate) fn hide_typing() {}

pub(crate) fn restore_terminal() {}

/// The system frees the names itself.
pub(crate) fn remove_sockets() {}

pub(crate) fn exit_when_out_of_memory(_code: u8) {}

/// Ended only when its owner says so.
pub(crate) fn tie_to_this_process(_command: &mut std::process::Command) {}

/// Nothing here knows what a program started.
pub(crate) fn kill_group(_pid: u32) {}

/// Asking whether it has ended takes nothing away here.
pub(crate) fn runs(_child: &std::process::Child) -> std::io::Result<bool> {
    Ok(false)
}
