use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

/// A number of bytes. Sums saturate; a difference below zero is a bug and panics in debug builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl Bytes {
    /// No bytes at all.
    pub const ZERO: Self = Self(0);

    /// `n` × 2^20 bytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` × 2^30 bytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The bytes of something that is in this process's memory.
    pub const fn of(len: usize) -> Self {
        // A usize is at most 64 bits on every platform Rust supports.
        Self(len as u64)
    }

    /// `share` of these bytes, rounded down. `share` is clamped to 0..=1.
    pub fn share(self, share: f64) -> Self {
        // Exact up to 2^53 bytes; the cast saturates.
        Self((self.0 as f64 * share.clamp(0.0, 1.0)) as u64)
    }

    /// These bytes `count` times, saturating.
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }

    /// What is left after taking `other`, or zero.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Bytes {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Bytes {
    /// Binary units with one decimal: `98.4 MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0 as f64;
        let text = match self.0 {
            0..1024 => format!("{} B", self.0),
            1024..0x10_0000 => format!("{:.1} KiB", n / 1024.0),
            0x10_0000..0x4000_0000 => format!("{:.1} MiB", n / 1_048_576.0),
            _ => format!("{:.1} GiB", n / 1_073_741_824.0),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_rounds_down_and_is_clamped() {
        assert_eq!(Bytes(10).share(0.55), Bytes(5));
        assert_eq!(Bytes(10).share(7.0), Bytes(10));
        assert_eq!(Bytes(10).share(-1.0), Bytes::ZERO);
    }

    #[test]
    fn sums_saturate() {
        assert_eq!(Bytes(u64::MAX) + Bytes(1), Bytes(u64::MAX));
    }
}
