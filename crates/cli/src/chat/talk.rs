//! The conversation so far, and how its answers are made.

use std::fmt::Write;

use corpgrid_scheduler::{
    Content, Conversation, Finish, GenerateRequest, HeterogeneousPipeline, Message, Prompt,
    Refusal, Sampling, SamplingDefaults,
};
use serde::{Deserialize, Serialize};

use crate::args::ChatArgs;
use crate::live::Live;
use crate::sampling::Choices;
use crate::stream::{self, Answer};

/// Tokens of an answer at most, where nobody says how many.
const TOKENS: usize = 1024;

/// As much of the context is kept for an answer at least, before the oldest turns go for it.
const ANSWER_PART: usize = 4;

pub(super) struct Talk<'a> {
    pub(super) args: &'a ChatArgs,
    pub(super) system: Option<String>,
    /// Questions and answers in turn, the first a question.
    said: Vec<String>,
    /// The first of these that the model is told: what comes before it is left out.
    told_from: usize,
    /// The question and answer that another answer is being made for.
    kept: Option<[String; 2]>,
    /// The values of sampling that the user named, and those that the model suggests.
    asked: SamplingDefaults,
    suggested: SamplingDefaults,
    /// The draws are others each time where this is not set.
    seed: Option<u64>,
    max_tokens: usize,
    /// Whether it was said that turns are left out.
    told_of_slide: bool,
}

/// A conversation in a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    model: String,
    system: Option<String>,
    messages: Vec<SavedMessage>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedMessage {
    role: Role,
    content: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    User,
    Assistant,
}

impl Role {
    /// That of the message of this number.
    fn of(number: usize) -> Self {
        match number.is_multiple_of(2) {
            true => Self::User,
            false => Self::Assistant,
        }
    }
}

impl<'a> Talk<'a> {
    pub(super) fn new(args: &'a ChatArgs, suggested: SamplingDefaults) -> Self {
        Self {
            args,
            system: args.system.clone(),
            said: Vec::new(),
            told_from: 0,
            kept: None,
            asked: args.sampling.asked(),
            suggested,
            seed: args.sampling.seed,
            max_tokens: args.sampling.max_tokens.unwrap_or(TOKENS),
            told_of_slide: false,
        }
    }

    pub(super) fn begin_again(&mut self) {
        self.said.clear();
        (self.told_from, self.told_of_slide) = (0, false);
    }

    pub(super) fn ask(&mut self, question: String) {
        self.said.push(question);
    }

    /// What the model said. An empty answer would be the example for the next one.
    pub(super) fn answered(&mut self, text: String) {
        match text.is_empty() {
            true => drop(self.said.pop()),
            false => self.said.push(text),
        }
    }

    /// Takes the last question back, with its answer if there is one.
    pub(super) fn take_last_question(&mut self) -> Option<String> {
        if self.said.len().is_multiple_of(2) {
            self.said.pop();
        }
        let question = self.said.pop();
        self.told_from = self.told_from.min(self.said.len());
        question
    }

    /// Takes the last question, for another answer; what was answered comes back where there is none.
    pub(super) fn begin_retry(&mut self) -> Option<String> {
        let answer = self.last_answer().map(str::to_owned);
        let question = self.take_last_question()?;
        self.kept = answer.map(|answer| [question.clone(), answer]);
        Some(question)
    }

    /// The other answer has come, or not.
    pub(super) fn end_retry(&mut self) {
        let Some(kept) = self.kept.take() else { return };
        if self
            .said
            .last_chunk::<2>()
            .is_none_or(|[question, _]| *question != kept[0])
        {
            self.said.extend(kept);
        }
    }

    pub(super) fn last_answer(&self) -> Option<&str> {
        let answers = self.said.len() / 2;
        Some(&self.said[answers.checked_sub(1)? * 2 + 1])
    }

    fn conversation(&self) -> Conversation {
        let system = self.system.iter().map(|text| Message::system(text.clone()));
        let said = self.said.iter().enumerate().skip(self.told_from);
        let said = said.map(|(number, text)| match Role::of(number) {
            Role::User => Message::user(text.clone()),
            Role::Assistant => Message::assistant(text.clone()),
        });
        system.chain(said).collect::<Vec<_>>().into()
    }

    pub(super) fn request(&self) -> GenerateRequest {
        let seed = self.seed.unwrap_or_else(stream::chance);
        let sampling = self.args.sampling.complete(&self.choices(), seed);
        GenerateRequest {
            sampling: Sampling { seed, ..sampling },
            whose: self.args.whose.whose(),
            deadline: self.args.patience.deadline(),
            ..GenerateRequest::new(Prompt::Chat(self.conversation()), self.max_tokens)
        }
    }

