//! `gogrid`: language models on computers people already have, under limits that hold.

#![forbid(unsafe_code)]

mod args;
mod bar;
mod bench;
mod chat;
mod costs;
mod devices;
mod eval;
mod exit;
mod failure;
mod generate;
mod interrupt;
mod limits;
mod live;
mod model_file;
mod open;
mod out;
mod plan;
mod pull;
mod stream;
mod tokenize;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::interrupt::Interrupt;

fn main() -> ExitCode {
    say_what_happens();
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

/// The library's events for an operator go to standard error, a line each.
fn say_what_happens() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .init();
}

fn run(command: Command) -> anyhow::Result<()> {
    let interrupt = Interrupt::install()?;
    match command {
        Command::Devices(args) => devices::run(&args),
        Command::Pull(args) => pull::run(&args, &interrupt),
        Command::Plan(args) => plan::run(&args, &interrupt),
        Command::Generate(args) => generate::run(&args, &interrupt),
        Command::Chat(args) => chat::run(&args, &interrupt),
        Command::Eval(args) => eval::run(&args, &interrupt),
        Command::Tokenize(args) => tokenize::run(&args, &interrupt),
        Command::Bench(args) => bench::run(&args, &interrupt),
        Command::Limits(args) => limits::run(&args),
        Command::Hog => gogrid_bench::spin(),
        Command::Foreground => bench::foreground(),
    }
}
