use proptest::prelude::*;

use super::{Activations, Forms};
use crate::buffer::Buffer;
use crate::quant::tests::Noise;
use crate::simd::{Isa, Word};
use gogrid_units::WeightType;

fn all_forms() -> Forms {
    let forms = WeightType::ALL.map(Forms::of);
    forms.into_iter().fold(Forms::default(), Forms::and)
}

fn filled(isa: Isa, rows: usize, cols: usize, x: &[f32]) -> Activations {
    let mut new = Activations::new(all_forms(), rows, cols).unwrap();
    new.fill(isa, x);
    new
}

/// The int8 value of column `col`.
fn value(words: &[Word], col: usize) -> i8 {
    i8::from_le_bytes([words[col / 4][col % 4]])
}

/// One block by the definition: scale, int8 values.
fn by_definition(x: &[f32]) -> (f32, Vec<i8>) {
    let greatest = x.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    if x.iter().any(|v| !v.is_finite()) {
        return (f32::NAN, vec![0; x.len()]);
    }
    if greatest < 127.0 * f32::MIN_POSITIVE {
        return (0.0, vec![0; x.len()]);
    }
    let scale = greatest / 127.0;
    let inverse = 1.0 / scale;
    let round = |v: &f32| (v * inverse).round_ties_even() as i8;
    (scale, x.iter().map(round).collect())
}

fn check(x: &[f32], cols: usize) {
    let rows = x.len() / cols;
    for isa in Isa::available() {
        let got = filled(isa, rows, cols, x);
        for (row, x) in x.chunks_exact(cols).enumerate() {
            assert_eq!(got.floats(row).len(), cols);
            let small = got.small(row);
            for (block, x) in x.chunks_exact(32).enumerate() {
                let (scale, values) = by_definition(x);
                let sum: i32 = values.iter().map(|&v| i32::from(v)).sum();
                let got = &small[block];
                let read: Vec<_> = (0..32).map(|col| value(&got.words, col)).collect();
                assert_eq!(read, values, "{isa}: {x:?}");
                assert_eq!(got.sum, sum, "{isa}");
                let scales = [scale, scale * sum as f32].map(f32::to_bits);
                assert_eq!(
                    [got.scale, got.scaled_sum].map(f32::to_bits),
                    scales,
                    "{isa}: {x:?}"
                );
            }
            check_super(&got, row, x);
        }
    }
}

fn check_super(got: &Activations, row: usize, x: &[f32]) {
    let row = got.super_row(row);
    for (block, x) in x.chunks_exact(256).enumerate() {
        let (scale, values) = by_definition(x);
        let sums = |len: usize| {
            let sum = |v: &[i8]| v.iter().map(|&v| i16::from(v)).sum::<i16>();
            values.chunks_exact(len).map(sum).collect::<Vec<_>>()
        };
        let halves = |words: &[i32]| {
            // Two 16-bit halves of each word.
            let halves = |w: &i32| [*w as i16, (w >> 16) as i16];
            words.iter().flat_map(halves).collect::<Vec<_>>()
        };
        let at = &row[block];
        let read: Vec<_> = (0..256).map(|col| value(&at.words, col)).collect();
        assert_eq!(read, values);
        assert_eq!(at.scale.to_bits(), scale.to_bits());
        assert_eq!(halves(&at.sums16), sums(16));
        assert_eq!(halves(&at.sums32), sums(32));
    }
}

proptest! {
    #[test]
    fn rounding_is_as_defined_on_every_instruction_set(
        seed in 1_u64..,
        size in -126..126_i32,
        rows in 1..4_usize,
    ) {
        let mut noise = Noise(seed);
        let x: Vec<_> = (0..rows * 512).map(|_| noise.unit() * 2.0_f32.powi(size)).collect();
        check(&x, 512);
    }
}

#[test]
fn bad_numbers_make_a_block_nan_and_others_stay() {
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = vec![1.0; 256];
        x[40] = bad;
        let got = filled(Isa::detect(), 1, 256, &x);
        assert_eq!(got.small(0)[0].scale, 1.0 / 127.0);
        let bad = &got.small(0)[1];
        assert!([bad.scale, bad.scaled_sum].iter().all(|s| s.is_nan()));
        assert!(got.super_row(0)[0].scale.is_nan());
    }
}

#[test]
fn ties_and_edges_are_as_defined() {
    // 127 is the scale's own value, so halves are ties.
    let mut x: Vec<_> = (0_u8..=255).map(|i| f32::from(i) / 2.0 - 63.5).collect();
    x[0] = 127.0;
    check(&x, 256);
    for edge in [
        0.0,
        -0.0,
        f32::MAX,
        f32::MIN_POSITIVE,
        126.0 * f32::MIN_POSITIVE,
        1e-45,
    ] {
        let mut x = vec![edge; 256];
        x[7] = -edge;
        check(&x, 256);
    }
}

#[test]
fn the_bytes_are_those_counted() {
    for ty in [WeightType::F32, WeightType::Q4_0, WeightType::Q6K] {
        let forms = Forms::of(ty);
        let new = Activations::new(forms, 5, 768).unwrap();
        let bytes = [
            Buffer::<f32>::bytes_for(new.floats.len()),
            Buffer::<super::SmallBlock>::bytes_for(new.blocks32.len()),
            Buffer::<super::SuperBlock>::bytes_for(new.blocks256.len()),
        ];
        assert_eq!(
            Activations::bytes_for(forms, 5, 768),
            bytes.into_iter().sum(),
            "{ty}"
        );
    }
}
