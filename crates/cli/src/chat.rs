use corpgrid_scheduler::{GenerateRequest, Message, Prompt, Refusal};

use crate::args::ChatArgs;
use crate::exit::Interrupted;
use crate::failure;
use crate::interrupt::{Interrupt, InterruptGuard};
use crate::lines::Lines;
use crate::live::Live;
use crate::open::PipelineSpec;
use crate::out;
use crate::stream::{self, Ended};

/// The conversation so far.
struct Conversation<'a> {
    args: &'a ChatArgs,
    messages: Vec<Message>,
}

pub(crate) fn run(args: &ChatArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let pipeline = PipelineSpec::new(&args.run, interrupt)?.open()?;
    let mut lines = Lines::new()?;
    out::note("/new begins again, /exit ends; Ctrl-C ends an answer, then the program");
    let mut conversation = Conversation::new(args);
    loop {
        let Some(line) = lines.next()? else {
            return Ok(());
        };
        match line.trim() {
            "" => continue,
            "/exit" => return Ok(()),
            "/new" => conversation = Conversation::new(args),
            _ => {
                conversation.turn(line, &pipeline, &interrupt.watch())?;
                if !interrupt.go_on() {
                    return Err(Interrupted.into());
                }
            }
        }
    }
}

impl<'a> Conversation<'a> {
    fn new(args: &'a ChatArgs) -> Self {
        let system = args.system.iter().map(|text| Message::system(text.clone()));
        Self {
            args,
            messages: system.collect(),
        }
    }

    /// One question and its answer. The text of an interrupted answer stays part of the conversation; a
    /// question that was refused does not.
    fn turn(
        &mut self,
        question: String,
        pipeline: &Live,
        watch: &InterruptGuard,
    ) -> anyhow::Result<()> {
        self.messages.push(Message::user(question));
        let prompt = Prompt::Chat(self.messages.clone().into());
        let request = GenerateRequest {
            sampling: self.args.sampling.sampling(stream::chance()),
            whose: self.args.whose.whose(),
            ..GenerateRequest::new(prompt, self.args.sampling.max_tokens)
        };
        let ended = stream::run(pipeline, request, watch, &mut |delta| Ok(out::text(delta)?));
        let text = match ended {
            Ok(Ended::Answered(answer)) => {
                out::line("")?;
                out::note(stream::figures_line(&answer, pipeline.mode));
                answer.text
            }
            Ok(Ended::Interrupted(text)) => {
                out::line("")?;
                text
            }
            Err(error) if error.is::<Refusal>() => {
                out::note(format!(
                    "error: {}; /new begins again",
                    failure::message(&error)
                ));
                self.messages.pop();
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match text.is_empty() {
            // An empty answer would be the example for the next one.
            true => drop(self.messages.pop()),
            false => self.messages.push(Message::assistant(text)),
        }
        Ok(())
    }
}
