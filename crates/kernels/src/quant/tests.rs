//! The formats against a plain reading of GGML's block layouts, value by value.

use gogrid_units::WeightType;
use half::{bf16, f16};
use proptest::prelude::*;

use super::{Block, Format, WholeNumbers, can_keep, quantise_row, read_floats};

/// Bytes that look random, the same for a seed.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        // Marsaglia's xorshift64*.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Even between -1 and 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// A row of `ty` with any levels and scales of a trained network's size.
    pub(crate) fn row(&mut self, ty: WeightType, cols: usize) -> Vec<u8> {
        let mut row = Vec::new();
        for _ in 0..cols / ty.block_len() {
            let at = row.len();
            row.extend((0..ty.block_bytes()).map(|_| self.next().to_le_bytes()[7]));
            match ty {
                WeightType::F32 => row[at..].copy_from_slice(&self.unit().to_le_bytes()),
                WeightType::Bf16 => {
                    row[at..].copy_from_slice(&bf16::from_f32(self.unit()).to_le_bytes());
                }
                _ => {
                    for half in 0..halves(ty) {
                        let scale = f16::from_f32(self.unit() * 0.1);
                        put_half(ty, &mut row[at..], half, scale);
                    }
                }
            }
        }
        row
    }
}

/// How many halves a block has: none, a scale, or a scale and a minimum.
pub(crate) fn halves(ty: WeightType) -> usize {
    match ty {
        WeightType::F32 | WeightType::Bf16 => 0,
        WeightType::Q4_1
        | WeightType::Q5_1
        | WeightType::Q2K
        | WeightType::Q4K
        | WeightType::Q5K => 2,
        _ => 1,
    }
}

/// Puts half `index` into a block, or what comes next to it.
pub(crate) fn put_half(ty: WeightType, block: &mut [u8], index: usize, half: f16) {
    let first = match ty {
        WeightType::Mxfp4 => {
            // The exponent.
            block[0] = (half.to_f32().to_bits() >> 23) as u8;
            return;
        }
        WeightType::Iq1M => {
            for nibble in 0..4 {
                let byte = &mut block[49 + 2 * nibble];
                *byte = *byte & 15 | ((half.to_bits() >> (4 * nibble) & 15) as u8) << 4;
            }
            return;
        }
        WeightType::Q2K => 80,
        WeightType::Q3K => 108,
        WeightType::Q6K => 208,
        WeightType::Tq1_0 => 52,
        WeightType::Tq2_0 => 64,
        _ => 0,
    };
    block[first + 2 * index..][..2].copy_from_slice(&half.to_le_bytes());
}

