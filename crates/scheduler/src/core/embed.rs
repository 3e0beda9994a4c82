use gogrid_pipeline::Want;

use gogrid_model::Pooling;

/// The vector of a text that is being read.
pub(crate) struct Embedding {
    pooling: Pooling,
    norm: FinalNorm,
    /// Over the rows that were read, `[width]`.
    sum: Vec<f64>,
    rows: usize,
}

/// The norm before the head: root mean square (Zhang and Sennrich 2019).
pub(crate) struct FinalNorm {
    /// `[width]`.
    pub(crate) weight: Vec<f32>,
    pub(crate) epsilon: f32,
}

impl Embedding {
    pub(crate) fn new(pooling: Pooling, norm: FinalNorm) -> Self {
        Self {
            pooling,
            sum: vec![0.0; norm.weight.len()],
            norm,
            rows: 0,
        }
    }

    /// What it wants of a row.
    pub(super) fn wants(&self, is_last: bool) -> Want {
        match self.pooling {
            Pooling::Last if !is_last => Want::Nothing,
            Pooling::Last | Pooling::Mean => Want::Hidden,
        }
    }

    /// Takes in the residual streams of rows, `[rows, width]`.
    pub(super) fn take(&mut self, hidden: &[f32]) {
        let FinalNorm { weight, epsilon } = &self.norm;
        for row in hidden.chunks_exact(weight.len()) {
            let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
            let scale = 1.0 / (squares / row.len() as f64 + f64::from(*epsilon)).sqrt();
            for ((sum, &x), &weight) in self.sum.iter_mut().zip(row).zip(weight) {
                *sum += f64::from(x) * scale * f64::from(weight);
            }
            self.rows += 1;
        }
    }

    /// Begins again.
    pub(super) fn clear(&mut self) {
        self.sum.fill(0.0);
        self.rows = 0;
    }

    /// The mean of the rows.
    pub(super) fn vector(&self) -> Vec<f32> {
        let rows = self.rows.max(1) as f64;
        self.sum.iter().map(|&sum| (sum / rows) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedding(pooling: Pooling) -> Embedding {
        let norm = FinalNorm {
            weight: vec![1.0, 0.5],
            epsilon: 0.0,
        };
        Embedding::new(pooling, norm)
    }

    #[test]
    fn each_row_is_normed_before_the_mean_is_taken() {
        let mut mean = embedding(Pooling::Mean);
        // Root mean squares of 5 and of 1/2.
        mean.take(&[1.0, 7.0]);
        mean.take(&[0.5, -0.5]);
        assert_eq!(mean.vector(), [0.6, 0.1]);
        mean.clear();
        mean.take(&[2.0, 2.0]);
        assert_eq!(mean.vector(), [1.0, 0.5]);
    }

    #[test]
    fn only_the_last_row_is_wanted_where_only_that_counts() {
        let wants = |pooling| [false, true].map(|is_last| embedding(pooling).wants(is_last));
        assert_eq!(wants(Pooling::Last), [Want::Nothing, Want::Hidden]);
        assert_eq!(wants(Pooling::Mean), [Want::Hidden, Want::Hidden]);
    }
}
