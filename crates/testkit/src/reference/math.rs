//! The few functions a decoder is made of, on plain slices of `f64`.

use gogrid_model::{Activation, Rope, RopePairs};

/// A matrix `[rows, cols]`, row after row.
pub(crate) struct Matrix {
    pub(crate) cols: usize,
    pub(crate) values: Vec<f32>,
}

impl Matrix {
    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..][..self.cols]
    }

    /// `[rows, cols] × [cols] -> [rows]`
    pub(crate) fn times(&self, x: &[f64]) -> Vec<f64> {
        let rows = self.values.chunks_exact(self.cols);
        rows.map(|row| row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum())
            .collect()
    }
}

/// `x / rms(x) * weight`
pub(crate) fn rms_norm(x: &[f64], weight: &[f32], epsilon: f32) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (mean + f64::from(epsilon)).sqrt();
    let scaled = x.iter().zip(weight);
    scaled.map(|(v, &w)| v * scale * f64::from(w)).collect()
}

pub(crate) fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            0.5 * x * (1.0 + (root * (x + 0.044_715 * x.powi(3))).tanh())
        }
    }
}

/// `cap * tanh(x / cap)`, or `x` where there is no cap.
pub(crate) fn soft_cap(x: f64, cap: Option<f32>) -> f64 {
    cap.map_or(x, |cap| f64::from(cap) * (x / f64::from(cap)).tanh())
}

/// Turns one head `[head_dim]` of the token at `position` of a sequence of `length`.
pub(crate) fn rotate(head: &mut [f64], rope: &Rope, (position, length): (usize, usize)) {
    let frequencies = rope.frequencies_at(length);
    let pairs = frequencies.len();
    for (i, &frequency) in frequencies.iter().enumerate() {
        let angle = position as f64 * f64::from(frequency);
        let (a, b) = match rope.pairs {
            RopePairs::Adjacent => (2 * i, 2 * i + 1),
            RopePairs::Halves => (i, pairs + i),
        };
        let (x, y) = (head[a], head[b]);
        let (sin, cos) = angle.sin_cos();
        head[a] = (x * cos - y * sin) * f64::from(rope.magnitude);
        head[b] = (x * sin + y * cos) * f64::from(rope.magnitude);
    }
}

/// Scores to weights that sum to one.
pub(crate) fn softmax(scores: &[f64]) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// Logits to natural logarithms of probabilities.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let wide = logits.iter().map(|&v| f64::from(v));
    let most = wide.clone().fold(f64::NEG_INFINITY, f64::max);
    let sum = wide.clone().map(|v| (v - most).exp()).sum::<f64>().ln();
    wide.map(|v| v - most - sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_by_a_right_angle_swaps_a_pair() {
        let rope = |pairs| Rope {
            pairs,
            frequencies: vec![std::f32::consts::FRAC_PI_2, 0.0],
            long: None,
            magnitude: 2.0,
        };
        let mut head = [1.0, 2.0, 3.0, 4.0, 5.0];
        rotate(&mut head, &rope(RopePairs::Adjacent), (1, 2));
        let rounded = head.map(|v| (v * 1000.0).round() / 1000.0);
        assert_eq!(rounded, [-4.0, 2.0, 6.0, 8.0, 5.0]);
        let mut head = [1.0, 2.0, 3.0, 4.0, 5.0];
        rotate(&mut head, &rope(RopePairs::Halves), (1, 2));
        let rounded = head.map(|v| (v * 1000.0).round() / 1000.0);
        assert_eq!(rounded, [-6.0, 4.0, 2.0, 8.0, 5.0]);
    }

    #[test]
    fn probabilities_sum_to_one() {
        let sum: f64 = log_softmax(&[1.0, -2.0, 1000.0])
            .iter()
            .map(|v| v.exp())
            .sum();
        assert!((sum - 1.0).abs() < 1e-12);
    }
}
