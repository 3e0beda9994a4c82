//! How large a chunk is: long enough that claiming it costs under 2 %, short enough for the pause
//! point before the next.

use gogrid_units::{WeightType, Work};

use crate::simd::Isa;

/// Bytes a slow core reads in a nanosecond, busy neighbours included.
const BYTES_PER_NANO: u64 = 2;
/// The most time between two pause points on a slow core.
pub(crate) const POINT_NANOS_MAX: u64 = 500_000;
/// A chunk on a slow core, unless its one unit takes longer. Half of what may pass between two
/// pause points, since costs rounded down to whole nanoseconds can hide as much again.
pub(crate) const CHUNK_NANOS_MAX: u64 = POINT_NANOS_MAX / 2;
/// The longest run of small pieces between pause points inside a chunk.
const PIECES_NANOS_MAX: u64 = 100_000;
/// A chunk on a slow core at least; on a fast one this is some 5 us, and a claim about 0.1.
const CHUNK_NANOS_MIN: u64 = 30_000;
/// Chunks for each member of the team, so that the last one done is not far behind.
const CHUNKS_EACH: usize = 6;

/// Multiply-adds a slow core does in a nanosecond. Products do fifteen times as many on a quiet x86-64. With
/// 40 for AVX-512, chunks had more inputs that share an unpacking, but there were too few chunks for the
/// members to end together: a prompt of 512 took 1.25 times as long on two cores.
const fn multiply_adds_per_nano(isa: Isa) -> u64 {
    match isa {
        Isa::Scalar => 1,
        Isa::Avx2 => 5,
        // By the width of their registers: no processor of this kind was measured.
        Isa::Neon => 1,
        Isa::NeonDot => 3,
        Isa::Avx512Vnni => 10,
    }
}

/// Nanoseconds that `work` takes on a slow core.
pub(crate) fn slow_nanos(isa: Isa, work: Work) -> u64 {
    (work.bytes / BYTES_PER_NANO).max(work.multiply_adds / multiply_adds_per_nano(isa))
}

/// How many times as long a multiply-add takes with weights of `ty` as with quantised ones: without
/// instructions for it, floats are multiplied and halves converted by calls.
fn slowness(isa: Isa, ty: WeightType) -> u64 {
    match (isa, ty) {
        (Isa::Scalar, WeightType::F32 | WeightType::Bf16) => 3,
        (Isa::Scalar, WeightType::F16) => 6,
        _ => 1,
    }
}

/// Nanoseconds that a product's `work` with weights of `ty` takes on a slow core.
pub(crate) fn product_nanos(isa: Isa, ty: WeightType, work: Work) -> u64 {
    let multiply_adds = work.multiply_adds.saturating_mul(slowness(isa, ty));
    slow_nanos(
        isa,
        Work {
            multiply_adds,
            ..work
        },
    )
}

/// `work` `count` times.
pub(crate) fn times(work: Work, count: usize) -> Work {
    let count = count as u64;
    Work {
        bytes: work.bytes.saturating_mul(count),
        multiply_adds: work.multiply_adds.saturating_mul(count),
    }
}

/// How long a chunk of work that takes `total` in all should take, both on a slow core, when `width`
/// members share it.
pub(crate) fn chunk_nanos(total: u64, width: usize) -> u64 {
    let fair = total / (width * CHUNKS_EACH) as u64;
    fair.clamp(CHUNK_NANOS_MIN, CHUNK_NANOS_MAX)
}

/// How many pieces of work that cost `each` go between two pause points inside a chunk.
pub(crate) fn pieces_per_point(isa: Isa, each: Work) -> usize {
    let pieces = (PIECES_NANOS_MAX / slow_nanos(isa, each).max(1)).max(1);
    // At most a hundred thousand.
    pieces as usize
}

/// How many of `units` that cost `each` go into one chunk when `width` members share them.
pub(crate) fn units_per_chunk(isa: Isa, each: Work, (units, width): (usize, usize)) -> usize {
    let nanos = slow_nanos(isa, each).max(1);
    let total = nanos.saturating_mul(units as u64);
    let size = chunk_nanos(total, width).div_ceil(nanos);
    // Rounding up must not pass the longest chunk; at most `units`, so the cast fits.
    size.min((CHUNK_NANOS_MAX / nanos).max(1))
        .min(units.max(1) as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Work = Work {
        bytes: 4,
        multiply_adds: 4,
    };
    const LARGE: Work = Work {
        bytes: 1 << 20,
        multiply_adds: 0,
    };

    #[test]
    fn chunks_are_neither_tiny_nor_long() {
        let isa = Isa::Avx2;
        let chunk = units_per_chunk(isa, TINY, (1 << 20, 2));
        let nanos = slow_nanos(isa, times(TINY, chunk));
        assert!(
            (CHUNK_NANOS_MIN..=CHUNK_NANOS_MAX).contains(&nanos),
            "{nanos}"
        );
        assert_eq!(units_per_chunk(isa, LARGE, (100, 2)), 1);
    }

    #[test]
    fn costs_rounded_down_hide_less_than_half_a_millisecond() {
        for isa in Isa::ALL {
            for multiply_adds in 1..100 {
                let each = Work {
                    bytes: 0,
                    multiply_adds,
                };
                let chunk = units_per_chunk(isa, each, (1 << 30, 2));
                let pieces = pieces_per_point(isa, each);
                for count in [chunk, pieces] {
                    let nanos = slow_nanos(isa, times(each, count));
                    assert!(nanos <= POINT_NANOS_MAX, "{isa}, {multiply_adds}: {nanos}");
                }
            }
        }
    }

    #[test]
    fn little_work_is_one_chunk_and_no_work_too() {
        assert_eq!(units_per_chunk(Isa::Avx2, TINY, (9, 2)), 9);
        assert_eq!(units_per_chunk(Isa::Avx2, TINY, (0, 2)), 1);
    }

    #[test]
    fn every_member_gets_several() {
        let row = Work {
            bytes: 40_000,
            multiply_adds: 0,
        };
        assert_eq!(units_per_chunk(Isa::Avx2, row, (24, 2)), 2);
    }
}
