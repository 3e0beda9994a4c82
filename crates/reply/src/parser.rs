use crate::call::{Calls, Sink, Step};
use crate::format::{ReasoningTags, ToolFormat};
use crate::limits::{BLANK_BYTES_MAX, CALLS_MAX};
use crate::part::{Part, Parts};
use crate::watch::Watch;

/// How a reply is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyOptions {
    /// How the model writes calls: [`ToolFormat::None`] where the request has no tools, whatever its
    /// template says.
    pub format: ToolFormat,
    /// The names of the request's tools. An object without a mark around it (Llama 3) is a call only
    /// of one of these. With a mark any name counts, so that the client can tell the model that
    /// there is no such tool.
    pub tools: Vec<String>,
    /// Between which tags the model thinks.
    pub reasoning: Option<ReasoningTags>,
    /// Whether the prompt has opened the reasoning.
    pub starts_in_reasoning: bool,
    /// Calls at most, up to 128. The reply is over after the last one.
    pub calls_max: usize,
}

impl Default for ReplyOptions {
    /// All is text.
    fn default() -> Self {
        Self {
            format: ToolFormat::None,
            tools: Vec::new(),
            reasoning: None,
            starts_in_reasoning: false,
            calls_max: CALLS_MAX,
        }
    }
}

impl ReplyOptions {
    /// The marks that this reading looks for. Those that are control tokens of the model's have to be
    /// written out as text: a decoder leaves them out of itself.
    pub fn markers(&self) -> Vec<&'static str> {
        let tags = self.reasoning.iter();
        let tags = tags.flat_map(|tags| [tags.opening(), tags.closing()]);
        let calls = [self.format.opening(), self.format.closing()];
        let inner = self.format.inner().iter().copied();
        tags.chain(calls.into_iter().flatten())
            .chain(inner)
            .collect()
    }
}

/// Takes a reply apart while it is written. The same text gives the same parts however it is cut,
/// but for where a text, the reasoning or the arguments are cut into several parts.
///
/// White space around the reasoning is left out, as llama.cpp does. White space before the first
/// call, between calls and after the last one is left out, and otherwise every character of the
/// answer is told. What begins like a call and is none is text, as it was written.
#[derive(Debug)]
pub struct ReplyParser {
    options: ReplyOptions,
    place: Place,
    watch: Watch,
    /// White space of which it is not known yet whether it is part of a text.
    blank: String,
    calls: usize,
}

/// Where in the reply the next character stands.
#[derive(Debug)]
enum Place {
    /// In the reasoning, and whether something of it has been told.
    Reasoning { told: bool },
    /// Where the answer may begin.
    Before(Follows),
    /// In the answer's text.
    Text,
    /// In calls.
    Calls(Box<Calls>),
    /// After the last call that is wanted.
    Over,
}

/// What came before the place where the answer may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    Nothing,
    Reasoning,
    Calls,
}

impl ReplyParser {
    /// At the beginning of a reply.
    pub fn new(mut options: ReplyOptions) -> Self {
        options.calls_max = options.calls_max.min(CALLS_MAX);
        if options.calls_max == 0 {
            options.format = ToolFormat::None;
        }
        let place = match options.reasoning.is_some() && options.starts_in_reasoning {
            true => Place::Reasoning { told: false },
            false => Place::Before(Follows::Nothing),
        };
        Self {
            options,
            place,
            watch: Watch::default(),
            blank: String::new(),
            calls: 0,
        }
    }

