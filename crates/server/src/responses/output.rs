use serde_json::{Value, json};

use crate::answer::{Call, Part};

/// The items of a response: what the model thought, its message, its calls.
pub(super) struct Output {
    id: String,
    pub(super) reasoning: String,
    pub(super) text: String,
    /// Each with its number.
    pub(super) calls: Vec<(usize, Call)>,
}

/// An item that is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Reasoning,
    Message,
    Call(usize),
}

impl Output {
    pub(super) fn new(id: String) -> Self {
        Self {
            id,
            reasoning: String::new(),
            text: String::new(),
            calls: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, part: &Part) {
        match part {
            Part::Reasoning(text) => self.reasoning.push_str(text),
            Part::Text(text) => self.text.push_str(text),
            Part::CallBegin { index, id, name } => {
                let call = Call {
                    id: id.clone(),
                    name: name.clone(),
                    arguments: String::new(),
                };
                self.calls.push((*index, call));
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
            Item::Message => format!("msg_{}", self.id),
            Item::Call(index) => format!("fc_{}{index:02}", self.id),
        }
    }

    /// An item as it stands, under way or done.
    pub(super) fn item(&self, item: Item, is_done: bool) -> Value {
        let id = self.item_id(item);
        let status = if is_done { "completed" } else { "in_progress" };
        match item {
            Item::Reasoning => {
                let content = match is_done {
                    true => json!([{"type": "reasoning_text", "text": self.reasoning}]),
                    false => json!([]),
                };
                json!({"id": id, "type": "reasoning", "summary": [], "content": content})
            }
            Item::Message => {
                let content = match is_done {
                    true => json!([text_part(&self.text)]),
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

    /// All items, done: a message where there is nothing else.
    pub(super) fn whole(&self) -> Vec<Value> {
        let mut items = Vec::new();
        if !self.reasoning.is_empty() {
            items.push(Item::Reasoning);
        }
        if !self.text.is_empty() || self.calls.is_empty() {
            items.push(Item::Message);
        }
        items.extend(self.calls.iter().map(|(index, _)| Item::Call(*index)));
        items
            .into_iter()
            .map(|item| self.item(item, true))
            .collect()
    }
}

/// Text as a part of a message.
pub(super) fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}
