//! Opening a pipeline as the command line asks for it.

use std::path::PathBuf;

use corpgrid_scheduler::{Device, HeterogeneousPipeline, Options, devices};
use gogrid_model::{Model, OpenOptions};

use crate::args::RunArgs;
use crate::interrupt::Interrupt;
use crate::model_file;

/// What a pipeline is opened with.
pub(crate) struct Wish {
    pub(crate) devices: Vec<Device>,
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
}

impl Wish {
    /// Looks up devices and model, which may fetch it.
    pub(crate) fn new(args: &RunArgs, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let devices = if args.devices.is_empty() {
            devices()
        } else {
            args.devices
                .iter()
                .map(|name| Device::named(name))
                .collect::<Result<_, _>>()?
        };
        let options = Options {
            limits: args.mode.limits(),
            threads: args.threads,
            context: args.context,
            quantise: args.quantise,
            ..Options::default()
        };
        let path = model_file::resolve(&args.model.model, interrupt)?;
        Ok(Self {
            devices,
            path,
            options,
        })
    }

    /// How many token ids the model has.
    pub(crate) fn vocabulary(&self) -> anyhow::Result<usize> {
        let options = OpenOptions::default();
        Ok(Model::open(&self.path, &options)?.tokenizer().vocab())
    }

    pub(crate) fn open(self) -> anyhow::Result<HeterogeneousPipeline> {
        Ok(HeterogeneousPipeline::open(
            &self.devices,
            &self.path,
            self.options,
        )?)
    }
}