    /// Leaves the oldest turns out where the rest and an answer do not fit the model's context: so many that the
    /// turns to come have room, and find the beginning as it was. Says whether that is news.
    ///
    /// # Errors
    /// A conversation that the model's template refuses, and a question that is too long by itself: then nothing
    /// is left out for it.
    pub(super) fn slide(&mut self, pipeline: &HeterogeneousPipeline) -> Result<bool, Refusal> {
        let context = pipeline.model().decoder().context;
        let answer = self.max_tokens.min(context / ANSWER_PART);
        if self.tokens(pipeline)? + answer <= context {
            return Ok(false);
        }
        let (before, last) = (self.told_from, self.said.len() - 1);
        while self.told_from < last && self.tokens(pipeline)? + answer > context * 3 / 4 {
            self.told_from += 2;
        }
        let tokens = self.tokens(pipeline)?;
        if tokens >= context {
            self.told_from = before;
            return Err(Refusal::PromptTooLong { tokens, context });
        }
        let slid = self.told_from > before;
        Ok(slid && !std::mem::replace(&mut self.told_of_slide, true))
    }

    /// Tokens of the conversation, or as many bytes where that is enough to know.
    fn tokens(&self, pipeline: &HeterogeneousPipeline) -> Result<usize, Refusal> {
        let conversation = self.conversation();
        let text = |message: &Message| match &message.content {
            Content::Text(text) => text.len(),
            Content::Parts(_) => 0,
        };
        let bytes: usize = conversation.messages.iter().map(text).sum();
        // A token has a byte at least, and a template writes some hundreds of its own.
        if bytes < pipeline.model().decoder().context / 2 {
            return Ok(bytes);
        }
        let text = pipeline.render_chat(&conversation)?;
        Ok(pipeline.tokenize(&text, true)?.len())
    }

    fn choices(&self) -> Choices {
        Choices::of(&self.asked, &self.suggested)
    }

    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<String, String> {
        let asked = &mut self.asked;
        match name {
            "temperature" => asked.temperature = Some(number(name, value, 0.0, 100.0)?),
            "top-p" | "top_p" => asked.top_p = Some(number(name, value, 0.0, 1.0)?),
            "min-p" | "min_p" => asked.min_p = Some(number(name, value, 0.0, 1.0)?),
            "repetition-penalty" | "repeat_penalty" => {
                asked.repetition_penalty = Some(number(name, value, 0.01, 100.0)?);
            }
            "top-k" | "top_k" => asked.top_k = Some(whole(name, value, 0, 1 << 24)?),
            "max-tokens" | "num_predict" => self.max_tokens = whole(name, value, 1, 1 << 24)?,
            "seed" if value == "none" => self.seed = None,
            "seed" => {
                let seed = value.parse();
                self.seed = Some(seed.map_err(|_| {
                    format!("seed is {value:?}, and must be a whole number, or none")
                })?);
            }
            _ => {
                return Err(format!(
                    "there is no setting {name:?}; /set lists those there are"
                ));
            }
        }
        Ok(format!("{name} is {value} from here on"))
    }

    pub(super) fn settings(&self) -> String {
        let seed = self
            .seed
            .map_or("another each time".to_owned(), |s| s.to_string());
        format!(
            "{}, seed {seed}, max-tokens {}",
            self.choices(),
            self.max_tokens
        )
    }

    pub(super) fn shown(&self, pipeline: &Live) -> String {
        let model = pipeline.model();
        let mut shown = format!("model {}, mode {}\n", model.name(), pipeline.mode.name());
        let used = match self.said.is_empty() {
            true => Ok(0),
            false => pipeline
                .render_chat(&self.conversation())
                .and_then(|text| Ok(pipeline.tokenize(&text, true)?.len())),
        };
        let context = model.decoder().context;
        let used = used.map_or("?".to_owned(), |used| used.to_string());
        // Writing to a text cannot fail.
        let _ = writeln!(shown, "context {used} of {context} tokens");
        let _ = write!(shown, "{}", self.settings());
        if let Some(system) = &self.system {
            let _ = write!(shown, "\nsystem {system}");
        }
        shown
    }

    pub(super) fn saved(&self, model: &str) -> Saved {
        let said = self.said.iter().enumerate();
        Saved {
            model: model.to_owned(),
            system: self.system.clone(),
            messages: said
                .map(|(number, text)| SavedMessage {
                    role: Role::of(number),
                    content: text.clone(),
                })
                .collect(),
        }
    }

    /// Goes on with a conversation that was saved; gives how many turns it has.
    pub(super) fn load(&mut self, saved: Saved) -> Result<usize, String> {
        let roles = saved.messages.iter().enumerate();
        if !saved.messages.len().is_multiple_of(2)
            || roles
                .into_iter()
                .any(|(number, message)| message.role != Role::of(number))
        {
            return Err("its messages are not questions and answers in turn".to_owned());
        }
        self.begin_again();
        self.system = saved.system;
        let texts = saved.messages.into_iter().map(|message| message.content);
        self.said = texts.collect();
        Ok(self.said.len() / 2)
    }
}

