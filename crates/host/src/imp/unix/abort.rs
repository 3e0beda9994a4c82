use std::io::{Cursor, Write};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

use super::super::allocator::refused;

/// The code to exit with.
static CODE: AtomicU8 = AtomicU8::new(0);

/// How long room for the last line is waited for.
const ROOM_MS_MAX: libc::c_int = 200;

pub(crate) fn exit_when_out_of_memory(code: u8) {
    CODE.store(code, Ordering::Relaxed);
    // SAFETY: all zeros are a value of that type: no flags, an empty mask.
    let mut action = unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() };
    action.sa_sigaction = on_abort as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // When the handler returns, the abort goes on as if there were none.
    action.sa_flags = libc::SA_RESETHAND;
    // SAFETY: the handler is a function for as long as the program runs, and does only what may be
    // done in a handler. Where it is refused, an abort stays an abort.
    unsafe { libc::sigaction(libc::SIGABRT, &action, ptr::null_mut()) };
}

/// Runs on the thread that aborts, with no memory to be had.
extern "C" fn on_abort(_signal: libc::c_int) {
    let bytes = refused();
    if bytes == 0 {
        return;
    }
    let mut line = [0_u8; 160];
    let mut cursor = Cursor::new(&mut line[..]);
    // It fits, and what did not would be cut off.
    let _ = writeln!(
        cursor,
        "error: out of memory: the system refused {bytes} bytes\n  help: free memory, take a \
         smaller model or --context, or raise the process's limit"
    );
    let length = usize::try_from(cursor.position()).unwrap_or(0);
    let mut stderr = libc::pollfd {
        fd: libc::STDERR_FILENO,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: all three may be called in a signal handler, and what they are given lives through them.
    unsafe {
        // A reader that has stopped is not waited for.
        if libc::poll(&raw mut stderr, 1, ROOM_MS_MAX) > 0 {
            libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), length);
        }
        libc::_exit(CODE.load(Ordering::Relaxed).into());
    }
}