/// The values of stored bytes of any type, by their definition; of those with code-books and of three
/// values as they are read, which is held against gguf-py's reading.
pub(crate) fn plain(ty: WeightType, stored: &[u8]) -> Vec<f32> {
    let blocks = stored.chunks_exact(ty.block_bytes());
    if is_golden(ty) {
        return blocks.flat_map(|block| read(ty, block)).collect();
    }
    blocks
        .flat_map(|b| {
            (0..ty.block_len())
                .map(|i| plain_value(ty, b, i))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Whether `crates/testkit/golden/weight_types.txt` has the type.
fn is_golden(ty: WeightType) -> bool {
    golden().any(|golden| golden.ty == ty)
}

fn read(ty: WeightType, block: &[u8]) -> Vec<f32> {
    let format = Format::of(ty).expect("a quantised type");
    let mut values = vec![0.0; ty.block_len()];
    Block::read(ty, block).dequantise(format, &mut values);
    values
}

fn plain_value(ty: WeightType, b: &[u8], i: usize) -> f32 {
    let half = |at: usize| f16::from_le_bytes([b[at], b[at + 1]]).to_f32();
    let bit = |from: usize, n: usize| i32::from(b[from + n / 8] >> (n % 8) & 1);
    let small = |from: usize| i32::from(b[from + i % 16] >> (i / 16 * 4) & 15);
    match ty {
        WeightType::F32 => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        WeightType::F16 => half(0),
        WeightType::Bf16 => f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16),
        WeightType::Q4_0 => (small(2) - 8) as f32 * half(0),
        WeightType::Q4_1 => small(4) as f32 * half(0) + half(2),
        WeightType::Q5_0 => (small(6) + 16 * bit(2, i) - 16) as f32 * half(0),
        WeightType::Q5_1 => (small(8) + 16 * bit(4, i)) as f32 * half(0) + half(2),
        WeightType::Q8_0 => f32::from(b[2 + i] as i8) * half(0),
        _ => plain_super_value(ty, b, i),
    }
}

fn plain_super_value(ty: WeightType, b: &[u8], i: usize) -> f32 {
    let half = |at: usize| f16::from_le_bytes([b[at], b[at + 1]]).to_f32();
    // Two bits at a time: 128 values in 32 bytes. Four: 64 in 32. One: 256 in 32.
    let two = |from: usize| i32::from(b[from + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
    let four = |from: usize| i32::from(b[from + i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4)) & 15;
    let one = |from: usize| i32::from(b[from + i % 32] >> (i / 32)) & 1;
    match ty {
        WeightType::Q2K => {
            let both = b[i / 16];
            half(80) * f32::from(both & 15) * two(16) as f32 - half(82) * f32::from(both >> 4)
        }
        WeightType::Q3K => {
            let g = i / 16;
            let low = if g < 8 {
                b[96 + g] & 15
            } else {
                b[96 + g - 8] >> 4
            };
            let high = b[104 + g % 4] >> (2 * (g / 4)) & 3;
            let scale = f32::from(low | high << 4) - 32.0;
            let value = two(32) - if one(0) == 1 { 0 } else { 4 };
            half(108) * scale * value as f32
        }
        WeightType::Q4K | WeightType::Q5K => {
            let g = i / 32;
            let (scale, min) = if g < 4 {
                (b[4 + g] & 63, b[8 + g] & 63)
            } else {
                let shared = b[8 + g];
                (
                    shared & 15 | b[g] >> 6 << 4,
                    shared >> 4 | b[4 + g] >> 6 << 4,
                )
            };
            let value = match ty {
                WeightType::Q4K => four(16),
                _ => four(48) + 16 * one(16),
            };
            half(0) * f32::from(scale) * value as f32 - half(2) * f32::from(min)
        }
        WeightType::Q6K => {
            let (part, l) = (i / 128, i % 32);
            let low = b[part * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
            let high = b[128 + part * 32 + l] >> (i % 128 / 32 * 2) & 3;
            let scale = f32::from(b[192 + i / 16] as i8);
            half(208) * scale * (f32::from(low | high << 4) - 32.0)
        }
        _ => unreachable!("{ty}"),
    }
}

pub(crate) fn quantised() -> impl Iterator<Item = (WeightType, Format)> {
    let all = WeightType::ALL.into_iter();
    all.filter_map(|ty| Some((ty, Format::of(ty)?)))
}

#[test]
fn blocks_read_as_the_layouts_say() {
    for (ty, _) in quantised().filter(|&(ty, _)| !is_golden(ty)) {
        for seed in 1..200 {
            let stored = Noise(seed).row(ty, ty.block_len());
            assert_eq!(read(ty, &stored), plain(ty, &stored), "{ty}, seed {seed}");
        }
    }
}

/// What gguf-py makes of seeded blocks: `crates/testkit/peers/weight_types.py` says how.
struct Golden {
    ty: WeightType,
    block: Vec<u8>,
    values: Vec<u8>,
    hash: u64,
}

fn golden() -> impl Iterator<Item = Golden> {
    let bytes = |text: &str| -> Vec<u8> {
        let pairs = (0..text.len()).step_by(2).map(|at| &text[at..at + 2]);
        pairs
            .map(|pair| u8::from_str_radix(pair, 16).unwrap())
            .collect()
    };
    let lines = include_str!("../../../testkit/golden/weight_types.txt").lines();
    lines.map(move |line| {
        let parts: Vec<_> = line.split(' ').collect();
        Golden {
            ty: parts[0].parse().unwrap(),
            block: bytes(parts[1]),
            values: bytes(parts[2]),
            hash: u64::from_str_radix(parts[3], 16).unwrap(),
        }
    })
}

/// The bytes of the values, without a sign where they are zero.
fn bytes_of(values: Vec<f32>) -> Vec<u8> {
    let bytes = |value: f32| (value + 0.0).to_le_bytes();
    values.into_iter().flat_map(bytes).collect()
}

#[test]
fn blocks_with_code_books_mean_what_they_mean_to_gguf_py() {
    for Golden {
        ty, block, values, ..
    } in golden()
    {
        assert_eq!(bytes_of(read(ty, &block)), values, "{ty}");
    }
}

#[test]
fn whole_numbers_are_the_block() {
    for (ty, format) in quantised() {
        let Some(part) = WholeNumbers::part(ty) else {
            continue;
        };
        for seed in 1..20 {
            let stored = Noise(seed).row(ty, ty.block_len());
            let whole = WholeNumbers::of(ty, &stored);
            let half = format.half(whole.half) * part;
            let value =
                |i: usize| half * f32::from(whole.scales[i / 16]) * f32::from(whole.values[i]);
            let values: Vec<_> = (0..ty.block_len()).map(value).collect();
            assert_eq!(values, read(ty, &stored), "{ty}, seed {seed}");
        }
    }
}

/// Every entry of every grid among them.
#[test]
fn many_blocks_with_code_books_mean_what_they_mean_to_gguf_py() {
    for golden in golden() {
        let ty = golden.ty;
        let mut blocks = seeded_bytes(2048 * ty.block_bytes());
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for block in blocks.chunks_exact_mut(ty.block_bytes()) {
            match ty {
                WeightType::Mxfp4 => {}
                WeightType::Iq1M => block[55] &= 0xbf,
                WeightType::Tq1_0 => block[53] &= 0xbf,
                WeightType::Tq2_0 => block[65] &= 0xbf,
                _ => block[1] &= 0xbf,
            }
            for byte in bytes_of(read(ty, block)) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        assert_eq!(hash, golden.hash, "{ty}");
    }
}

/// SplitMix64's words from seed 1 on.
fn seeded_bytes(count: usize) -> Vec<u8> {
    let word = |step: u64| {
        let z = step.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    };
    let mut bytes: Vec<u8> = (1..=count.div_ceil(8) as u64).flat_map(word).collect();
    bytes.truncate(count);
    bytes
}

/// The greatest error of a block, in parts of its greatest magnitude: half a level, plus what the
/// scales' own rounding adds.
fn tolerance(ty: WeightType) -> f32 {
    match ty {
        WeightType::Q4_0 => 1.0 / 8.0 + 0.01,
        WeightType::Q4_1 => 1.0 / 15.0 + 0.005,
        WeightType::Q5_0 => 1.0 / 16.0 + 0.005,
        WeightType::Q5_1 => 1.0 / 31.0 + 0.005,
        WeightType::Q8_0 => 0.5 / 127.0 + 0.001,
        WeightType::Q4K => 1.0 / 15.0 + 2.0 / 63.0,
        WeightType::Q6K => 1.0 / 32.0 + 0.01,
        _ => unreachable!("{ty}"),
    }
}

proptest! {
    #[test]
    fn quantising_stays_within_half_a_level(seed in 1_u64.., size in -8..20_i32) {
        for (ty, _) in quantised().filter(|&(ty, _)| can_keep(WeightType::F32, ty).is_ok()) {
            let mut noise = Noise(seed);
            let row: Vec<f32> = (0..256).map(|_| noise.unit() * 1.5_f32.powi(size)).collect();
            let back = plain(ty, &quantise_row(ty, &row));
            for (x, y) in row.chunks(ty.block_len()).zip(back.chunks(ty.block_len())) {
                let greatest = x.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                for (x, y) in x.iter().zip(y) {
                    prop_assert!((x - y).abs() <= greatest * tolerance(ty), "{ty}: {x} became {y} of {greatest}");
                }
            }
        }
    }
}

#[test]
fn zeros_and_the_unquantisable_do_not_panic() {
    for (ty, _) in quantised().filter(|&(ty, _)| can_keep(WeightType::F32, ty).is_ok()) {
        assert!(
            plain(ty, &quantise_row(ty, &[0.0; 256]))
                .iter()
                .all(|&v| v == 0.0),
            "{ty}"
        );
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-45] {
            let mut row = [0.5; 256];
            row[77] = bad;
            assert_eq!(quantise_row(ty, &row).len(), ty.row_bytes(256).unwrap());
        }
    }
}

#[test]
fn only_floats_change_their_type() {
    let refusal = can_keep(WeightType::Q4K, WeightType::Q8_0).unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("cannot keep q4_k weights as q8_0")
    );
    assert!(can_keep(WeightType::Bf16, WeightType::Q2K).is_err());
    assert_eq!(can_keep(WeightType::Bf16, WeightType::Q4K), Ok(()));
    assert_eq!(can_keep(WeightType::Q2K, WeightType::Q2K), Ok(()));
}

#[test]
fn float_rows_read_exactly() {
    for ty in [WeightType::F32, WeightType::F16, WeightType::Bf16] {
        let stored = Noise(3).row(ty, 40);
        let mut values = [0.0; 40];
        read_floats(ty, &stored, &mut values);
        assert_eq!(values.to_vec(), plain(ty, &stored));
    }
}
