//! llama.cpp through its Python binding, told when to decode.

use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::load::{Load, STREAM_TOKENS_MAX, Yield, tokens_between};
use crate::process::LineProcess;

const SCRIPT: &str = include_str!("llama_cpp.py");

/// Where llama.cpp is, and the model it runs.
#[derive(Clone, Debug)]
pub struct LlamaCppOptions {
    /// An interpreter that has its Python binding.
    pub python: PathBuf,
    /// A GGUF file.
    pub model: PathBuf,
}

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

/// A llama.cpp with its model loaded.
pub(crate) struct LlamaCpp {
    process: LineProcess,
    pub(crate) tuning: Tuning,
    pub(crate) version: String,
}

/// Its answer when the model is loaded.
#[derive(Deserialize)]
struct Loaded {
    version: String,
}

/// Its answer at the end: when each token was done, and the clocks at each mark.
#[derive(Deserialize)]
struct Decoded {
    tokens_s: Vec<f64>,
    marks_s: Vec<f64>,
    cpu_s: Vec<f64>,
}

impl LlamaCpp {
    /// Starts it and waits until the model is loaded.
    pub(crate) fn start(options: &LlamaCppOptions, tuning: Tuning) -> Result<Self, BenchError> {
        let mut command = Command::new(&options.python);
        command.args(["-c", SCRIPT]).arg(&options.model);
        command.args([
            tuning.threads.to_string(),
            tuning.nice.to_string(),
            STREAM_TOKENS_MAX.to_string(),
        ]);
        command.env_remove("OMP_WAIT_POLICY");
        if tuning.passive {
            command.env("OMP_WAIT_POLICY", "passive");
        }
        let mut process = LineProcess::start(&tuning.name, &mut command)?;
        let loaded = process.answer();
        let Loaded { version } = loaded.map_err(|error| BenchError::NoLlamaCpp {
            python: options.python.display().to_string(),
            source: Box::new(error),
        })?;
        Ok(Self {
            process,
            tuning,
            version,
        })
    }
}

impl Load for LlamaCpp {
    fn start(&mut self) -> Result<(), BenchError> {
        self.process.order("start")
    }

    fn mark(&mut self) -> Result<(), BenchError> {
        self.process.order("mark")
    }

    fn stop(&mut self) -> Result<Yield, BenchError> {
        self.process.order("stop")?;
        let decoded: Decoded = self.process.answer()?;
        let (&[from, to], &[cpu_from, cpu_to]) = (&decoded.marks_s[..], &decoded.cpu_s[..]) else {
            let marks = decoded.marks_s.len();
            return Err(BenchError::Marks { marks });
        };
        Ok(Yield {
            wall_s: to - from,
            tokens: tokens_between(&decoded.tokens_s, from, to),
            cpu_s: cpu_to - cpu_from,
            ..Yield::default()
        })
    }
}
