use proptest::prelude::*;

use super::{COLUMNS, Pieces, Product, matmul_tiles};
use crate::activations::{Activations, Forms};
use crate::packed::{Packed, Packing};
use crate::quant::tests::{Noise, halves, plain, put_half};
use crate::shared_out::SharedOut;
use crate::simd::{Isa, Simd};
use gogrid_units::WeightType;

/// A matrix and its input, as stored.
struct Case {
    ty: WeightType,
    rows: usize,
    cols: usize,
    tokens: usize,
    stored: Vec<u8>,
    x: Vec<f32>,
}

impl Case {
    fn new(ty: WeightType, [rows, cols, tokens]: [usize; 3], seed: u64) -> Self {
        let mut noise = Noise(seed | 1);
        Self {
            ty,
            rows,
            cols,
            tokens,
            stored: (0..rows).flat_map(|_| noise.row(ty, cols)).collect(),
            x: (0..tokens * cols).map(|_| noise.unit() * 3.0).collect(),
        }
    }

    fn pack(&self) -> Packed {
        let row_bytes = self.ty.row_bytes(self.cols).unwrap();
        let mut read = |rows: std::ops::Range<usize>, out: &mut [u8]| {
            out.copy_from_slice(&self.stored[rows.start * row_bytes..rows.end * row_bytes]);
            Ok::<_, ()>(())
        };
        Packed::pack(
            Packing {
                stored: self.ty,
                kept: self.ty,
                rows: self.rows,
                cols: self.cols,
            },
            &mut read,
        )
        .unwrap()
    }

    /// Outputs, computed in parts cut at `token` and `tile`.
    fn run(&self, isa: Isa, token: usize, tile: usize) -> Vec<f32> {
        self.run_in_pieces(isa, (token, tile), None)
    }

    /// The same, stopped at inside each row.
    fn run_in_pieces(
        &self,
        isa: Isa,
        (token, tile): (usize, usize),
        pieces: Option<Pieces<'_>>,
    ) -> Vec<f32> {
        let weights = self.pack();
        let mut x =
            Activations::new(Forms::of(self.ty), self.tokens, self.cols).expect("there is memory");
        x.fill(isa, &self.x);
        let mut out = vec![f32::NAN; self.tokens * self.rows];
        let tiles = weights.tiles();
        let (token, tile) = (token.min(self.tokens), tile.min(tiles));
        let product = Product {
            weights: &weights,
            x: &x,
            out: SharedOut::new(&mut out),
            pieces,
        };
        for tokens in [0..token, token..self.tokens] {
            for tiles in [0..tile, tile..tiles] {
                // SAFETY: one thread.
                unsafe { matmul_tiles(Simd::expect(isa), &product, tokens.clone(), tiles) }
            }
        }
        out
    }

    /// Outputs in f64 of the values as stored, and how far rounding the input to int8 may move
    /// each.
    fn exact(&self) -> Vec<(f64, f64)> {
        let row_bytes = self.ty.row_bytes(self.cols).unwrap();
        let block = self.ty.block_len();
        let rows: Vec<_> = self
            .stored
            .chunks_exact(row_bytes)
            .map(|r| plain(self.ty, r))
            .collect();
        let mut out = Vec::new();
        for x in self.x.chunks_exact(self.cols) {
            for w in &rows {
                let (mut sum, mut bound) = (0.0, 0.0);
                for (x, w) in x.chunks_exact(block).zip(w.chunks_exact(block)) {
                    let greatest = x.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                    let half_level = if block == 1 {
                        0.0
                    } else {
                        f64::from(greatest) / 254.0
                    };
                    for (x, w) in x.iter().zip(w) {
                        let (x, w) = (f64::from(*x), f64::from(*w));
                        sum += x * w;
                        bound += w.abs() * half_level + x.abs() * w.abs() * 1e-5;
                    }
                }
                out.push((sum, bound));
            }
        }
        out
    }
}

/// Bit patterns, all NaNs alike.
fn bits(values: &[f32]) -> Vec<u32> {
    let bits = |v: &f32| {
        if v.is_nan() {
            f32::NAN.to_bits()
        } else {
            v.to_bits()
        }
    };
    values.iter().map(bits).collect()
}

