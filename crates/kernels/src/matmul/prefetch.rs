use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use crate::packed::VECTOR;

/// How far ahead of its use a stream of weights is asked for: just far enough that the lines of
/// long blocks are on their way together. Further ahead the processor's own prefetching suffers.
const AHEAD: usize = 256;

/// Asks for the cache lines [`AHEAD`] bytes behind those of `from`.
#[inline(always)]
pub(super) fn fetch_ahead(from: &[u8]) {
    for line in from.as_chunks::<VECTOR>().0 {
        let ahead = line.as_ptr().wrapping_add(AHEAD);
        // SAFETY: a prefetch is a hint at any address: it reads nothing the program can see and
        // never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.cast()) }
    }
}
