//! Changes while requests run: limits, pauses, moves, cancellations.

use std::time::Duration;

use corpgrid_scheduler::{ChangeError, OpenError};
use futures_executor::block_on;

use super::limits::CHANGE_STANDS;
use super::plan::{Change, Plan};
use super::world::World;

/// Changes one thing after the other until the round ends.
pub(super) fn change(world: &World, mut plan: Plan, devices: usize) {
    while world.goes_on() {
        let change = plan.change();
        let name = change.name();
        let done = match change {
            Change::Move => relocate(world, &mut plan, devices),
            change => block_on(make(world, change)).map_err(|error| error.to_string()),
        };
        match done {
            Ok(()) => world.count_change(name),
            Err(problem) => world.fault(format!("{name}: {problem}")),
        }
        world.wait(plan.wait(CHANGE_STANDS, Duration::from_secs(2)));
    }
}

async fn make(world: &World, change: Change) -> Result<(), ChangeError> {
    let machine = &world.machine;
    match change {
        Change::Limits(limits) => machine.set_limits(limits).await,
        Change::Settings(settings) => machine.set_settings(*settings).await,
        Change::TightMemory(times) => {
            let memory = machine.status().await.memories[0].clone();
            let mut limits = machine.settings().limits;
            let share = memory.used_bytes as f64 * times / memory.total_bytes as f64;
            limits.max_vram_usage_percent = share.min(1.0);
            machine.set_limits(limits).await
        }
        Change::Pause(time) => {
            machine.pause().await?;
            world.wait(time);
            machine.resume().await
        }
        Change::Snooze(time) => {
            machine.snooze(time).await?;
            world.wait(time);
            Ok(())
        }
        Change::Finish(time) => {
            machine.finish().await?;
            world.wait(time);
            machine.resume().await
        }
        Change::CancelAll => {
            world.first.cancel_all().await;
            Ok(())
        }
        Change::Move => Ok(()),
    }
}

/// Moves the first model's stages. There may be no room for both the old stages and the new ones.
fn relocate(world: &World, plan: &mut Plan, devices: usize) -> Result<(), String> {
    let pieces = world.first.stages().last().map_or(0, |last| last.span.end);
    let stages = plan.stages(pieces, devices);
    match block_on(world.first.move_to(stages)) {
        Ok(()) => Ok(()),
        Err(OpenError::NotMoved(_) | OpenError::DoesNotFit(_)) => {
            world.count_change("moves refused");
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}
