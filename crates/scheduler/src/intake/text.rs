//! Text and chats become token ids. How long that takes is the caller's to say by the length of the
//! text, so it is bounded, and ends as soon as nobody wants it.

use gogrid_model::{Message, Model, SpecialTokens};
use gogrid_units::contain;

use super::{bad, unusable};
use crate::error::Refusal;
use crate::limits::{MESSAGES_MAX, PROMPT_BYTES_MAX, TEXT_INLINE_BYTES_MAX, TOKEN_BYTES_MAX};

/// A prompt that is not token ids yet.
pub(crate) enum Written {
    Text(String),
    Chat(Vec<Message>),
}

/// How far tokenising may go.
#[derive(Clone, Copy)]
pub(crate) struct TextLimit<'a> {
    /// Tokens that may come out.
    pub(crate) tokens_max: usize,
    /// Asked from time to time; no ends it with [`Refusal::Stopped`].
    pub(crate) goes_on: &'a dyn Fn() -> bool,
}

impl TextLimit<'static> {
    /// Any number of tokens, to the end.
    pub(crate) const NONE: Self = Self {
        tokens_max: usize::MAX,
        goes_on: &|| true,
    };
}

impl Written {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Chat(messages) => bytes_of(messages),
        }
    }

    /// Whether a caller's own thread can do it: in some milliseconds.
    pub(crate) fn is_short(&self) -> bool {
        self.bytes() <= TEXT_INLINE_BYTES_MAX
    }

    /// Refuses what cannot be tokenised before anything is done with it.
    pub(crate) fn check(&self, model: &Model, tokens_max: usize) -> Result<(), Refusal> {
        check_bytes(self.bytes())?;
        match self {
            Self::Text(text) => check_fits(model, text, tokens_max),
            // A template may leave any part of a chat out.
            Self::Chat(messages) => check_messages(messages),
        }
    }

    /// The ids, with BOS before them where the model says so. A panic of the template engine or of
    /// the tokenizer refuses this prompt and does nothing else.
    pub(crate) fn tokenize(
        &self,
        model: &Model,
        limit: TextLimit<'_>,
    ) -> Result<Vec<u32>, Refusal> {
        let done = contain(|| match self {
            Self::Text(text) => with_bos(model, text, limit),
            Self::Chat(messages) => with_bos(model, &render(model, messages)?, limit),
        });
        done.unwrap_or_else(|problem| Err(panicked(model, &problem)))
    }
}

/// A chat as the model's template writes it.
pub(crate) fn render(model: &Model, messages: &[Message]) -> Result<String, Refusal> {
    let Some(template) = model.chat_template() else {
        return Err(bad(
            "prompt",
            "this model has no chat template; give it text to go on with",
        ));
    };
    check_messages(messages)?;
    check_bytes(bytes_of(messages))?;
    template.render(messages, true).map_err(|e| unusable(&e))
}

/// A panic where text became tokens.
pub(crate) fn panicked(model: &Model, problem: &str) -> Refusal {
    let name = model.name();
    bad(
        "prompt",
        format!("the tokenizer of {name} panicked: {problem}"),
    )
}

/// The ids of a text, with BOS before them where the model says so.
pub(crate) fn with_bos(
    model: &Model,
    text: &str,
    limit: TextLimit<'_>,
) -> Result<Vec<u32>, Refusal> {
    let ids = encode(model, text, limit)?;
    // A template may have written it already.
    let tokenizer = model.tokenizer();
    let begins = tokenizer.bos().filter(|first| ids.first() != Some(first));
    Ok(begins.into_iter().chain(ids).collect())
}

/// The ids of a text, special tokens in it parsed.
pub(crate) fn encode(
    model: &Model,
    text: &str,
    TextLimit {
        tokens_max,
        goes_on,
    }: TextLimit<'_>,
) -> Result<Vec<u32>, Refusal> {
    check_bytes(text.len())?;
    check_fits(model, text, tokens_max)?;
    if !goes_on() {
        return Err(Refusal::Stopped);
    }
    let ids = model.tokenizer().encode(text, SpecialTokens::Parse);
    let ids = ids.map_err(|e| unusable(&e))?;
    match goes_on() {
        true => Ok(ids),
        false => Err(Refusal::Stopped),
    }
}

/// Refuses a text that has more tokens than may be, whatever they are.
fn check_fits(model: &Model, text: &str, tokens_max: usize) -> Result<(), Refusal> {
    let tokens = text.len() / TOKEN_BYTES_MAX;
    match tokens <= tokens_max {
        true => Ok(()),
        false => Err(Refusal::PromptTooLong {
            tokens,
            context: model.decoder().context,
        }),
    }
}

fn check_messages(messages: &[Message]) -> Result<(), Refusal> {
    match messages.len() {
        1..=MESSAGES_MAX => Ok(()),
        messages => Err(bad(
            "prompt",
            format!("{messages} messages; 1 to {MESSAGES_MAX} can be sent"),
        )),
    }
}

fn check_bytes(bytes: usize) -> Result<(), Refusal> {
    match bytes <= PROMPT_BYTES_MAX {
        true => Ok(()),
        false => Err(bad(
            "prompt",
            format!("{bytes} bytes of text; at most {PROMPT_BYTES_MAX}"),
        )),
    }
}

fn bytes_of(messages: &[Message]) -> usize {
    let bytes = messages
        .iter()
        .map(|one| one.role.len() + one.content.len());
    bytes.fold(0, usize::saturating_add)
}
