use serde_json::{Value, json};

use crate::answer::{Call, Part, WholeChoice};

/// The items of a response: what the model thought, its message, its calls.
pub(super) struct Output {
    id: String,
    pub(super) reasoning: String,
    /// Of each message; calls may stand between two.
    texts: Vec<String>,
    /// Whether a call came since the last text.
    called: bool,
    /// Each with its number.
    pub(super) calls: Vec<(usize, Call)>,
}

/// An item that is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Reasoning,
    /// One of the messages.
    Message(usize),
    Call(usize),
}

/// How far an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    UnderWay,
    Done,
    /// The answer ended within it.
    Cut,
}

impl Output {
    pub(super) fn new(id: String) -> Self {
        Self {
            id,
            reasoning: String::new(),
            texts: Vec::new(),
            called: false,
            calls: Vec::new(),
        }
    }

    /// Those of a whole answer.
    pub(super) fn of(id: String, choice: WholeChoice) -> Self {
        let texts = Some(choice.text).filter(|text| !text.is_empty());
        Self {
            reasoning: choice.reasoning,
            texts: texts.into_iter().collect(),
            calls: choice.calls.into_iter().enumerate().collect(),
            ..Self::new(id)
        }
    }

    pub(super) fn take(&mut self, part: &Part) {
        match part {
            Part::Reasoning(text) => self.reasoning.push_str(text),
            Part::Text(text) => {
                if self.texts.is_empty() || std::mem::take(&mut self.called) {
                    self.texts.push(String::new());
                }
                if let Some(last) = self.texts.last_mut() {
                    last.push_str(text);
                }
            }
            Part::CallBegin { index, id, name } => {
                let call = Call {
                    id: id.clone(),
                    name: name.clone(),
                    arguments: String::new(),
                };
                self.calls.push((*index, call));
                self.called = true;
            }
            Part::CallArguments { json, .. } => {
                if let Some((_, call)) = self.calls.last_mut() {
                    call.arguments.push_str(json);
                }
            }
            Part::CallEnd { .. } => {}
        }
    }

    /// The name of an item.
    pub(super) fn item_id(&self, item: Item) -> String {
        match item {
            Item::Reasoning => format!("rs_{}", self.id),
            Item::Message(number) => format!("msg_{}{number:02}", self.id),
            Item::Call(index) => format!("fc_{}{index:02}", self.id),
        }
    }

    /// An item as it stands, under way or done.
    pub(super) fn item(&self, item: Item, stage: Stage) -> Value {
        let id = self.item_id(item);
        let is_done = stage != Stage::UnderWay;
        let status = match stage {
            Stage::UnderWay => "in_progress",
            Stage::Done => "completed",
            Stage::Cut => "incomplete",
        };
        match item {
            Item::Reasoning => {
                let content = match is_done {
                    true => json!([{"type": "reasoning_text", "text": self.reasoning}]),
                    false => json!([]),
                };
                json!({"id": id, "type": "reasoning", "summary": [], "content": content})
            }
            Item::Message(number) => {
                let content = match is_done {
                    true => json!([text_part(self.text(number))]),
                    false => json!([]),
                };
                json!({
                    "id": id,
                    "type": "message",
                    "role": "assistant",
                    "status": status,
                    "content": content,
                })
            }
            Item::Call(index) => {
                let found = self.calls.iter().find(|(number, _)| *number == index);
                let call = found.map(|(_, call)| call.clone()).unwrap_or_default();
                json!({
                    "id": id,
                    "type": "function_call",
                    "call_id": call.id,
                    "name": call.name,
                    "arguments": call.arguments,
                    "status": status,
                })
            }
        }
    }

    /// The text of a message.
    pub(super) fn text(&self, number: usize) -> &str {
        self.texts.get(number).map_or("", String::as_str)
    }

    /// The message that text goes to now.
    pub(super) fn message(&self) -> Item {
        Item::Message(self.texts.len().saturating_sub(1))
    }

    /// All items: a message where there is nothing else. Where the answer was cut, the last one is.
    pub(super) fn whole(&self, is_cut: bool) -> Vec<Value> {
        let mut items = Vec::new();
        if !self.reasoning.is_empty() {
            items.push(Item::Reasoning);
        }
        let messages = self.texts.len().max(usize::from(self.calls.is_empty()));
        items.extend((0..messages).map(Item::Message));
        items.extend(self.calls.iter().map(|(index, _)| Item::Call(*index)));
        let last = items.len().saturating_sub(1);
        let numbered = items.into_iter().enumerate();
        let told = numbered.map(|(at, item)| match is_cut && at == last {
            true => self.item(item, Stage::Cut),
            false => self.item(item, Stage::Done),
        });
        told.collect()
    }
}

/// Text as a part of a message.
pub(super) fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}
