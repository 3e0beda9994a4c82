//! Text and chats become token ids. How long that takes is the caller's to say by the length of the
//! text, so it is bounded, and ends as soon as nobody wants it.

use std::cell::Cell;
use std::ops::Range;
use std::slice;

use gogrid_host::local_date;
use gogrid_model::{ChatText, CivilTime, Conversation, EncodeLimit, Model, ModelError};
use gogrid_units::{Bytes, contain};

use super::chat::Chat;
use super::{bad, unusable};
use crate::error::Refusal;
use crate::limits::{
    PROMPT_BYTES_MAX, RENDER_INLINE_ASKS_MAX, TEXT_INLINE_BYTES_MAX, TEXT_MEMORY_PER_BYTE,
};

/// A prompt that is not token ids yet.
pub(crate) enum Written {
    Plain(Plain),
    Chat(Chat),
}

/// A text, ready to be tokenised.
pub(crate) enum Plain {
    Text(String),
    /// A chat as the model's template wrote it.
    Chat(ChatText),
}

/// Whose thread tokenises a prompt.
pub(crate) enum Route {
    /// The caller's own: some milliseconds.
    Caller(Plain),
    Worker(Written),
}

/// A text, and the ranges of it in which the names of control tokens stand for the tokens.
pub(crate) struct Marked<'t> {
    text: &'t str,
    own: Own<'t>,
}

enum Own<'t> {
    All(Range<usize>),
    Some(&'t [Range<usize>]),
}

impl<'t> Marked<'t> {
    /// A text whose control tokens are all meant: whoever gives one to be continued writes it whole.
    pub(crate) fn parsed(text: &'t str) -> Self {
        Self {
            text,
            own: Own::All(0..text.len()),
        }
    }

    fn own(&self) -> &[Range<usize>] {
        match &self.own {
            Own::All(range) => slice::from_ref(range),
            Own::Some(ranges) => ranges,
        }
    }

    /// A chat: only the template's own text has control tokens, whatever is said in a message.
    fn chat(chat: &'t ChatText) -> Self {
        Self {
            text: chat.text(),
            own: Own::Some(chat.template_ranges()),
        }
    }
}

impl Written {
    fn bytes(&self) -> usize {
        match self {
            Self::Plain(plain) => plain.bytes(),
            Self::Chat(chat) => chat.bytes(),
        }
    }

    /// Memory that the next step of its way to ids takes at most.
    pub(crate) fn memory(&self) -> Bytes {
        match self {
            Self::Plain(plain) => plain.memory(),
            Self::Chat(chat) => chat.memory(),
        }
    }

    /// Refuses what cannot be tokenised before anything is done with it.
    pub(crate) fn check(&self, model: &Model, tokens_max: usize) -> Result<(), Refusal> {
        check_bytes(self.bytes())?;
        match self {
            Self::Plain(plain) => check_fits(model, plain.marked().text, tokens_max),
            // Its bounds were checked, and a template may leave any part of it out.
            Self::Chat(_) => Ok(()),
        }
    }

    /// Whose thread tokenises it. A short chat is rendered to know, as far as some milliseconds go:
    /// its template may make a long text of it, or work on it for long.
    pub(crate) fn route(self, model: &Model) -> Result<Route, Refusal> {
        if self.bytes() > TEXT_INLINE_BYTES_MAX {
            return Ok(Route::Worker(self));
        }
        let plain = match self {
            Self::Plain(plain) => plain,
            Self::Chat(chat) => {
                let asked = Cell::new(0);
                let goes_on = || asked.replace(asked.get() + 1) < RENDER_INLINE_ASKS_MAX;
                match render_contained(model, chat.conversation(), &goes_on) {
                    Err(Refusal::Stopped) => return Ok(Route::Worker(Self::Chat(chat))),
                    text => Plain::Chat(text?),
                }
            }
        };
        Ok(match plain.bytes() <= TEXT_INLINE_BYTES_MAX {
            true => Route::Caller(plain),
            false => Route::Worker(Self::Plain(plain)),
        })
    }

