//! A pipeline that commands of other processes and a watched file change while it runs.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use corpgrid_scheduler::{
    HeterogeneousPipeline, Machine, Mode, OpenError, Options, PeerUse, PlacedSpan, Settings, Span,
};
use futures_executor::block_on;
use gogrid_control::{
    Cause, Command, Control, Controlled, News, Refused, Server, SettingsFile, StageAt, Watch,
};
use gogrid_units::Bytes;
use serde_json::Value;

use crate::costs::CostsFile;
use crate::failure::Advised;
use crate::open::{MachineSpec, PipelineSpec};
use crate::out;

/// The name under which running processes are found.
pub(crate) const PROGRAM: &str = "gogrid";

/// An open pipeline under control from outside. Control ends before the pipeline does.
pub(crate) struct Live {
    _house: LiveMachine,
    /// The mode it was opened in.
    pub(crate) mode: Mode,
    pipeline: Arc<HeterogeneousPipeline>,
}

/// An open machine under control from outside, whatever runs on it. What its models were found to take
/// is kept at its end.
pub(crate) struct LiveMachine {
    _server: Option<Server>,
    _watch: Option<Watch>,
    handle: Arc<Handle>,
    /// The options that models are opened with on it.
    pub(crate) options: Options,
    pub(crate) mode: Mode,
    costs: CostsFile,
}

impl Live {
    /// Opens the machine, and the model on it. Other gogrids are told what it holds from the moment
    /// on when it begins to load.
    pub(crate) fn open(spec: PipelineSpec) -> anyhow::Result<Self> {
        let advice = spec.machine.advice();
        let house = LiveMachine::open(spec.machine)?;
        let machine = house.machine();
        let opened = HeterogeneousPipeline::open_on(machine, spec.model, &house.options);
        let opened = opened.map_err(|error| advised(error, machine, advice))?;
        let pipeline = house.handle.pipeline.get_or_init(|| Arc::new(opened));
        Ok(Self {
            mode: house.mode,
            pipeline: Arc::clone(pipeline),
            _house: house,
        })
    }

    /// The pipeline, to be held by several owners.
    pub(crate) fn pipeline(&self) -> &Arc<HeterogeneousPipeline> {
        &self.pipeline
    }
}

impl LiveMachine {
    /// Opens the machine; from then on commands of other processes reach it.
    pub(crate) fn open(spec: MachineSpec) -> anyhow::Result<Self> {
        let costs = CostsFile::of_user();
        let handle = Arc::new(Handle {
            machine: Arc::new(spec.machine(&costs)?),
            pipeline: OnceLock::new(),
        });
        let controlled: Arc<dyn Controlled> = Arc::clone(&handle) as _;
        let control = Arc::new(Control::new(controlled));
        let server = Server::start(PROGRAM, Arc::clone(&control)).map_err(|error| {
            // This process can do its work all the same.
            out::note(format!(
                "warning: `gogrid limits` and other gogrids cannot reach this process: {error}"
            ));
        });
        Ok(Self {
            _server: server.ok(),
            _watch: spec.file.map(|file| watch(file, control)).transpose()?,
            handle,
            options: spec.options,
            mode: spec.mode,
            costs,
        })
    }

    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.handle.machine
    }
}

impl Drop for LiveMachine {
    fn drop(&mut self) {
        self.costs.keep(&self.machine().known_costs());
    }
}

impl Deref for Live {
    type Target = HeterogeneousPipeline;

    fn deref(&self) -> &HeterogeneousPipeline {
        &self.pipeline
    }
}

/// Called on the watch's thread, which has the next change to hear of.
fn report(path: &str, news: &News) {
    match news {
        News::Taken => out::note_aside(format_args!("{path}: in force")),
        News::Kept(problem) => {
            out::note_aside(format_args!(
                "warning: {path}: {problem}; the old limits still hold"
            ));
        }
    }
}

fn watch(file: SettingsFile, control: Arc<Control>) -> anyhow::Result<Watch> {
    let path = file.path().display().to_string();
    let report = move |news: &News| report(&path, news);
    Watch::start(file, control, report).context("cannot watch the file of --limits")
}

