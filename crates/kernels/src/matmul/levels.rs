//! From the bits of a unit to bytes that can be multiplied.

use std::marker::PhantomData;

use super::unit::unpack;
use crate::quant::CodeBook;
use crate::simd::{Dots, Word};

/// What the bits of a format's values stand for: a byte without a sign, less an offset.
pub(super) trait Levels {
    /// Bits of a value in memory.
    const BITS: usize;
    /// The bytes less the values.
    const OFFSET: i32;
    /// What a block's half is multiplied by.
    const PART: f32;

    /// The bytes of a unit's first 16 columns, or with `LAST` 1 of its last 16, four to a vector.
    fn unpack<S: Dots, const LAST: usize>(s: S, unit: &[u8], half: usize) -> [S::Bytes; 4];
    /// Where [`dots`](Levels::dots) begin, `sum` being that of the inputs: they then add up to that of
    /// value × input.
    fn begin<S: Dots>(s: S, sum: i32) -> S::Ints;
    /// Adds the products of 4 × 4 bytes a lane of each tile with 16 inputs of each token.
    fn dots<S: Dots, const N: usize, const T: usize>(
        s: S,
        sums: &mut [[S::Ints; T]; N],
        weights: &[[S::Bytes; 4]; N],
        inputs: &[&[Word; 4]; T],
    );
    /// Sums of `dots` that began at zero, and those of their inputs, to those of value × input.
    fn centre<S: Dots>(s: S, products: S::Ints, inputs: S::Ints) -> S::Ints;
}

/// Even steps: the bits less `OFFSET`.
pub(super) struct Even<const BITS: usize, const OFFSET: i32>;

impl<const BITS: usize, const OFFSET: i32> Levels for Even<BITS, OFFSET> {
    const BITS: usize = BITS;
    const OFFSET: i32 = OFFSET;
    const PART: f32 = 1.0;

    #[inline(always)]
    fn unpack<S: Dots, const LAST: usize>(s: S, unit: &[u8], half: usize) -> [S::Bytes; 4] {
        unpack::<S, BITS, LAST>(s, unit, half)
    }

    #[inline(always)]
    fn begin<S: Dots>(s: S, sum: i32) -> S::Ints {
        s.begin::<BITS, OFFSET>(sum)
    }

    #[inline(always)]
    fn dots<S: Dots, const N: usize, const T: usize>(
        s: S,
        sums: &mut [[S::Ints; T]; N],
        weights: &[[S::Bytes; 4]; N],
        inputs: &[&[Word; 4]; T],
    ) {
        s.dots::<BITS, N, T>(sums, weights, inputs);
    }

    #[inline(always)]
    fn centre<S: Dots>(s: S, products: S::Ints, inputs: S::Ints) -> S::Ints {
        s.centre::<BITS, OFFSET>(products, inputs)
    }
}

/// Codes of a code-book, which are looked up.
pub(super) struct Coded<const BITS: usize, B>(PhantomData<B>);

/// The code-book of a format.
pub(super) trait Book {
    const BOOK: CodeBook;
}

pub(super) struct Iq4;
pub(super) struct Mxfp4;
pub(super) struct Iq3Xxs;
pub(super) struct Iq3S;
pub(super) struct Iq2;
pub(super) struct Iq1;

impl Book for Iq4 {
    const BOOK: CodeBook = CodeBook::IQ4;
}

impl Book for Mxfp4 {
    const BOOK: CodeBook = CodeBook::MXFP4;
}

impl Book for Iq3Xxs {
    const BOOK: CodeBook = CodeBook::IQ3_XXS;
}

impl Book for Iq3S {
    const BOOK: CodeBook = CodeBook::IQ3_S;
}

impl Book for Iq2 {
    const BOOK: CodeBook = CodeBook::IQ2;
}

impl Book for Iq1 {
    const BOOK: CodeBook = CodeBook::IQ1;
}

impl<const BITS: usize, B: Book> Coded<BITS, B> {
    /// Whether the bytes have five bits: eight otherwise.
    const FIVE_BITS: bool = B::BOOK.offset() == 16;
}

impl<const BITS: usize, B: Book> Levels for Coded<BITS, B> {
    const BITS: usize = BITS;
    const OFFSET: i32 = B::BOOK.offset() as i32;
    const PART: f32 = B::BOOK.part();

    #[inline(always)]
    fn unpack<S: Dots, const LAST: usize>(s: S, unit: &[u8], half: usize) -> [S::Bytes; 4] {
        let table = const { &B::BOOK.raised() };
        look_up(s, table, unpack::<S, BITS, LAST>(s, unit, half))
    }

    #[inline(always)]
    fn begin<S: Dots>(s: S, sum: i32) -> S::Ints {
        match Self::FIVE_BITS {
            true => s.begin::<5, 16>(sum),
            false => s.begin::<8, 128>(sum),
        }
    }

    #[inline(always)]
    fn dots<S: Dots, const N: usize, const T: usize>(
        s: S,
        sums: &mut [[S::Ints; T]; N],
        weights: &[[S::Bytes; 4]; N],
        inputs: &[&[Word; 4]; T],
    ) {
        match Self::FIVE_BITS {
            true => s.dots::<5, N, T>(sums, weights, inputs),
            false => s.dots::<8, N, T>(sums, weights, inputs),
        }
    }

    #[inline(always)]
    fn centre<S: Dots>(s: S, products: S::Ints, inputs: S::Ints) -> S::Ints {
        match Self::FIVE_BITS {
            true => s.centre::<5, 16>(products, inputs),
            false => s.centre::<8, 128>(products, inputs),
        }
    }
}

#[inline(always)]
fn look_up<S: Dots>(s: S, table: &[u8; 16], codes: [S::Bytes; 4]) -> [S::Bytes; 4] {
    [
        s.look_up(table, codes[0]),
        s.look_up(table, codes[1]),
        s.look_up(table, codes[2]),
        s.look_up(table, codes[3]),
    ]
}
