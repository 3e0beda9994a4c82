use crate::packed::VECTOR;
use crate::simd::Dots;

/// Four groups of four columns of a unit, one byte a value: its first 16 columns where `LAST` is 0,
/// its last 16 where it is 1. `crate::packed` has the layout.
#[inline(always)]
pub(super) fn unpack<S: Dots, const BITS: usize, const LAST: usize>(
    s: S,
    unit: &[u8],
    half: usize,
) -> [S::Bytes; 4] {
    let v = Vectors { s, unit, half };
    match BITS {
        2 => crumbs(s, v.at(LAST)),
        3 => join(s, crumbs(s, v.at(LAST)), third_bits::<S, LAST>(s, v.at(2))),
        4 => nibbles::<S, LAST>(s, v.four(0)),
        5 => join(
            s,
            nibbles::<S, LAST>(s, v.four(0)),
            fifth_bits::<S, LAST>(s, v.at(4)),
        ),
        6 => join(
            s,
            nibbles::<S, LAST>(s, v.four(0)),
            upper_crumbs(s, v.at(4 + LAST)),
        ),
        8 => v.four(4 * LAST),
        _ => unreachable!(),
    }
}

/// A unit's vectors, or the half of each that the lanes cover.
struct Vectors<'a, S> {
    s: S,
    unit: &'a [u8],
    half: usize,
}

impl<S: Dots> Vectors<'_, S> {
    #[inline(always)]
    fn at(&self, vector: usize) -> S::Bytes {
        let bytes = 4 * S::LANES;
        self.s
            .bytes(&self.unit[vector * VECTOR + self.half * bytes..][..bytes])
    }

    #[inline(always)]
    fn four(&self, first: usize) -> [S::Bytes; 4] {
        [
            self.at(first),
            self.at(first + 1),
            self.at(first + 2),
            self.at(first + 3),
        ]
    }
}

#[inline(always)]
fn join<S: Dots>(s: S, low: [S::Bytes; 4], high: [S::Bytes; 4]) -> [S::Bytes; 4] {
    [
        s.or(low[0], high[0]),
        s.or(low[1], high[1]),
        s.or(low[2], high[2]),
        s.or(low[3], high[3]),
    ]
}

#[inline(always)]
fn nibbles<S: Dots, const LAST: usize>(s: S, v: [S::Bytes; 4]) -> [S::Bytes; 4] {
    match LAST {
        0 => [
            s.field::<0, 15>(v[0]),
            s.field::<0, 15>(v[1]),
            s.field::<0, 15>(v[2]),
            s.field::<0, 15>(v[3]),
        ],
        _ => [
            s.field::<4, 15>(v[0]),
            s.field::<4, 15>(v[1]),
            s.field::<4, 15>(v[2]),
            s.field::<4, 15>(v[3]),
        ],
    }
}

#[inline(always)]
fn crumbs<S: Dots>(s: S, v: S::Bytes) -> [S::Bytes; 4] {
    [
        s.field::<0, 3>(v),
        s.field::<2, 3>(v),
        s.field::<4, 3>(v),
        s.field::<6, 3>(v),
    ]
}

/// Four crumbs moved to bits 4 and 5.
#[inline(always)]
fn upper_crumbs<S: Dots>(s: S, v: S::Bytes) -> [S::Bytes; 4] {
    [
        s.raised::<4, 48>(v),
        s.raised::<2, 48>(v),
        s.field::<0, 48>(v),
        s.field::<2, 48>(v),
    ]
}

/// Four bits of eight moved to bit 2.
#[inline(always)]
fn third_bits<S: Dots, const LAST: usize>(s: S, v: S::Bytes) -> [S::Bytes; 4] {
    match LAST {
        0 => [
            s.raised::<2, 4>(v),
            s.raised::<1, 4>(v),
            s.field::<0, 4>(v),
            s.field::<1, 4>(v),
        ],
        _ => [
            s.field::<2, 4>(v),
            s.field::<3, 4>(v),
            s.field::<4, 4>(v),
            s.field::<5, 4>(v),
        ],
    }
}

/// Four bits of eight moved to bit 4.
#[inline(always)]
fn fifth_bits<S: Dots, const LAST: usize>(s: S, v: S::Bytes) -> [S::Bytes; 4] {
    match LAST {
        0 => [
            s.raised::<4, 16>(v),
            s.raised::<3, 16>(v),
            s.raised::<2, 16>(v),
            s.raised::<1, 16>(v),
        ],
        _ => [
            s.field::<0, 16>(v),
            s.field::<1, 16>(v),
            s.field::<2, 16>(v),
            s.field::<3, 16>(v),
        ],
    }
}
