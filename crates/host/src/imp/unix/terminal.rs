use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// How the terminal was set when it was remembered.
static REMEMBERED: OnceLock<libc::termios> = OnceLock::new();

const INPUT: libc::c_int = libc::STDIN_FILENO;

pub(crate) fn remember_terminal() {
    let mut found = MaybeUninit::uninit();
    // SAFETY: the call fills what the pointer names when it returns 0.
    let is_terminal = unsafe { libc::tcgetattr(INPUT, found.as_mut_ptr()) } == 0;
    if is_terminal {
        // SAFETY: it was filled.
        REMEMBERED.get_or_init(|| unsafe { found.assume_init() });
    }
}

pub(crate) fn restore_terminal() {
    let Some(remembered) = REMEMBERED.get() else {
        return;
    };
    // SAFETY: neither call has a requirement.
    let is_ours = unsafe { libc::tcgetpgrp(INPUT) == libc::getpgrp() };
    // A process in the background that sets the terminal would be stopped.
    if is_ours {
        // SAFETY: the pointer is to a value that was filled.
        unsafe { libc::tcsetattr(INPUT, libc::TCSANOW, remembered) };
    }
}
