//! Where each value of a matrix lies once it is packed.
//!
//! A tile is 16 output rows. Every 64-byte vector of a tile holds, for each of the 16 rows in
//! order, four bytes of four consecutive columns, so a SIMD lane of 32 bits is an output row. A
//! unit is 32 columns of a tile: eight groups of four columns, kept in as many vectors as a value
//! has bits:
//!
//! | bits | vectors |
//! |---|---|
//! | 8 | one per group |
//! | 4 | vector v: group v in the low nibbles, group v + 4 in the high ones |
//! | 5 | those four, then one with the fifth bit of group g in bit g |
//! | 6 | those four, then two with the upper bits of four groups each |
//! | 2 | two with four groups each |
//! | 3 | those two, then one with the third bit of group g in bit g |
//!
//! A tile is its blocks in order, each the units and then the scales: 16 halves of scale, 16 of
//! minimum where the format has one; for blocks of 256, the groups' scales in pairs of groups (16
//! rows × two bytes), then their minima likewise. 2-bit blocks keep the minimum in the high nibble
//! of the scale. So a matrix is read forward in one stream, which is what memory is fastest at
//! (values and scales apart were a third slower).

use gogrid_units::WeightType;
use half::f16;

use crate::quant::{Block, Format, ScaleOf};

/// Output rows in a tile.
pub(crate) const TILE: usize = 16;
/// Columns in a unit.
const UNIT: usize = 32;
/// Bytes of a vector: a tile's rows × four columns.
pub(crate) const VECTOR: usize = 64;

/// The layout of a matrix of a type and a number of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Blocks in a row; columns, for a float type.
    pub(crate) blocks: usize,
    /// Bytes of one block's values in a tile.
    pub(crate) value_bytes: usize,
    /// Bytes of one block in a tile: its values, then its scales.
    pub(crate) block_bytes: usize,
    /// Bytes of a tile.
    pub(crate) tile_bytes: usize,
}

impl Layout {
    /// `None` when `cols` is no whole number of blocks, or the sizes pass the address space.
    pub(crate) fn of(ty: WeightType, cols: usize) -> Option<Self> {
        ty.row_bytes(cols)?;
        let (value_bytes, scale_bytes) = match Format::of(ty) {
            None => (TILE * ty.block_bytes(), 0),
            Some(format) => (
                format.block_len() / UNIT * format.bits * VECTOR,
                Scales::of(format).bytes,
            ),
        };
        let blocks = cols / ty.block_len();
        let block_bytes = value_bytes + scale_bytes;
        let bytes = blocks.checked_mul(block_bytes)?;
        Some(Self {
            blocks,
            value_bytes,
            block_bytes,
            tile_bytes: bytes.checked_next_multiple_of(VECTOR)?,
        })
    }

    /// The blocks of a tile, each its values and its scales.
    #[inline(always)]
    pub(crate) fn blocks<'a>(&self, tile: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let value_bytes = self.value_bytes;
        let blocks = tile.chunks_exact(self.block_bytes).take(self.blocks);
        blocks.map(move |block| block.split_at(value_bytes))
    }

    /// Puts a block into row `row` of a tile that holds zeros there.
    pub(crate) fn put(&self, format: Format, tile: &mut [u8], at: Place, from: &Block) {
        let to = &mut tile[at.block * self.block_bytes..][..self.block_bytes];
        let (values, scales) = to.split_at_mut(self.value_bytes);
        let units = values.chunks_exact_mut(format.bits * VECTOR);
        for (unit, values) in units.zip(from.values.as_chunks().0) {
            put_unit(unit, at.row, values);
        }
        Scales::of(format).put(scales, at.row, from);
    }

    /// Gets back what `put` put.
    pub(crate) fn get(&self, format: Format, tile: &[u8], at: Place) -> Block {
        let from = &tile[at.block * self.block_bytes..][..self.block_bytes];
        let (values, scales) = from.split_at(self.value_bytes);
        let units = values.chunks_exact(format.bits * VECTOR);
        let mut block = Block::EMPTY;
        for (unit, values) in units.zip(block.values.as_chunks_mut().0) {
            get_unit(unit, at.row, values);
        }
        Scales::of(format).get(scales, at.row, &mut block);
        block
    }
}

/// A block of a row of a tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) block: usize,
    pub(crate) row: usize,
}

