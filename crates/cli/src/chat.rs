//! A conversation in the terminal.

mod order;
mod talk;

use std::fs;
use std::path::Path;

use anyhow::Context;
use corpgrid_scheduler::{Event, Refusal};
use gogrid_host::hide_typing;

use crate::args::ChatArgs;
use crate::exit::{BadInput, Interrupted};
use crate::failure;
use crate::interrupt::Interrupt;
use crate::lines::{Line, Lines};
use crate::live::Live;
use crate::model_file::read_text;
use crate::open::PipelineSpec;
use crate::out;
use crate::stream::{self, Ended};
use crate::wrap::Wrap;
use order::{HELP, Order};
use talk::{Saved, Talk};

pub(crate) fn run(args: &ChatArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    if args.figures.quiet {
        out::log_errors_only();
    }
    let pipeline = PipelineSpec::new(&args.run, interrupt)?.open()?;
    if pipeline.model().chat_template().is_none() {
        let name = pipeline.model().name();
        let problem = format!(
            "{name} is a base model: it goes on with a text and holds no conversation; `gogrid generate --raw` does \
             that, and `gogrid pull --help` lists models to talk with"
        );
        return Err(BadInput(problem).into());
    }
    let mut lines = Lines::new()?;
    if !args.figures.quiet {
        out::note("/help lists what there is; /bye leaves, as Ctrl-D does");
    }
    let chat = Chat {
        pipeline: &pipeline,
        interrupt,
        is_typed: lines.are_typed(),
    };
    let suggested = pipeline.model().sampling_defaults();
    let (mut talk, mut leaves) = (Talk::new(args, suggested), false);
    loop {
        let order = match lines.next()? {
            Line::Ended => return Ok(()),
            Line::Interrupted if leaves => return Ok(()),
            Line::Interrupted => {
                leaves = true;
                out::note("Ctrl-C once more leaves; Ctrl-D and /bye do too");
                continue;
            }
            Line::Dropped => Ok(Order::Nothing),
            Line::Quoted(text) => Ok(Order::Say(text)),
            Line::Text(line) => order::parse(&line),
        };
        leaves = false;
        if chat.obey(order, &mut talk)? == Next::Leave {
            return Ok(());
        }
    }
}

/// What a line led to.
#[derive(PartialEq, Eq)]
enum Next {
    Goes,
    Leave,
}

struct Chat<'a> {
    pipeline: &'a Live,
    interrupt: &'a Interrupt,
    /// Whether somebody sits there. Elsewhere what cannot be done ends the program.
    is_typed: bool,
}

