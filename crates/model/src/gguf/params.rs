//! A decoder's sizes and switches from the keys of a GGUF file.

use crate::error::{ModelError, shown};
use crate::family::{FAMILIES, Family, Scales, Softcaps, WindowedRope, Windows, capped_families};
use crate::limits::{
    CONTEXT_MAX, HEAD_DIM_MAX, HEADS_MAX, HIDDEN_MAX, LAYERS_MAX, VOCAB_MAX, WIDTH_MAX,
};
use crate::model::Pooling;
use crate::not_built::described;
use crate::params::{self, Multipliers, Params, Tied};
use crate::rope::{Divisors, LongDivisors, RopeSpec, Scaling, Yarn};
use crate::tensors::TensorSource;

use super::keys::{refuse_strangers, rule};
use super::metadata::Metadata;
use super::parts::GgufFiles;

/// How one vector is made of a text, by a model that is for it.
pub(crate) fn pooling(gguf: &GgufFiles) -> Result<Option<Pooling>, ModelError> {
    let metadata = gguf.metadata();
    let key = format!("{}.pooling_type", family(metadata)?.name);
    // Other numbers were refused with the rest of the keys.
    Ok(metadata
        .number(&key)
        .and_then(|number| match number as u32 {
            1 => Some(Pooling::Mean),
            3 => Some(Pooling::Last),
            _ => None,
        }))
}

/// Reads the sizes and switches of the decoder in `gguf`, opened for sequences of `context`
/// tokens, or of as many as the model was made for.
pub(crate) fn params(gguf: &GgufFiles, context: Option<usize>) -> Result<Params, ModelError> {
    let metadata = gguf.metadata();
    let family = family(metadata)?;
    refuse_strangers(metadata, family)?;
    let keys = Keys { metadata, family };
    let width = keys.size("embedding_length", WIDTH_MAX)?;
    let layers = keys.size("block_count", LAYERS_MAX)?;
    let heads = keys.size("attention.head_count", HEADS_MAX)?;
    let head_dim = keys.head_dim(width, heads)?;
    let query_scalar = match family.gguf.scores_by_width_at_layers {
        Some(those) if those == layers => width as f64 / heads as f64,
        _ => head_dim as f64,
    };
    let context = params::context(keys.size("context_length", CONTEXT_MAX)?, context)?;
    let windows = keys.windows(layers)?;
    let rope = Ropes {
        keys: &keys,
        gguf,
        head_dim,
        context,
    };
    let params = Params {
        file: metadata.file().to_owned(),
        family,
        vocab: keys.optional_size("vocab_size", VOCAB_MAX)?,
        width,
        hidden: keys.size("feed_forward_length", HIDDEN_MAX)?,
        context,
        heads,
        // llama.cpp's loader: as many KV heads as query heads where the key is missing; converters
        // leave it out for models without grouped queries.
        kv_heads: keys
            .optional_size("attention.head_count_kv", HEADS_MAX)?
            .unwrap_or(heads),
        head_dim,
        norm_epsilon: keys.positive("attention.layer_norm_rms_epsilon")? as f32,
        biases: family.biases,
        output_bias: false,
        scales: keys.scales(width, query_scalar)?,
        attention_softcap: keys.softcap("attn_logit_softcapping")?,
        logit_softcap: keys.softcap("final_logit_softcapping")?,
        windows,
        turned: params::all_but_each(family.unturned_period, layers),
        rope: rope.global()?,
        windowed_rope: rope.windowed()?,
        // The format's rule: a file without `output.weight` uses the embedding table.
        tied: Tied::IfMissing,
    };
    Ok(params)
}

fn family(metadata: &Metadata) -> Result<&'static Family, ModelError> {
    const KEY: &str = "general.architecture";
    let name = metadata.required(KEY, metadata.str(KEY))?;
    FAMILIES.iter().find(|f| f.name == name).ok_or_else(|| {
        let names = FAMILIES.each_ref().map(|f| f.name).join(", ");
        metadata.unsupported(KEY, described("architecture", name), names)
    })
}

/// The keys below the architecture's name.
struct Keys<'a> {
    metadata: &'a Metadata,
    family: &'static Family,
}