/// One run of a value's bits: the vector of group g, the shift inside its byte, the mask, and
/// where those bits go in the value.
struct Field {
    vector: usize,
    shift: usize,
    mask: u8,
    into: usize,
}

/// The runs that make up a value of group `group` in a unit of `bits` bits; the second may be
/// empty (mask 0).
fn fields(bits: usize, group: usize) -> [Field; 2] {
    let field = |vector, shift, mask, into| Field {
        vector,
        shift,
        mask,
        into,
    };
    let none = field(0, 0, 0, 0);
    let nibble = field(group % 4, group / 4 * 4, 15, 0);
    let crumb = field(group / 4, group % 4 * 2, 3, 0);
    match bits {
        2 => [crumb, none],
        3 => [crumb, field(2, group, 1, 2)],
        4 => [nibble, none],
        5 => [nibble, field(4, group, 1, 4)],
        6 => [nibble, field(4 + group / 4, group % 4 * 2, 3, 4)],
        8 => [field(group, 0, 255, 0), none],
        _ => unreachable!("no format of {bits} bits"),
    }
}

fn put_unit(unit: &mut [u8], row: usize, values: &[u8; UNIT]) {
    let bits = unit.len() / VECTOR;
    for (group, values) in values.as_chunks::<4>().0.iter().enumerate() {
        for field in fields(bits, group) {
            let to = &mut unit[field.vector * VECTOR + row * 4..][..4];
            for (to, value) in to.iter_mut().zip(values) {
                *to |= (value >> field.into & field.mask) << field.shift;
            }
        }
    }
}

fn get_unit(unit: &[u8], row: usize, values: &mut [u8; UNIT]) {
    let bits = unit.len() / VECTOR;
    for (group, values) in values.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        for field in fields(bits, group) {
            let from = &unit[field.vector * VECTOR + row * 4..][..4];
            for (value, from) in values.iter_mut().zip(from) {
                *value |= (from >> field.shift & field.mask) << field.into;
            }
        }
    }
}

/// Where the scales of one block lie.
struct Scales {
    /// The first pair of groups.
    groups_at: usize,
    /// The first pair of groups' minima.
    mins_at: usize,
    /// All of them.
    bytes: usize,
    groups: usize,
    has_m: bool,
}

impl Scales {
    const fn of(format: Format) -> Self {
        let halves = if format.mins { 4 * TILE } else { 2 * TILE };
        let groups = match format.scale_of {
            ScaleOf::Block => 0,
            ScaleOf::Group(len) => 256 / len,
        };
        let mins_at = halves + groups * TILE;
        let own_mins = format.mins && format.bits != 2;
        Self {
            groups_at: halves,
            mins_at,
            bytes: if own_mins {
                mins_at + groups * TILE
            } else {
                mins_at
            },
            groups,
            has_m: format.mins,
        }
    }

    fn packs_mins(&self) -> bool {
        self.has_m && self.bytes == self.mins_at
    }

    fn put(&self, to: &mut [u8], row: usize, from: &Block) {
        to[2 * row..][..2].copy_from_slice(&from.d.to_le_bytes());
        if self.has_m {
            to[2 * TILE + 2 * row..][..2].copy_from_slice(&from.m.to_le_bytes());
        }
        for group in 0..self.groups {
            let at = pair(group, row);
            let [scale] = from.scales[group].to_le_bytes();
            if self.packs_mins() {
                to[self.groups_at + at] = scale | from.mins[group] << 4;
            } else {
                to[self.groups_at + at] = scale;
                if self.has_m {
                    to[self.mins_at + at] = from.mins[group];
                }
            }
        }
    }

    fn get(&self, from: &[u8], row: usize, to: &mut Block) {
        let half = |at| f16::from_le_bytes([from[at], from[at + 1]]);
        to.d = half(2 * row);
        if self.has_m {
            to.m = half(2 * TILE + 2 * row);
        }
        for group in 0..self.groups {
            let at = pair(group, row);
            let scale = from[self.groups_at + at];
            if self.packs_mins() {
                to.scales[group] = i8::from_le_bytes([scale & 15]);
                to.mins[group] = scale >> 4;
            } else {
                to.scales[group] = i8::from_le_bytes([scale]);
                if self.has_m {
                    to.mins[group] = from[self.mins_at + at];
                }
            }
        }
    }
}

/// Groups go in pairs, a pair's 16 rows side by side.
const fn pair(group: usize, row: usize) -> usize {
    group / 2 * 2 * TILE + 2 * row + group % 2
}