/// An error of opening a model on this machine; with this advice, and with what other gogrids hold, where it
/// did not fit.
pub(crate) fn advised(error: OpenError, machine: &Machine, advice: String) -> anyhow::Error {
    let is_full = matches!(error, OpenError::DoesNotFit(_));
    let error = anyhow::Error::from(error);
    if !is_full {
        return error;
    }
    let error = anyhow::Error::from(Advised { error, advice });
    let memories = block_on(machine.status()).memories;
    let shared = memories.iter().filter(|memory| memory.peers_bytes > 0);
    let held = shared.map(|memory| {
        let (theirs, name) = (Bytes(memory.peers_bytes), &memory.memory);
        format!("other gogrids hold {theirs} of the memory {name}, until they end")
    });
    match held.collect::<Vec<_>>() {
        held if held.is_empty() => error,
        held => error.context(held.join(" and ")),
    }
}

/// The machine and its model as commands see them.
struct Handle {
    machine: Arc<Machine>,
    /// Not there while it is being opened.
    pipeline: OnceLock<Arc<HeterogeneousPipeline>>,
}

impl Controlled for Handle {
    fn settings(&self) -> Settings {
        self.machine.settings()
    }

    fn apply(&self, settings: Settings) -> Result<(), String> {
        let applied = block_on(self.machine.set_settings(settings));
        applied.map_err(|error| error.to_string())
    }

    fn command(&self, command: Command) -> Result<(), String> {
        let done = block_on(async {
            match command {
                Command::Pause => self.machine.pause().await,
                Command::Resume => self.machine.resume().await,
                Command::Snooze(time) => self.machine.snooze(time).await,
                Command::Finish => self.machine.finish().await,
            }
        });
        done.map_err(|error| error.to_string())
    }

    fn move_stages(&self, stages: &[StageAt]) -> Result<(), Refused> {
        let Some(pipeline) = self.pipeline.get() else {
            let message =
                "no model of this process can be moved: it is being opened, or serves several"
                    .to_owned();
            return Err(refused(Cause::Pipeline, message));
        };
        let devices = block_on(self.machine.status()).devices;
        let names: Vec<_> = devices.iter().map(|device| &*device.device).collect();
        let placed = stages.iter().map(|stage| placed(stage, &names));
        let placed = placed.collect::<Result<_, _>>()?;
        block_on(pipeline.move_to(placed)).map_err(|error| {
            let cause = match error {
                OpenError::BadDevice(_) | OpenError::BadOption { .. } => Cause::Stages,
                _ => Cause::Pipeline,
            };
            refused(cause, format!("the stages stand where they stood: {error}"))
        })
    }

    fn usage(&self) -> PeerUse {
        self.machine.usage()
    }

    fn note_failure(&self, thread: &str, problem: &str) {
        self.machine.note_failure(thread, problem);
    }

    fn snapshot(&self) -> Value {
        let status = match self.pipeline.get() {
            Some(pipeline) => serde_json::to_value(block_on(pipeline.status())),
            None => serde_json::to_value(block_on(self.machine.status())),
        };
        status.expect("a status is plain data with text for keys")
    }
}

/// A stage by its device's index, of devices with these names.
fn placed(stage: &StageAt, names: &[&str]) -> Result<PlacedSpan, Refused> {
    let (first, end) = (stage.first_piece, stage.end_piece);
    let named = &stage.device;
    let Some(device) = names.iter().position(|name| name == named) else {
        let names = names.join(", ");
        let message = format!("it runs on no device {named:?}, but on {names}");
        return Err(refused(Cause::Stages, message));
    };
    if first >= end {
        let message = format!("{named}: piece {end} is the end, and {first} the first");
        return Err(refused(Cause::Stages, message));
    }
    Ok(PlacedSpan {
        device,
        span: Span::new(first, end),
    })
}

fn refused(cause: Cause, message: String) -> Refused {
    Refused { cause, message }
}
