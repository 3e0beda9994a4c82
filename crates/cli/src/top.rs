//! `gogrid top`: a running gogrid in a terminal, once a second, and the keys that change its limits.

use std::io::{self, IsTerminal};

use gogrid_control::{Request, ask};

use crate::args::TopArgs;
use crate::exit::{Interrupted, WrongUsage};
use crate::interrupt::Interrupt;
use crate::live::PROGRAM;
use crate::{limits, out};

mod asker;
mod choice;
mod keys;
mod lines;
mod screen;
mod seen;

use asker::Asker;
use screen::{Ended, Screen};
use seen::Seen;

/// The width of what `--once` prints.
const PLAIN_WIDTH: usize = 80;

pub(crate) fn run(args: &TopArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    if args.once {
        return once(args.pid);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let problem = "it needs a terminal; --once prints what it would show";
        return Err(WrongUsage(problem.to_owned()).into());
    }
    let several = limits::candidates(args.pid)?;
    let watch = interrupt.watch();
    let mut screen = Screen::open()?;
    let ended = match screen.choose(&several, &watch)? {
        Some(pid) => screen.follow(&mut Asker::start(pid)?, &watch)?,
        None => Ended::Quit,
    };
    // The terminal is as it was before anything more is said.
    drop(screen);
    match (ended, watch.asked()) {
        (Ended::Lost(problem), _) => Err(problem.into()),
        (Ended::Interrupted, _) | (_, true) => Err(Interrupted.into()),
        (Ended::Quit, false) => Ok(()),
    }
}

/// One frame as text.
fn once(pid: Option<u32>) -> anyhow::Result<()> {
    let pid = limits::find(pid)?;
    let view = ask(PROGRAM, pid, &Request::Get)?;
    let mut seen = Seen::new(pid);
    seen.take(view, 0.0)?;
    let lines = lines::lines(&seen, PLAIN_WIDTH);
    let text: String = lines
        .iter()
        .map(|line| format!("{}\n", line.text))
        .collect();
    Ok(out::text(&text)?)
}
