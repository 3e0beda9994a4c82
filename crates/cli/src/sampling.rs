//! How tokens are chosen: by what was asked for, else by what the model suggests, else by the program's own
//! values.

use std::fmt;

use corpgrid_scheduler::{Sampling, SamplingDefaults};

// Where nobody names a value: varied, and not astray.
const TEMPERATURE: f32 = 0.7;
const TOP_P: f32 = 0.9;
const MIN_P: f32 = 0.05;
const REPETITION_PENALTY: f32 = 1.1;

/// Who named a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    User,
    Model,
    Program,
}

/// A value, and who named it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Choice<T> {
    value: T,
    from: Source,
}

impl<T> Choice<T> {
    fn of(asked: Option<T>, suggested: Option<T>, own: T) -> Self {
        let (value, from) = match (asked, suggested) {
            (Some(value), _) => (value, Source::User),
            (None, Some(value)) => (value, Source::Model),
            (None, None) => (own, Source::Program),
        };
        Self { value, from }
    }
}

impl<T: fmt::Display> fmt::Display for Choice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = match self.from {
            Source::User => "",
            Source::Model => " (the model's)",
            Source::Program => " (default)",
        };
        write!(f, "{}{from}", self.value)
    }
}

/// All values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choices {
    temperature: Choice<f32>,
    top_k: Choice<usize>,
    top_p: Choice<f32>,
    min_p: Choice<f32>,
    repetition_penalty: Choice<f32>,
}

impl Choices {
    /// What was asked for goes before what the model suggests.
    pub(crate) fn of(asked: &SamplingDefaults, suggested: &SamplingDefaults) -> Self {
        let temperature = Choice::of(asked.temperature, suggested.temperature, TEMPERATURE);
        // Greedy as it is known elsewhere is nothing but the likeliest token.
        let penalty = match temperature.value == 0.0 {
            true => 1.0,
            false => REPETITION_PENALTY,
        };
        Self {
            temperature,
            top_k: Choice::of(asked.top_k, suggested.top_k, 0),
            top_p: Choice::of(asked.top_p, suggested.top_p, TOP_P),
            min_p: Choice::of(asked.min_p, suggested.min_p, MIN_P),
            repetition_penalty: Choice::of(
                asked.repetition_penalty,
                suggested.repetition_penalty,
                penalty,
            ),
        }
    }

    /// What the library takes.
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature.value,
            top_k: self.top_k.value,
            top_p: self.top_p.value,
            min_p: self.min_p.value,
            repetition_penalty: self.repetition_penalty.value,
            ..Sampling::default()
        }
    }
}

impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
        } = self;
        write!(
            f,
            "temperature {temperature}, top-p {top_p}, top-k {top_k}, min-p {min_p}, \
             repetition-penalty {repetition_penalty}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_goes_before_suggested_and_both_before_the_programs_own() {
        let asked = SamplingDefaults {
            temperature: Some(0.2),
            ..SamplingDefaults::default()
        };
        let suggested = SamplingDefaults {
            temperature: Some(0.6),
            top_k: Some(20),
            ..SamplingDefaults::default()
        };
        let choices = Choices::of(&asked, &suggested);
        assert_eq!(
            choices.to_string(),
            "temperature 0.2, top-p 0.9 (default), top-k 20 (the model's), min-p 0.05 (default), \
             repetition-penalty 1.1 (default)"
        );
        let sampling = choices.sampling();
        assert_eq!((sampling.temperature, sampling.top_k), (0.2, 20));
    }

    #[test]
    fn greedy_has_no_penalty_unless_somebody_names_one() {
        let of = |temperature, penalty| {
            let suggested = SamplingDefaults {
                temperature: Some(temperature),
                repetition_penalty: penalty,
                ..SamplingDefaults::default()
            };
            let choices = Choices::of(&SamplingDefaults::default(), &suggested);
            choices.sampling().repetition_penalty
        };
        assert_eq!(of(0.0, None), 1.0);
        assert_eq!(of(0.0, Some(1.3)), 1.3);
        assert_eq!(of(0.6, None), 1.1);
    }
}