    /// Takes in more of the reply, and tells what is certain.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        let mut parts = Parts::default();
        for char in text.chars() {
            self.push_char(char, &mut parts);
        }
        parts.into_vec()
    }

    /// Tells what was held back, for there is no more: the model ended the reply, or a limit did. A
    /// call that has been told of ends as it stands; one that has not is text.
    pub fn finish(&mut self) -> Vec<Part> {
        let mut parts = Parts::default();
        let held = self.watch.take();
        self.free(&held, &mut parts);
        match std::mem::replace(&mut self.place, Place::Over) {
            Place::Calls(calls) => match calls.open_call() {
                Some(index) => parts.end(index),
                None => self.tell_written(&calls, &mut parts),
            },
            Place::Before(Follows::Nothing) | Place::Text => parts.text(&self.blank),
            Place::Before(_) | Place::Reasoning { .. } | Place::Over => {}
        }
        self.blank.clear();
        parts.into_vec()
    }

    /// Whether nothing that follows will be told, because there have been as many calls as may be.
    /// The generation may be ended.
    pub fn is_over(&self) -> bool {
        matches!(self.place, Place::Over)
    }

    /// How many calls there have been.
    pub fn calls(&self) -> usize {
        self.calls
    }

    fn push_char(&mut self, char: char, parts: &mut Parts) {
        match self.place {
            Place::Over => {}
            Place::Calls(_) => self.push_in_calls(char, parts),
            Place::Reasoning { .. } | Place::Before(_) | Place::Text => {
                let mut free = String::new();
                let marker = self.watch_for(char, &mut free);
                self.free(&free, parts);
                if let Some(marker) = marker {
                    self.meet(marker, parts);
                }
            }
        }
    }

    fn watch_for(&mut self, char: char, free: &mut String) -> Option<&'static str> {
        let ReplyOptions {
            format, reasoning, ..
        } = &self.options;
        let (opening, closing) = (format.opening(), format.closing());
        let tag = |of: fn(ReasoningTags) -> &'static str| reasoning.map(of);
        let markers = match self.place {
            Place::Reasoning { told: false } => {
                [tag(ReasoningTags::opening), tag(ReasoningTags::closing)]
            }
            Place::Reasoning { told: true } => [None, tag(ReasoningTags::closing)],
            Place::Before(Follows::Nothing) => [opening, tag(ReasoningTags::opening)],
            Place::Before(Follows::Calls) => [opening, closing],
            _ => [opening, None],
        };
        let mut list = [""; 2];
        let mut count = 0;
        for marker in markers.into_iter().flatten() {
            list[count] = marker;
            count += 1;
        }
        self.watch.push(char, &list[..count], free)
    }

    /// Text that is part of no marker.
    fn free(&mut self, text: &str, parts: &mut Parts) {
        for char in text.chars() {
            let mut buffer = [0; 4];
            let text = char.encode_utf8(&mut buffer);
            match self.place {
                Place::Reasoning { .. } => self.free_in_reasoning(char, text, parts),
                Place::Before(follows) => self.free_before(follows, char, parts),
                Place::Text => parts.text(text),
                // A bare call began with the character before.
                Place::Calls(_) => self.push_in_calls(char, parts),
                Place::Over => {}
            }
        }
    }

    fn free_in_reasoning(&mut self, char: char, text: &str, parts: &mut Parts) {
        let Place::Reasoning { told } = &mut self.place else {
            return;
        };
        if char.is_whitespace() && self.blank.len() < BLANK_BYTES_MAX {
            if *told {
                self.blank.push(char);
            }
            return;
        }
        *told = true;
        parts.reasoning(&std::mem::take(&mut self.blank));
        parts.reasoning(text);
    }

    fn free_before(&mut self, follows: Follows, char: char, parts: &mut Parts) {
        let between = follows == Follows::Calls && self.options.format.is_bare() && char == ';';
        if (char.is_whitespace() || between) && self.blank.len() < BLANK_BYTES_MAX {
            if follows != Follows::Reasoning {
                self.blank.push(char);
            }
        } else if char == '{' && self.options.format.is_bare() {
            self.place = Place::Calls(Box::new(Calls::bare(self.options.format)));
            self.push_in_calls(char, parts);
        } else {
            self.place = Place::Text;
            parts.text(&std::mem::take(&mut self.blank));
            parts.text(char.encode_utf8(&mut [0; 4]));
        }
    }

    fn meet(&mut self, marker: &'static str, parts: &mut Parts) {
        let format = self.options.format;
        let tags = self.options.reasoning;
        if tags.is_some_and(|tags| tags.closing() == marker) {
            self.blank.clear();
            self.place = Place::Before(Follows::Reasoning);
        } else if tags.is_some_and(|tags| tags.opening() == marker) {
            self.open_reasoning(marker, parts);
        } else if format.closing() == Some(marker) {
            // After a call, and the white space before it belongs to it.
            self.blank.clear();
        } else {
            self.place = Place::Calls(Box::new(Calls::marked(format, marker)));
        }
    }

    /// At the tag that opens the reasoning. The watch may have seen it begin before a text did.
    fn open_reasoning(&mut self, marker: &str, parts: &mut Parts) {
        match self.place {
            Place::Before(Follows::Nothing) | Place::Reasoning { told: false } => {
                self.blank.clear();
                self.place = Place::Reasoning { told: false };
            }
            _ => self.free(marker, parts),
        }
    }

    fn push_in_calls(&mut self, char: char, parts: &mut Parts) {
        let Place::Calls(calls) = &mut self.place else {
            return;
        };
        let before = self.calls;
        let mut sink = Sink {
            parts,
            tools: &self.options.tools,
            begun: &mut self.calls,
        };
        let step = calls.push(char, &mut sink);
        if self.calls > before {
            self.blank.clear();
        }
        if calls.call_ended() && self.calls == self.options.calls_max {
            self.place = Place::Over;
            return;
        }
        match step {
            Step::Within => {}
            Step::Complete => self.place = Place::Before(Follows::Calls),
            Step::Broken => self.leave_calls(char, parts),
        }
    }

    /// At a character that fits no call.
    fn leave_calls(&mut self, char: char, parts: &mut Parts) {
        let place = std::mem::replace(&mut self.place, Place::Before(Follows::Calls));
        if let Place::Calls(calls) = place
            && !calls.call_ended()
        {
            self.place = Place::Text;
            self.tell_written(&calls, parts);
        }
        self.push_char(char, parts);
    }

    /// Tells what turned out to be no call as the text that it is.
    fn tell_written(&mut self, calls: &Calls, parts: &mut Parts) {
        if !calls.written().is_empty() {
            parts.text(&std::mem::take(&mut self.blank));
            parts.text(calls.written());
        }
    }
}
