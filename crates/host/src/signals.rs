use crate::child::end_children;
use crate::error::HostError;
use crate::imp;
use crate::scratch::remove_scratch;

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndSignal {
    /// From the keyboard, as Ctrl-C; on Windows every event of the console.
    Interrupt,
    /// From whoever runs the machine, such as a container's owner.
    Terminate,
    /// The terminal has gone.
    HangUp,
}

/// Has `heard` called on a thread of its own for each signal from here on, also in a process that is
/// the first of its container. A terminal that goes away is no signal to a process that was started
/// with `nohup`.
pub fn hear_signals(heard: impl FnMut(EndSignal) + Send + 'static) -> Result<(), HostError> {
    imp::hear_signals(Box::new(heard))
}

/// Keeps how the terminal is set at this moment, for [`tidy_up`].
pub fn remember_terminal() {
    imp::remember_terminal();
}

/// While it is held, what is typed at the terminal is not shown, and is kept for whoever reads next. Dropped,
/// the terminal is as it was [remembered](remember_terminal).
#[derive(Debug)]
pub struct TypingHidden(());

/// Hides what is typed while a program writes. Not supported on Windows, where it does nothing.
#[must_use]
pub fn hide_typing() -> TypingHidden {
    imp::hide_typing();
    TypingHidden(())
}

impl Drop for TypingHidden {
    fn drop(&mut self) {
        imp::restore_terminal();
    }
}

/// What a process that ends at once owes to others: the terminal is set as it was remembered, the
/// programs that it started are ended, the names of sockets that it listened on are free, and its
/// scratch folders are removed.
pub fn tidy_up() {
    imp::restore_terminal();
    end_children();
    imp::remove_sockets();
    // The last, since a large one takes a moment; the programs that wrote there have ended.
    remove_scratch();
}
