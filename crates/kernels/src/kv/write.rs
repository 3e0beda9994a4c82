use super::{KV_TOKENS, SIGN};
use crate::simd::{Floats, Kernel, LANES, load_part};

/// The least magnitude, as the bits of a half, of what is no finite number.
const INFINITE: u16 = half::f16::INFINITY.to_bits();

/// Writes the key and the value of a token for one head, rounded to nearest even, and says whether all
/// are finite as halves.
pub(super) struct WriteHead<'a> {
    /// `[head_dim]`.
    pub(super) key: &'a [f32],
    /// `[head_dim]`.
    pub(super) value: &'a [f32],
    /// `[head_dim][32]`.
    pub(super) to_keys: &'a mut [u16],
    /// `[head_dim]`.
    pub(super) to_value: &'a mut [u16],
    pub(super) slot: usize,
}

impl Kernel for WriteHead<'_> {
    type Out = bool;

    #[inline(always)]
    fn run<S: Floats>(self, s: S) -> bool {
        let columns = self.to_keys.as_chunks_mut::<KV_TOKENS>().0;
        let pieces = self.key.chunks(LANES).zip(self.value.chunks(LANES));
        let to = columns
            .chunks_mut(LANES)
            .zip(self.to_value.chunks_mut(LANES));
        // The greatest magnitudes: bits of halves without their signs are in the order of numbers.
        let mut greatest = [0; LANES];
        for ((key, value), (columns, to)) in pieces.zip(to) {
            let (mut keys, mut values) = ([0; LANES], [0; LANES]);
            s.store_half(load_part(s, key), &mut keys);
            s.store_half(load_part(s, value), &mut values);
            for (column, key) in columns.iter_mut().zip(keys) {
                column[self.slot] = key;
            }
            to.copy_from_slice(&values[..to.len()]);
            for n in 0..LANES {
                greatest[n] = greatest[n].max(keys[n] & !SIGN).max(values[n] & !SIGN);
            }
        }
        greatest.iter().all(|&bits| bits < INFINITE)
    }
}
