use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use gogrid_units::WeightType;
use half::{bf16, f16};

use super::super_quantise;

/// Weights stored in one type cannot be kept in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CannotKeep {
    /// The type in the file.
    pub stored: WeightType,
    /// The type asked for.
    pub kept: WeightType,
}

impl fmt::Display for CannotKeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stored, kept } = self;
        write!(
            f,
            "cannot keep {stored} weights as {kept}: only f32, f16 and bf16 are quantised, and \
             only to q4_0, q4_1, q5_0, q5_1, q8_0, q4_k and q6_k"
        )
    }
}

impl Error for CannotKeep {}

/// Whether weights stored as `stored` can be kept as `kept`: as they are, or quantised.
pub(crate) fn can_keep(stored: WeightType, kept: WeightType) -> Result<(), CannotKeep> {
    use WeightType as T;
    let float = matches!(stored, T::F32 | T::F16 | T::Bf16);
    let makes = matches!(
        kept,
        T::Q4_0 | T::Q4_1 | T::Q5_0 | T::Q5_1 | T::Q8_0 | T::Q4K | T::Q6K
    );
    if stored == kept || (float && makes) {
        Ok(())
    } else {
        Err(CannotKeep { stored, kept })
    }
}

/// A stored row, which is whole blocks, as it is kept: as it is, or quantised. GGUF's bytes in and out.
///
/// # Panics
/// When weights stored as `stored` cannot be kept as `kept`.
pub fn kept_row(kept: WeightType, stored: WeightType, row: &[u8]) -> Cow<'_, [u8]> {
    if let Err(refusal) = can_keep(stored, kept) {
        panic!("{refusal}");
    }
    if kept == stored {
        return Cow::Borrowed(row);
    }
    let mut floats = vec![0.0; row.len() / stored.block_bytes()];
    read_floats(stored, row, &mut floats);
    Cow::Owned(quantise_row(kept, &floats))
}

/// Reads a row of a float type.
pub(crate) fn read_floats(ty: WeightType, stored: &[u8], out: &mut [f32]) {
    let width = ty.block_bytes();
    for (out, bytes) in out.iter_mut().zip(stored.chunks_exact(width)) {
        *out = match ty {
            WeightType::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            WeightType::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            WeightType::Bf16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
            _ => unreachable!("{ty} is no float type"),
        };
    }
}

/// Quantises a row to a type that [`can_keep`] names, as GGUF's bytes. The row is whole blocks.
/// Levels are nearest under the scale as it is stored, in half precision.
pub(crate) fn quantise_row(ty: WeightType, row: &[f32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ty.row_bytes(row.len()).unwrap_or(0));
    for block in row.chunks_exact(ty.block_len()) {
        match ty {
            WeightType::Q4_0 => centred(block, 4, &mut out),
            WeightType::Q5_0 => centred(block, 5, &mut out),
            WeightType::Q4_1 => ranged(block, 4, &mut out),
            WeightType::Q5_1 => ranged(block, 5, &mut out),
            WeightType::Q8_0 => bytes(block, &mut out),
            WeightType::Q4K => super_quantise::q4(block, &mut out),
            WeightType::Q6K => super_quantise::q6(block, &mut out),
            _ => unreachable!("{ty} is not made here"),
        }
    }
    out
}

/// Scale such that the value of greatest magnitude becomes the lowest level, which is the one
/// further from zero; nearest level.
fn centred(block: &[f32], bits: u8, out: &mut Vec<u8>) {
    let levels = f32::from(1_u8 << bits);
    let extreme = furthest_from_zero(block);
    let d = f16::from_f32(extreme / -(levels / 2.0));
    let inverse = reciprocal(d.to_f32());
    // `as` truncates and saturates.
    let level = |x: &f32| (x * inverse + levels / 2.0 + 0.5).min(levels - 1.0) as u8;
    out.extend_from_slice(&d.to_le_bytes());
    put_levels(block.iter().map(level), bits, out);
}

/// Levels from the least value to the greatest; nearest level.
fn ranged(block: &[f32], bits: u8, out: &mut Vec<u8>) {
    let top = f32::from((1_u8 << bits) - 1);
    let least = block.iter().copied().fold(f32::INFINITY, f32::min);
    let greatest = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let d = f16::from_f32((greatest - least) / top);
    let m = f16::from_f32(least);
    let inverse = reciprocal(d.to_f32());
    let level = |x: &f32| ((x - m.to_f32()) * inverse + 0.5).min(top) as u8;
    out.extend_from_slice(&d.to_le_bytes());
    out.extend_from_slice(&m.to_le_bytes());
    put_levels(block.iter().map(level), bits, out);
}

/// The greatest magnitude becomes 127.
fn bytes(block: &[f32], out: &mut Vec<u8>) {
    let d = f16::from_f32(furthest_from_zero(block).abs() / 127.0);
    let inverse = reciprocal(d.to_f32());
    out.extend_from_slice(&d.to_le_bytes());
    let value = |x: &f32| ((x * inverse).round() as i8).to_le_bytes()[0];
    out.extend(block.iter().map(value));
}

/// Fifth bits if there are any, then nibbles: the first 16 low, the last 16 high.
fn put_levels(levels: impl Iterator<Item = u8>, bits: u8, out: &mut Vec<u8>) {
    let mut nibbles = [0; 16];
    let mut fifth = 0_u32;
    for (i, level) in levels.enumerate() {
        nibbles[i % 16] |= (level & 15) << (i / 16 * 4);
        fifth |= u32::from(level >> 4) << i;
    }
    if bits == 5 {
        out.extend_from_slice(&fifth.to_le_bytes());
    }
    out.extend_from_slice(&nibbles);
}

/// With its sign; the first of equals.
pub(super) fn furthest_from_zero(values: &[f32]) -> f32 {
    let further = |best: f32, &x: &f32| if x.abs() > best.abs() { x } else { best };
    values.iter().fold(0.0, further)
}

/// Zero for zero.
pub(super) fn reciprocal(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}
