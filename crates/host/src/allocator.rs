use crate::imp;

pub use crate::imp::RememberingAllocator;

/// From here on an abort for want of memory, in a program whose global allocator is a
/// [`RememberingAllocator`], is an exit with this code and a line on standard error that says how
/// much was asked for. Other aborts stay what they are. Where the system has no signal for an abort,
/// nothing changes.
pub fn exit_when_out_of_memory(code: u8) {
    imp::exit_when_out_of_memory(code);
}
