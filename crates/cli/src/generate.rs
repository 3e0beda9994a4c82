use std::io::{self, IsTerminal};

use corpgrid_scheduler::{
    Figures, Finish, GenerateRequest, Message, Mode, Prompt, SamplingDefaults,
};
use serde::Serialize;

use crate::args::GenerateArgs;
use crate::exit::Interrupted;
use crate::interrupt::Interrupt;
use crate::model_file::read_bounded;
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

pub(crate) fn run(args: &GenerateArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let text = prompt_text(args)?;
    let pipeline = PipelineSpec::new(&args.run, interrupt)?.open()?;
    let request = request(args, text, &pipeline.model().sampling_defaults());
    let seed = request.sampling.seed;
    let watch = interrupt.watch();
    let quiet = args.json.json;
    let mut in_line = false;
    let ended = stream::run(&pipeline, request, &watch, &mut |delta| {
        if !quiet {
            out::text(delta)?;
            in_line = true;
        }
        Ok(())
    });
    if in_line {
        out::line("")?;
    }
    let Ended::Answered(answer) = ended? else {
        return Err(Interrupted.into());
    };
    if quiet {
        return out::json(&report(&answer, pipeline.mode, seed));
    }
    out::note(stream::figures_line(&answer, pipeline.mode));
    Ok(())
}

fn prompt_text(args: &GenerateArgs) -> anyhow::Result<String> {
    match &args.prompt {
        Some(prompt) => Ok(prompt.clone()),
        None => read_prompt(),
    }
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

fn read_prompt() -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        out::note("reading the prompt from standard input; end it with Ctrl-D");
    }
    read_bounded(io::stdin().lock(), "the prompt on standard input")
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
        decode_tok_s: stream::rate(figures.decode_steps, figures.decode_s),
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
