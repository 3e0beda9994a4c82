//! Models opened and closed beside the first, and files that are no models or bad ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corpgrid_scheduler::{
    GenerateError, HeterogeneousPipeline, Machine, MachineOptions, OpenError, Options, Policy,
};

use super::SoakOptions;
use super::books::Operation;
use super::callers;
use super::files::{self, TemporaryFile};
use super::plan::Plan;
use super::world::World;

const SOME: Duration = Duration::from_secs(1);
const MORE: Duration = Duration::from_secs(4);
/// Rounds in a hundred in which nothing is opened: the system's account of the time that is taken is
/// compared while nothing loads.
const QUIET_ROUNDS: usize = 40;

/// Opens a second model and closes it again, with requests under way, until the round ends.
pub(super) fn open_and_close(world: &World, mut plan: Plan, options: &SoakOptions) {
    if plan.happens(QUIET_ROUNDS) {
        return;
    }
    let models = &options.models;
    while world.goes_on() {
        world.wait(plan.wait(SOME, MORE));
        let path = &models[usize::from(plan.happens(50)) % models.len()];
        if plan.happens(20) {
            open_broken(world, &mut plan, path);
            continue;
        }
        if plan.happens(15) {
            // The first is the smallest, and is copied for it.
            open_hostile(world, &mut plan, &models[0]);
            continue;
        }
        let opened = match plan.happens(20) {
            true => open_alone(world, path, options),
            false => open_beside(world, &mut plan, path, models),
        };
        match opened {
            Ok(pipeline) => world.replace_second(Some(pipeline)),
            Err(OpenError::DoesNotFit(_)) => world.books.count_change("models that did not fit"),
            Err(error) => {
                let problem = format!("opening {}: {error}", path.display());
                world.books.fault(problem);
            }
        }
        world.wait(plan.wait(SOME, MORE));
        world.replace_second(None);
        world.replace_beside(None);
    }
}

/// On the machine of the first model.
fn open_beside(
    world: &World,
    plan: &mut Plan,
    path: &PathBuf,
    models: &[PathBuf],
) -> Result<HeterogeneousPipeline, OpenError> {
    let first = world.first();
    let stages = first.as_ref().map(|first| first.stages());
    let last = stages.as_deref().and_then(|stages| stages.last());
    let pieces = last.map_or(0, |last| last.span.end);
    // The pieces of another model are not known before it is open.
    let is_placed = pieces > 0 && path == &models[0] && plan.happens(50);
    let options = Options {
        context: plan.happens(30).then_some(512),
        plan: is_placed.then(|| plan.stages(pieces, 1)),
        ..Options::default()
    };
    let _flight = world.books.begin(Operation::Open, opening(path));
    let pipeline = HeterogeneousPipeline::open_on(&world.machine, path, &options)?;
    world.books.count_change("models opened");
    Ok(pipeline)
}

/// On a machine of its own, which shares the caps with the other as two processes do.
fn open_alone(
    world: &World,
    path: &Path,
    soak: &SoakOptions,
) -> Result<HeterogeneousPipeline, OpenError> {
    let options = MachineOptions {
        limits: world.machine.settings().limits,
        policy: Policy::server(),
        ..MachineOptions::default()
    };
    let _flight = world.books.begin(Operation::Open, opening(path));
    let machine = Arc::new(Machine::open(&soak.devices, options)?);
    // What it leases counts from the beginning.
    world.replace_beside(Some(Arc::clone(&machine)));
    let pipeline = HeterogeneousPipeline::open_on(&machine, path, &Options::default())?;
    world.books.count_change("models opened alone");
    Ok(pipeline)
}

fn opening(path: &Path) -> String {
    format!("{} that opens", path.display())
}

/// A file that ends early or was overwritten is refused as what it is.
fn open_broken(world: &World, plan: &mut Plan, path: &Path) {
    // Without room on the disk there is nothing to open.
    let Ok(file) = files::broken(plan, path) else {
        return world.books.count_change("files that could not be written");
    };
    match open_file(world, &file) {
        Err(OpenError::Model(_)) => world.books.count_change("broken files refused"),
        Err(error) => world.books.fault(format!("a broken file: {error}")),
        Ok(_) => world.books.fault("a broken file was opened".to_owned()),
    }
}

/// A template that asks for too much is refused, when it is read or when it is used.
fn open_hostile(world: &World, plan: &mut Plan, path: &Path) {
    let Ok(file) = files::with_hostile_template(plan, path) else {
        return world.books.count_change("files that could not be written");
    };
    let outcome = match open_file(world, &file) {
        Ok(pipeline) => match callers::chat(world, pipeline, plan.short_chat()) {
            Ok(outcome) if outcome.starts_with("refused") => "hostile templates refused",
            // Its model closes meanwhile.
            Ok(_) | Err(GenerateError::Stopped) => "hostile templates that wrote a chat",
            Err(error) => return world.books.fault(format!("a hostile template: {error}")),
        },
        Err(OpenError::Model(_)) => "hostile templates refused",
        Err(OpenError::DoesNotFit(_)) => "models that did not fit",
        Err(error) => return world.books.fault(format!("a hostile template: {error}")),
    };
    world.books.count_change(outcome);
}

fn open_file(world: &World, file: &TemporaryFile) -> Result<HeterogeneousPipeline, OpenError> {
    let _flight = world
        .books
        .begin(Operation::Open, "a broken or hostile file that opens");
    HeterogeneousPipeline::open_on(&world.machine, file.path(), &Options::default())
}
