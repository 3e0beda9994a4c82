//! The rotations that config.json describes.

use serde_json::Value;

use crate::decoder::RopePairs;
use crate::error::{ModelError, shown};
use crate::family::{Family, WindowedRope};
use crate::limits::CONTEXT_MAX;
use crate::rope::{Divisors, Llama3, LongDivisors, RopeSpec, Scaling, Yarn, long_magnitude};

use super::config::{Config, RopeKeys};

const PARAMETERS: &str = "rope_parameters";
/// Kinds of layers that `rope_parameters` may tell apart.
const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

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
        let scaling = match (self.by_layer(FULL)?, &keys.rope_parameters) {
            (Some(full), _) => Some(full),
            (None, Some(all)) => Some(self.config.rope_keys(PARAMETERS, all)?),
            (None, None) => {
                let scaling = keys.rope_scaling.as_ref();
                scaling
                    .map(|scaling| self.config.rope_keys("rope_scaling", scaling))
                    .transpose()?
            }
        };
        let base = scaling.as_ref().and_then(|s| s.rope_theta);
        let mut rope = self.plain(scaling.as_ref(), self.base(base.or(keys.rope_theta))?)?;
        if let Some(scaling) = &scaling {
            self.scale(&mut rope, scaling)?;
        }
        Ok(rope)
    }

    /// The rotation of layers with a window, where the family has one for them.
    pub(super) fn windowed(&self) -> Result<Option<RopeSpec>, ModelError> {
        if self.family.windowed_rope == WindowedRope::Same {
            return Ok(None);
        }
        if let Some(sliding) = self.by_layer(SLIDING)? {
            let base = self.positive("rope_theta", sliding.rope_theta)?;
            let mut rope = self.plain(Some(&sliding), base)?;
            self.scale(&mut rope, &sliding)?;
            return Ok(Some(rope));
        }
        if self.family.windowed_rope == WindowedRope::Unscaled {
            let RopeSpec {
                pairs,
                rotated,
                base,
                ..
            } = self.global()?;
            return Ok(Some(RopeSpec::plain(pairs, rotated, base)));
        }
        let base = self.config.keys.rope_local_base_freq;
        let base = self.positive("rope_local_base_freq", base)?;
        self.plain(None, base).map(Some)
    }

    /// The rotation of one kind of layer, where `rope_parameters` has one for each.
    fn by_layer(&self, kind: &str) -> Result<Option<RopeKeys>, ModelError> {
        let Some(parameters) = &self.config.keys.rope_parameters else {
            return Ok(None);
        };
        if ![FULL, SLIDING]
            .iter()
            .any(|kind| parameters.contains_key(*kind))
        {
            return Ok(None);
        }
        if let Some(other) = parameters
            .keys()
            .find(|key| ![FULL, SLIDING].contains(&key.as_str()))
        {
            let field = format!("{PARAMETERS}.{}", shown(other));
            let found = "a rotation of this kind of layer".to_owned();
            let supported = format!("{FULL}, {SLIDING}");
            return Err(self.config.unsupported(&field, found, &supported));
        }
        let field = format!("{PARAMETERS}.{kind}");
        match parameters.get(kind) {
            Some(Value::Object(keys)) => self.config.rope_keys(&field, keys).map(Some),
            Some(_) => Err(self.config.refuse(&field, "not an object".to_owned())),
            None => Err(self.config.missing(&field)),
        }
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
        let factors = |name: &str, factors: &Option<Vec<f32>>| {
            let factors = factors.clone().map(Divisors::Values);
            factors.ok_or_else(|| self.config.missing(name))
        };
        rope.divisors = Some(factors("short_factor", &keys.short_factor)?);
        if self.context > original {
            rope.long = Some(LongDivisors {
                above: original,
                divisors: factors("long_factor", &keys.long_factor)?,
            });
        }
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
