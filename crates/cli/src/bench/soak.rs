//! `gogrid bench soak`: looks up models and devices, and fails where the figures are not clean.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use corpgrid_scheduler::Device;
use gogrid_bench::SoakOptions;
use gogrid_host::run_again_without_kept_blocks;
use gogrid_hub::{Cache, Name, find};

use crate::args::SoakArgs;
use crate::exit::BadInput;
use crate::interrupt::Interrupt;
use crate::{model_file, out};

/// The models where none is named, the smaller first.
const USUAL: [&str; 2] = ["smollm2-135m", "gemma3-270m"];

pub(super) fn run(args: &SoakArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    if let Err(error) = run_again_without_kept_blocks() {
        out::note(format_args!(
            "warning: bytes in use count freed blocks that threads keep: {error}"
        ));
    }
    let options = SoakOptions {
        models: models(&args.models, interrupt)?,
        devices: halves(&args.devices)?,
        time: Duration::from_secs_f32(args.minutes * 60.0),
        seed: args
            .seed
            .unwrap_or_else(|| RandomState::new().hash_one("soak")),
    };
    let watch = interrupt.watch();
    out::note(format_args!("seed {}", options.seed));
    let report = gogrid_bench::soak(&options, &|| !watch.asked(), &mut |line| {
        out::note(line);
    })?;
    match args.json.json {
        true => out::json(&report.json())?,
        false => out::text(&report.table())?,
    }
    match report.faults() {
        0 if report.is_clean() => Ok(()),
        0 => {
            out::note("inconclusive: the soak was too short to tell whether resident bytes grow");
            Ok(())
        }
        faults => Err(anyhow::anyhow!("the soak found {faults} faults")),
    }
}

fn models(named: &[String], interrupt: &Interrupt) -> anyhow::Result<Vec<PathBuf>> {
    if !named.is_empty() {
        return named
            .iter()
            .map(|name| model_file::resolve(name, interrupt))
            .collect();
    }
    let cache = Cache::of_user()?;
    let cached = |name| Ok::<_, anyhow::Error>(cache.find(&Name::of(find(name)?)));
    let found: Vec<_> = USUAL.into_iter().map(cached).collect::<Result<_, _>>()?;
    let found: Vec<PathBuf> = found.into_iter().flatten().collect();
    match found.is_empty() {
        true => {
            let problem = "no model is in the cache: `gogrid pull smollm2-135m`, or name one";
            Err(BadInput(problem.to_owned()).into())
        }
        false => Ok(found),
    }
}

/// The devices named; where none is, the cores in two halves, so that there is somewhere to move to.
fn halves(named: &[String]) -> anyhow::Result<Vec<Device>> {
    let names = match named {
        [] => {
            let cores = Device::named("cpu")?.cores().to_vec();
            if cores.len() < 2 {
                return Ok(vec![Device::named("cpu")?]);
            }
            let (front, back) = cores.split_at(cores.len() / 2);
            vec![name(front), name(back)]
        }
        named => named.to_vec(),
    };
    let devices = names.iter().map(|name| Device::named(name));
    Ok(devices.collect::<Result<_, _>>()?)
}

fn name(cores: &[usize]) -> String {
    let cores: Vec<_> = cores.iter().map(ToString::to_string).collect();
    format!("cpu:{}", cores.join(","))
}
