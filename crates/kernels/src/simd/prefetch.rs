use std::arch::x86_64::{_MM_HINT_NTA, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

/// Bytes of a cache line.
const LINE: usize = 64;

/// How far ahead of its use a stream of weights is asked for: a page. The processor's own
/// prefetching ends with the page, so this has the next one translated and its lines on their way
/// when the stream gets there. With `gogrid bench --mode aggressive --prompt-tokens 64`, distances of
/// 256, 1024 and 2048 bytes were slower.
const AHEAD: usize = 4096;

/// The hint for lines that are used once: few models fit a cache, and what other programs keep in it
/// stays there the longer.
pub(super) const ONCE: i32 = _MM_HINT_NTA;
/// The hint for lines that are used again soon.
pub(super) const AGAIN: i32 = _MM_HINT_T0;

/// The hint for lines that are used after much else.
pub(super) const SECOND_CACHE: i32 = _MM_HINT_T1;

/// Asks for the cache lines [`AHEAD`] bytes behind those of `from`.
#[inline(always)]
pub(super) fn fetch_ahead<const HINT: i32>(from: &[u8]) {
    fetch::<HINT>(from, AHEAD);
}

/// Asks for the cache lines `distance` bytes behind those of `from`.
#[inline(always)]
pub(super) fn fetch<const HINT: i32>(from: &[u8], distance: usize) {
    let (lines, rest) = from.as_chunks::<LINE>();
    for line in lines {
        ask::<HINT>(line.as_ptr().wrapping_add(distance));
    }
    if !rest.is_empty() {
        ask::<HINT>(rest.as_ptr().wrapping_add(distance));
    }
}

/// Asks for the cache line at this address.
#[inline(always)]
pub(super) fn ask<const HINT: i32>(at: *const u8) {
    // SAFETY: a prefetch is a hint at any address: it reads nothing the program can see and never
    // faults.
    unsafe { _mm_prefetch::<HINT>(at.cast()) }
}
