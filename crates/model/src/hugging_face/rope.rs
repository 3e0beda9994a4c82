//! The rotations that config.json describes.

use crate::decoder::RopePairs;
use crate::error::{ModelError, shown};
use crate::family::Family;
use crate::limits::CONTEXT_MAX;
use crate::rope::{Divisors, Llama3, RopeSpec, Scaling, Yarn, long_magnitude};

use super::config::{Config, RopeKeys, RopeParameters};

/// Reads the rotations.
pub(super) struct Ropes<'a> {
    pub(super) config: &'a Config,
    pub(super) family: &'static Family,
    pub(super) head_dim: usize,
    /// `max_position_embeddings`.
    pub(super) made_for: usize,
    /// Tokens in the longest sequence that will be run.
    pub(super) context: usize,
}

impl Ropes<'_> {
    /// The rotation of layers that see everything.
    pub(super) fn global(&self) -> Result<RopeSpec, ModelError> {
        let keys = &self.config.keys;
        let scaling = match (&keys.rope_parameters, &keys.rope_scaling) {
            (Some(RopeParameters::ByLayer { full_attention, .. }), _) => Some(&**full_attention),
            (Some(RopeParameters::One(all)), _) => Some(&**all),
            (None, scaling) => scaling.as_ref(),
        };
        let base = scaling.and_then(|s| s.rope_theta).or(keys.rope_theta);
        let mut rope = self.plain(scaling, self.base(base)?)?;
        if let Some(scaling) = scaling {
            self.scale(&mut rope, scaling)?;
        }
        Ok(rope)
    }

    /// The rotation of layers with a window, where the family has one for them.
    pub(super) fn windowed(&self) -> Result<Option<RopeSpec>, ModelError> {
        if self.family.windowed_rope_base.is_none() {
            return Ok(None);
        }
        let keys = &self.config.keys;
        if let Some(RopeParameters::ByLayer {
            sliding_attention, ..
        }) = &keys.rope_parameters
        {
            let base = self.positive("rope_theta", sliding_attention.rope_theta)?;
            let mut rope = self.plain(Some(sliding_attention), base)?;
            self.scale(&mut rope, sliding_attention)?;
            return Ok(Some(rope));
        }
        let base = self.positive("rope_local_base_freq", keys.rope_local_base_freq)?;
        self.plain(None, base).map(Some)
    }

    fn base(&self, base: Option<f64>) -> Result<f64, ModelError> {
        match (base, self.family.hugging_face.rope_theta) {
            (None, Some(default)) => Ok(default),
            (base, _) => self.positive("rope_theta", base),
        }
    }

    fn plain(&self, scaling: Option<&RopeKeys>, base: f64) -> Result<RopeSpec, ModelError> {
        let share = scaling.and_then(|s| s.partial_rotary_factor);
        let share = share.or(self.config.keys.partial_rotary_factor);
        let rotated = match share {
            None => self.head_dim,
            Some(share) if share > 0.0 && share <= 1.0 => {
                // `int(head_dim * partial_rotary_factor)`, at most the head's width.
                (self.head_dim as f64 * share) as usize
            }
            Some(share) => {
                let what = format!("{share} is not over 0 and up to 1");
                return Err(self.config.refuse("partial_rotary_factor", what));
            }
        };
        Ok(RopeSpec::plain(RopePairs::Halves, rotated, base))
    }

    fn scale(&self, rope: &mut RopeSpec, keys: &RopeKeys) -> Result<(), ModelError> {
        let name = keys.rope_type.as_deref().or(keys.old_type.as_deref());
        match name.ok_or_else(|| self.config.missing("rope_type"))? {
            "default" => {}
            "linear" => {
                rope.scaling = Scaling::Linear {
                    factor: self.positive("factor", keys.factor)?,
                };
            }
            "llama3" => rope.scaling = Scaling::Llama3(self.llama3(keys)?),
            "yarn" => rope.scaling = Scaling::Yarn(self.yarn(keys)?),
            "longrope" | "su" => self.long(rope, keys)?,
            other => {
                let found = format!("rope scaling {:?}", shown(other));
                let supported = "default, linear, llama3, yarn, longrope";
                return Err(self.config.unsupported("rope_type", found, supported));
            }
        }
        Ok(())
    }

    fn llama3(&self, keys: &RopeKeys) -> Result<Llama3, ModelError> {
        let scaling = Llama3 {
            factor: self.positive("factor", keys.factor)?,
            low: self.positive("low_freq_factor", keys.low_freq_factor)?,
            high: self.positive("high_freq_factor", keys.high_freq_factor)?,
            original_context: self.original_context(keys)? as f64,
        };
        if scaling.low >= scaling.high {
            let what = format!("{} is not below {}", scaling.low, scaling.high);
            return Err(self.config.refuse("low_freq_factor", what));
        }
        Ok(scaling)
    }

    fn yarn(&self, keys: &RopeKeys) -> Result<Yarn, ModelError> {
        let factor = self.positive("factor", keys.factor)?;
        let given = |name, value: Option<f64>, default| match value {
            None => Ok(default),
            value => self.positive(name, value),
        };
        Ok(Yarn {
            factor,
            original_context: self.original_context(keys)? as f64,
            // The paper's figures, which configs leave out.
            beta_fast: given("beta_fast", keys.beta_fast, 32.0)?,
            beta_slow: given("beta_slow", keys.beta_slow, 1.0)?,
            magnitude: given(
                "attention_factor",
                keys.attention_factor,
                Yarn::default_magnitude(factor),
            )?,
        })
    }

    fn long(&self, rope: &mut RopeSpec, keys: &RopeKeys) -> Result<(), ModelError> {
        let original = self.original_context(keys)?;
        let (name, factors) = if self.context > original {
            ("long_factor", &keys.long_factor)
        } else {
            ("short_factor", &keys.short_factor)
        };
        let factors = factors.clone().ok_or_else(|| self.config.missing(name))?;
        rope.divisors = Some(Divisors::Values(factors));
        let stretch = self.made_for as f64 / original as f64;
        rope.magnitude = match keys.attention_factor {
            None => long_magnitude(stretch, original as f64),
            given => self.positive("attention_factor", given)?,
        };
        Ok(())
    }

    /// Phi-3 has it beside `rope_scaling`, all others within.
    fn original_context(&self, keys: &RopeKeys) -> Result<usize, ModelError> {
        const KEY: &str = "original_max_position_embeddings";
        let own = keys.original_max_position_embeddings;
        let value = own.or(self.config.keys.original_max_position_embeddings);
        let size = self.config.optional_size(KEY, value, CONTEXT_MAX)?;
        size.ok_or_else(|| self.config.missing(KEY))
    }

    fn positive(&self, name: &str, value: Option<f64>) -> Result<f64, ModelError> {
        self.config.positive(name, value)
    }
}
