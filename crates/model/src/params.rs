//! A decoder's sizes and switches, as either kind of file gives them.

use std::path::PathBuf;

use crate::error::ModelError;
use crate::family::{Family, Scales};
use crate::rope::RopeSpec;

/// Everything about a decoder but where its tensors are.
#[derive(Debug)]
pub(crate) struct Params {
    /// The file these were read from, for messages.
    pub(crate) file: PathBuf,
    pub(crate) family: &'static Family,
    /// `None` where the file does not say: then it is as many as the embedding table has rows.
    pub(crate) vocab: Option<usize>,
    pub(crate) width: usize,
    pub(crate) hidden: usize,
    /// Tokens in the longest sequence that will be run.
    pub(crate) context: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) norm_epsilon: f32,
    /// Queries, keys and values must have biases.
    pub(crate) biases: bool,
    /// The attention's output must have a bias.
    pub(crate) output_bias: bool,
    pub(crate) scales: Multipliers,
    pub(crate) attention_softcap: Option<f32>,
    pub(crate) logit_softcap: Option<f32>,
    /// One for each layer.
    pub(crate) windows: Vec<Option<usize>>,
    /// The layers that turn; one for each layer.
    pub(crate) turned: Vec<bool>,
    pub(crate) rope: RopeSpec,
    /// The rotation of layers with a window, where it is another.
    pub(crate) windowed_rope: Option<RopeSpec>,
    pub(crate) tied: Tied,
}

/// What values are multiplied by on their way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Multipliers {
    pub(crate) embeddings: f32,
    pub(crate) scores: f32,
    /// What half-layers add to the residual stream.
    pub(crate) residuals: f32,
    pub(crate) logits: f32,
}

impl Multipliers {
    /// Those of families that have no multipliers in their files: scores are divided by the root of
    /// `query_scalar`.
    pub(crate) fn of(family: &Family, width: usize, query_scalar: f64) -> Self {
        Self {
            embeddings: match family.scales {
                // Rounded to f32 once, as llama.cpp does.
                Scales::EmbeddingsByWidth => (width as f32).sqrt(),
                Scales::None | Scales::Multipliers => 1.0,
            },
            scores: (1.0 / query_scalar.sqrt()) as f32,
            residuals: 1.0,
            logits: 1.0,
        }
    }
}

/// Whether the head is the embedding table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tied {
    Yes,
    No,
    /// When there is no tensor for the head.
    IfMissing,
}

/// The context a model is opened for: what was `asked`, or all that it was `made_for`.
pub(crate) fn context(made_for: usize, asked: Option<usize>) -> Result<usize, ModelError> {
    match asked {
        None => Ok(made_for),
        Some(context) if (1..=made_for).contains(&context) => Ok(context),
        Some(context) => Err(ModelError::Request {
            what: format!(
                "a context of {context} tokens was asked for; the model takes 1 to {made_for}"
            ),
        }),
    }
}

/// Which of so many layers turn: all but each of a period.
pub(crate) fn all_but_each(period: Option<usize>, layers: usize) -> Vec<bool> {
    let is_left_out = |layer: usize| period.is_some_and(|period| layer % period == period - 1);
    (0..layers).map(|layer| !is_left_out(layer)).collect()
}

impl Params {
    /// Refuses sizes that do not fit each other. Each by itself has been held against its limit.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let Self {
            heads,
            kv_heads,
            head_dim,
            ..
        } = *self;
        if !heads.is_multiple_of(kv_heads) {
            let what = format!("{heads} query heads are not a multiple of {kv_heads} KV heads");
            return Err(self.refuse("heads", what));
        }
        for rope in [Some(&self.rope), self.windowed_rope.as_ref()] {
            let rotated = rope.map_or(0, |rope| rope.rotated);
            if !rotated.is_multiple_of(2) || rotated > head_dim {
                let what = format!("{rotated} rotated elements are odd or over {head_dim} a head");
                return Err(self.refuse("rope dimensions", what));
            }
        }
        let border = |rope: &RopeSpec| rope.long.as_ref().map(|long| long.above);
        if let (Some(global), Some(windowed)) = (
            border(&self.rope),
            self.windowed_rope.as_ref().and_then(border),
        ) && global != windowed
        {
            let what = format!("long sequences begin above {global} and above {windowed} tokens");
            return Err(self.refuse("rope factors", what));
        }
        Ok(())
    }

    pub(crate) fn refuse(&self, field: &str, what: String) -> ModelError {
        ModelError::Malformed {
            file: self.file.clone(),
            field: field.to_owned(),
            offset: None,
            what,
        }
    }
}

/// What divides instead of multiplying; `None` where it would be beyond every number.
pub(crate) fn reciprocal(divisor: f64) -> Option<f32> {
    let factor = (1.0 / divisor) as f32;
    factor.is_finite().then_some(factor)
}
