/// Spares readings of a clock at points that come often, where something is due at a moment: most
/// points pass without the time, and the clock is read again halfway to what is due at the pace of
/// the points before, so that what is due is late by a few points at most.
#[derive(Clone, Copy, Debug)]
pub struct Sparing {
    /// When the clock was last read, in nanoseconds.
    read_at: u64,
    /// Points that have passed since then, and that still may.
    passed: u32,
    left: u32,
}

impl Sparing {
    /// The first point reads the clock.
    pub const NEW: Self = Self {
        read_at: 0,
        passed: 0,
        left: 0,
    };

    /// When the clock was last read.
    pub fn read_at(&self) -> u64 {
        self.read_at
    }

    /// Whether this point may pass without the time.
    pub fn passes(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.passed += 1;
        true
    }

    /// The clock was read at `now`, and something is `due`, both in nanoseconds. Before it is read
    /// again at most `most` points pass, however long each may take.
    pub fn read(&mut self, now: u64, due: u64, most: u32) {
        // This one was a point too.
        let points = u64::from(self.passed) + 1;
        let nanos_a_point = (now.saturating_sub(self.read_at) / points).max(1);
        let ahead = due.saturating_sub(now) / (2 * nanos_a_point);
        self.read_at = now;
        self.passed = 0;
        self.left = u32::try_from(ahead).map_or(most, |ahead| ahead.min(most));
    }

    /// The next point reads the clock: it may be later than the points before tell.
    pub fn wake(&mut self) {
        self.left = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = 8;

    /// Goes through `points` of `nanos` each, from `now` on, where something is due `every` so often.
    /// Gives the readings, and what passed at most after something was due.
    fn run(sparing: &mut Sparing, now: &mut u64, (points, nanos): (u64, u64)) -> (u64, u64) {
        let (mut readings, mut late, every) = (0, 0, 100_000);
        let mut due = *now + every;
        for _ in 0..points {
            if !sparing.passes() {
                readings += 1;
                if *now >= due {
                    late = late.max(*now - due);
                    due = *now + every;
                }
                sparing.read(*now, due, MOST);
            }
            *now += nanos;
        }
        (readings, late)
    }

    #[test]
    fn short_points_seldom_read_the_clock_and_long_ones_always() {
        let check = |nanos, expected: std::ops::RangeInclusive<u64>| {
            let (readings, late) = run(&mut { Sparing::NEW }, &mut 1_000_000, (10_000, nanos));
            assert!(expected.contains(&readings), "{readings} of {nanos} ns");
            assert!(late <= nanos, "{late} late with points of {nanos} ns");
        };
        check(10, 1_100..=1_200);
        check(1_000, 1_100..=1_500);
        check(10_000, 2_000..=6_000);
        check(60_000, 9_990..=10_000);
    }

    #[test]
    fn points_that_grow_longer_are_late_by_a_few_of_them() {
        let (mut sparing, mut now) = (Sparing::NEW, 0);
        run(&mut sparing, &mut now, (1_000, 10));
        let (_, late) = run(&mut sparing, &mut now, (100, 40_000));
        assert!(late <= u64::from(MOST) * 40_000, "{late}");
    }

    #[test]
    fn who_wakes_reads_the_clock_and_counts_what_passed() {
        let mut sparing = Sparing::NEW;
        sparing.read(1_000, 1_000_000, MOST);
        sparing.read(2_000, 1_000_000, MOST);
        assert!(sparing.passes());
        sparing.wake();
        assert!(!sparing.passes());
        // Two points in two microseconds, as before.
        sparing.read(4_000, 8_000, MOST);
        assert!(sparing.passes() && sparing.passes());
        assert!(!sparing.passes());
    }
}
