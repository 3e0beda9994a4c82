//! The models that checks run on, and how results are compared.

use gogrid_model::{Model, OpenOptions};
use gogrid_units::WeightType;
use tempfile::TempDir;

use super::{Subject, Tolerance};
use crate::random::{Family, RandomModel, Spec};
use crate::reference::{Reference, log_softmax};
use crate::rng::Rng;

/// Tokens a check runs: three blocks, the last of them not full, and windows left behind.
const TOKENS: usize = 80;

/// Families with what sets them apart, each with a weight type or two; together they have every
/// kind of block and every switch of a decoder.
pub(crate) const VARIED: &[(Family, [WeightType; 2])] = &[
    (Family::Llama, [WeightType::Q4_1; 2]),
    (Family::Mistral, [WeightType::Q8_0; 2]),
    (Family::Qwen2, [WeightType::Q5_0; 2]),
    (Family::Qwen3, [WeightType::Q4K, WeightType::Q6K]),
    (Family::Gemma2, [WeightType::F16; 2]),
    (Family::Gemma3, [WeightType::Q4K, WeightType::Q5_0]),
    (Family::Phi3Long, [WeightType::Q4_0; 2]),
    (Family::Olmo3, [WeightType::Q4K, WeightType::Q8_0]),
    (Family::Granite, [WeightType::Q5_1; 2]),
    (Family::SmolLm3, [WeightType::Bf16; 2]),
];

/// A tiny model, opened.
pub(crate) struct Case {
    pub(crate) name: String,
    /// What its matrices are kept as; one type twice, or two.
    pub(crate) weights: [WeightType; 2],
    pub(crate) model: Model,
    pub(crate) ids: Vec<u32>,
    _directory: TempDir,
}

/// For each token, the logits after it.
pub(crate) type Logits = Vec<Vec<f32>>;

impl Case {
    /// A model whose matrices have these two types.
    pub(crate) fn open((family, weights): (Family, [WeightType; 2])) -> Self {
        let name = match weights {
            [one, other] if one == other => format!("{} {one}", family.name()),
            [one, other] => format!("{} {one} and {other}", family.name()),
        };
        Self::open_with(name, (family, weights), &OpenOptions::default())
    }

    /// A model of F32 matrices that are kept as `kept`.
    pub(crate) fn open_quantised(family: Family, kept: WeightType) -> Self {
        let name = format!("{} f32 kept as {kept}", family.name());
        let options = OpenOptions {
            quantise: Some(kept),
            ..OpenOptions::default()
        };
        let case = Self::open_with(name, (family, [WeightType::F32; 2]), &options);
        Self {
            weights: [kept; 2],
            ..case
        }
    }

    /// A model of these heads.
    pub(crate) fn open_with_heads(spec: Spec, heads: (usize, usize), head_dim: usize) -> Self {
        let Spec {
            family, weights, ..
        } = spec;
        let name = format!("{} {weights}, heads of {head_dim}", family.name());
        let tiny = RandomModel::with_heads(spec, heads, head_dim);
        Self::open_model(name, ([weights; 2], &tiny), &OpenOptions::default())
    }

    fn open_with(
        name: String,
        (family, weights): (Family, [WeightType; 2]),
        options: &OpenOptions,
    ) -> Self {
        let spec = Spec {
            family,
            weights: weights[0],
            seed: 20,
        };
        let tiny = RandomModel::mixed(spec, weights[1]);
        Self::open_model(name, (weights, &tiny), options)
    }

    pub(crate) fn open_model(
        name: String,
        (weights, tiny): ([WeightType; 2], &RandomModel),
        options: &OpenOptions,
    ) -> Self {
        let directory = TempDir::new().expect("a folder for a tiny model");
        let path = directory.path().join("tiny.gguf");
        tiny.write_gguf(&path).expect("a tiny model is written");
        let model = Model::open(&path, options);
        Self {
            model: model.unwrap_or_else(|error| panic!("{name}: {error}")),
            name,
            weights,
            ids: random_ids(1, tiny.vocab()),
            _directory: directory,
        }
    }

