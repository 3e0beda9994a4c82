//! Memory for what is large: zeroed, of a fixed length, and given back to the system when dropped.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::slice;
use std::sync::Arc;

use gogrid_units::{Bytes, OutOfMemory};
use memmap2::MmapMut;

/// Alignment of the values: a cache line, and the widest SIMD load.
const ALIGN: usize = 64;

/// Buffers of at least so many bytes are mappings of their own. The allocator keeps what is freed
/// between other blocks; an unmapped buffer is the system's again at once.
const MAPPED_FROM: usize = 32 << 10;

/// Bytes of a page. Where systems differ it is the largest, so that more is leased than held.
const PAGE: usize = if cfg!(target_arch = "x86_64") {
    4 << 10
} else {
    64 << 10
};

/// Bytes of a huge page on most processors. Mappings for weights of at least so many ask for them: weights
/// are read whole for each token, and the processor translates few addresses at a time. Other memory is
/// touched first inside steps, where to find a huge page could take long.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;

/// Address space that mappings leave to all that is small: where a limit on it is reached, a large
/// buffer is refused with an error before a small allocation, which has none, ends the process.
const HEADROOM: usize = 64 << 20;

// Rounding up to pages adds an eighth at most where pages are small.
const _: () = assert!(PAGE <= MAPPED_FROM / 8 || !cfg!(target_arch = "x86_64"));

/// Numbers without padding, of which any bytes make a value.
///
/// # Safety
/// All bytes of the type's size are a value and the other way round, and its alignment is at most
/// that of a cache line.
pub unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for u8 {}
// SAFETY: an integer.
unsafe impl Plain for u16 {}
// SAFETY: a float: every pattern of bits is one.
unsafe impl Plain for f32 {}

/// A fixed number of values, zero at first, which begin on a cache line. What the system cannot
/// give is an error, not an abort.
pub struct Buffer<T> {
    store: Store,
    len: usize,
    values: PhantomData<T>,
}

enum Store {
    Lines(Vec<Line>),
    Pages(MmapMut),
    Part(Part),
}

/// Memory for several buffers that are too small for huge pages of their own. It is the system's again
/// when the last of them is dropped.
pub struct Region {
    pages: Arc<SharedPages>,
    used: usize,
}

/// The pages of a [`Region`], of which every byte is lent to one [`Part`] at most.
struct SharedPages {
    start: *mut u8,
    len: usize,
    /// Kept, and not used again but to be dropped: the pointer came from it.
    _pages: MmapMut,
}

// SAFETY: the mapping is not reached through this. Parts that do not overlap are handed out, each
// once, and what they are lent is theirs alone.
unsafe impl Sync for SharedPages {}
// SAFETY: as above, and a mapping belongs to no thread.
unsafe impl Send for SharedPages {}

/// A part of a [`Region`].
struct Part {
    start: *mut u8,
    _pages: Arc<SharedPages>,
}

// SAFETY: the bytes it points to are its own, so it is what a box of them would be.
unsafe impl Send for Part {}
// SAFETY: as above; they are written only through a borrow that is alone.
unsafe impl Sync for Part {}

impl Region {
    /// Bytes of a region at most. Whatever is left of one keeps all of it.
    pub const BYTES_MAX: Bytes = Bytes(16 << 20);

    /// Room for buffers that take so many bytes in all, by their own `bytes_for`.
    ///
    /// # Errors
    /// When the system has no memory for them.
    pub fn new(bytes: Bytes) -> Result<Self, OutOfMemory> {
        let pages = usize::try_from(bytes.0).ok().and_then(map_huge);
        let mut pages = pages.ok_or(OutOfMemory { asked: bytes })?;
        let pages = SharedPages {
            start: pages.as_mut_ptr(),
            len: pages.len(),
            _pages: pages,
        };
        Ok(Self {
            pages: Arc::new(pages),
            used: 0,
        })
    }

    /// Whether a matrix of so many bytes should share a region with others: it has whole pages, and alone
    /// it would have few huge ones, which begin at multiples of their size.
    pub fn suits(bytes: Bytes) -> bool {
        bytes.0 >= MAPPED_FROM as u64
            && bytes.0.is_multiple_of(PAGE as u64)
            && bytes.0 <= Self::BYTES_MAX.0 / 2
    }

