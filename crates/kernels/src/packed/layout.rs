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
//! A tile is read forward, in one stream of whole cache lines, for that is what memory is fastest
//! at: values and scales in two places, or blocks that begin inside a line, cost up to half the
//! bandwidth. So a tile is chunks: a line with the halves of scale (and of minimum, where the
//! format has one) of 16 rows, then the body of the block; where there is no minimum, the line
//! holds the scales of two blocks and two bodies follow. The body of a block of 32 is its unit. The
//! body of a block of 256 is stretches, each a line of group scales, then two units, or four where they
//! have that many scales in all. Group scales go in pairs of groups, 16 rows × two bytes: for groups
//! of 16, the first unit's pair and the second's (2-bit blocks keep the minimum in the high nibble);
//! for groups of 32, the pair of scales and the pair of minima, or two pairs of scales.
//!
//! A value that is a code of a code-book is kept as the code.

use gogrid_units::WeightType;

use crate::quant::{Block, Format, ScaleOf};

/// Output rows in a tile.
pub(crate) const TILE: usize = 16;
/// Columns in a unit.
const UNIT: usize = 32;
/// Groups of four columns in a unit.
const GROUPS: usize = UNIT / 4;
/// Units in a block of 256.
pub(crate) const UNITS: usize = 8;
/// Bytes of a vector: a tile's rows × four columns.
pub(crate) const VECTOR: usize = 64;

/// The layout of a matrix of a type and a number of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// `None` for a float type.
    pub(crate) format: Option<Format>,
    /// Blocks in a row; columns, for a float type.
    pub(crate) blocks: usize,
    /// Whether two blocks share a line of halves.
    in_pairs: bool,
    /// Bytes of one block without its halves; of a column of a tile, for a float type.
    body_bytes: usize,
    /// Bytes of a tile.
    pub(crate) tile_bytes: usize,
}

impl Layout {
    /// `None` when `cols` is no whole number of blocks, or the sizes pass the address space.
    pub(crate) fn of(ty: WeightType, cols: usize) -> Option<Self> {
        ty.row_bytes(cols)?;
        let blocks = cols / ty.block_len();
        let format = Format::of(ty);
        let (in_pairs, body_bytes) = match format {
            None => (false, TILE * ty.block_bytes()),
            Some(format) => (!format.mins, body_bytes(format)),
        };
        let halves = match (format, in_pairs) {
            (None, _) => 0,
            (Some(_), true) => blocks.div_ceil(2).checked_mul(VECTOR)?,
            (Some(_), false) => blocks.checked_mul(VECTOR)?,
        };
        let bytes = blocks.checked_mul(body_bytes)?.checked_add(halves)?;
        Some(Self {
            format,
            blocks,
            in_pairs,
            body_bytes,
            tile_bytes: bytes.checked_next_multiple_of(VECTOR)?,
        })
    }

    /// The halves of a block of a tile, and its body. Not for float types.
    #[inline(always)]
    pub(crate) fn block<'a>(&self, tile: &'a [u8], block: usize) -> (&'a [u8], &'a [u8]) {
        let (halves, body) = self.places(block);
        (
            &tile[halves..halves + if self.in_pairs { VECTOR / 2 } else { VECTOR }],
            &tile[body..body + self.body_bytes],
        )
    }

    #[inline(always)]
    fn places(&self, block: usize) -> (usize, usize) {
        if self.in_pairs {
            let pair = block / 2 * (VECTOR + 2 * self.body_bytes);
            let second = block % 2;
            let body = pair + VECTOR + second * self.body_bytes;
            return (pair + second * 2 * TILE, body);
        }
        let halves = block * (VECTOR + self.body_bytes);
        (halves, halves + VECTOR)
    }

    /// Puts a block of `format`, the layout's own, into its place.
    pub(crate) fn put(&self, tile: &mut [u8], at: Place, (format, from): (Format, &Block)) {
        let (halves, body) = self.places(at.block);
        let mut put_half = |at: usize, half: u16| {
            tile[at..at + 2].copy_from_slice(&half.to_le_bytes());
        };
        put_half(halves + 2 * at.row, from.d);
        if format.mins {
            put_half(halves + 2 * TILE + 2 * at.row, from.m);
        }
        let body = &mut tile[body..body + self.body_bytes];
        for unit in 0..format.block_len() / UNIT {
            let to = &mut body[unit_at(format, unit)..][..format.bits * VECTOR];
            put_unit(to, at.row, &from.values.as_chunks().0[unit]);
        }
        if let ScaleOf::Group(len) = format.scale_of {
            for group in 0..256 / len {
                let (scale, min) = group_at(format, group, at.row);
                body[scale] = from.scales[group].to_le_bytes()[0];
                match min {
                    Some(Min::HighNibble) => body[scale] |= from.mins[group] << 4,
                    Some(Min::At(min)) => body[min] = from.mins[group],
                    None => {}
                }
            }
        }
    }

    /// Gets back a block that `put` put.
    pub(crate) fn get(&self, tile: &[u8], at: Place, format: Format) -> Block {
        let (halves, body) = self.block(tile, at.block);
        let half = |at: usize| u16::from_le_bytes([halves[at], halves[at + 1]]);
        let mut block = Block::EMPTY;
        block.d = half(2 * at.row);
        if format.mins {
            block.m = half(2 * TILE + 2 * at.row);
        }
        for unit in 0..format.block_len() / UNIT {
            let from = &body[unit_at(format, unit)..][..format.bits * VECTOR];
            get_unit(from, at.row, &mut block.values.as_chunks_mut().0[unit]);
        }
        if let ScaleOf::Group(len) = format.scale_of {
            for group in 0..256 / len {
                let (scale, min) = group_at(format, group, at.row);
                let mut bits = body[scale];
                match min {
                    Some(Min::HighNibble) => {
                        block.mins[group] = bits >> 4;
                        bits &= 15;
                    }
                    Some(Min::At(min)) => block.mins[group] = body[min],
                    None => {}
                }
                block.scales[group] = i8::from_le_bytes([bits]);
            }
        }
        block
    }
}

