use std::arch::x86_64::{_MM_HINT_NTA, _mm_prefetch};

use crate::packed::VECTOR;

/// How far ahead of its use a stream of weights is asked for: a page. The processor's own
/// prefetching ends with the page, so this has the next one translated and its lines on their way
/// when the stream gets there. `gogrid bench` shows the
/// difference: nearer was slower in all of 256, 1024 and 2048.
const AHEAD: usize = 4096;

/// Asks for the cache lines [`AHEAD`] bytes behind those of `from`, and says that they are used
/// once: a model does not fit a cache anyway, and what others keep in it stays there the longer.
#[inline(always)]
pub(super) fn fetch_ahead(from: &[u8]) {
    for line in from.as_chunks::<VECTOR>().0 {
        let ahead = line.as_ptr().wrapping_add(AHEAD);
        // SAFETY: a prefetch is a hint at any address: it reads nothing the program can see and
        // never faults.
        unsafe { _mm_prefetch::<_MM_HINT_NTA>(ahead.cast()) }
    }
}
