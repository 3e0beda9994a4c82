use std::io::{self, IsTerminal};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use anyhow::Context;
use corpgrid_scheduler::{
    Event, Figures, Finish, GenerateRequest, Message, Mode, Prompt, SamplingDefaults,
};
use serde::Serialize;

use crate::args::GenerateArgs;
use crate::exit::{BadInput, Interrupted, WrongUsage};
use crate::interrupt::Interrupt;
use crate::model_file::{STANDARD_INPUT, read_standard_input};
use crate::open::PipelineSpec;
use crate::out;
use crate::stream::{self, Answer, Ended};

/// Tokens of an answer at most, where nobody says how many.
const TOKENS: usize = 256;

#[derive(Serialize)]
struct Report<'a> {
    text: &'a str,
    ids: &'a [u32],
    finish: Finish,
    seed: u64,
    mode: Mode,
    #[serde(flatten)]
    figures: Figures,
    prefill_tok_s: f64,
    decode_tok_s: f64,
    stages: Vec<&'a str>,
    memory_held_bytes: u64,
    not_enforced: &'a [String],
}

/// Standard input that has not ended by then is waited for with a word.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// What is told of a generation while it runs, a line of JSON each. The last is the report.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Told<'a> {
    Queued {
        position: usize,
    },
    Started {
        cached_tokens: usize,
    },
    Paused {
        reason: String,
        /// Seconds until it goes on, where that is known.
        left_s: Option<f64>,
    },
    Resumed,
    Delta {
        text: &'a str,
        ids: &'a [u32],
    },
    Finished(Report<'a>),
}

pub(crate) fn run(args: &GenerateArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    if args.figures.quiet {
        out::be_quiet();
    }
    let text = text(args)?;
    let pipeline = PipelineSpec::new(&args.run, interrupt)?.open()?;
    let request = request(args, text, &pipeline.model().sampling_defaults());
    let seed = request.sampling.seed;
    let watch = interrupt.watch();
    let mut in_line = false;
    let ended = stream::run(&pipeline, request, &watch, &mut |event| {
        match (args.json.json, event) {
            (true, event) => match told(event) {
                Some(told) if args.stream => out::json(&told)?,
                _ => {}
            },
            (false, Event::Delta { text, .. }) if !text.is_empty() => {
                out::text(text)?;
                in_line = true;
            }
            _ => {}
        }
        Ok(())
    });
    if in_line {
        out::line("")?;
    }
    let Ended::Answered(answer) = ended? else {
        return Err(Interrupted.into());
    };
    if args.json.json {
        let report = report(&answer, pipeline.mode, seed);
        return match args.stream {
            true => out::json(&Told::Finished(report)),
            false => out::json(&report),
        };
    }
    if args.figures.are_shown() {
        out::note(stream::figures_line(&answer, pipeline.mode));
    }
    Ok(())
}

/// What `--stream` tells of an event; the end is told with the whole answer.
fn told(event: &Event) -> Option<Told<'_>> {
    Some(match event {
        Event::Queued { position } => Told::Queued {
            position: *position,
        },
        Event::Started { cached_tokens } => Told::Started {
            cached_tokens: *cached_tokens,
        },
        Event::Paused { reason, left } => Told::Paused {
            reason: reason.to_string(),
            left_s: left.map(|left| left.as_secs_f64()),
        },
        Event::Resumed => Told::Resumed,
        Event::Delta { text, ids, .. } => Told::Delta { text, ids },
        _ => return None,
    })
}

fn request(args: &GenerateArgs, text: String, suggested: &SamplingDefaults) -> GenerateRequest {
    GenerateRequest {
        sampling: args.sampling.sampling(suggested, stream::chance()),
        whose: args.whose.whose(),
        deadline: args.patience.deadline(),
        ..GenerateRequest::new(
            prompt(args, text),
            args.sampling.max_tokens.unwrap_or(TOKENS),
        )
    }
}

fn prompt(args: &GenerateArgs, text: String) -> Prompt {
    if args.raw {
        return Prompt::Text(text);
    }
    let system = args.system.iter().map(|text| Message::system(text.clone()));
    let messages: Vec<_> = system.chain([Message::user(text)]).collect();
    Prompt::Chat(messages.into())
}

/// The text of the prompt, and of standard input where that is no terminal.
fn text(args: &GenerateArgs) -> anyhow::Result<String> {
    let prompt = args.prompt.as_deref();
    if let (Some(first), Some(_)) = (prompt, args.more.first()) {
        let words = [&[first.to_owned()], &args.more[..]].concat().join(" ");
        let problem = format!(
            "the prompt ends after {first:?}, where a word follows; put several words in quotation marks: {words:?}"
        );
        return Err(WrongUsage(problem).into());
    }
    match prompt.filter(|prompt| *prompt != STANDARD_INPUT) {
        Some(prompt) if io::stdin().is_terminal() => Ok(prompt.to_owned()),
        Some(prompt) => Ok(joined(prompt, &read_beside_prompt()?)),
        None => {
            let text = read_standard_input()?;
            match text.trim().is_empty() {
                false => Ok(text),
                true => {
                    let problem = "no prompt, and nothing on standard input: gogrid generate \"Name three colours.\"";
                    Err(BadInput(problem.to_owned()).into())
                }
            }
        }
    }
}

/// Standard input, which a caller may have left open without a thought: where it does not end, that is told.
fn read_beside_prompt() -> anyhow::Result<String> {
    let (read, is_read) = sync_channel::<()>(0);
    let watcher = Builder::new().name("gogrid-input".to_owned());
    let watches = watcher.spawn(move || {
        if is_read.recv_timeout(TOLD_AFTER) == Err(RecvTimeoutError::Timeout) {
            out::note_aside("waiting for the end of standard input, which joins the prompt");
        }
    });
    watches.context("cannot start a thread")?;
    let text = read_standard_input();
    drop(read);
    text
}

/// A prompt and what it is about.
fn joined(prompt: &str, input: &str) -> String {
    match input.trim_end() {
        "" => prompt.to_owned(),
        input => format!("{prompt}\n\n{input}"),
    }
}

fn report(answer: &Answer, mode: Mode, seed: u64) -> Report<'_> {
    let figures = answer.figures;
    Report {
        text: &answer.text,
        ids: &answer.ids,
        finish: answer.finish,
        seed,
        mode,
        figures,
        prefill_tok_s: stream::rate(figures.prompt_tokens, figures.prefill_s),
        decode_tok_s: stream::rate(figures.decoded_tokens(), figures.decode_s),
        stages: answer
            .status
            .stages
            .iter()
            .map(|stage| &*stage.device)
            .collect(),
        memory_held_bytes: stream::held(&answer.status).0,
        not_enforced: &answer.status.not_enforced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_prompt_is_about_follows_it_after_an_empty_line() {
        assert_eq!(joined("Summarise:", "data\n"), "Summarise:\n\ndata");
        assert_eq!(joined("Hello", "\n"), "Hello");
    }
}
