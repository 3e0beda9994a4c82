//! A generation as the terminal sees it: text as it comes, an end, figures.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use corpgrid_scheduler::{
    Event, Figures, Finish, GenerateRequest, Generation, HeterogeneousPipeline, Mode, Status,
};
use futures_executor::block_on;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use gogrid_units::Bytes;

use crate::exit::Interrupted;
use crate::interrupt::InterruptGuard;
use crate::waiting::WaitingLine;

/// A generation that came to its end.
pub(crate) struct Answer {
    pub(crate) ids: Vec<u32>,
    pub(crate) text: String,
    pub(crate) finish: Finish,
    pub(crate) figures: Figures,
    /// The pipeline while it ran, with the memory it held for this generation.
    pub(crate) status: Status,
}

/// How a generation ended.
pub(crate) enum Ended {
    Answered(Box<Answer>),
    /// Ctrl-C ended it after this text.
    Interrupted(String),
}

/// Runs `request`, giving each event to `on_event` as it comes. A Ctrl-C, or an error of `on_event`,
/// cancels it.
pub(crate) fn run(
    pipeline: &HeterogeneousPipeline,
    request: GenerateRequest,
    watch: &InterruptGuard,
    on_event: &mut dyn FnMut(&Event) -> anyhow::Result<()>,
) -> anyhow::Result<Ended> {
    let mut waiting = Some(WaitingLine::begin(pipeline.machine(), request.whose));
    block_on(async {
        let Some(generation) = or_asked(watch, pipeline.generate(request)).await else {
            return Ok(Ended::Interrupted(String::new()));
        };
        follow(pipeline, generation?, watch, &mut |event| {
            if let (Some(line), true) = (&waiting, !matches!(event, Event::Delta { .. })) {
                line.hear(event);
            }
            if matches!(event, Event::Delta { text, .. } if !text.is_empty()) {
                // Before the first text, which takes its place.
                drop(waiting.take());
            }
            on_event(event)
        })
        .await
    })
}

async fn follow(
    pipeline: &HeterogeneousPipeline,
    mut generation: Generation,
    watch: &InterruptGuard,
    on_event: &mut dyn FnMut(&Event) -> anyhow::Result<()>,
) -> anyhow::Result<Ended> {
    let (mut ids, mut text, mut status) = (Vec::new(), String::new(), None);
    loop {
        let Some(event) = or_asked(watch, generation.next()).await else {
            return Ok(Ended::Interrupted(text));
        };
        let event =
            event.ok_or_else(|| anyhow::anyhow!("the generation ended without a figure"))??;
        on_event(&event)?;
        match event {
            Event::Delta {
                ids: more,
                text: delta,
                ..
            } => {
                if status.is_none() {
                    status = Some(pipeline.status().await);
                }
                ids.extend(more);
                text.push_str(&delta);
            }
            Event::Finished {
                reason: finish,
                figures,
            } => {
                let status = match status {
                    Some(status) => status,
                    None => pipeline.status().await,
                };
                let answer = Answer {
                    ids,
                    text,
                    finish,
                    figures,
                    status,
                };
                return Ok(Ended::Answered(Box::new(answer)));
            }
            // Whatever else it tells is no part of an answer.
            _ => {}
        }
    }
}

/// The output of `future`, or `None` if Ctrl-C came first.
async fn or_asked<F: Future>(watch: &InterruptGuard, future: F) -> Option<F::Output> {
    let (future, asked) = (std::pin::pin!(future), std::pin::pin!(watch.wait()));
    match select(future, asked).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(((), _)) => None,
    }
}

/// Waits for `future`, which Ctrl-C ends.
pub(crate) fn wait<F: Future>(watch: &InterruptGuard, future: F) -> anyhow::Result<F::Output> {
    Ok(block_on(or_asked(watch, future)).ok_or(Interrupted)?)
}

/// Tokens a second, or 0 when there is nothing to tell.
pub(crate) fn rate(tokens: usize, seconds: f64) -> f64 {
    if seconds > 0.0 {
        tokens as f64 / seconds
    } else {
        0.0
    }
}

/// Bytes held on all devices.
pub(crate) fn held(status: &Status) -> Bytes {
    status
        .devices
        .iter()
        .map(|device| Bytes(device.memory_used_bytes))
        .sum()
}

/// How it went, in one line.
pub(crate) fn figures_line(answer: &Answer, mode: Mode) -> String {
    let figures = &answer.figures;
    let mut devices: Vec<_> = answer
        .status
        .stages
        .iter()
        .map(|stage| &*stage.device)
        .collect();
    let stages = devices.len();
    devices.dedup();
    let cached = match figures.cached_tokens {
        0 => String::new(),
        cached => format!(", {cached} cached,"),
    };
    let drafted = match figures.accepted_tokens {
        0 => String::new(),
        accepted => format!(", {accepted} of them drafted,"),
    };
    let mut line = format!(
        "prompt {} tokens{cached} at {:.1} tok/s, generated {}{drafted} at {:.1} tok/s, {stages} stage{} on {}, \
         mode {}, {} held",
        figures.prompt_tokens,
        rate(
            figures.prompt_tokens - figures.cached_tokens,
            figures.prefill_s
        ),
        figures.generated_tokens,
        rate(figures.decoded_tokens(), figures.decode_s),
        if stages == 1 { "" } else { "s" },
        devices.join(", "),
        mode.name(),
        held(&answer.status),
    );
    let names = limits_not_held(&answer.status.not_enforced);
    if !names.is_empty() {
        line.push_str("; not held yet: ");
        line.push_str(&names);
    }
    line
}

/// The names of these limits, each once. A limit is its name and, after a colon, the reason, which `--json` has in
/// full.
fn limits_not_held(limits: &[String]) -> String {
    let names = limits.iter().filter_map(|limit| limit.split(':').next());
    let names: BTreeSet<_> = names.collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// A seed nobody chose.
pub(crate) fn chance() -> u64 {
    RandomState::new().hash_one("seed")
}
