//! The normaliser, the way of cutting words, and the way back to text.

use crate::error::ModelError;
use crate::text::encoder::{Before, Prefix};
use crate::text::limits::{CONTENT_BYTES_MAX, CUTTING_STEPS_MAX, GROWTH_MAX, STEPS_MAX};
use crate::text::normalise::{Change, Form, Normaliser};
use crate::text::pattern::Pattern;
use crate::text::pieces::SPACE_MARK;
use crate::text::pre::GPT2_WORDS;
use crate::text::split::{Behaviour, Step};

use super::Place;
use super::form::{
    Behavior, ByteLevel, Decoder, Metaspace, Normalizer, PreTokenizer, PrependScheme, Text,
};

/// The normaliser of a file.
pub(super) fn normaliser(
    place: Place<'_>,
    form: Option<&Normalizer>,
) -> Result<Normaliser, ModelError> {
    const FIELD: &str = "normalizer";
    let mut steps = Vec::new();
    form.map_or(Ok(()), |form| changes(place, form, &mut steps))?;
    Normaliser::new(steps).map_err(|growth| {
        let what = format!("it can make a text {growth} times as long; at most {GROWTH_MAX} times");
        place.malformed(FIELD, &what)
    })
}

fn changes(place: Place<'_>, form: &Normalizer, steps: &mut Vec<Change>) -> Result<(), ModelError> {
    const FIELD: &str = "normalizer";
    let short = |text: &String| {
        if text.len() > CONTENT_BYTES_MAX {
            let what = format!(
                "a text of {} bytes; at most {CONTENT_BYTES_MAX}",
                text.len()
            );
            return Err(place.malformed(FIELD, &what));
        }
        Ok(text.as_str().into())
    };
    steps.push(match form {
        Normalizer::Sequence { normalizers } => {
            let mut all = normalizers.iter();
            return all.try_for_each(|form| changes(place, form, steps));
        }
        Normalizer::Nfc {} => Change::Form(Form::Nfc),
        Normalizer::Nfd {} => Change::Form(Form::Nfd),
        Normalizer::Nfkc {} => Change::Form(Form::Nfkc),
        Normalizer::Nfkd {} => Change::Form(Form::Nfkd),
        Normalizer::Prepend { prepend } => Change::Prepend(short(prepend)?),
        Normalizer::Replace { pattern, content } => match pattern {
            Text::String(pattern) if pattern.is_empty() => {
                return Err(place.malformed(FIELD, "it replaces the empty text"));
            }
            Text::String(pattern) => Change::Replace {
                pattern: short(pattern)?,
                content: short(content)?,
            },
            Text::Regex(regex) => {
                let found = format!("Replace of the expression {regex:?}");
                return Err(place.unsupported(FIELD, &found, "Replace of a plain text"));
            }
        },
    });
    if steps.len() > STEPS_MAX {
        let what = format!("it has more than {STEPS_MAX} steps");
        return Err(place.malformed(FIELD, &what));
    }
    Ok(())
}

/// How a file cuts a text into words.
#[derive(Default)]
pub(super) struct Cutting {
    pub(super) steps: Vec<Step>,
    pub(super) prefix: Option<Prefix>,
    /// Words are bytes, written in GPT-2's letters.
    pub(super) byte_level: bool,
}

const CUTTING: &str = "pre_tokenizer";

impl Cutting {
    pub(super) fn of(place: Place<'_>, form: Option<&PreTokenizer>) -> Result<Self, ModelError> {
        let mut cutting = Self::default();
        form.map_or(Ok(()), |form| cutting.add(place, form))?;
        Ok(cutting)
    }

    fn add(&mut self, place: Place<'_>, form: &PreTokenizer) -> Result<(), ModelError> {
        if let PreTokenizer::Sequence { pretokenizers } = form {
            return pretokenizers
                .iter()
                .try_for_each(|form| self.add(place, form));
        }
        if self.byte_level {
            return Err(place.unsupported(CUTTING, "a step after ByteLevel", "ByteLevel last"));
        }
        let wrong = |what: String| place.malformed(CUTTING, &what);
        match form {
            PreTokenizer::Sequence { .. } => {}
            PreTokenizer::Split {
                pattern,
                behavior,
                invert,
            } => {
                let pattern = match pattern {
                    Text::String(text) => Pattern::literal(text),
                    Text::Regex(regex) => Pattern::new(regex),
                };
                let refused = |what: String| {
                    place.unsupported(
                        CUTTING,
                        &format!("this expression ({what})"),
                        "the published ones",
                    )
                };
                let step = Step::with(pattern.map_err(refused)?, behaviour(*behavior));
                self.steps.push(step.inverted(*invert));
            }
            PreTokenizer::Digits { individual_digits } => {
                let one = [r"\p{N}+", r"\p{N}"][usize::from(*individual_digits)];
                self.push(one, Behaviour::Isolated).map_err(wrong)?;
            }
            PreTokenizer::Punctuation { behavior } => {
                let one = r"[\p{P}!-/:-@\[-`{-~]";
                self.push(one, behaviour(*behavior)).map_err(wrong)?;
            }
            PreTokenizer::ByteLevel(form) => self.byte_level(place, form)?,
            PreTokenizer::Metaspace(form) => self.metaspace(place, form)?,
        }
        if self.steps.len() > CUTTING_STEPS_MAX {
            return Err(wrong(format!("it has more than {CUTTING_STEPS_MAX} steps")));
        }
        Ok(())
    }

