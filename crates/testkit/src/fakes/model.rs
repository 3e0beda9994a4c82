use gogrid_model::Decoder;
use gogrid_pipeline::Rows;

use crate::rng::{Rng, mix};

/// A language model of hashes: the next token's logits depend on every token that the model's
/// windows let it see, and on nothing else. It has layers and KV groups as a real one, so that its
/// stages ([`FakeStage`](super::FakeStage)) can be cut and fed in any chunks and a wrong block
/// table, a lost row or a mixed-up sequence changes what comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeModel {
    /// Token ids are below this.
    pub vocab: usize,
    /// Width of the residual stream, at least four; what is beyond the four is zero.
    pub width: usize,
    /// The window of each KV group.
    pub windows: Vec<Option<usize>>,
    /// The KV group of each layer.
    pub groups: Vec<usize>,
}

/// What a token's residual stream is in this model.
pub(crate) type State = u64;

impl FakeModel {
    /// A model of the shape of a real one.
    pub fn of(decoder: &Decoder) -> Self {
        Self {
            vocab: decoder.vocab,
            width: decoder.width,
            windows: decoder.kv_groups.iter().map(|g| g.window).collect(),
            groups: decoder.layers.iter().map(|l| l.mixer.kv_group).collect(),
        }
    }

    /// The logits after the last of `ids`, which are not empty: what any right way of running the
    /// model gives, bit for bit.
    pub fn logits(&self, ids: &[u32]) -> Vec<f32> {
        self.logits_of(&Rows::of_ids(ids.to_vec()))
    }

    /// The same after the last of `rows`, which may bring embeddings.
    pub fn logits_of(&self, rows: &Rows) -> Vec<f32> {
        let mut states = Self::embed_rows(rows);
        for (layer, &group) in self.groups.iter().enumerate() {
            let before = states.clone();
            for (position, state) in states.iter_mut().enumerate() {
                let first = self.first_seen(group, position);
                let seen = before[first..=position].iter().copied();
                *state = Self::feed_forward(Self::mixer(layer, first, seen));
            }
        }
        self.head(*states.last().expect("a sequence has a token"))
    }

    /// The likeliest token after `ids`.
    pub fn next(&self, ids: &[u32]) -> u32 {
        let logits = self.logits(ids);
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        // Ids are below a vocabulary that a u32 counts.
        best.expect("a vocabulary is not empty") as u32
    }

    /// The first position that the token at `position` sees in layers of `group`.
    pub(crate) fn first_seen(&self, group: usize, position: usize) -> usize {
        self.windows[group].map_or(0, |window| (position + 1).saturating_sub(window))
    }

    pub(crate) const fn embed(id: u32) -> State {
        mix(id as u64 + 1)
    }

    /// The states of rows, those with embeddings of their own by every bit of these.
    pub(crate) fn embed_rows(rows: &Rows) -> Vec<State> {
        let mut states: Vec<State> = rows.ids.iter().map(|&id| Self::embed(id)).collect();
        for run in &rows.embedded {
            let width = run.values.len() / run.rows.len();
            let values = run.values.chunks_exact(width);
            for (state, values) in states[run.rows.clone()].iter_mut().zip(values) {
                let bits = values.iter().map(|value| State::from(value.to_bits()));
                *state = bits.fold(0xE3B, |sum, bits| mix(sum ^ bits));
            }
        }
        states
    }

    /// `seen` are the states of the tokens from position `first` to the row's own.
    pub(crate) fn mixer(layer: usize, first: usize, seen: impl Iterator<Item = State>) -> State {
        let start = mix((layer as u64) << 32 | first as u64);
        seen.fold(start, |sum, state| mix(sum ^ state.rotate_left(17)))
    }

    pub(crate) const fn feed_forward(state: State) -> State {
        mix(state ^ 0xFEED)
    }

    pub(crate) fn head(&self, state: State) -> Vec<f32> {
        let mut rng = Rng::new(state);
        (0..self.vocab).map(|_| rng.between(-8.0, 8.0)).collect()
    }
}
