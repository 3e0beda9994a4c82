//! llama.cpp through its Python binding, told when to decode.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::load::{Load, Yield, tokens_between};
use super::ours::TOKENS_MAX;
use super::partner::Partner;

const SCRIPT: &str = include_str!("peer.py");

/// How llama.cpp is run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Tuning {
    pub(crate) name: String,
    pub(crate) threads: usize,
    pub(crate) nice: i32,
    /// `OMP_WAIT_POLICY=passive`: its threads sleep where they would spin.
    pub(crate) passive: bool,
}

impl Tuning {
    /// Whether it is one of those that suit a desktop.
    pub(crate) fn is_tuned(&self) -> bool {
        self.passive
    }
}

/// Its default, the same at nice 19, and two that suit a desktop better, of which the best counts.
pub(crate) fn tunings(cores: usize) -> Vec<Tuning> {
    let tuning = |name: &str, threads, nice, passive| Tuning {
        name: name.to_owned(),
        threads,
        nice,
        passive,
    };
    vec![
        tuning("llama.cpp", cores, 0, false),
        tuning("llama.cpp, nice 19", cores, 19, false),
        tuning("llama.cpp, nice 19, passive waiting", cores, 19, true),
        tuning("llama.cpp, nice 19, one thread", 1, 19, true),
    ]
}

pub(crate) struct Peer {
    process: Partner,
    pub(crate) version: String,
}

#[derive(Deserialize)]
struct Ready {
    version: String,
}

#[derive(Deserialize)]
struct Seen {
    tokens_s: Vec<f64>,
    marks_s: Vec<f64>,
    cpu_s: Vec<f64>,
}

impl Peer {
    /// Starts it and waits until the model is loaded.
    pub(crate) fn start(python: &Path, model: &Path, tuning: &Tuning) -> anyhow::Result<Self> {
        let mut command = Command::new(python);
        command.args(["-c", SCRIPT]).arg(model);
        command.args([
            tuning.threads.to_string(),
            tuning.nice.to_string(),
            TOKENS_MAX.to_string(),
        ]);
        command.env_remove("OMP_WAIT_POLICY");
        if tuning.passive {
            command.env("OMP_WAIT_POLICY", "passive");
        }
        let mut process = Partner::start(&tuning.name, &mut command)?;
        let ready = process.answer();
        let Ready { version } =
            ready.with_context(|| format!("{} cannot run it", python.display()))?;
        Ok(Self { process, version })
    }
}

impl Load for Peer {
    fn start(&mut self) -> anyhow::Result<()> {
        self.process.order("start")
    }

    fn mark(&mut self) -> anyhow::Result<()> {
        self.process.order("mark")
    }

    fn stop(&mut self) -> anyhow::Result<Yield> {
        self.process.order("stop")?;
        let seen: Seen = self.process.answer()?;
        let (&[from, to], &[cpu_from, cpu_to]) = (&seen.marks_s[..], &seen.cpu_s[..]) else {
            anyhow::bail!("{} marks instead of two", seen.marks_s.len());
        };
        Ok(Yield {
            wall_s: to - from,
            tokens: tokens_between(&seen.tokens_s, from, to),
            cpu_s: cpu_to - cpu_from,
            ..Yield::default()
        })
    }
}
