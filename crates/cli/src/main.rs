//! `gogrid`: language models on computers people already have, under limits that hold.

#![forbid(unsafe_code)]

mod args;
mod bar;
mod bench;
mod chat;
mod costs;
mod devices;
mod escape;
mod eval;
mod examples;
mod exit;
mod failure;
mod generate;
mod interrupt;
mod limits;
mod lines;
mod list;
mod live;
mod manual;
mod model_file;
mod notes;
mod open;
mod out;
mod plan;
mod ps;
mod pull;
mod sampling;
mod serve;
mod service;
mod shelf;
mod show;
mod stream;
mod tokenize;
mod top;
mod version;
mod waiting;
mod wrap;

use std::panic::catch_unwind;
use std::process::ExitCode;

use anyhow::Context;
use gogrid_host::RememberingAllocator;

use crate::args::{Command, Meant};
use crate::interrupt::Interrupt;

/// So that a process without memory ends with an error that says so.
#[global_allocator]
static ALLOCATOR: RememberingAllocator = RememberingAllocator;

fn main() -> ExitCode {
    gogrid_host::quiet_drivers();
    gogrid_host::unmap_freed_blocks();
    gogrid_host::keep_arenas_few();
    gogrid_host::exit_when_out_of_memory(exit::LIMIT);
    // A model may be in a thousand parts, and each client of a server has a socket.
    let _ = gogrid_host::raise_open_files();
    // A panic has told of itself.
    let ended = catch_unwind(command).unwrap_or(ExitCode::from(exit::INTERNAL));
    out::flush();
    ended
}

/// The command of the command line, from its parsing to its exit code.
fn command() -> ExitCode {
    let installed = out::install().context("cannot start a thread");
    let ended = installed.and_then(|()| match manual::parsed() {
        Ok(cli) => run(cli.command),
        Err(instead) => failure::no_command(&instead),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let interrupt = Interrupt::install()?;
    match command {
        Command::Devices(args) => devices::run(&args),
        Command::Pull(args) => pull::run(&args, &interrupt),
        Command::List(args) => list::run(&args),
        Command::Show(args) => show::run(&args, &interrupt),
        Command::Run(args) => match args.meant() {
            Meant::Chat(args) => chat::run(&args, &interrupt),
            Meant::Generate(args) => generate::run(&args, &interrupt),
        },
        Command::Rm(args) => list::remove(&args, &interrupt),
        Command::Ps(args) => ps::run(&args),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man(args) => manual::pages(&args),
        Command::Plan(args) => plan::run(&args, &interrupt),
        Command::Generate(args) => generate::run(&args, &interrupt),
        Command::Chat(args) => chat::run(&args, &interrupt),
        Command::Eval(args) => eval::run(&args, &interrupt),
        Command::Tokenize(args) => tokenize::run(&args, &interrupt),
        Command::Bench(args) => bench::run(&args, &interrupt),
        Command::Serve(args) => serve::run(&args, &interrupt),
        Command::Service(args) => service::run(&args, &interrupt),
        Command::Limits(args) => limits::run(&args),
        Command::Top(args) => top::run(&args, &interrupt),
        Command::Hog => gogrid_bench::spin(),
        Command::Foreground => bench::foreground(),
    }
}