#[test]
fn stopping_inside_a_row_changes_no_bit_and_tells_of_every_weight() {
    for ty in [WeightType::F32, WeightType::F16, WeightType::Bf16] {
        let case = Case::new(ty, [32, 203, 1], 5);
        for isa in Isa::available() {
            let whole = bits(&case.run(isa, 0, 0));
            for cols in [COLUMNS, 5 * COLUMNS, 200, 204, 1000] {
                let told = std::cell::Cell::new(0);
                let go_on = &|weights| {
                    told.set(told.get() + weights);
                    true
                };
                let pieces = Some(Pieces { cols, go_on });
                let stopped = case.run_in_pieces(isa, (0, 0), pieces);
                assert_eq!(bits(&stopped), whole, "{isa}, {ty} by {cols}");
                assert_eq!(told.get(), 32 * 203, "{isa}, {ty} by {cols}");
            }
        }
    }
}

fn check(case: &Case, token: usize, tile: usize) {
    let Case {
        ty,
        rows,
        cols,
        tokens,
        ..
    } = case;
    let shape = format!("{ty} {rows} x {cols}, {tokens} tokens, cut at {token} and {tile}");
    let reference = case.run(Isa::Scalar, 0, 0);
    for isa in Isa::available() {
        let got = case.run(isa, token, tile);
        assert_eq!(bits(&got), bits(&reference), "{isa}: {shape}");
    }
    for (i, (got, (exact, bound))) in reference.iter().zip(case.exact()).enumerate() {
        let error = (f64::from(*got) - exact).abs();
        assert!(
            error <= bound,
            "{shape}: output {i} is {got}, exactly {exact} +- {bound}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_instruction_set_and_cut_gives_the_same_bits(
        ty in proptest::sample::select(WeightType::ALL.to_vec()),
        rows in 1..70_usize,
        blocks in 1..5_usize,
        odd in 0..7_usize,
        tokens in 1..20_usize,
        seed: u64,
        cut in (0..20_usize, 0..5_usize),
    ) {
        let cols = if ty.block_len() == 1 { 29 * blocks + odd } else { ty.block_len() * blocks };
        check(&Case::new(ty, [rows, cols, tokens], seed), cut.0, cut.1);
    }
}

#[test]
fn every_type_multiplies() {
    for ty in WeightType::ALL {
        check(&Case::new(ty, [35, 512, 11], 7), 3, 1);
    }
}

/// Every level and scale at its extreme, where 16-bit sums would saturate first.
#[test]
fn extremes_do_not_saturate() {
    for ty in WeightType::ALL {
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            for sign in [1.0, -1.0] {
                let mut case = Case::new(ty, [16, 512, 3], 1);
                case.stored.fill(byte);
                for block in case.stored.chunks_exact_mut(ty.block_bytes()) {
                    for half in 0..halves(ty) {
                        put_half(ty, block, half, half::f16::from_f32(0.25));
                    }
                    if halves(ty) == 0 {
                        block.fill(0x3f);
                    }
                }
                case.x.fill(sign);
                check(&case, 1, 0);
            }
        }
    }
}

/// Any bytes at all: scales that are infinite or not a number, in weights and inputs.
#[test]
fn hostile_bytes_do_not_panic() {
    for ty in WeightType::ALL {
        for seed in 1..20 {
            let mut case = Case::new(ty, [17, 256, 5], seed);
            let mut noise = Noise(seed);
            case.stored.fill_with(|| noise.next().to_le_bytes()[7]);
            for half in 0..halves(ty) {
                let bad = [half::f16::NAN, half::f16::INFINITY, half::f16::MAX];
                put_half(ty, &mut case.stored, half, bad[(seed % 3) as usize]);
            }
            case.x[3] = [f32::NAN, f32::INFINITY, f32::MAX, 1e-42][(seed % 4) as usize];
            case.x[256..512].fill(1e-40);
            let reference = bits(&case.run(Isa::Scalar, 0, 0));
            for isa in Isa::available() {
                assert_eq!(
                    bits(&case.run(isa, 2, 1)),
                    reference,
                    "{ty} on {isa}, seed {seed}"
                );
            }
        }
    }
}
