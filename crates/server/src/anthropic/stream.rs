use corpgrid_scheduler::Figures;
use serde_json::{Value, json};

use super::{stop_reason, usage};
use crate::answer::{Part, Piece};
use crate::body::Protocol;
use crate::error::ApiError;
use crate::sse::{Frames, Shape};

/// A message that streams: its blocks begin and end one after the other.
pub(super) struct MessagesShape {
    id: String,
    model: String,
    open: Option<Open>,
    /// Blocks so far.
    blocks: usize,
}

/// What the block that is open holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Thinking,
    Text,
    Call(usize),
}

impl MessagesShape {
    pub(super) fn new(id: String, model: String) -> Self {
        Self {
            id,
            model,
            open: None,
            blocks: 0,
        }
    }

    /// Has the block for `wanted` be the one that is open.
    fn open(&mut self, wanted: Open, block: Value, frames: &mut Frames) {
        if self.open == Some(wanted) {
            return;
        }
        self.close(frames);
        frames.event(
            "content_block_start",
            &json!({"type": "content_block_start", "index": self.blocks, "content_block": block}),
        );
        self.open = Some(wanted);
    }

    fn close(&mut self, frames: &mut Frames) {
        if self.open.take().is_some() {
            let index = self.blocks;
            let stop = json!({"type": "content_block_stop", "index": index});
            frames.event("content_block_stop", &stop);
            self.blocks += 1;
        }
    }

    fn delta(&self, delta: &Value, frames: &mut Frames) {
        let index = self.blocks;
        let value = json!({"type": "content_block_delta", "index": index, "delta": delta});
        frames.event("content_block_delta", &value);
    }

    fn part(&mut self, part: Part, frames: &mut Frames) {
        match part {
            Part::Reasoning(text) => {
                let block = json!({"type": "thinking", "thinking": "", "signature": ""});
                self.open(Open::Thinking, block, frames);
                self.delta(&json!({"type": "thinking_delta", "thinking": text}), frames);
            }
            Part::Text(text) => {
                self.open(Open::Text, json!({"type": "text", "text": ""}), frames);
                self.delta(&json!({"type": "text_delta", "text": text}), frames);
            }
            Part::CallBegin { index, id, name } => {
                let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                self.open(Open::Call(index), block, frames);
            }
            Part::CallArguments { json, .. } => {
                let delta = json!({"type": "input_json_delta", "partial_json": json});
                self.delta(&delta, frames);
            }
            Part::CallEnd { .. } => self.close(frames),
        }
    }
}

impl Shape for MessagesShape {
    fn begin(&mut self, prompt_tokens: Option<usize>, frames: &mut Frames) {
        let figures = Figures {
            prompt_tokens: prompt_tokens.unwrap_or(0),
            ..Figures::default()
        };
        let message = json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage(&figures),
        });
        let start = json!({"type": "message_start", "message": message});
        frames.event("message_start", &start);
    }

    fn piece(&mut self, _: usize, piece: Piece, frames: &mut Frames) {
        match piece {
            Piece::Standing(_) | Piece::Prompt(_) => {}
            Piece::Delta { parts, .. } => {
                parts.into_iter().for_each(|part| self.part(part, frames));
            }
            Piece::End(end) => {
                if self.blocks == 0 && self.open.is_none() {
                    self.open(Open::Text, json!({"type": "text", "text": ""}), frames);
                }
                self.close(frames);
                let delta = json!({"stop_reason": stop_reason(&end), "stop_sequence": null});
                let usage = usage(&end.figures);
                let value = json!({"type": "message_delta", "delta": delta, "usage": usage});
                frames.event("message_delta", &value);
            }
        }
    }

    fn heartbeat(&mut self, frames: &mut Frames) {
        frames.event("ping", &json!({"type": "ping"}));
    }

    fn error(&mut self, error: &ApiError, frames: &mut Frames) {
        frames.event("error", &Protocol::Anthropic.error_value(error));
    }

    fn end(&mut self, frames: &mut Frames) {
        frames.event("message_stop", &json!({"type": "message_stop"}));
    }
}
