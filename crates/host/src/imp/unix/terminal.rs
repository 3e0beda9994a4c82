use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// How the terminal was set when it was remembered.
static REMEMBERED: OnceLock<libc::termios> = OnceLock::new();

const INPUT: libc::c_int = libc::STDIN_FILENO;

/// Pasted text comes as typed text does. The line editor asks for marks around it.
const NO_PASTE_MARKS: &[u8] = b"\x1b[?2004l";

pub(crate) fn remember_terminal() {
    if let Some(found) = settings() {
        REMEMBERED.get_or_init(|| found);
    }
}

pub(crate) fn restore_terminal() {
    let (Some(remembered), Some(found)) = (REMEMBERED.get(), settings()) else {
        return;
    };
    // SAFETY: neither call has a requirement.
    let is_ours = unsafe { libc::tcgetpgrp(INPUT) == libc::getpgrp() };
    // A process in the background that sets the terminal would be stopped.
    if !is_ours || found.c_lflag == remembered.c_lflag {
        return;
    }
    // SAFETY: the pointer is to a value that was filled.
    unsafe { libc::tcsetattr(INPUT, libc::TCSANOW, remembered) };
    if takes_text() {
        // SAFETY: the buffer lives through the call.
        unsafe { libc::write(INPUT, NO_PASTE_MARKS.as_ptr().cast(), NO_PASTE_MARKS.len()) };
    }
}

/// What is typed is kept for the next reader and not shown.
pub(crate) fn hide_typing() {
    let Some(mut asked) = settings() else { return };
    // SAFETY: neither call has a requirement.
    let is_ours = unsafe { libc::tcgetpgrp(INPUT) == libc::getpgrp() };
    // A process in the background that sets the terminal would be stopped.
    if is_ours {
        asked.c_lflag &= !(libc::ECHO | libc::ECHONL);
        // Nor does Ctrl-C throw it away.
        asked.c_lflag |= libc::NOFLSH;
        // Whoever were left by these would find a terminal that shows nothing.
        for key in [libc::VQUIT, libc::VSUSP] {
            asked.c_cc[key] = libc::_POSIX_VDISABLE;
        }
        // SAFETY: the pointer is to a value that was filled.
        unsafe { libc::tcsetattr(INPUT, libc::TCSANOW, &raw const asked) };
    }
}

/// How the terminal is set; `None` where standard input is none.
fn settings() -> Option<libc::termios> {
    let mut found = MaybeUninit::uninit();
    // SAFETY: the call fills what the pointer names when it returns 0.
    let is_terminal = unsafe { libc::tcgetattr(INPUT, found.as_mut_ptr()) } == 0;
    // SAFETY: it was filled.
    is_terminal.then(|| unsafe { found.assume_init() })
}

/// Whether the terminal takes text at once: one that is stopped would keep the process.
fn takes_text() -> bool {
    let mut asked = libc::pollfd {
        fd: INPUT,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: the pointer is to one value, as the count says.
    unsafe { libc::poll(&mut asked, 1, 0) == 1 && asked.revents & libc::POLLOUT != 0 }
}
