use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use corpgrid_scheduler::{Mode, Sampling, SamplingDefaults, SyntheticShape, Whose};
use gogrid_control::StageAt;
use gogrid_units::WeightType;

use crate::exit::EXIT_CODES;
use crate::sampling::Choices;
use crate::{model_file, version};

const THREADS_MAX: u64 = 1024;
const STREAMS_MAX: u64 = 256;
const TOKENS_MAX: u64 = 1 << 24;
const SNOOZE_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// Language models on computers people already have, under limits that hold
#[derive(Debug, Parser)]
#[command(name = "gogrid", version, long_version = version::long(), after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the devices that models can run on
    Devices(DevicesArgs),
    /// Fetch models of the catalogue or of the Hugging Face hub into the cache
    Pull(PullArgs),
    /// List the models that are here, other programs' too, and those of the catalogue
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show what a model is, and what it needs here
    Show(ShowArgs),
    /// Talk to a model, or have it answer one prompt; fetches it first if it is not here
    Run(RunModelArgs),
    /// Remove models from the cache
    Rm(RemoveArgs),
    /// List the gogrids that run, with their models and what they hold
    Ps(PsArgs),
    /// Print a script by which a shell completes commands and options
    Completions {
        /// The shell: `source <(gogrid completions bash)`
        shell: Shell,
    },
    /// Write the manual page of each command into a folder
    Man(ManArgs),
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
    /// Serve models to the programs that speak OpenAI's, Anthropic's or Ollama's protocol
    Serve(ServeArgs),
    /// Have the system start `gogrid serve` whenever you log in
    Service(ServiceArgs),
    /// Show and change the limits of a running gogrid
    Limits(LimitsArgs),
    /// Follow a running gogrid in the terminal
    Top(TopArgs),
    /// Keep one processor busy until standard input closes
    #[command(hide = true)]
    Hog,
    /// Stand for what a person at the desk runs, until standard input closes
    #[command(hide = true)]
    Foreground,
}

/// How much of the machine may be taken
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// A desktop that somebody works on
    Conservative,
    /// A machine with mixed use
    Default,
    /// A machine that serves and does nothing else
    Aggressive,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Conservative => Self::Conservative,
            ModeArg::Default => Self::Default,
            ModeArg::Aggressive => Self::Aggressive,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A GGUF file, a Hugging Face directory, or a name: of the catalogue, of another program's model, or of the
    /// hub as OWNER/NAME or OWNER/NAME:QUANTISATION (fetched on first use)
    #[arg(long, default_value = "smollm2-135m", value_name = "MODEL")]
    pub(crate) model: String,
}

/// What every command that runs a model takes.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

/// Whose a request is
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhoseArg {
    /// The person at the desk: others' programs slow it down and never keep it waiting
    Owner,
    /// Anybody else: it waits while the machine is needed
    Guest,
}