    /// Whether there is room for a buffer that takes so many bytes.
    pub fn has_room(&self, bytes: Bytes) -> bool {
        let room = self.pages.len - self.used;
        bytes.0 <= room as u64
    }

    /// So many bytes that nothing else has.
    fn take(&mut self, bytes: usize) -> Part {
        let has_room = self.has_room(Bytes::of(bytes));
        assert!(has_room, "{bytes} bytes in {self:?}");
        // SAFETY: at most the mapping's end.
        let start = unsafe { self.pages.start.add(self.used) };
        self.used += bytes;
        Part {
            start,
            _pages: Arc::clone(&self.pages),
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region with {} bytes used", self.used)
    }
}

/// A cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _bytes: [u8; ALIGN],
}

const _: () = assert!(size_of::<Line>() == ALIGN && align_of::<Line>() == ALIGN);

impl<T: Plain> Buffer<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// When the system has no memory for them, with the bytes that were asked for.
    pub fn zeroed(len: usize) -> Result<Self, OutOfMemory> {
        Self::made(len, |bytes| Store::zeroed(bytes, map))
    }

    /// `len` zeros for weights: in a part of `region`, or in huge pages of their own.
    ///
    /// # Errors
    /// When the system has no memory for them.
    ///
    /// # Panics
    /// When the region has no room, which the caller asks first.
    pub(crate) fn for_weights(
        region: Option<&mut Region>,
        len: usize,
    ) -> Result<Self, OutOfMemory> {
        Self::made(len, |bytes| match region {
            Some(region) => Some(Store::Part(region.take(bytes))),
            None => Store::zeroed(bytes, map_huge),
        })
    }

    /// `len` values in what `store` gives for their bytes.
    fn made(len: usize, store: impl FnOnce(usize) -> Option<Store>) -> Result<Self, OutOfMemory> {
        const { assert!(align_of::<T>() <= ALIGN) };
        let bytes = len.checked_mul(size_of::<T>()).and_then(held);
        let refused = || OutOfMemory {
            asked: bytes.map_or(Bytes(u64::MAX), Bytes::of),
        };
        let store = bytes.and_then(store).ok_or_else(refused)?;
        let values = PhantomData;
        Ok(Self { store, len, values })
    }

    /// The bytes that [`zeroed`](Self::zeroed) takes for `len` values, whole cache lines or pages.
    ///
    /// # Panics
    /// When they pass the address space.
    pub const fn bytes_for(len: usize) -> Bytes {
        let bytes = len.checked_mul(size_of::<T>()).expect("counted in a usize");
        Bytes::of(held(bytes).expect("counted in a usize"))
    }
}

impl<T: Plain> Buffer<T> {
    /// The same in whole pages, also where a buffer is smaller than what is mapped: several buffers
    /// that are counted so have room for one that holds the values of all.
    ///
    /// # Panics
    /// When they pass the address space.
    pub const fn pages_for(len: usize) -> Bytes {
        let bytes = len.checked_mul(size_of::<T>()).expect("counted in a usize");
        let pages = bytes.checked_next_multiple_of(PAGE);
        Bytes::of(pages.expect("counted in a usize"))
    }
}

/// What a buffer of so many bytes takes; `None` where that passes the address space.
pub(crate) const fn held(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(match bytes {
        ..MAPPED_FROM => ALIGN,
        _ => PAGE,
    })
}

/// Pages of zeros; `None` where the system has none.
fn map(bytes: usize) -> Option<MmapMut> {
    let pages = MmapMut::map_anon(bytes).ok()?;
    // Given back at once; nothing of it is ever touched.
    drop(MmapMut::map_anon(HEADROOM).ok()?);
    Some(pages)
}

/// The same in huge pages where they are enough for one, and as far as the system has them.
fn map_huge(bytes: usize) -> Option<MmapMut> {
    let pages = map(bytes)?;
    #[cfg(target_os = "linux")]
    if bytes >= HUGE_PAGE {
        // A hint: where there are none, small ones do.
        let _ = pages.advise(memmap2::Advice::HugePage);
    }
    Some(pages)
}