const fn body_bytes(format: Format) -> usize {
    match format.scale_of {
        ScaleOf::Block => format.bits * VECTOR,
        ScaleOf::Group(_) => {
            let units = format.units_in_line();
            UNITS / units * stretch_bytes(units, format.bits)
        }
    }
}

/// Bytes of a line of group scales and its units.
pub(crate) const fn stretch_bytes(units: usize, bits: usize) -> usize {
    VECTOR + units * bits * VECTOR
}

/// Where a unit begins in its block's body.
fn unit_at(format: Format, unit: usize) -> usize {
    match format.scale_of {
        ScaleOf::Block => 0,
        ScaleOf::Group(_) => {
            let units = format.units_in_line();
            let stretch = unit / units * stretch_bytes(units, format.bits);
            stretch + VECTOR + unit % units * format.bits * VECTOR
        }
    }
}

/// Where a group's minimum is.
enum Min {
    HighNibble,
    At(usize),
}

/// Where a group's scale is in its block's body, and its minimum if it has one.
fn group_at(format: Format, group: usize, row: usize) -> (usize, Option<Min>) {
    let groups_of_unit = match format.scale_of {
        ScaleOf::Group(16) => 2,
        _ => 1,
    };
    let units = format.units_in_line();
    let (stretch, in_line) = (
        group / (units * groups_of_unit),
        group % (units * groups_of_unit),
    );
    let pair = stretch * stretch_bytes(units, format.bits) + in_line / 2 * 2 * TILE;
    let at = pair + 2 * row + group % 2;
    let min = match groups_of_unit {
        1 => Min::At(at + 2 * TILE),
        _ => Min::HighNibble,
    };
    (at, format.mins.then_some(min))
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

impl Field {
    /// Its mask in each of four bytes.
    fn masks(&self) -> u32 {
        u32::from_ne_bytes([self.mask; 4])
    }
}

/// Values of `bits` bits, four columns at a time. Shifts keep what they move inside its byte, whatever the
/// machine's order of bytes.
fn put_unit(unit: &mut [u8], row: usize, values: &[u8; UNIT]) {
    let mut groups = [0; GROUPS];
    for (group, values) in groups.iter_mut().zip(values.as_chunks().0) {
        *group = u32::from_ne_bytes(*values);
    }
    let bits = unit.len() / VECTOR;
    let words = unit.as_chunks_mut().0;
    match bits {
        2 => put_words(words, row, crumbs(groups)),
        3 => {
            let [a, b] = crumbs(groups);
            put_words(words, row, [a, b, spread::<1, 8>(groups.map(|g| g >> 2))]);
        }
        4 => put_words(words, row, nibbles(groups)),
        5 => {
            let [a, b, c, d] = nibbles(groups);
            let fifth = spread::<1, 8>(groups.map(|g| g >> 4));
            put_words(words, row, [a, b, c, d, fifth]);
        }
        6 => {
            let [a, b, c, d] = nibbles(groups);
            let [e, f] = crumbs(groups.map(|g| g >> 4));
            put_words(words, row, [a, b, c, d, e, f]);
        }
        8 => put_words(words, row, groups),
        _ => unreachable!("no format of {bits} bits"),
    }
}

/// One word for each vector.
#[inline(always)]
fn put_words<const N: usize>(to: &mut [[u8; 4]], row: usize, words: [u32; N]) {
    let to = &mut to[..N * TILE];
    for (vector, word) in words.into_iter().enumerate() {
        to[vector * TILE + row] = word.to_ne_bytes();
    }
}

/// The low nibbles of groups 0 to 3, with those of 4 to 7 above them.
#[inline(always)]
fn nibbles(groups: [u32; GROUPS]) -> [u32; 4] {
    std::array::from_fn(|v| spread::<4, 2>([groups[v], groups[v + 4]]))
}

/// The two lowest bits of four groups each.
#[inline(always)]
fn crumbs(groups: [u32; GROUPS]) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = groups;
    [spread::<2, 4>([a, b, c, d]), spread::<2, 4>([e, f, g, h])]
}

/// The lowest `BITS` bits of each byte, those of one word above those of the word before.
#[inline(always)]
fn spread<const BITS: usize, const N: usize>(words: [u32; N]) -> u32 {
    let mask = u32::from_ne_bytes([(1 << BITS) - 1; 4]);
    let mut all = 0;
    for (n, word) in words.into_iter().enumerate() {
        all |= (word & mask) << (BITS * n);
    }
    all
}

fn get_unit(unit: &[u8], row: usize, values: &mut [u8; UNIT]) {
    let bits = unit.len() / VECTOR;
    let words = unit.as_chunks().0;
    for (group, values) in values.as_chunks_mut().0.iter_mut().enumerate() {
        let mut found = 0;
        for field in fields(bits, group) {
            let from = u32::from_ne_bytes(words[field.vector * TILE + row]);
            found |= (from >> field.shift & field.masks()) << field.into;
        }
        *values = found.to_ne_bytes();
    }
}
