use serde_json::json;

use super::{Way, call_value, line, put_figures, set_thinking};
use crate::answer::{Call, Part, Piece};
use crate::body::Protocol;
use crate::error::ApiError;
use crate::sse::{Frames, Shape};

/// An answer in lines of JSON.
pub(super) struct OllamaShape {
    way: Way,
    model: String,
    /// The call that is being told: Ollama's clients want it whole.
    call: Call,
}

impl OllamaShape {
    pub(super) fn new(way: Way, model: String) -> Self {
        Self {
            way,
            model,
            call: Call::default(),
        }
    }

    fn part(&mut self, part: Part, frames: &mut Frames) {
        match part {
            Part::Reasoning(text) => {
                let mut value = line(self.way, &self.model, &json!(""));
                set_thinking(self.way, &mut value, &text);
                frames.line(&value);
            }
            Part::Text(text) => frames.line(&line(self.way, &self.model, &json!(text))),
            Part::CallBegin { id, name, .. } => {
                self.call = Call {
                    id,
                    name,
                    arguments: String::new(),
                };
            }
            Part::CallArguments { json, .. } => self.call.arguments.push_str(&json),
            Part::CallEnd { .. } => {
                let call = std::mem::take(&mut self.call);
                let mut value = line(self.way, &self.model, &json!(""));
                let calls = [call_value(&call.name, &call.arguments)];
                value["message"]["tool_calls"] = json!(calls);
                frames.line(&value);
            }
        }
    }
}

impl Shape for OllamaShape {
    fn piece(&mut self, _: usize, piece: Piece, frames: &mut Frames) {
        match piece {
            Piece::Standing(_) | Piece::Prompt(_) => {}
            Piece::Delta { parts, .. } => {
                parts.into_iter().for_each(|part| self.part(part, frames));
            }
            Piece::End(end) => {
                let mut last = line(self.way, &self.model, &json!(""));
                put_figures(&mut last, &end);
                frames.line(&last);
            }
        }
    }

    fn heartbeat(&mut self, frames: &mut Frames) {
        frames.line(&line(self.way, &self.model, &json!("")));
    }

    fn error(&mut self, error: &ApiError, frames: &mut Frames) {
        frames.line(&Protocol::Ollama.error_value(error));
    }

    fn end(&mut self, _: &mut Frames) {}

    fn has_comments(&self) -> bool {
        false
    }

    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }
}
