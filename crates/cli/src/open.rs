//! Opening a pipeline as the command line asks for it.

use std::path::Path;

use corpgrid_scheduler::{
    Device, Machine, MachineOptions, Mode, ModelSource, OpenError, Options, Peers, Settings,
    devices,
};
use gogrid_control::{PeerWatch, SettingsFile};

use crate::args::{MachineArgs, RunArgs};
use crate::costs::CostsFile;
use crate::exit::{BadInput, WrongUsage};
use crate::interrupt::Interrupt;
use crate::live::{Live, PROGRAM};
use crate::model_file::{self, STANDARD_INPUT};
use crate::out;

/// Everything a pipeline is opened with.
pub(crate) struct PipelineSpec {
    pub(crate) machine: MachineSpec,
    pub(crate) model: ModelSource,
}

/// Everything a machine is opened with.
pub(crate) struct MachineSpec {
    pub(crate) devices: Vec<Device>,
    pub(crate) options: Options,
    /// The mode asked for, or named by the file of settings.
    pub(crate) mode: Mode,
    pub(crate) file: Option<SettingsFile>,
}

impl PipelineSpec {
    /// Looks up devices and model, which may fetch it.
    pub(crate) fn new(args: &RunArgs, interrupt: &Interrupt) -> anyhow::Result<Self> {
        Self::of(args, || {
            Ok(model_file::resolve(&args.model.model, interrupt)?.into())
        })
    }

    /// Looks up devices, and then `model`.
    pub(crate) fn of(
        args: &RunArgs,
        model: impl FnOnce() -> anyhow::Result<ModelSource>,
    ) -> anyhow::Result<Self> {
        // Devices first: a model may have to be fetched.
        let machine = MachineSpec::new(&args.machine)?;
        Ok(Self {
            machine,
            model: model()?,
        })
    }

    pub(crate) fn open(self) -> anyhow::Result<Live> {
        Live::open(self)
    }
}

impl MachineSpec {
    /// Looks up devices and settings.
    pub(crate) fn new(args: &MachineArgs) -> anyhow::Result<Self> {
        let devices = devices_of(args)?;
        let (file, mode, settings) = settings(args)?;
        let options = Options {
            limits: settings.limits,
            away: Some(settings.away),
            policy: settings.policy,
            threads: args.threads,
            context: args.context,
            quantise: args.quantise,
            prompt_lookup: !args.no_prompt_lookup,
            ..Options::default()
        };
        Ok(Self {
            devices,
            options,
            mode,
            file,
        })
    }

    /// The share of its devices that may be taken, as asked.
    pub(crate) fn compute_share(&self) -> f64 {
        self.options.limits.max_compute_usage_percent
    }

    /// What to do about a model that does not fit under the cap that was asked for.
    pub(crate) fn advice(&self) -> String {
        let raise = match (&self.file, self.mode) {
            (Some(file), _) => {
                let path = file.path().display();
                format!(", or raise max_vram_usage_percent in {path}")
            }
            (None, Mode::Conservative) => {
                ", or raise the cap with --mode default or aggressive".to_owned()
            }
            (None, Mode::Default) => ", or raise the cap with --mode aggressive".to_owned(),
            // There is no higher cap.
            (None, Mode::Aggressive) => String::new(),
        };
        format!("take a smaller model, add a --device, lower --context{raise}")
    }

    /// The devices under their limits, which other gogrids of the user's share.
    pub(crate) fn machine(&self, costs: &CostsFile) -> anyhow::Result<Machine> {
        let peers = PeerWatch::start(PROGRAM).map_err(|error| {
            // Under a cap that others may fill as well, it runs all the same.
            out::note(format!("warning: other gogrids are not seen: {error}"));
        });
        let peers = peers.ok().map(|peers| Box::new(peers) as Box<dyn Peers>);
        let options = MachineOptions {
            limits: self.options.limits.clone(),
            away: self.options.away.clone(),
            policy: self.options.policy.clone(),
            threads: self.options.threads,
            peers,
            known_costs: costs.book().clone(),
        };
        Ok(Machine::open(&self.devices, options)?)
    }
}

/// The devices named; where none is, all that this machine has, of which those are used that are of use.
fn devices_of(args: &MachineArgs) -> Result<Vec<Device>, OpenError> {
    let named = args.devices.iter().map(|name| Device::named(name));
    let named: Vec<_> = named.collect::<Result<_, _>>()?;
    if !named.is_empty() {
        return Ok(named);
    }
    let all = devices();
    match all.is_empty() {
        // By its name, since that says why there is none.
        true => Ok(vec![Device::named("cpu")?]),
        false => Ok(all),
    }
}

/// The settings asked for, their mode, and the file that has them, if there is one.
fn settings(args: &MachineArgs) -> anyhow::Result<(Option<SettingsFile>, Mode, Settings)> {
    let asked = args.mode.map(Mode::from);
    let Some(path) = &args.limits else {
        let mode = asked.unwrap_or(Mode::Conservative);
        return Ok((None, mode, Settings::of(mode)));
    };
    if path == Path::new(STANDARD_INPUT) {
        let problem = "the limits in -: standard input cannot be watched for changes; give a file of settings";
        return Err(WrongUsage(problem.to_owned()).into());
    }
    let file = SettingsFile::new(path, asked);
    let read = file.read();
    let (mode, settings) = read.map_err(|error| {
        let remedy = match path.is_file() {
            true => "",
            false => "; --limits takes the path of a TOML file of settings",
        };
        BadInput(format!("the limits in {error}{remedy}"))
    })?;
    Ok((Some(file), mode, settings))
}