impl From<WhoseArg> for Whose {
    fn from(whose: WhoseArg) -> Self {
        match whose {
            WhoseArg::Owner => Self::Owner,
            WhoseArg::Guest => Self::Guest,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct WhoseArgs {
    /// Whose request it is [default: the owner's at a terminal, else a guest's]
    #[arg(long = "as", value_enum, value_name = "WHOSE")]
    asked: Option<WhoseArg>,
}

impl WhoseArgs {
    /// Whoever sits at a terminal is the one whose machine this is.
    pub(crate) fn whose(&self) -> Whose {
        let at_terminal = || {
            io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
        };
        match self.asked {
            Some(asked) => asked.into(),
            None if at_terminal() => Whose::Owner,
            None => Whose::Guest,
        }
    }
}

/// What of the machine is used, and how much of it.
#[derive(Debug, Args)]
pub(crate) struct MachineArgs {
    /// How much of the machine may be taken [default: what --limits names, else conservative]
    #[arg(long, value_enum)]
    pub(crate) mode: Option<ModeArg>,
    /// A TOML file of settings, watched while it runs: a mode and what differs from it, or only
    /// what differs from --mode. A mode in both is an error
    #[arg(long, value_name = "FILE")]
    pub(crate) limits: Option<PathBuf>,
    /// A device to run on: cpu, cpu:0, cpu:2-5, gpu:0; repeat it for several [default: the CPU, and GPUs that
    /// make it faster]
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
    /// Choose one token at a time, also where a text repeats what it has said; answers are the same, and come
    /// slower
    #[arg(long)]
    pub(crate) no_prompt_lookup: bool,
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
#[command(after_help = model_file::catalogue_help())]
pub(crate) struct PullArgs {
    /// Names of the catalogue, or of the hub: OWNER/NAME or OWNER/NAME:QUANTISATION, with or without hf.co/ before. What
    /// is here already is checked; what came of one before goes on from there
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A GGUF file, a Hugging Face directory, or a name
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RunModelArgs {
    /// A GGUF file, a Hugging Face directory, or a name
    #[arg(value_name = "MODEL")]
    model: String,
    /// What it is to answer, and standard input with it where that is no terminal; without either a conversation
    /// begins
    prompt: Option<String>,
    /// Words after the prompt, which are a mistake: it was not quoted
    #[arg(hide = true)]
    more: Vec<String>,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    whose: WhoseArgs,
    #[command(flatten)]
    patience: PatienceArgs,
    #[command(flatten)]
    figures: FiguresArgs,
}

/// What `run` stands for.
pub(crate) enum Meant {
    Chat(ChatArgs),
    Generate(GenerateArgs),
}

impl RunModelArgs {
    pub(crate) fn meant(self) -> Meant {
        let run = RunArgs {
            model: ModelArgs { model: self.model },
            machine: self.machine,
        };
        if self.prompt.is_none() && io::stdin().is_terminal() {
            return Meant::Chat(ChatArgs {
                run,
                sampling: self.sampling,
                system: self.system,
                whose: self.whose,
                patience: self.patience,
                figures: self.figures,
            });
        }
        Meant::Generate(GenerateArgs {
            prompt: self.prompt,
            more: self.more,
            run,
            sampling: self.sampling,
            raw: false,
            system: self.system,
            whose: self.whose,
            patience: self.patience,
            figures: self.figures,
            json: JsonArgs { json: false },
            stream: false,
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Names of the catalogue, or of the hub
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The folder, which is made where it is not there
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
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
    /// Tokens to generate at most [default: 256, in a chat 1024]
    #[arg(long, value_name = "N", value_parser = count(1, TOKENS_MAX))]
    pub(crate) max_tokens: Option<usize>,
    /// 0 takes the likeliest token each time [default: the model's, else 0.7]
    #[arg(long, value_name = "T", value_parser = number(0.0, 100.0))]
    pub(crate) temperature: Option<f32>,
    /// Only the K likeliest tokens; 0 for all [default: the model's, else 0]
    #[arg(long, value_name = "K", value_parser = count(0, TOKENS_MAX))]
    pub(crate) top_k: Option<usize>,
    /// Only the likeliest tokens that together reach this probability [default: the model's, else 0.9]
    #[arg(long, value_name = "P", value_parser = number(0.0, 1.0))]
    pub(crate) top_p: Option<f32>,
    /// Only tokens at least this share as likely as the likeliest [default: the model's, else 0.05]
    #[arg(long, value_name = "P", value_parser = number(0.0, 1.0))]
    pub(crate) min_p: Option<f32>,
    /// Divides the logits of tokens seen lately; 1 for none [default: the model's, else 1.1, with a temperature of 0 1]
    #[arg(long, value_name = "R", value_parser = number(0.01, 100.0))]
    pub(crate) repetition_penalty: Option<f32>,
    /// What the draws depend on [default: another one each time]
    #[arg(long, value_name = "S", value_parser = whole::<u64>(0, u64::MAX))]
    pub(crate) seed: Option<u64>,
    /// Text that ends the answer; repeat it for several
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Go on past the model's end tokens
    #[arg(long)]
    pub(crate) ignore_eos: bool,
}

impl SamplingArgs {
    /// The values that were asked for.
    pub(crate) fn asked(&self) -> SamplingDefaults {
        SamplingDefaults {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
        }
    }

    /// What the library takes, of what was asked for and what the model suggests; `seed` is for when none was
    /// given.
    pub(crate) fn sampling(&self, suggested: &SamplingDefaults, seed: u64) -> Sampling {
        self.complete(&Choices::of(&self.asked(), suggested), seed)
    }

    /// The same of values that were chosen.
    pub(crate) fn complete(&self, choices: &Choices, seed: u64) -> Sampling {
        Sampling {
            seed: self.seed.unwrap_or(seed),
            stop: self.stop.clone(),
            ignore_eos: self.ignore_eos,
            ..choices.sampling()
        }
    }
}

/// How long an answer may be waited for.
#[derive(Debug, Args)]
pub(crate) struct PatienceArgs {
    /// Seconds to wait for the first token; then it ends with exit code 4 [default: as long as it takes]
    #[arg(long, value_name = "S", value_parser = number(0.0, 86_400.0))]
    timeout: Option<f32>,
}

impl PatienceArgs {
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs_f32)
    }
}

/// What is said beside an answer.
#[derive(Debug, Args)]
pub(crate) struct FiguresArgs {
    /// Nothing beside an answer but errors: no figures, no notes, no log. What a chat's own commands say stays
    #[arg(long, conflicts_with = "figures")]
    pub(crate) quiet: bool,
    /// A line of figures after an answer [default: at a terminal]
    #[arg(long)]
    figures: bool,
}

impl FiguresArgs {
    /// Whether an answer is followed by its figures, which go to standard error.
    pub(crate) fn are_shown(&self) -> bool {
        self.figures || (!self.quiet && io::stderr().is_terminal())
    }
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// The prompt. What standard input holds, where that is no terminal, joins it after an empty line; without a
    /// prompt, or with `-`, it is the prompt
    pub(crate) prompt: Option<String>,
    /// Words after the prompt, which are a mistake: it was not quoted
    #[arg(hide = true)]
    pub(crate) more: Vec<String>,
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
    pub(crate) whose: WhoseArgs,
    #[command(flatten)]
    pub(crate) patience: PatienceArgs,
    #[command(flatten)]
    pub(crate) figures: FiguresArgs,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
    /// With --json: each event as it comes, a JSON value in a line, and the whole answer as the last
    #[arg(long, requires = "json")]
    pub(crate) stream: bool,
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
    #[command(flatten)]
    pub(crate) whose: WhoseArgs,
    #[command(flatten)]
    pub(crate) patience: PatienceArgs,
    #[command(flatten)]
    pub(crate) figures: FiguresArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A model that is opened at once: a GGUF file, a Hugging Face directory, or a name of the catalogue; repeat
    /// it for several, of which the first answers requests that name none [default: smollm2-135m]
    #[arg(long = "model", value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// A folder whose GGUF files and Hugging Face directories are served too, opened when asked for
    #[arg(long = "models", value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Where to listen; other machines reach it only with --api-key-file
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:11711", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// A file with a key in each line, which clients must show; after a key may stand name=NAME,
    /// class=owner|guest and tier=flex|default|priority. Without it, the variable GOGRID_API_KEY may hold one key
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Whose requests are that need no key
    #[arg(long = "as", value_enum, value_name = "WHOSE", default_value_t = WhoseArg::Guest)]
    pub(crate) without_key: WhoseArg,
    /// A chat template in Jinja for all models, instead of their own; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) chat_template_file: Option<PathBuf>,
    /// How long a model stays open after its last request: 90s, 30m, 2h; 0s closes it at once, -1 never
    #[arg(
        long,
        value_name = "TIME",
        default_value = "5m",
        allow_hyphen_values = true
    )]
    pub(crate) keep_alive: KeepAlive,
    /// Seconds a request waits for its first token where it names no time of its own
    #[arg(long, value_name = "S", default_value_t = 120.0, value_parser = number(0.0, 86_400.0))]
    pub(crate) deadline: f32,
    /// Seconds that requests may go on for after the server is told to end
    #[arg(long, value_name = "S", default_value_t = 30.0, value_parser = number(0.0, 3_600.0))]
    pub(crate) drain: f32,
    /// Web pages of this origin may ask, besides those of this machine: the scheme and host of their address;
    /// repeat it for several
    #[arg(long = "origin", value_name = "ORIGIN")]
    pub(crate) origins: Vec<String>,
    /// Write the log as lines of JSON
    #[arg(long, value_enum, default_value_t = LogArg::Text)]
    pub(crate) log: LogArg,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    pub(crate) command: ServiceCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Start it now and at each login, and again when it fails; one that is there is replaced
    Install {
        /// Options of `gogrid serve`, which `gogrid serve --help` lists. They are checked, and files are written
        /// down by their whole paths
        #[arg(last = true, value_name = "OPTION")]
        options: Vec<String>,
    },
    /// Say whether it is installed and runs
    Status {
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Stop it, and start it no more
    Remove,
}

/// How the log is written
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogArg {
    /// Lines for people
    Text,
    /// A JSON value in each line
    Json,
}

/// How long a model stays open; `None` for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeepAlive(pub(crate) Option<Duration>);

impl FromStr for KeepAlive {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "-1" => Ok(Self(None)),
            "0" | "0s" => Ok(Self(Some(Duration::ZERO))),
            text => match text.parse() {
                Ok(Stretch(seconds)) => Ok(Self(Some(Duration::from_secs(seconds)))),
                Err(problem) => Err(format!("{problem}, 0s to close at once, or -1 for never")),
            },
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct TextArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) whose: WhoseArgs,
    /// The text, taken exactly as the file has it; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) text: PathBuf,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The text, taken exactly as the file has it; - for standard input
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
    /// Instead of a model, a shape whose weights are made on the spot, with nothing to fetch:
    /// 1b-q4_k (Llama 3.2 1B), 7b-q4_k and 7b-f16 (Llama 2 7B), 70b-q4_k-slice (8 of Llama 3 70B's 80 layers)
    #[arg(long, value_name = "SHAPE", conflicts_with = "model")]
    pub(crate) synthetic: Option<SyntheticShape>,
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
    /// Measure how soon a pause stops all work
    Pause(PauseArgs),
    /// Run random requests, changes and faults, and count what leaks, hangs or breaks a limit
    Soak(SoakArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// A model, as for `gogrid generate`; repeat it for several, of which the first stays open
    /// [default: those of the catalogue's smollm2-135m and gemma3-270m that are in the cache]
    #[arg(long = "model", value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// A device; repeat it for several, between which stages move [default: the cores in two halves]
    #[arg(long = "device", value_name = "D")]
    pub(crate) devices: Vec<String>,
    /// Minutes; a round that has begun is finished
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = number(0.05, 10_000.0))]
    pub(crate) minutes: f32,
    /// Decides all choices [default: another one each time]
    #[arg(long, value_name = "S", value_parser = whole::<u64>(0, u64::MAX))]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Pauses measured
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = count(1, 1_000_000))]
    pub(crate) tries: usize,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
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
    /// Measure the foreground alone with cold caches too: between frames it reads through memory
    #[arg(long)]
    pub(crate) cold: bool,
    /// Measure llama.cpp in the same way: an interpreter that has its Python binding
    #[arg(long, value_name = "PYTHON")]
    pub(crate) peer: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    #[command(subcommand)]
    pub(crate) command: LimitsCommand,
    /// The process meant, where several gogrids run
    #[arg(long, global = true, value_name = "P", value_parser = process)]
    pub(crate) pid: Option<u32>,
    #[command(flatten)]
    pub(crate) json: JsonEverywhereArgs,
    /// After a change, all limits and what is held, as `get` shows them, instead of one line
    #[arg(long, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// The process meant, where several gogrids run
    #[arg(long, value_name = "P", value_parser = process)]
    pub(crate) pid: Option<u32>,
    /// Print what it would show as text, once
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JsonEverywhereArgs {
    /// Print one JSON value instead of text: settings, and status with the reasons
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LimitsCommand {
    /// Show each limit, asked and in force
    Get(GetArgs),
    /// Change settings; those not named stay as they are
    Set(SetArgs),
    /// Stop until told to resume
    Pause,
    /// Go on; ends a pause, a snooze and a finish
    Resume,
    /// Stop for a time
    Snooze {
        /// How long: 90s, 30m, 2h, up to a week
        #[arg(allow_hyphen_values = true)]
        time: Stretch,
    },
    /// Accept nothing more; what was accepted runs to its end
    Finish,
    /// Have the stages of the model stand on other devices, between two steps
    Move(MoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// A device of those it was started with, the first piece that runs there, and one past the
    /// last: cpu:0=0-10 cpu:1=10-62. All stages in order, from piece 0 to the last.
    ///
    /// The pieces of a model of N layers are numbered in the order they run: 0 is the embedding; then
    /// come two for each layer, its attention and its feed-forward (1 and 2 for the first layer);
    /// 2 N + 1 is the head. `gogrid limits get` shows where they stand.
    #[arg(value_name = "DEVICE=FIRST-END", required = true)]
    pub(crate) stages: Vec<StageArg>,
}

/// A stage, as it is written: `cpu:0=0-10`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StageArg(pub(crate) StageAt);

impl FromStr for StageArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(device, pieces)| {
            let (first, end) = pieces.split_once('-')?;
            Some(StageAt {
                device: device.to_owned(),
                first_piece: first.parse().ok()?,
                end_piece: end.parse().ok()?,
            })
        });
        let stage = parsed.filter(|stage| !stage.device.is_empty());
        let stage = stage.filter(|stage| stage.first_piece < stage.end_piece);
        let wrong = || {
            "must be a device, its first piece and one past its last, such as cpu:0=0-10".to_owned()
        };
        stage.map(Self).ok_or_else(wrong)
    }
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Print what it holds and does as Prometheus text
    #[arg(long, conflicts_with = "json")]
    pub(crate) prometheus: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The settings of this mode, before the changes
    #[arg(long, value_enum)]
    pub(crate) mode: Option<ModeArg>,
    /// What a file of settings may say: max_batch_size=4, away.max_batch_size=8,
    /// policy.presence.away_after_s=60
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) changes: Vec<String>,
}

