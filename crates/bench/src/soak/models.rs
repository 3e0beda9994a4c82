//! Models opened and closed beside the first, and files that are no models.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corpgrid_scheduler::{HeterogeneousPipeline, OpenError, Options};

use super::plan::Plan;
use super::world::World;

/// Bytes that a broken file has of the model's.
const BROKEN_BYTES: u64 = 256 << 10;

/// Opens a second model and closes it again, with requests under way, until the round ends.
pub(super) fn open_and_close(world: &World, mut plan: Plan, models: &[PathBuf]) {
    let (some, more) = (Duration::from_secs(1), Duration::from_secs(4));
    while world.goes_on() {
        world.wait(plan.wait(some, more));
        let path = &models[usize::from(plan.happens(50)) % models.len()];
        if plan.happens(25) {
            open_broken(world, &mut plan, path);
            continue;
        }
        let pieces = world.first.stages().last().map_or(0, |last| last.span.end);
        let is_first = path == &models[0];
        let options = Options {
            context: plan.happens(30).then_some(512),
            // The pieces of another model are not known before it is open.
            plan: (is_first && plan.happens(50)).then(|| plan.stages(pieces, 1)),
            ..Options::default()
        };
        match HeterogeneousPipeline::open_on(&world.machine, path, &options) {
            Ok(pipeline) => {
                world.replace_second(Some(pipeline));
                world.count_change("models opened");
            }
            Err(OpenError::DoesNotFit(_)) => world.count_change("models that did not fit"),
            Err(error) => world.fault(format!("opening {}: {error}", path.display())),
        }
        world.wait(plan.wait(some, more));
        world.replace_second(None);
    }
}

/// A file that ends early or was overwritten is refused as what it is.
fn open_broken(world: &World, plan: &mut Plan, path: &Path) {
    let copy = std::env::temp_dir().join(format!("gogrid-soak-{}", std::process::id()));
    let written = broken(plan, path).and_then(|bytes| fs::write(&copy, bytes));
    if written.is_ok() {
        let opened = HeterogeneousPipeline::open_on(&world.machine, &copy, &Options::default());
        match opened {
            Err(OpenError::Model(_)) => world.count_change("broken files refused"),
            Err(error) => world.fault(format!("a broken file: {error}")),
            Ok(_) => world.fault("a broken file was opened".to_owned()),
        }
    }
    // It may not be there.
    let _ = fs::remove_file(&copy);
}

/// The model's first bytes, a few of them others.
fn broken(plan: &mut Plan, path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(BROKEN_BYTES)
        .read_to_end(&mut bytes)?;
    plan.spoil(&mut bytes);
    Ok(bytes)
}
