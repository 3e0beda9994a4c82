//! Making blocks of 256. Scales come from the extremes of each group, then each group's levels
//! are nearest to the scale as it is stored.

use half::f16;

use super::quantise::{furthest_from_zero, reciprocal};

/// 4-bit levels with 6-bit scales and minima.
pub(super) fn q4(block: &[f32], out: &mut Vec<u8>) {
    let groups = block.as_chunks::<32>().0;
    let mut scales = [0.0; 8];
    let mut mins = [0.0; 8];
    for (group, (scale, min)) in groups.iter().zip(scales.iter_mut().zip(&mut mins)) {
        // The minimum is taken off, so it can only be at or below zero.
        let least = group.iter().copied().fold(0.0, f32::min);
        let greatest = group.iter().copied().fold(least, f32::max);
        (*scale, *min) = ((greatest - least) / 15.0, -least);
    }
    let (d, scale_levels) = six_bits(&scales);
    let (m, min_levels) = six_bits(&mins);
    out.extend_from_slice(&d.to_le_bytes());
    out.extend_from_slice(&m.to_le_bytes());
    put_scales_and_mins(&scale_levels, &min_levels, out);
    let mut levels = [0; 256];
    for (i, (level, x)) in levels.iter_mut().zip(block).enumerate() {
        let scale = d.to_f32() * f32::from(scale_levels[i / 32]);
        let min = m.to_f32() * f32::from(min_levels[i / 32]);
        *level = ((x + min) * reciprocal(scale)).round().clamp(0.0, 15.0) as u8;
    }
    for pair in levels.as_chunks::<64>().0 {
        out.extend((0..32).map(|i| pair[i] | pair[i + 32] << 4));
    }
}

/// Levels of at most 63, and the half that scales them.
fn six_bits(values: &[f32; 8]) -> (f16, [u8; 8]) {
    let greatest = values.iter().copied().fold(0.0, f32::max);
    let d = f16::from_f32(greatest / 63.0);
    let inverse = reciprocal(d.to_f32());
    (d, values.map(|v| (v * inverse).round().min(63.0) as u8))
}

fn put_scales_and_mins(scales: &[u8; 8], mins: &[u8; 8], out: &mut Vec<u8>) {
    out.extend((0..4).map(|i| scales[i] | scales[i + 4] >> 4 << 6));
    out.extend((0..4).map(|i| mins[i] | mins[i + 4] >> 4 << 6));
    out.extend((4..8).map(|i| scales[i] & 15 | mins[i] << 4));
}

/// 6-bit levels with 8-bit scales.
pub(super) fn q6(block: &[f32], out: &mut Vec<u8>) {
    let mut scales = [0.0; 16];
    for (scale, group) in scales.iter_mut().zip(block.as_chunks::<16>().0) {
        // The extreme becomes -32, the level furthest from zero.
        *scale = furthest_from_zero(group) / -32.0;
    }
    let d = f16::from_f32(furthest_from_zero(&scales).abs() / 127.0);
    let inverse = reciprocal(d.to_f32());
    let scales = scales.map(|s| (s * inverse).round() as i8);
    let mut levels = [0; 256];
    for (i, (level, x)) in levels.iter_mut().zip(block).enumerate() {
        let scale = d.to_f32() * f32::from(scales[i / 16]);
        *level = ((x * reciprocal(scale)).round().clamp(-32.0, 31.0) + 32.0) as u8;
    }
    for half in levels.as_chunks::<128>().0 {
        out.extend((0..64).map(|i| half[i] & 15 | half[i + 64] << 4));
    }
    for half in levels.as_chunks::<128>().0 {
        let upper = |i: usize| (0..4).fold(0, |bits, j| bits | half[i + 32 * j] >> 4 << (2 * j));
        out.extend((0..32).map(upper));
    }
    out.extend(scales.map(|s| s.to_le_bytes()[0]));
    out.extend_from_slice(&d.to_le_bytes());
}