impl Keys<'_> {
    /// A key of the table, in full.
    fn key(&self, name: &str) -> String {
        debug_assert!(
            rule(name).is_some(),
            "{name} is read and not in the table of keys"
        );
        format!("{}.{name}", self.family.name)
    }

    fn size(&self, name: &str, max: usize) -> Result<usize, ModelError> {
        let key = self.key(name);
        let size = self.optional_size(name, max);
        self.metadata.required(&key, size)
    }

    fn optional_size(&self, name: &str, max: usize) -> Result<Option<usize>, ModelError> {
        let key = self.key(name);
        let Some(number) = self.metadata.u64(&key)? else {
            return Ok(None);
        };
        let size = usize::try_from(number)
            .ok()
            .filter(|n| (1..=max).contains(n));
        size.map(Some).ok_or_else(|| {
            let what = format!("{number} is not between 1 and {max}");
            self.metadata.refuse(&key, what)
        })
    }

    /// The first of these names if only one is there; they are one key's, so where more are there
    /// they must say the same.
    fn same<'n>(&self, names: [&'n str; 2]) -> Result<&'n str, ModelError> {
        let [first, other] = names.map(|name| self.metadata.number(&self.key(name)));
        match (first, other) {
            (None, Some(_)) => Ok(names[1]),
            (Some(first), Some(other)) if first != other => {
                let what = format!("{other}, and {} is {first}", self.key(names[0]));
                Err(self.metadata.refuse(&self.key(names[1]), what))
            }
            _ => Ok(names[0]),
        }
    }

    fn positive(&self, name: &str) -> Result<f64, ModelError> {
        let key = self.key(name);
        let number = self.optional_positive(name);
        self.metadata.required(&key, number)
    }

    fn optional_positive(&self, name: &str) -> Result<Option<f64>, ModelError> {
        let key = self.key(name);
        match self.metadata.f32(&key)? {
            Some(number) if number <= 0.0 => Err(self
                .metadata
                .refuse(&key, format!("{number} is not above zero"))),
            number => Ok(number.map(f64::from)),
        }
    }

    /// What values are multiplied by. As in llama.cpp's loader, logits are divided by theirs, which must
    /// be there, and of the others one that is missing or 0 is none.
    fn scales(&self, width: usize, query_scalar: f64) -> Result<Multipliers, ModelError> {
        let plain = Multipliers::of(self.family, width, query_scalar);
        if self.family.scales != Scales::Multipliers {
            return Ok(plain);
        }
        let given = |name| match self.metadata.number(&self.key(name)) {
            Some(0.0) => Ok(None),
            _ => self.optional_positive(name),
        };
        let or = |given: Option<f64>, plain: f32| given.map_or(plain, |scale| scale as f32);
        let logits = self.positive("logit_scale")?;
        let logits = params::reciprocal(logits).ok_or_else(|| {
            let what = format!("{logits}, which is next to 0");
            self.metadata.refuse(&self.key("logit_scale"), what)
        })?;
        Ok(Multipliers {
            logits,
            embeddings: or(given("embedding_scale")?, plain.embeddings),
            scores: or(given("attention.scale")?, plain.scores),
            residuals: or(given("residual_scale")?, plain.residuals),
        })
    }

    /// A cap of 0 is none, except where a cap is required.
    fn softcap(&self, name: &str) -> Result<Option<f32>, ModelError> {
        let key = self.key(name);
        match self.family.softcaps {
            Softcaps::Required => Ok(Some(self.positive(name)? as f32)),
            Softcaps::Optional => Ok(self.metadata.f32(&key)?.filter(|cap| *cap != 0.0)),
            Softcaps::Never if self.metadata.has(&key) => {
                let found = format!("a {} model with this key", self.family.name);
                let supported = format!("it in {}", capped_families());
                Err(self.metadata.unsupported(&key, found, supported))
            }
            Softcaps::Never => Ok(None),
        }
    }

    fn head_dim(&self, width: usize, heads: usize) -> Result<usize, ModelError> {
        let name = self.same(["attention.key_length", "attention.head_dim"])?;
        let keys = self.optional_size(name, HEAD_DIM_MAX)?;
        let values = self.optional_size("attention.value_length", HEAD_DIM_MAX)?;
        // llama.cpp's loader: width / heads where the key is missing.
        let head_dim = keys.unwrap_or(width / heads);
        if keys.is_none() && !width.is_multiple_of(heads) {
            let what = format!("{heads} heads do not divide the width of {width}");
            return Err(self
                .metadata
                .refuse(&self.key("attention.head_count"), what));
        }
        if values.unwrap_or(head_dim) != head_dim {
            return Err(self.metadata.unsupported(
                &self.key("attention.value_length"),
                format!("values of another width than keys ({head_dim})"),
                "the same width".to_owned(),
            ));
        }
        Ok(head_dim)
    }

    /// The window of each layer.
    fn windows(&self, layers: usize) -> Result<Vec<Option<usize>>, ModelError> {
        const WINDOW: &str = "attention.sliding_window";
        const PATTERN: &str = "attention.sliding_window_pattern";
        // Files of models without a window have 0 or no key.
        let none = self
            .metadata
            .u64(&self.key(WINDOW))
            .is_ok_and(|n| n.is_none_or(|n| n == 0));
        if !none && self.family.gguf.never_window {
            let what = "a window, which these models do not have".to_owned();
            return Err(self.metadata.refuse(&self.key(WINDOW), what));
        }
        let window = match self.family.windows {
            _ if none && !self.family.gguf.has_window => None,
            Windows::AllButEach { .. } | Windows::All => Some(self.size(WINDOW, CONTEXT_MAX)?),
        };
        let pattern = self.key(PATTERN);
        if let Ok(Some(windowed)) = self.metadata.bools(&pattern) {
            if windowed.len() != layers {
                let what = format!("{} entries for {layers} layers", windowed.len());
                return Err(self.metadata.refuse(&pattern, what));
            }
            return Ok(windowed.iter().map(|on| window.filter(|_| *on)).collect());
        }
        // No key until late 2025; llama.cpp's loader has the family's period in its code.
        let period = match (
            self.optional_size(PATTERN, LAYERS_MAX)?,
            self.family.windows,
        ) {
            (Some(period), _) | (None, Windows::AllButEach { period }) => period,
            (None, Windows::All) => return Ok(vec![window; layers]),
        };
        let windowed = |layer: usize| window.filter(|_| layer % period < period - 1);
        Ok((0..layers).map(windowed).collect())
    }
}

