/// A seeded generator (SplitMix64, Steele et al. 2014): the same seed makes the same choices.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// The choices of one actor in one round.
    pub(super) fn new(seed: u64, round: u64, actor: u64) -> Self {
        let mut mixed = Self(seed);
        mixed.0 = mixed.bits() ^ round;
        mixed.0 = mixed.bits() ^ actor;
        mixed
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `least..=most`.
    pub(super) fn whole(&mut self, least: usize, most: usize) -> usize {
        // The remainder is below the range, so it fits.
        least + (self.bits() % (most - least + 1) as u64) as usize
    }

    /// The same for small numbers with a sign.
    pub(super) fn whole_i32(&mut self, least: i32, most: i32) -> i32 {
        // The difference is not negative, and fits.
        least + self.whole(0, (most - least) as usize) as i32
    }

    /// A number in `least..most`.
    pub(super) fn real(&mut self, least: f64, most: f64) -> f64 {
        // 53 bits are exact in an f64.
        let unit = (self.bits() >> 11) as f64 / (1u64 << 53) as f64;
        least + (most - least) * unit
    }

    /// True `percent` times in a hundred.
    pub(super) fn happens(&mut self, percent: usize) -> bool {
        self.whole(1, 100) <= percent
    }

    pub(super) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.whole(0, all.len() - 1)]
    }
}