/// Seconds, written with their unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch(pub(crate) u64);

impl FromStr for Stretch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [('s', 1), ('m', 60), ('h', 60 * 60)];
        let parsed = units.iter().find_map(|&(unit, seconds)| {
            let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
            count.checked_mul(seconds)
        });
        let seconds = parsed.filter(|seconds| (1..=SNOOZE_SECONDS_MAX).contains(seconds));
        let wrong = || "must be a time such as 90s, 30m or 2h, up to a week".to_owned();
        seconds.map(Self).ok_or_else(wrong)
    }
}

fn count(least: u64, most: u64) -> impl Fn(&str) -> Result<usize, String> + Clone {
    whole(least, most)
}

fn whole<T: TryFrom<u64>>(least: u64, most: u64) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text: &str| {
        let value = text.parse().ok();
        let allowed = value.filter(|value| (least..=most).contains(value));
        let value = allowed.and_then(|value| T::try_from(value).ok());
        value.ok_or_else(|| format!("must be a whole number in {least}..={most}"))
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let wrong =
        |_| "must be an address and a port, such as 127.0.0.1:11711 or 0.0.0.0:11711".to_owned();
    text.parse().map_err(wrong)
}

fn process(text: &str) -> Result<u32, String> {
    let wrong = |_| "must be the number of a process; `gogrid ps` lists those that run".to_owned();
    text.parse().map_err(wrong)
}

fn number(least: f32, most: f32) -> impl Fn(&str) -> Result<f32, String> + Clone {
    move |text: &str| match text.parse() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("must be a number in {least}..={most}")),
    }
}
