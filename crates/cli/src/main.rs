//! `gogrid`: language models on computers people already have, under limits that hold.

#![forbid(unsafe_code)]

mod args;
mod bar;
mod bench;
mod chat;
mod desktop;
mod devices;
mod eval;
mod failure;
mod generate;
mod hog;
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
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
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
        Command::Hog => hog::spin(),
        Command::Foreground => desktop::foreground::run(),
    }
}