impl Store {
    /// Whole lines of zeros, or pages as `map` makes them; `None` where the system has none.
    fn zeroed(bytes: usize, map: fn(usize) -> Option<MmapMut>) -> Option<Self> {
        if bytes >= MAPPED_FROM {
            return map(bytes).map(Self::Pages);
        }
        let zero = Line { _bytes: [0; ALIGN] };
        let mut lines = Vec::new();
        lines.try_reserve_exact(bytes / ALIGN).ok()?;
        lines.resize(bytes / ALIGN, zero);
        Some(Self::Lines(lines))
    }
}

impl<T> Default for Buffer<T> {
    /// No values.
    fn default() -> Self {
        Self {
            store: Store::Lines(Vec::new()),
            len: 0,
            values: PhantomData,
        }
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        let start = match &self.store {
            Store::Lines(lines) => lines.as_ptr().cast(),
            Store::Pages(pages) => pages.as_ptr().cast(),
            Store::Part(part) => part.start.cast_const().cast(),
        };
        // SAFETY: the store has the bytes of `len` values, all initialised, and begins on a cache line,
        // which is alignment enough for a plain type, of which any bytes are a value. It is owned by
        // self for as long as the borrow lasts.
        unsafe { slice::from_raw_parts(start, self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let start = match &mut self.store {
            Store::Lines(lines) => lines.as_mut_ptr().cast(),
            Store::Pages(pages) => pages.as_mut_ptr().cast(),
            Store::Part(part) => part.start.cast(),
        };
        // SAFETY: as in deref, and self is borrowed alone; any value of a plain type is initialised
        // bytes.
        unsafe { slice::from_raw_parts_mut(start, self.len) }
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer of {} values", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_zero_aligned_and_writable() {
        for len in [
            0,
            1,
            15,
            16,
            4095,
            MAPPED_FROM / 4,
            MAPPED_FROM / 4 + 1,
            1 << 20,
        ] {
            let mut buffer = Buffer::<f32>::zeroed(len).expect("little enough");
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().addr() % ALIGN, 0);
            assert!(buffer.iter().all(|&value| value == 0.0));
            buffer.fill(7.0);
            assert!(buffer.iter().all(|&value| value == 7.0));
        }
    }

    #[test]
    fn parts_of_a_region_are_apart_and_outlive_it() {
        let lens = [MAPPED_FROM, 5 * PAGE, MAPPED_FROM + PAGE];
        let bytes = lens.map(Buffer::<u8>::bytes_for);
        let mut region = Region::new(bytes.into_iter().sum()).expect("little enough");
        let mut parts = lens.map(|len| {
            assert!(region.has_room(Buffer::<u8>::bytes_for(len)));
            Buffer::<u8>::for_weights(Some(&mut region), len).expect("room")
        });
        for (value, part) in (1..).zip(&mut parts) {
            assert!(part.iter().all(|&byte| byte == 0));
            part.fill(value);
        }
        assert!(!region.has_room(Bytes(1)));
        drop(region);
        for (value, part) in (1..).zip(&parts) {
            assert!(part.iter().all(|&byte| byte == value));
        }
    }

    #[test]
    fn what_it_takes_is_whole_lines_or_pages() {
        let check =
            |len, bytes| assert_eq!(Buffer::<f32>::bytes_for(len), Bytes::of(bytes), "{len}");
        check(0, 0);
        check(1, ALIGN);
        check(16, ALIGN);
        check(MAPPED_FROM / 4 - 1, MAPPED_FROM);
        check(1 << 20, 4 << 20);
        check((1 << 20) + 1, (4 << 20) + PAGE);
    }

    #[test]
    fn memory_that_there_is_not_is_an_error_with_the_bytes() {
        // More than any address space that a program is given.
        let error = Buffer::<u8>::zeroed(1 << 60).expect_err("there is no exbibyte");
        assert_eq!(error.asked, Bytes(1 << 60));
        assert_eq!(
            error.to_string(),
            format!("the system refuses {} of memory", error.asked)
        );
        let error = Buffer::<f32>::zeroed(usize::MAX).expect_err("no address has so many");
        assert_eq!(error.asked, Bytes(u64::MAX));
    }
}