/// What is said of an answer that did not end by itself.
pub(super) fn cut_off(answer: &Answer, most: usize) -> Option<String> {
    let generated = answer.figures.generated_tokens;
    match answer.finish {
        Finish::Length if generated >= most => Some(format!(
            "cut off after {generated} tokens; /set max-tokens N allows more"
        )),
        Finish::Length => Some("cut off: the context is full".to_owned()),
        _ => None,
    }
}

fn number(name: &str, value: &str, least: f32, most: f32) -> Result<f32, String> {
    let parsed = value.parse::<f32>().ok();
    let allowed = parsed.filter(|parsed| (least..=most).contains(parsed));
    allowed.ok_or_else(|| format!("{name} is {value:?}, and must be from {least} to {most}"))
}

fn whole(name: &str, value: &str, least: usize, most: usize) -> Result<usize, String> {
    let parsed = value.parse::<usize>().ok();
    let allowed = parsed.filter(|parsed| (least..=most).contains(parsed));
    allowed.ok_or_else(|| {
        format!("{name} is {value:?}, and must be a whole number from {least} to {most}")
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn with_talk(check: impl FnOnce(&mut Talk<'_>)) {
        let cli = Cli::parse_from(["gogrid", "chat", "--as", "guest"]);
        let Command::Chat(args) = cli.command else {
            panic!("it is one");
        };
        check(&mut Talk::new(&args, SamplingDefaults::default()));
    }

    fn texts(talk: &Talk<'_>) -> Vec<String> {
        let messages = talk.conversation().messages.into_iter();
        let text = |message: Message| match message.content {
            Content::Text(text) => text,
            Content::Parts(_) => panic!("there are none"),
        };
        messages.map(text).collect()
    }

    #[test]
    fn a_retry_that_comes_to_nothing_leaves_what_was_answered() {
        with_talk(|talk| {
            assert_eq!(talk.begin_retry(), None);
            talk.ask("a".to_owned());
            talk.answered("b".to_owned());
            for (answer, left) in [("", "b"), ("c", "c")] {
                let question = talk.begin_retry().expect("there is one");
                talk.ask(question);
                talk.answered(answer.to_owned());
                talk.end_retry();
                assert_eq!(texts(talk), ["a", left]);
            }
            assert_eq!(talk.take_last_question().as_deref(), Some("a"));
            assert_eq!(texts(talk), [""; 0]);
        });
    }

    #[test]
    fn greedy_has_no_penalty_unless_somebody_set_one() {
        with_talk(|talk| {
            let penalty = |talk: &mut Talk<'_>, name: &str, value: &str| {
                talk.set(name, value).expect("it is one");
                talk.request().sampling.repetition_penalty
            };
            assert_eq!(talk.request().sampling.repetition_penalty, 1.1);
            assert_eq!(penalty(talk, "temperature", "0"), 1.0);
            assert_eq!(penalty(talk, "temperature", "0.7"), 1.1);
            assert_eq!(penalty(talk, "repetition-penalty", "1.3"), 1.3);
            assert_eq!(penalty(talk, "temperature", "0"), 1.3);
            assert!(talk.set("temperature", "-1").is_err());
            assert!(talk.set("seed", "x").is_err() && talk.set("seed", "none").is_ok());
        });
    }

    #[test]
    fn what_is_set_goes_before_what_the_model_suggests() {
        with_talk(|talk| {
            talk.suggested.temperature = Some(0.6);
            talk.suggested.top_k = Some(20);
            talk.set("top-k", "0").expect("it is one");
            let sampling = talk.request().sampling;
            assert_eq!((sampling.temperature, sampling.top_k), (0.6, 0));
            let settings = talk.settings();
            let begins = "temperature 0.6 (the model's), top-p 0.9 (default), top-k 0, min-p";
            assert!(settings.starts_with(begins), "{settings}");
        });
    }

    #[test]
    fn what_was_saved_is_loaded_and_what_is_no_conversation_is_not() {
        with_talk(|talk| {
            talk.ask("a".to_owned());
            talk.answered("b".to_owned());
            let saved = serde_json::to_string(&talk.saved("m")).expect("plain data");
            talk.begin_again();
            let saved: Saved = serde_json::from_str(&saved).expect("it was saved");
            assert_eq!(talk.load(saved), Ok(1));
            assert_eq!(texts(talk), ["a", "b"]);
            let odd =
                r#"{"model":"m","system":null,"messages":[{"role":"assistant","content":"x"}]}"#;
            let odd: Saved = serde_json::from_str(odd).expect("the shape of one");
            assert!(talk.load(odd).is_err());
            assert_eq!(texts(talk), ["a", "b"], "nothing is lost");
        });
    }
}
