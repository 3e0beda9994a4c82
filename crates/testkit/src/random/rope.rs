//! Rotation factors, by the formulas that converters use.

use std::f32::consts::TAU;

use super::family::Shape;

/// What Llama 3.1 divides each frequency by: 1 where it turns at least four times in the original
/// context, 8 where less than once, and between the two what lies between.
pub(crate) fn llama3_factors(shape: &Shape, base: f32) -> Vec<f32> {
    let (low, high, factor) = (1.0, 4.0, 8.0);
    let pairs = shape.rotated / 2;
    let original = shape.original_context as f32;
    (0..pairs)
        .map(|i| {
            let wavelength = TAU * base.powf(i as f32 / pairs as f32);
            let turns = original / wavelength;
            if turns > high {
                1.0
            } else if turns < low {
                factor
            } else {
                let smooth = (turns - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        })
        .collect()
}

/// What YaRN stretches positions by, in OLMo 3's full layers.
pub(crate) const YARN_FACTOR: f32 = 4.0;

/// YaRN's magnitude (Peng et al. 2023): `0.1 ln(factor) + 1`.
pub(crate) fn yarn_magnitude() -> f32 {
    0.1 * YARN_FACTOR.ln() + 1.0
}

/// LongRoPE's factors for long contexts and for short, made up; both exact in an f16.
pub(crate) fn long_factors(pairs: usize) -> (Vec<f32>, Vec<f32>) {
    let ramp = |to: f32| move |i: usize| 1.0 + (to * i as f32 / pairs as f32 * 64.0).round() / 64.0;
    (
        (0..pairs).map(ramp(15.0)).collect(),
        (0..pairs).map(ramp(0.5)).collect(),
    )
}

/// LongRoPE's magnitude (Ding et al. 2024): `sqrt(1 + ln(stretch) / ln(original))`.
pub(crate) fn long_magnitude(shape: &Shape) -> f32 {
    let original = shape.original_context as f32;
    let stretch = shape.context as f32 / original;
    (1.0 + stretch.ln() / original.ln()).sqrt()
}