    fn push(&mut self, pattern: &str, behaviour: Behaviour) -> Result<(), String> {
        self.steps.push(Step::of(pattern, behaviour)?);
        Ok(())
    }

    fn byte_level(&mut self, place: Place<'_>, form: &ByteLevel) -> Result<(), ModelError> {
        self.byte_level = true;
        if form.add_prefix_space {
            self.put_before(
                place,
                Prefix {
                    mark: ' ',
                    before: Before::All,
                },
            )?;
        }
        if form.use_regex {
            let pushed = self.push(GPT2_WORDS, Behaviour::Isolated);
            pushed.map_err(|what| place.malformed(CUTTING, &what))?;
        }
        Ok(())
    }

    fn metaspace(&mut self, place: Place<'_>, form: &Metaspace) -> Result<(), ModelError> {
        let before = match form.prepend_scheme {
            PrependScheme::First => Before::First,
            PrependScheme::Never => Before::None,
            PrependScheme::Always if form.add_prefix_space == Some(false) => {
                let what = "add_prefix_space does not match prepend_scheme";
                return Err(place.malformed(CUTTING, what));
            }
            PrependScheme::Always => Before::All,
        };
        let mark = form.replacement;
        self.put_before(place, Prefix { mark, before })?;
        if form.split {
            let pattern = Pattern::literal(mark.encode_utf8(&mut [0; 4]));
            let pattern = pattern.map_err(|what| place.malformed(CUTTING, &what))?;
            self.steps
                .push(Step::with(pattern, Behaviour::MergedWithNext));
        }
        Ok(())
    }

    /// A space before every word that an earlier step made would be another rule.
    fn put_before(&mut self, place: Place<'_>, prefix: Prefix) -> Result<(), ModelError> {
        if !self.steps.is_empty() || self.prefix.is_some() {
            let found = "a step that puts spaces before words after another step";
            return Err(place.unsupported(CUTTING, found, "such a step first"));
        }
        self.prefix = Some(prefix);
        Ok(())
    }
}

fn behaviour(form: Behavior) -> Behaviour {
    match form {
        Behavior::Isolated => Behaviour::Isolated,
        Behavior::Removed => Behaviour::Removed,
        Behavior::Contiguous => Behaviour::Contiguous,
        Behavior::MergedWithPrevious => Behaviour::MergedWithPrevious,
        Behavior::MergedWithNext => Behaviour::MergedWithNext,
    }
}

/// How a file's decoder turns tokens into text.
#[derive(Default)]
pub(super) struct Style {
    pub(super) byte_level: bool,
    pub(super) byte_tokens: bool,
    pub(super) space_prefix: bool,
}

impl Style {
    pub(super) fn of(place: Place<'_>, form: Option<&Decoder>) -> Result<Self, ModelError> {
        let mut style = Self::default();
        match form {
            Some(form) => style.add(place, form)?,
            None => return Err(unsupported_decoder(place, "none")),
        }
        Ok(style)
    }

    fn add(&mut self, place: Place<'_>, form: &Decoder) -> Result<(), ModelError> {
        match form {
            Decoder::Sequence { decoders } => {
                return decoders.iter().try_for_each(|form| self.add(place, form));
            }
            Decoder::ByteLevel(_) => self.byte_level = true,
            Decoder::ByteFallback {} => self.byte_tokens = true,
            Decoder::Fuse {} => {}
            Decoder::Metaspace(form) => {
                if form.replacement.encode_utf8(&mut [0; 4]) != SPACE_MARK {
                    return Err(unsupported_decoder(place, "Metaspace with another mark"));
                }
                self.space_prefix = form.prepend_scheme != PrependScheme::Never;
            }
            Decoder::Strip {
                content,
                start,
                stop,
            } => {
                if (*content, *stop) != (' ', 0) || *start > 1 {
                    return Err(unsupported_decoder(
                        place,
                        "Strip of more than a first space",
                    ));
                }
                self.space_prefix = *start == 1;
            }
            Decoder::Replace { pattern, content } => match pattern {
                Text::String(pattern) if pattern == SPACE_MARK && content == " " => {}
                _ => return Err(unsupported_decoder(place, "this Replace")),
            },
        }
        Ok(())
    }
}

fn unsupported_decoder(place: Place<'_>, found: &str) -> ModelError {
    let supported = "ByteLevel; Metaspace; Replace of the mark, ByteFallback, Fuse, Strip";
    place.unsupported("decoder", found, supported)
}