    /// Another sequence for the same model.
    pub(crate) fn other_ids(&self, seed: u64) -> Vec<u32> {
        random_ids(seed, self.model.decoder().vocab)
    }

    pub(crate) fn reference(&self) -> Logits {
        self.reference_of(&self.ids)
    }

    /// The reference's logits after each of these.
    pub(crate) fn reference_of(&self, ids: &[u32]) -> Logits {
        let reference = Reference::load(&self.model);
        let reference = reference.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        reference.logits(ids)
    }

    /// Some tokens, as many as asked.
    pub(crate) fn some_ids(&self, count: usize) -> Vec<u32> {
        self.ids.iter().copied().cycle().take(count).collect()
    }
}

/// The wider of what the subject allows for the case's two types.
pub(crate) fn allowed(subject: &Subject<'_>, case: &Case) -> Tolerance {
    let [one, other] = case.weights.map(subject.tolerance);
    Tolerance {
        mean: one.mean.max(other.mean),
        max: one.max.max(other.max),
    }
}

fn random_ids(seed: u64, vocab: usize) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    // A tiny vocabulary is far below 2^32.
    (0..TOKENS).map(|_| rng.below(vocab) as u32).collect()
}

/// How far the log-probabilities of `ours` are from those of `theirs`, row by row: `[rows, vocab]`
/// both. Anything that is no number is infinitely far.
pub fn distance(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> Tolerance {
    assert_eq!(ours.len(), theirs.len(), "rows");
    let (mut sum, mut max, mut count) = (0.0, 0f64, 0usize);
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours.len(), theirs.len(), "logits of a row");
        for (a, b) in log_softmax(ours).iter().zip(log_softmax(theirs)) {
            let apart = (a - b).abs();
            let apart = if apart.is_nan() { f64::INFINITY } else { apart };
            sum += apart;
            max = max.max(apart);
            count += 1;
        }
    }
    Tolerance {
        mean: sum / count.max(1) as f64,
        max,
    }
}

/// Panics unless `ours` is within the subject's tolerance of `theirs`.
pub(crate) fn assert_near(subject: &Subject<'_>, case: &Case, what: &str, pair: [&Logits; 2]) {
    let found = distance(pair[0], pair[1]);
    let allowed = allowed(subject, case);
    assert!(
        found.mean <= allowed.mean && found.max <= allowed.max,
        "{}: {what}: log-probabilities differ by {found:?}, allowed {allowed:?}",
        case.name
    );
}

/// Panics unless the two are equal bit for bit, or near where the subject is not exact.
pub(crate) fn assert_same(subject: &Subject<'_>, case: &Case, what: &str, pair: [&Logits; 2]) {
    if !subject.is_exact {
        return assert_near(subject, case, what, pair);
    }
    let bits = |rows: &Logits| -> Vec<Vec<u32>> {
        let row = |row: &Vec<f32>| row.iter().map(|v| v.to_bits()).collect();
        rows.iter().map(row).collect()
    };
    let (ours, theirs) = (bits(pair[0]), bits(pair[1]));
    assert_eq!(ours.len(), theirs.len(), "{}: {what}: rows", case.name);
    let differing = (0..ours.len()).find(|&row| ours[row] != theirs[row]);
    assert!(
        differing.is_none(),
        "{}: {what}: bits differ from row {differing:?} on, by {:?}",
        case.name,
        distance(pair[0], pair[1])
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_infinitely_far() {
        let apart = distance(&[vec![1.0, f32::NAN]], &[vec![1.0, 2.0]]);
        assert_eq!(apart.max, f64::INFINITY);
        // A constant added to every logit changes no probability.
        let apart = distance(&[vec![1.0, 3.0]], &[vec![2.0, 4.0]]);
        assert!(apart.max < 1e-12);
    }
}