/// Reads the rotations.
struct Ropes<'a> {
    keys: &'a Keys<'a>,
    gguf: &'a GgufFiles,
    head_dim: usize,
    /// Tokens in the longest sequence that will be run.
    context: usize,
}

impl Ropes<'_> {
    /// The rotation of layers that see everything.
    fn global(&self) -> Result<RopeSpec, ModelError> {
        let mut rope = self.plain()?;
        rope.scaling = self.scaling()?;
        let magnitude = self.keys.optional_positive("rope.scaling.attn_factor")?;
        const LONG: &str = "rope_factors_long.weight";
        const SHORT: &str = "rope_factors_short.weight";
        if [LONG, SHORT]
            .map(|name| self.gguf.find(name))
            .iter()
            .any(Option::is_some)
        {
            let above = self
                .keys
                .size("rope.scaling.original_context_length", CONTEXT_MAX)?;
            rope.divisors = Some(Divisors::Tensor(SHORT));
            rope.long = (self.context > above).then_some(LongDivisors {
                above,
                divisors: Divisors::Tensor(LONG),
            });
            rope.magnitude = self.keys.positive("rope.scaling.attn_factor")?;
        } else {
            rope.magnitude = magnitude.unwrap_or(1.0);
            let freqs = self.gguf.find("rope_freqs.weight");
            rope.divisors = freqs.map(|_| Divisors::Tensor("rope_freqs.weight"));
        }
        Ok(rope)
    }

    /// The rotation of layers with a window, where the family has one for them: never scaled.
    fn windowed(&self) -> Result<Option<RopeSpec>, ModelError> {
        let base = match self.keys.family.windowed_rope {
            WindowedRope::Same => return Ok(None),
            WindowedRope::Unscaled => return self.plain().map(Some),
            WindowedRope::OfBase(base) => base,
        };
        let mut rope = self.plain()?;
        let name = self
            .keys
            .same(["rope.freq_base_swa", "rope.local.freq_base"])?;
        let given = self.keys.optional_positive(name)?;
        rope.base = given.unwrap_or(base);
        Ok(Some(rope))
    }

    fn plain(&self) -> Result<RopeSpec, ModelError> {
        // llama.cpp's loader: the whole head, and a base of 10000, where the keys are missing;
        // converters leave the base out for Llama 1 and 2, Gemma 2 and Phi-3.
        let rotated = self
            .keys
            .optional_size("rope.dimension_count", HEAD_DIM_MAX)?;
        let name = self
            .keys
            .same(["rope.freq_base", "rope.global.freq_base"])?;
        let base = self.keys.optional_positive(name)?;
        Ok(RopeSpec::plain(
            self.keys.family.gguf.pairs,
            rotated.unwrap_or(self.head_dim),
            base.unwrap_or(10_000.0),
        ))
    }

    fn scaling(&self) -> Result<Scaling, ModelError> {
        let scaling = self.named_scaling()?;
        self.check_magnitude(&scaling)?;
        Ok(scaling)
    }

    /// Converters copy the magnitude that configs write out for YaRN. llama.cpp puts the paper's in its
    /// place, so no other means anything.
    fn check_magnitude(&self, scaling: &Scaling) -> Result<(), ModelError> {
        const KEY: &str = "rope.scaling.yarn_attn_factor";
        let own = match scaling {
            Scaling::Yarn(yarn) => yarn.magnitude,
            _ => 1.0,
        };
        match self.keys.optional_positive(KEY)? {
            Some(given) if given != 1.0 && (given - own).abs() > 1e-5 => {
                // Both were stored as f32.
                let [given, own] = [given, own].map(|magnitude| magnitude as f32);
                let found = format!("a magnitude of {given}");
                let supported = format!("1 and {own}, and models without it");
                let key = self.keys.key(KEY);
                Err(self.keys.metadata.unsupported(&key, found, supported))
            }
            _ => Ok(()),
        }
    }

    fn named_scaling(&self) -> Result<Scaling, ModelError> {
        let keys = self.keys;
        let key = keys.key("rope.scaling.type");
        match keys.metadata.str(&key)? {
            // As in llama.cpp's loader: a factor alone is linear, and 0 is none.
            None => Ok(match self.factor()? {
                Some(factor) => Scaling::Linear { factor },
                None => Scaling::None,
            }),
            Some("none") => Ok(Scaling::None),
            // LongRoPE is in the factor tensors.
            Some("longrope") if self.gguf.find("rope_factors_long.weight").is_some() => {
                Ok(Scaling::None)
            }
            Some("longrope") => Err(self.gguf.missing("rope_factors_long.weight")),
            Some("linear") => Ok(Scaling::Linear {
                factor: keys
                    .metadata
                    .required(&keys.key("rope.scaling.factor"), self.factor())?,
            }),
            Some("yarn") => self.yarn().map(Scaling::Yarn),
            Some(other) => {
                let found = format!("rope scaling {:?}", shown(other));
                let supported = "none, linear, yarn, longrope, and llama3 as rope_freqs.weight";
                Err(keys.metadata.unsupported(&key, found, supported.to_owned()))
            }
        }
    }

    /// What positions are divided by; 0 says that they are not.
    fn factor(&self) -> Result<Option<f64>, ModelError> {
        let name = (self.keys).same(["rope.scaling.factor", "rope.scale_linear"])?;
        if self.keys.metadata.number(&self.keys.key(name)) == Some(0.0) {
            return Ok(None);
        }
        self.keys.optional_positive(name)
    }

    fn yarn(&self) -> Result<Yarn, ModelError> {
        let keys = self.keys;
        let original = keys.size("rope.scaling.original_context_length", CONTEXT_MAX)?;
        let factor = keys
            .metadata
            .required(&keys.key("rope.scaling.factor"), self.factor())?;
        let fast = keys.same(["rope.scaling.yarn_beta_fast", "rope.scaling.beta_fast"])?;
        let slow = keys.same(["rope.scaling.yarn_beta_slow", "rope.scaling.beta_slow"])?;
        // The paper's bounds; converters write them only where a model has others.
        let beta_fast = keys.optional_positive(fast)?;
        let beta_slow = keys.optional_positive(slow)?;
        Ok(Yarn {
            factor,
            original_context: original as f64,
            beta_fast: beta_fast.unwrap_or(32.0),
            beta_slow: beta_slow.unwrap_or(1.0),
            magnitude: Yarn::default_magnitude(factor),
        })
    }
}