impl Chat<'_> {
    fn obey(&self, order: Result<Order, String>, talk: &mut Talk<'_>) -> anyhow::Result<Next> {
        let done = match order {
            Err(problem) => Err(problem),
            Ok(Order::Leave) => return Ok(Next::Leave),
            Ok(order) => self.act(order, talk)?,
        };
        match done {
            Ok(()) => Ok(Next::Goes),
            Err(problem) if self.is_typed => {
                out::note(problem);
                Ok(Next::Goes)
            }
            Err(problem) => Err(BadInput(problem).into()),
        }
    }

    /// The outer error ends the program, the inner is told.
    fn act(&self, order: Order, talk: &mut Talk<'_>) -> anyhow::Result<Result<(), String>> {
        match order {
            Order::Nothing | Order::Leave => {}
            Order::Say(question) => return self.ask(question, talk).map(Ok),
            Order::Retry => match talk.begin_retry() {
                Some(question) => {
                    let asked = self.ask(question, talk);
                    talk.end_retry();
                    return asked.map(Ok);
                }
                None => return Ok(Err("nothing was asked yet; ask something first".to_owned())),
            },
            Order::Undo => match talk.take_last_question() {
                Some(question) => out::note(format!("taken back: {}", first_line(&question))),
                None => return Ok(Err("nothing was asked yet; ask something first".to_owned())),
            },
            Order::Help => out::note(HELP),
            Order::New => {
                talk.begin_again();
                out::note("a new conversation");
            }
            Order::Show => out::note(talk.shown(self.pipeline)),
            Order::Settings => out::note(talk.settings()),
            Order::Set(name, value) => return Ok(talk.set(&name, &value).map(out::note)),
            Order::System(text) => talk.system = text,
            Order::Save(path) => return Ok(save(&path, talk, self.pipeline.model().name())),
            Order::Load(path) => return Ok(load(&path, talk)),
            Order::Copy => match talk.last_answer() {
                None => return Ok(Err("there is no answer yet".to_owned())),
                Some(_) if !out::is_terminal() => {
                    return Ok(Err("standard output is no terminal".to_owned()));
                }
                Some(answer) => {
                    let copied = out::to_clipboard(answer).map_err(|error| error.to_string());
                    return Ok(copied.map(|()| out::note("copied, where the terminal takes it")));
                }
            },
        }
        Ok(Ok(()))
    }

    /// One question and its answer. The text of an interrupted answer stays part of the conversation; a
    /// question that was refused does not.
    fn ask(&self, question: String, talk: &mut Talk<'_>) -> anyhow::Result<()> {
        let watch = self.interrupt.watch();
        talk.ask(question);
        match talk.slide(self.pipeline) {
            Ok(false) => {}
            Ok(true) => {
                out::note("the context is full: from here on the oldest turns are left out")
            }
            Err(refusal) => return self.refused(refusal.into(), talk),
        }
        let hidden = self.is_typed.then(hide_typing);
        let mut wrap = Wrap::new(out::columns());
        let asked = talk.request();
        let most = asked.max_tokens;
        let ended = stream::run(self.pipeline, asked, &watch, &mut |event| match event {
            Event::Delta { text, .. } if !text.is_empty() => Ok(out::text(&wrap.push(text))?),
            _ => Ok(()),
        });
        let rest = wrap.finish();
        if !rest.is_empty() {
            out::text(&rest)?;
        }
        drop(hidden);
        match ended {
            Ok(Ended::Answered(answer)) => {
                out::line("")?;
                let cut = talk::cut_off(&answer, most);
                if let Some(cut) = cut.filter(|_| !talk.args.figures.quiet) {
                    out::note(cut);
                }
                if talk.args.figures.are_shown() {
                    out::note(stream::figures_line(&answer, self.pipeline.mode));
                }
                talk.answered(answer.text);
            }
            Ok(Ended::Interrupted(text)) => {
                out::line("")?;
                talk.answered(text);
                if !self.is_typed {
                    return Err(Interrupted.into());
                }
            }
            Err(error) => return self.refused(error, talk),
        }
        match self.interrupt.go_on() {
            true => Ok(()),
            false => Err(Interrupted.into()),
        }
    }
}

impl Chat<'_> {
    /// A question that was refused is no part of the conversation. Where nobody sits there it ends the program.
    fn refused(&self, error: anyhow::Error, talk: &mut Talk<'_>) -> anyhow::Result<()> {
        if !error.is::<Refusal>() || !self.is_typed {
            return Err(error);
        }
        out::note(format!("error: {}", failure::message(&error)));
        drop(talk.take_last_question());
        // A Ctrl-C that came meanwhile was for this question.
        match self.interrupt.go_on() {
            true => Ok(()),
            false => Err(Interrupted.into()),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(60)
        .collect()
}

fn save(path: &Path, talk: &Talk<'_>, model: &str) -> Result<(), String> {
    let told = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("{} exists; give it another name", path.display())
        }
        _ => format!("cannot write {}: {error}", path.display()),
    };
    let text = serde_json::to_string_pretty(&talk.saved(model)).expect("it is plain data");
    let mut file = fs::File::create_new(path).map_err(told)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(told)?;
    out::note(format!("saved in {}", path.display()));
    Ok(())
}

fn load(path: &Path, talk: &mut Talk<'_>) -> Result<(), String> {
    let text = read_text(path).map_err(|error| format!("{error:#}"))?;
    let saved: Saved = serde_json::from_str(&text)
        .with_context(|| format!("{} is no conversation that /save wrote", path.display()))
        .map_err(|error| format!("{error:#}"))?;
    let turns = talk.load(saved)?;
    out::note(format!(
        "{turns} questions and answers of {}",
        path.display()
    ));
    Ok(())
}
