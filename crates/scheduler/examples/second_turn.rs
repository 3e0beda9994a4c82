//! Two turns of a chat of some 2,000 tokens: when the first token of each comes, and that the second says
//! the same as without what is kept of the first.
//!
//! `cargo run --release --example second_turn -- MODEL.gguf`
#![allow(clippy::print_stdout, reason = "its output is the terminal")]

use std::error::Error;

use corpgrid_scheduler::{
    Event, Figures, GenerateRequest, HeterogeneousPipeline, Message, Mode, Options, Prompt,
    Sampling, Settings, devices,
};
use futures_executor::block_on;
use futures_util::StreamExt;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Words of the first question, which are mostly a token each.
const WORDS: usize = 1900;

fn main() -> Fallible<()> {
    let model = std::env::args().nth(1).ok_or("second_turn MODEL")?;
    let options = Options {
        limits: Settings::of(Mode::Aggressive).limits,
        ..Options::default()
    };
    let pipeline = HeterogeneousPipeline::open(&devices(), &model, options)?;
    let words = [
        "river", "stone", "light", "paper", "green", "seven", "winter",
    ];
    let words = (0..WORDS).map(|at| words[at * at % words.len()]);
    let question = words.collect::<Vec<_>>().join(" ");
    let mut messages = vec![Message::user(question)];
    let (reply, first) = block_on(answer(&pipeline, &messages, Some(0)))?;
    show("first turn", &first);
    messages.push(Message::assistant(reply));
    messages.push(Message::user("And what comes next?"));
    let (kept, second) = block_on(answer(&pipeline, &messages, Some(0)))?;
    show("second turn", &second);
    let (plain, without) = block_on(answer(&pipeline, &messages, None))?;
    show("second turn, without the first", &without);
    assert_eq!(kept, plain, "what is kept changes no answer");
    let times = first.prefill_s / second.prefill_s;
    println!(
        "the first token of the second turn comes {times:.1} times as soon as that of the first"
    );
    Ok(())
}

async fn answer(
    pipeline: &HeterogeneousPipeline,
    messages: &[Message],
    cache_salt: Option<u64>,
) -> Fallible<(String, Figures)> {
    let request = GenerateRequest {
        sampling: Sampling {
            ignore_eos: true,
            ..Sampling::default()
        },
        cache_salt,
        ..GenerateRequest::new(Prompt::Chat(messages.to_vec().into()), 48)
    };
    let mut generation = pipeline.generate(request).await?;
    let mut reply = String::new();
    while let Some(event) = generation.next().await {
        match event? {
            Event::Delta { text, .. } => reply += &text,
            Event::Finished { figures, .. } => return Ok((reply, figures)),
            _ => {}
        }
    }
    Err("a stream without an end".into())
}

fn show(turn: &str, figures: &Figures) {
    let Figures {
        prompt_tokens,
        cached_tokens,
        prefill_s,
        ..
    } = figures;
    println!(
        "{turn}: {prompt_tokens} tokens, {cached_tokens} cached, first token after {prefill_s:.3} s"
    );
}
