//! Processes beside this one.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;

use crate::error::BenchError;

/// A command of the running program, to be run in a process of its own.
#[derive(Clone, Debug)]
pub struct OwnCommand {
    program: PathBuf,
    name: &'static str,
}

impl OwnCommand {
    /// The command that the program calls `name`.
    pub fn named(name: &'static str) -> Result<Self, BenchError> {
        let program = env::current_exe().map_err(BenchError::NoProgram)?;
        Ok(Self { program, name })
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(self.name);
        command
    }
}

/// A process that takes orders and answers, a line each. Ended on drop. If this process is killed
/// instead, the other's standard input closes, which ends it too.
pub(crate) struct LineProcess {
    name: String,
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl LineProcess {
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Self, BenchError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|source| BenchError::Start {
            name: name.to_owned(),
            source,
        })?;
        let orders = child.stdin.take().expect("asked for above");
        let answers = child.stdout.take().expect("asked for above");
        Ok(Self {
            name: name.to_owned(),
            child,
            orders,
            answers: BufReader::new(answers),
        })
    }

    pub(crate) fn order(&mut self, line: &str) -> Result<(), BenchError> {
        writeln!(self.orders, "{line}").map_err(|source| BenchError::Order {
            name: self.name.clone(),
            source,
        })
    }

    /// Waits for the next line.
    pub(crate) fn answer<T: DeserializeOwned>(&mut self) -> Result<T, BenchError> {
        let name = || self.name.clone();
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Err(source) => {
                return Err(BenchError::Answer {
                    name: name(),
                    source,
                });
            }
            Ok(0) => return Err(BenchError::EndedEarly { name: name() }),
            Ok(_) => {}
        }
        serde_json::from_str(&line).map_err(|source| BenchError::BadAnswer {
            name: name(),
            line: line.trim_end().to_owned(),
            source,
        })
    }
}

impl Drop for LineProcess {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
