use corpgrid_scheduler::Finish;
use serde_json::{Value, json};

use super::Head;
use super::output::{Item, Output, Stage, text_part};
use crate::answer::{End, Part, Piece};
use crate::error::ApiError;
use crate::sse::{Frames, Shape};

/// A response that streams: numbered events, of items that begin and end one after the other.
pub(super) struct ResponsesShape {
    head: Head,
    output: Output,
    open: Option<Item>,
    /// Items that have ended, as they are told at the end.
    done: Vec<Value>,
    events: u64,
    end: Option<End>,
}

impl ResponsesShape {
    pub(super) fn new(head: Head) -> Self {
        Self {
            output: Output::new(head.id.clone()),
            head,
            open: None,
            done: Vec::new(),
            events: 0,
            end: None,
        }
    }

    fn event(&mut self, name: &str, mut value: Value, frames: &mut Frames) {
        value["type"] = json!(name);
        value["sequence_number"] = json!(self.events);
        self.events += 1;
        frames.event(name, &value);
    }

    /// Where an item stands, for events about it.
    fn place(&self, item: Item) -> Value {
        json!({"item_id": self.output.item_id(item), "output_index": self.done.len()})
    }

    fn open(&mut self, item: Item, frames: &mut Frames) {
        if self.open == Some(item) {
            return;
        }
        self.close(frames);
        self.open = Some(item);
        let mut value = json!({"output_index": self.done.len()});
        value["item"] = self.output.item(item, Stage::UnderWay);
        self.event("response.output_item.added", value, frames);
        if matches!(item, Item::Message(_)) {
            let mut value = self.place(item);
            value["content_index"] = json!(0);
            value["part"] = text_part("");
            self.event("response.content_part.added", value, frames);
        }
    }

    fn close(&mut self, frames: &mut Frames) {
        self.close_as(Stage::Done, frames);
    }

    fn close_as(&mut self, stage: Stage, frames: &mut Frames) {
        let Some(item) = self.open.take() else { return };
        let mut value = self.place(item);
        match item {
            Item::Message(number) => {
                value["content_index"] = json!(0);
                let mut text = value.clone();
                text["text"] = json!(self.output.text(number));
                text["logprobs"] = json!([]);
                self.event("response.output_text.done", text, frames);
                value["part"] = text_part(self.output.text(number));
                self.event("response.content_part.done", value, frames);
            }
            Item::Reasoning => {
                value["content_index"] = json!(0);
                value["text"] = json!(self.output.reasoning);
                self.event("response.reasoning_text.done", value, frames);
            }
            Item::Call(_) => {
                let call = self.output.item(item, stage);
                value["arguments"] = call["arguments"].clone();
                value["name"] = call["name"].clone();
                self.event("response.function_call_arguments.done", value, frames);
            }
        }
        let done = self.output.item(item, stage);
        let value = json!({"output_index": self.done.len(), "item": done});
        self.event("response.output_item.done", value, frames);
        self.done.push(done);
    }

    fn part(&mut self, part: Part, frames: &mut Frames) {
        if let Part::CallEnd { .. } = part {
            // The end of a call that was cut is told with that of the answer.
            return;
        }
        self.output.take(&part);
        let (item, name, delta) = match part {
            Part::Reasoning(text) => (Item::Reasoning, Some("response.reasoning_text.delta"), text),
            Part::Text(text) => {
                let name = "response.output_text.delta";
                (self.output.message(), Some(name), text)
            }
            Part::CallArguments { index, json } => {
                let name = "response.function_call_arguments.delta";
                (Item::Call(index), Some(name), json)
            }
            Part::CallBegin { index, .. } | Part::CallEnd { index } => {
                (Item::Call(index), None, String::new())
            }
        };
        self.open(item, frames);
        if let Some(name) = name {
            let mut value = self.place(item);
            if !matches!(item, Item::Call(_)) {
                value["content_index"] = json!(0);
            }
            if matches!(item, Item::Message(_)) {
                value["logprobs"] = json!([]);
            }
            value["delta"] = json!(delta);
            self.event(name, value, frames);
        }
    }
}

impl Shape for ResponsesShape {
    fn begin(&mut self, _: Option<usize>, frames: &mut Frames) {
        for name in ["response.created", "response.in_progress"] {
            let response = self.head.response(&[], None);
            self.event(name, json!({"response": response}), frames);
        }
    }

    fn piece(&mut self, _: usize, piece: Piece, frames: &mut Frames) {
        match piece {
            Piece::Standing(_) | Piece::Prompt(_) => {}
            Piece::Delta { parts, .. } => {
                parts.into_iter().for_each(|part| self.part(part, frames));
            }
            Piece::End(end) => self.end = Some(end),
        }
    }

    fn heartbeat(&mut self, frames: &mut Frames) {
        let response = self.head.response(&self.done, None);
        self.event(
            "response.in_progress",
            json!({"response": response}),
            frames,
        );
    }

    fn error(&mut self, error: &ApiError, frames: &mut Frames) {
        let value = json!({
            "code": error.code.unwrap_or(error.kind),
            "message": error.message,
            "param": error.param,
        });
        self.event("error", value, frames);
    }

    fn end(&mut self, frames: &mut Frames) {
        if self.open.is_none() && self.done.is_empty() {
            self.open(self.output.message(), frames);
        }
        let end = self.end;
        let is_cut = end.is_some_and(|end| end.finish == Finish::Length);
        let stage = if is_cut { Stage::Cut } else { Stage::Done };
        self.close_as(stage, frames);
        let response = self.head.response(&self.done, self.end.as_ref());
        let name = match response["status"] == "incomplete" {
            true => "response.incomplete",
            false => "response.completed",
        };
        self.event(name, json!({"response": response}), frames);
    }
}
