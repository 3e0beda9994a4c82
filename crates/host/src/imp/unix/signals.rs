use std::io::{self, PipeReader, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::Builder;

use gogrid_units::contain;

use crate::error::HostError;
use crate::signals::EndSignal;

/// The end of the pipe that the signal handler writes to.
static NOTES: AtomicI32 = AtomicI32::new(-1);

const SIGNALS: [(libc::c_int, EndSignal); 3] = [
    (libc::SIGINT, EndSignal::Interrupt),
    (libc::SIGTERM, EndSignal::Terminate),
    (libc::SIGHUP, EndSignal::HangUp),
];

/// Runs in the middle of anything, so it does nothing but one call that may be made there.
extern "C" fn note(signal: libc::c_int) {
    let byte = signal.to_ne_bytes();
    // SAFETY: `write` may be called in a signal handler; the buffer lives through the call; and the
    // code that was interrupted finds its error number as it was.
    unsafe {
        let number = error_number();
        let kept = *number;
        libc::write(
            NOTES.load(Ordering::Relaxed),
            byte.as_ptr().cast(),
            byte.len(),
        );
        *number = kept;
    }
}

#[cfg(target_os = "linux")]
unsafe fn error_number() -> *mut libc::c_int {
    // SAFETY: it has no requirement.
    unsafe { libc::__errno_location() }
}

#[cfg(target_os = "macos")]
unsafe fn error_number() -> *mut libc::c_int {
    // SAFETY: it has no requirement.
    unsafe { libc::__error() }
}

pub(crate) fn hear_signals(heard: Box<dyn FnMut(EndSignal) + Send>) -> Result<(), HostError> {
    let failed = |call| move |source| HostError::Call { call, source };
    let (notes, write) = io::pipe().map_err(failed("pipe"))?;
    // A pipe that is full has signals enough in it.
    // SAFETY: the descriptor is open.
    unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    if is_ignored(libc::SIGCHLD) {
        // A parent hands this on, and then the system tells nobody how a program ended.
        // SAFETY: the default is a disposition of every signal.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    }
    let thread = Builder::new().name("gogrid-signals".to_owned());
    let follow = move || follow(notes, heard);
    thread.spawn(follow).map_err(failed("thread"))?;
    // Open until the process ends: a handler may write at any time.
    NOTES.store(write.into_raw_fd(), Ordering::Relaxed);
    for (signal, means) in SIGNALS {
        // A process that `nohup` started outlives the terminal.
        if means != EndSignal::HangUp || !is_ignored(signal) {
            handle(signal).map_err(failed("sigaction"))?;
        }
    }
    Ok(())
}

fn follow(mut notes: PipeReader, mut heard: Box<dyn FnMut(EndSignal) + Send>) {
    let mut signal = 0_i32.to_ne_bytes();
    while notes.read_exact(&mut signal).is_ok() {
        let number = i32::from_ne_bytes(signal);
        let known = SIGNALS.iter().find(|(known, _)| *known == number);
        if let Some((_, means)) = known {
            // The next signal must be heard whatever this one led to; a panic has told of itself.
            let _ = contain(|| heard(*means));
        }
    }
}

fn is_ignored(signal: libc::c_int) -> bool {
    let mut found = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only fills what the second pointer names; all zeros are
    // a value of that type.
    let found = unsafe {
        libc::sigaction(signal, ptr::null(), found.as_mut_ptr());
        found.assume_init()
    };
    found.sa_sigaction == libc::SIG_IGN
}

fn handle(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: all zeros are a value of that type: no flags, an empty mask.
    let mut action = unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() };
    action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler is a function for as long as the program runs, and does only what may be
    // done in a handler.
    match unsafe { libc::sigaction(signal, &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
