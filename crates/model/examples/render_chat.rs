//! Writes conversations down for a comparison with transformers: reads lines of JSON with `template`,
//! `messages` in the shape of OpenAI's protocol, and perhaps `tools`, `arguments` and `ending`
//! (`final` or `closed`), and writes a line of JSON for each, with `text`, the `ranges` of it that are
//! the template's own and whether it `opens_reasoning`, or with `error`.

use std::io::{self, BufRead, Write};

use gogrid_model::{
    ChatTemplate, CivilTime, Content, Conversation, Ending, Message, Part, ToolCall,
};
use serde_json::{Value, json};

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn optional(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn content(value: &Value) -> Content {
    match value {
        Value::Array(parts) => {
            let parts = parts.iter().map(|part| Part::Text(text(&part["text"])));
            Content::Parts(parts.collect())
        }
        value => text(value).into(),
    }
}

fn call(value: &Value) -> ToolCall {
    let function = &value["function"];
    ToolCall {
        id: text(&value["id"]),
        name: text(&function["name"]),
        arguments: function["arguments"].clone(),
    }
}

fn message(value: &Value) -> Message {
    Message {
        role: text(&value["role"]),
        content: content(&value["content"]),
        reasoning: optional(&value["reasoning_content"]),
        tool_calls: items(&value["tool_calls"]).iter().map(call).collect(),
        tool_call_id: optional(&value["tool_call_id"]),
        name: optional(&value["name"]),
    }
}

fn answer(line: &Value) -> Value {
    let conversation = Conversation {
        messages: items(&line["messages"]).iter().map(message).collect(),
        tools: items(&line["tools"]).to_vec(),
        arguments: line["arguments"].as_object().cloned().unwrap_or_default(),
        ending: match line["ending"].as_str() {
            Some("final") => Ending::FinalMessage,
            Some("closed") => Ending::Closed,
            _ => Ending::GenerationPrompt,
        },
    };
    let template = ChatTemplate::new(text(&line["template"]), "<s>".into(), "</s>".into());
    let Some(now) = CivilTime::new([2024, 7, 26], [15, 4, 9]) else {
        return json!({"error": "the date is outside of the calendar"});
    };
    match template.render(&conversation, &now, &|| true) {
        Ok(chat) => {
            let ranges = chat.template_ranges().iter();
            let ranges: Vec<_> = ranges.map(|own| [own.start, own.end]).collect();
            json!({"text": chat.text(), "ranges": ranges, "opens_reasoning": chat.opens_reasoning()})
        }
        Err(error) => json!({"error": error.to_string()}),
    }
}

fn main() -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?) {
            Ok(line) => answer(&line),
            Err(error) => json!({"error": error.to_string()}),
        };
        writeln!(out, "{answer}")?;
    }
    out.flush()
}