    /// A chat as the text that the model's template makes of it.
    pub(crate) fn rendered(
        self,
        model: &Model,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Plain, Refusal> {
        match self {
            Self::Plain(plain) => Ok(plain),
            Self::Chat(chat) => {
                render_contained(model, chat.conversation(), goes_on).map(Plain::Chat)
            }
        }
    }
}

impl Plain {
    fn bytes(&self) -> usize {
        self.marked().text.len()
    }

    fn marked(&self) -> Marked<'_> {
        match self {
            Self::Text(text) => Marked::parsed(text),
            Self::Chat(chat) => Marked::chat(chat),
        }
    }

    /// Memory that tokenising it takes at most.
    pub(crate) fn memory(&self) -> Bytes {
        Bytes(self.bytes() as u64).times(TEXT_MEMORY_PER_BYTE)
    }

    /// The ids, with BOS before them where the model says so. A panic of the tokenizer refuses this
    /// prompt and does nothing else.
    pub(crate) fn tokenize(
        &self,
        model: &Model,
        limit: EncodeLimit<'_>,
    ) -> Result<Vec<u32>, Refusal> {
        let done = contain(|| with_bos(model, &self.marked(), limit));
        done.unwrap_or_else(|problem| Err(panicked(model, &problem)))
    }
}

/// The same as [`render`]. A panic of the template engine refuses this prompt and does nothing else.
pub(crate) fn render_contained(
    model: &Model,
    conversation: &Conversation,
    goes_on: &dyn Fn() -> bool,
) -> Result<ChatText, Refusal> {
    let chat = contain(|| render(model, conversation, goes_on));
    chat.unwrap_or_else(|problem| Err(panicked(model, &problem)))
}

/// A chat as the model's template writes it.
fn render(
    model: &Model,
    conversation: &Conversation,
    goes_on: &dyn Fn() -> bool,
) -> Result<ChatText, Refusal> {
    let Some(template) = model.chat_template() else {
        return Err(bad(
            "prompt",
            "this model has no chat template; give it text to go on with",
        ));
    };
    let now = civil_time()?;
    template
        .render(conversation, &now, goes_on)
        .map_err(|error| match error {
            ModelError::Stopped => Refusal::Stopped,
            error => unusable(&error),
        })
}

/// The date and the time of day here, for templates that write them.
fn civil_time() -> Result<CivilTime, Refusal> {
    let date = local_date();
    let time = CivilTime::new(date.year_month_day, date.hour_minute_second);
    let outside = || format!("the system's date is outside of the calendar: {date:?}");
    time.ok_or_else(|| bad("prompt", outside()))
}

/// A panic where text became tokens.
pub(crate) fn panicked(model: &Model, problem: &str) -> Refusal {
    let name = model.name();
    bad(
        "prompt",
        format!("the tokenizer or the chat template of {name} panicked: {problem}"),
    )
}

/// The ids of a text, with BOS before them where the model says so.
pub(crate) fn with_bos(
    model: &Model,
    text: &Marked<'_>,
    limit: EncodeLimit<'_>,
) -> Result<Vec<u32>, Refusal> {
    let ids = encode(model, text, limit)?;
    // A template may have written it already.
    let tokenizer = model.tokenizer();
    let begins = tokenizer.bos().filter(|first| ids.first() != Some(first));
    Ok(begins.into_iter().chain(ids).collect())
}

/// The ids of a text.
pub(crate) fn encode(
    model: &Model,
    text: &Marked<'_>,
    limit: EncodeLimit<'_>,
) -> Result<Vec<u32>, Refusal> {
    check_bytes(text.text.len())?;
    check_fits(model, text.text, limit.tokens_max)?;
    let ids = model
        .tokenizer()
        .encode_marked(text.text, text.own(), limit);
    ids.map_err(|error| match error {
        ModelError::TooManyTokens { tokens_max } => Refusal::PromptTooLong {
            tokens: tokens_max.saturating_add(1),
            context: model.decoder().context,
        },
        ModelError::Stopped => Refusal::Stopped,
        error => unusable(&error),
    })
}

/// Refuses a text that has more tokens than may be, whatever they are.
fn check_fits(model: &Model, text: &str, tokens_max: usize) -> Result<(), Refusal> {
    let tokens = model.tokenizer().tokens_at_least(text.len());
    match tokens <= tokens_max {
        true => Ok(()),
        false => Err(Refusal::PromptTooLong {
            tokens,
            context: model.decoder().context,
        }),
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
