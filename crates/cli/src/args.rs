use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use corpgrid_scheduler::{ResourceConfig, Sampling};
use gogrid_units::WeightType;
use serde::Serialize;

use crate::failure::EXIT_CODES;

const THREADS_MAX: u64 = 1024;
const STREAMS_MAX: u64 = 256;
const TOKENS_MAX: u64 = 1 << 24;

/// Language models on computers people already have, under limits that hold
#[derive(Debug, Parser)]
#[command(name = "gogrid", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the devices that models can run on
    Devices(DevicesArgs),
    /// Fetch a model of the catalogue into the cache
    Pull(PullArgs),
    /// Show which layers would run where, and what each limit costs
    Plan(PlanArgs),
    /// Continue a prompt, streaming the text
    Generate(GenerateArgs),
    /// Hold a conversation in the terminal
    Chat(ChatArgs),
    /// Measure how well the model predicts a text
    Eval(TextArgs),
    /// Turn a text into token ids
    Tokenize(TokenizeArgs),
    /// Measure prefill and decode in tokens a second
    Bench(BenchArgs),
    /// Keep one processor busy until standard input closes
    #[command(hide = true)]
    Hog,
    /// Stand for what a person at the desk runs, until standard input closes
    #[command(hide = true)]
    Foreground,
}

/// How much of the machine may be taken
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// A desktop that somebody works on
    Conservative,
    /// A machine with mixed use
    Default,
    /// A machine that serves and does nothing else
    Aggressive,
}

impl Mode {
    pub(crate) fn limits(self) -> ResourceConfig {
        match self {
            Self::Conservative => ResourceConfig::conservative(),
            Self::Default => ResourceConfig::default(),
            Self::Aggressive => ResourceConfig::aggressive(),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Conservative => "conservative",
            Self::Default => "default",
            Self::Aggressive => "aggressive",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A GGUF file, a Hugging Face directory, or a name of the catalogue (fetched on first use)
    #[arg(long, default_value = "smollm2-135m", value_name = "MODEL")]
    pub(crate) model: String,
}

/// What every command that runs a model takes.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// How much of the machine may be taken
    #[arg(long, value_enum, default_value_t = Mode::Conservative)]
    pub(crate) mode: Mode,
    /// A device to run on: cpu, cpu:0, cpu:2-5; repeat it for several [default: cpu]
    #[arg(long = "device", value_name = "D")]
    pub(crate) devices: Vec<String>,
    /// Threads on each CPU device [default: its cores]
    #[arg(long, value_name = "N", value_parser = count(1, THREADS_MAX))]
    pub(crate) threads: Option<usize>,
    /// Tokens a sequence may have [default: the model's]
    #[arg(long, value_name = "N", value_parser = count(1, TOKENS_MAX))]
    pub(crate) context: Option<usize>,
    /// What the float weights of a Hugging Face directory are quantised to, such as q8_0
    #[arg(long, value_name = "TYPE")]
    pub(crate) quantise: Option<WeightType>,
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print one JSON value instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = crate::pull::names())]
pub(crate) struct PullArgs {
    /// A name of the catalogue
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Say why it is this placement
    #[arg(long)]
    pub(crate) why: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SamplingArgs {
    /// Tokens to generate at most
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = count(1, TOKENS_MAX))]
    pub(crate) max_tokens: usize,
    /// 0 takes the likeliest token each time
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = number(0.0, 100.0))]
    pub(crate) temperature: f32,
    /// Only the K likeliest tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0, value_parser = count(0, TOKENS_MAX))]
    pub(crate) top_k: usize,
    /// Only the likeliest tokens that together reach this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = number(0.0, 1.0))]
    pub(crate) top_p: f32,
    /// Only tokens at least this share as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = number(0.0, 1.0))]
    pub(crate) min_p: f32,
    /// Divides the logits of tokens seen lately; 1 for none
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = number(0.01, 100.0))]
    pub(crate) repetition_penalty: f32,
    /// What the draws depend on [default: another one each time]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Text that ends the answer; repeat it for several
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Go on past the model's end tokens
    #[arg(long)]
    pub(crate) ignore_eos: bool,
}

impl SamplingArgs {
    /// What the library takes; `seed` is for when none was given.
    pub(crate) fn sampling(&self, seed: u64) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed.unwrap_or(seed),
            stop: self.stop.clone(),
            ignore_eos: self.ignore_eos,
            ..Sampling::default()
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// The prompt [default: what standard input holds]
    pub(crate) prompt: Option<String>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// Continue the text as it is, without the model's chat template
    #[arg(long)]
    pub(crate) raw: bool,
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub(crate) system: Option<String>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TextArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// The text, taken exactly as the file has it
    #[arg(long, value_name = "FILE")]
    pub(crate) text: PathBuf,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The text, taken exactly as the file has it
    #[arg(long, value_name = "FILE")]
    pub(crate) text: PathBuf,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: Option<BenchCommand>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = count(1, TOKENS_MAX))]
    pub(crate) prompt_tokens: usize,
    /// Tokens decoded
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = count(2, TOKENS_MAX))]
    pub(crate) gen_tokens: usize,
    /// Sequences at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(1, STREAMS_MAX))]
    pub(crate) streams: usize,
    /// Processes kept busy beside it
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = count(0, THREADS_MAX))]
    pub(crate) hog: usize,
    /// Measured runs, of which the medians are given
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count(1, 1000))]
    pub(crate) runs: usize,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure what a person at the desk feels while tokens are generated
    Desktop(DesktopArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DesktopArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Rounds of the foreground alone, alone again, and beside; their order changes
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count(2, 1000))]
    pub(crate) triples: usize,
    /// Seconds measured of each leg, after one that is not
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = number(0.5, 600.0))]
    pub(crate) seconds: f32,
    /// Measure llama.cpp in the same way: an interpreter that has its Python binding
    #[arg(long, value_name = "PYTHON")]
    pub(crate) peer: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

fn count(least: u64, most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=most)
}

fn number(least: f32, most: f32) -> impl Fn(&str) -> Result<f32, String> + Clone {
    move |text: &str| match text.parse() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("must be a number in {least}..={most}")),
    }
}
