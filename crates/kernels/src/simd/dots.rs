//! The operations of an instruction set for products of packed weights.

use super::token::InstructionSet;

/// The int8 values of four columns.
pub(crate) type Word = [u8; 4];

/// Exact operations on vectors of [`LANES`](Dots::LANES) output rows.
///
/// Operations on integers wrap, which no block reaches; those on floats round to nearest, and the
/// multiply-adds round once.
pub(crate) trait Dots: InstructionSet {
    /// Output rows in a vector; divides the rows of a tile, 16.
    const LANES: usize;
    /// Whether there are registers for two tiles by four tokens.
    const ABREAST: bool;
    /// Four bytes a lane.
    type Bytes: Copy;
    /// An i32 a lane.
    type Ints: Copy;
    /// An f32 a lane.
    type Floats: Copy;

    /// Asks for the memory a little behind `from`, without waiting. Changes no result.
    fn fetch_ahead(self, from: &[u8]);
    /// Asks for the memory `distance` behind `from` to come near, without waiting. Changes no result.
    fn fetch_next(self, from: &[u8], distance: usize);
    /// Loads 4 × LANES bytes.
    fn bytes(self, from: &[u8]) -> Self::Bytes;
    /// Each byte `>> SHIFT & MASK`; MASK keeps no bit that another byte shifted in.
    fn field<const SHIFT: i32, const MASK: u8>(self, v: Self::Bytes) -> Self::Bytes;
    /// Each byte `<< SHIFT & MASK`, likewise.
    fn raised<const SHIFT: i32, const MASK: u8>(self, v: Self::Bytes) -> Self::Bytes;
    /// Each byte, which is below 16, replaced by what the table has there.
    fn look_up(self, table: &[u8; 16], v: Self::Bytes) -> Self::Bytes;
    /// Bitwise.
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;

    /// Where [`dots`](Dots::dots) begin for values of `BITS` bits that are `OFFSET` too high,
    /// `sum` being the sum of the inputs: begun so, they add up to Σ (byte − OFFSET) × input.
    fn begin<const BITS: usize, const OFFSET: i32>(self, sum: i32) -> Self::Ints;
    /// Adds, in each lane, the products of 4 × 4 bytes of at most `BITS` bits with 16 inputs: those of
    /// `N` tiles with those of `T` tokens.
    fn dots<const BITS: usize, const N: usize, const T: usize>(
        self,
        sums: &mut [[Self::Ints; T]; N],
        weights: &[[Self::Bytes; 4]; N],
        inputs: &[&[Word; 4]; T],
    );

    /// The same integer in every lane.
    fn ints(self, value: i32) -> Self::Ints;
    /// a + b × c.
    fn add_product(self, a: Self::Ints, b: Self::Ints, c: Self::Ints) -> Self::Ints;
    /// Takes the offset off sums of [`dots`](Dots::dots) that began at zero: `inputs` are the sums of
    /// their inputs.
    fn centre<const BITS: usize, const OFFSET: i32>(
        self,
        products: Self::Ints,
        inputs: Self::Ints,
    ) -> Self::Ints;
    /// Two signed bytes a lane, as two 16-bit integers a lane.
    fn signed_pairs(self, from: &[u8]) -> Self::Ints;
    /// Two nibbles of two bytes a lane as 16-bit integers: the low ones, the high ones.
    fn nibble_pairs(self, from: &[u8]) -> (Self::Ints, Self::Ints);
    /// The lower 16-bit integer of each lane.
    fn low(self, pairs: Self::Ints) -> Self::Ints;
    /// The upper 16-bit integer of each lane.
    fn high(self, pairs: Self::Ints) -> Self::Ints;
    /// sum + low(a) × low(b) + high(a) × high(b).
    fn pair_dot(self, sum: Self::Ints, a: Self::Ints, b: i32) -> Self::Ints;

    /// The same float in every lane.
    fn floats(self, value: f32) -> Self::Floats;
    /// Integers as floats, to nearest.
    fn to_floats(self, v: Self::Ints) -> Self::Floats;
    /// LANES f32.
    fn f32s(self, from: &[u8]) -> Self::Floats;
    /// LANES f16.
    fn f16s(self, from: &[u8]) -> Self::Floats;
    /// LANES bf16.
    fn bf16s(self, from: &[u8]) -> Self::Floats;
    /// a + b.
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a × b.
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a × b + c.
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// c − a × b.
    fn mul_sub_from(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Writes LANES floats.
    fn store(self, v: Self::Floats, to: &mut [f32]);
}
