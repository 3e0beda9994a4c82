//! A process beside this one that takes orders and answers, a line each.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context;
use serde::de::DeserializeOwned;

/// Ended on drop. If this process is killed instead, its standard input closes, which ends it too.
pub(crate) struct Partner {
    name: String,
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Partner {
    pub(crate) fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let orders = child.stdin.take().expect("asked for above");
        let answers = child.stdout.take().expect("asked for above");
        Ok(Self {
            name: name.to_owned(),
            child,
            orders,
            answers: BufReader::new(answers),
        })
    }

    pub(crate) fn order(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.orders, "{line}").with_context(|| format!("{} takes no order", self.name))
    }

    /// Waits for the next line.
    pub(crate) fn answer<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        if read.with_context(|| format!("cannot hear {}", self.name))? == 0 {
            anyhow::bail!("{} ended early", self.name);
        }
        serde_json::from_str(&line)
            .with_context(|| format!("{} said {:?}", self.name, line.trim_end()))
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
