//! Random weight rows in each stored type, with a given spread.

use gogrid_units::WeightType;
use half::{bf16, f16};

use crate::rng::Rng;

/// `len` values of about the standard deviation `spread` and mean zero, stored as `stored`. Blocks
/// are random bits, every one of them valid; only their scales are chosen.
pub(crate) fn random_values(rng: &mut Rng, stored: WeightType, len: usize, spread: f32) -> Vec<u8> {
    let blocks = len / stored.block_len();
    assert_eq!(blocks * stored.block_len(), len, "{len} values in {stored}");
    let mut data = vec![0; blocks * stored.block_bytes()];
    for block in data.chunks_exact_mut(stored.block_bytes()) {
        fill_block(rng, stored, block, spread);
    }
    data
}

fn fill_block(rng: &mut Rng, stored: WeightType, block: &mut [u8], spread: f32) {
    // A uniform value in -1..1 has the standard deviation 1 / sqrt 3.
    let root3 = 3f32.sqrt();
    match stored {
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 => {
            let value = rng.between(-spread, spread) * root3;
            match stored {
                WeightType::F32 => block.copy_from_slice(&value.to_le_bytes()),
                WeightType::F16 => block.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
                _ => block.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
            }
        }
        _ => {
            rng.fill(block);
            let Scales {
                scale_at,
                unit,
                minimum,
            } = scales(stored);
            // Some blocks are wider than others, as in real models.
            let scale = spread / unit * rng.between(0.6, 1.4);
            match stored {
                WeightType::Mxfp4 => block[0] = power_near(rng, scale),
                WeightType::Iq1M => put_f16_in_nibbles(&mut block[48..], scale),
                _ => put_f16(block, scale_at, scale),
            }
            if let Some((at, ratio)) = minimum {
                put_f16(block, at, scale * ratio);
            }
            if stored == WeightType::Tq2_0 {
                // Quantisers make no value of 2.
                block[..64]
                    .iter_mut()
                    .for_each(|byte| *byte &= !((*byte & *byte >> 1 & 0x55) << 1));
            }
        }
    }
}

/// Where a block's f16 scale is, and what random bits give when it is 1.
struct Scales {
    scale_at: usize,
    /// The standard deviation of a value when the scale is 1.
    unit: f32,
    /// Where the f16 minimum is, and what multiple of the scale makes the mean zero.
    minimum: Option<(usize, f32)>,
}

const fn scales(stored: WeightType) -> Scales {
    // Layouts are those of GGML's block structs. Units: n bits give a deviation of 2^n / sqrt 12;
    // products of independent uniform scales and values have theirs from the moments; of code-books and
    // grids they were measured.
    let (scale_at, unit, minimum) = match stored {
        WeightType::Q4_0 => (0, 4.6, None),
        WeightType::Q4_1 => (0, 4.6, Some((2, -7.5))),
        WeightType::Q5_0 => (0, 9.2, None),
        WeightType::Q5_1 => (0, 9.2, Some((2, -15.5))),
        WeightType::Q8_0 => (0, 74.0, None),
        WeightType::Q2K => (80, 14.7, Some((82, 1.5))),
        WeightType::Q3K => (108, 43.0, None),
        WeightType::Q4K => (0, 256.0, Some((2, 7.5))),
        WeightType::Q5K => (0, 521.0, Some((2, 15.5))),
        WeightType::Q6K => (208, 1370.0, None),
        WeightType::Iq4Nl => (0, 67.5, None),
        WeightType::Iq4Xs => (0, 1247.0, None),
        WeightType::Iq3Xxs => (0, 142.6, None),
        WeightType::Iq3S => (0, 139.9, None),
        WeightType::Iq2Xxs => (0, 53.4, None),
        WeightType::Iq2Xs => (0, 55.9, None),
        WeightType::Iq2S => (0, 56.3, None),
        WeightType::Iq1S => (0, 7.2, None),
        WeightType::Tq1_0 => (52, 0.82, None),
        WeightType::Tq2_0 => (64, 0.71, None),
        // Their scales are no halves of their own.
        WeightType::Mxfp4 => (0, 5.85, None),
        WeightType::Iq1M => (0, 7.2, None),
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 => panic!("a float has no scale"),
    };
    Scales {
        scale_at,
        unit,
        minimum,
    }
}

/// The exponent, with a bias of 128, of one of the two powers of two about `scale`: such that its square
/// is that of `scale` in the mean.
fn power_near(rng: &mut Rng, scale: f32) -> u8 {
    let lower = scale.log2().floor();
    let ratio = scale / lower.exp2();
    let upper = rng.between(0.0, 3.0) < ratio * ratio - 1.0;
    // Far from both ends.
    (lower + 128.0) as u8 + u8::from(upper)
}

/// A half in the upper nibbles of four words of 16 bits.
fn put_f16_in_nibbles(words: &mut [u8], value: f32) {
    let bits = f16::from_f32(value).to_bits();
    for (i, word) in words.chunks_exact_mut(2).enumerate() {
        // Four bits.
        word[1] = word[1] & 15 | ((bits >> (4 * i) & 15) as u8) << 4;
    }
}

fn put_f16(block: &mut [u8], at: usize, value: f32) {
    block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}
