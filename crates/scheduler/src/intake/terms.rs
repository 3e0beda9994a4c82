use gogrid_units::Moment;

use super::bad;
use crate::constraint::Constraint;
use crate::core::{Deadline, Urgency};
use crate::error::Refusal;
use crate::limits::{
    BIAS_MAX, DEADLINE_MAX, LAST_N_MAX, LOGIT_BIAS_MAX, PROMPT_LOG_PROBS_MAX, SHOWN_TOKENS_MAX,
    STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX, TOP_LOG_PROBS_MAX,
};
use crate::request::{Continuation, GenerateRequest, LogProbs, Prompt, Sampling};

/// What a request asks for besides its prompt.
pub(crate) struct Terms {
    pub(super) max_tokens: usize,
    pub(super) sampling: Sampling,
    pub(super) continuation: Continuation,
    pub(super) log_probs: Option<LogProbs>,
    pub(super) urgency: Urgency,
    pub(super) constraint: Option<Constraint>,
    pub(super) shown_tokens: Vec<u32>,
    pub(super) cache_salt: Option<u64>,
}

impl Terms {
    /// Those of a request that comes at `now`, as far as they can be checked without its model.
    pub(super) fn of(request: GenerateRequest, now: Moment) -> Result<(Prompt, Self), Refusal> {
        let GenerateRequest {
            prompt,
            max_tokens,
            sampling,
            continuation,
            constraint,
            log_probs,
            shown_tokens,
            whose,
            priority,
            deadline,
            cache_salt,
        } = request;
        check_sampling(&sampling)?;
        if max_tokens == 0 {
            return Err(bad("max_tokens", "0; at least 1 token must be asked for"));
        }
        if constraint.is_some() && continuation != Continuation::Sample {
            let problem = "tokens that are given cannot be constrained";
            return Err(bad("constraint", problem));
        }
        if let Some(top) = log_probs.map(|wanted| wanted.top)
            && top > TOP_LOG_PROBS_MAX
        {
            let problem = format!("{top} of the likeliest; at most {TOP_LOG_PROBS_MAX}");
            return Err(bad("log_probs", problem));
        }
        if shown_tokens.len() > SHOWN_TOKENS_MAX {
            let problem = format!("{} tokens; at most {SHOWN_TOKENS_MAX}", shown_tokens.len());
            return Err(bad("shown_tokens", problem));
        }
        let deadline = deadline.map(|after| Deadline {
            after,
            at: now.after(after.min(DEADLINE_MAX)),
        });
        let terms = Self {
            max_tokens,
            sampling,
            continuation,
            log_probs,
            urgency: Urgency {
                whose,
                priority,
                deadline,
            },
            constraint,
            shown_tokens,
            cache_salt,
        };
        Ok((prompt, terms))
    }

    /// Refuses what is too much for a prompt of so many rows.
    pub(super) fn check_prompt(&self, rows: usize) -> Result<(), Refusal> {
        let wanted = self.log_probs.filter(|wanted| wanted.prompt);
        let wanted = wanted.map_or(0, |wanted| rows.saturating_mul(wanted.top + 1));
        if wanted > PROMPT_LOG_PROBS_MAX {
            let problem = format!("{wanted} of the prompt; at most {PROMPT_LOG_PROBS_MAX}");
            return Err(bad("log_probs", problem));
        }
        Ok(())
    }
}

fn check_sampling(sampling: &Sampling) -> Result<(), Refusal> {
    let within = |field, value: f32, (least, most): (f32, f32)| match value {
        v if (least..=most).contains(&v) => Ok(()),
        v => Err(bad(field, format!("{v}; must be in {least}..={most}"))),
    };
    // A thousandth and a million are as good as greedy and even draws.
    within("temperature", sampling.temperature, (0.0, 1e6))?;
    within("top_p", sampling.top_p, (0.0, 1.0))?;
    within("min_p", sampling.min_p, (0.0, 1.0))?;
    within(
        "repetition_penalty",
        sampling.repetition_penalty,
        (0.01, 100.0),
    )?;
    within("frequency_penalty", sampling.frequency_penalty, (-2.0, 2.0))?;
    within("presence_penalty", sampling.presence_penalty, (-2.0, 2.0))?;
    if sampling.last_n > LAST_N_MAX {
        return Err(bad(
            "last_n",
            format!("{}; at most {LAST_N_MAX}", sampling.last_n),
        ));
    }
    if sampling.stop.len() > STOP_STRINGS_MAX {
        let problem = format!(
            "{} strings; at most {STOP_STRINGS_MAX}",
            sampling.stop.len()
        );
        return Err(bad("stop", problem));
    }
    check_bias(sampling)?;
    match sampling
        .stop
        .iter()
        .map(String::len)
        .find(|len| !(1..=STOP_STRING_BYTES_MAX).contains(len))
    {
        Some(len) => {
            let problem = format!("a string of {len} bytes; 1 to {STOP_STRING_BYTES_MAX} allowed");
            Err(bad("stop", problem))
        }
        None => Ok(()),
    }
}

fn check_bias(sampling: &Sampling) -> Result<(), Refusal> {
    let (bias, entries) = (&sampling.logit_bias, sampling.logit_bias.len());
    if entries > LOGIT_BIAS_MAX {
        let problem = format!("{entries} tokens; at most {LOGIT_BIAS_MAX}");
        return Err(bad("logit_bias", problem));
    }
    let allowed = -BIAS_MAX..=BIAS_MAX;
    match bias.iter().find(|(_, value)| !allowed.contains(value)) {
        Some((id, value)) => {
            let problem = format!("{value} for token {id}; must be in -{BIAS_MAX}..={BIAS_MAX}");
            Err(bad("logit_bias", problem))
        }
        None => Ok(()),
    }
}
