//! Changes while requests run: limits, pauses, moves, cancellations.

use std::time::Duration;

use corpgrid_scheduler::{ChangeError, OpenError, Settings};
use futures_executor::block_on;

use super::books::Operation;
use super::limits::CHANGE_STANDS;
use super::plan::{Change, Plan};
use super::watch::status;
use super::world::World;

/// Changes one thing after the other until the round ends.
pub(super) fn change(world: &World, mut plan: Plan, devices: usize) {
    while world.goes_on() {
        let change = plan.change();
        let name = change.name();
        let done = match change {
            Change::Move => relocate(world, &mut plan, devices),
            Change::WatchedFile(settings) => write_file(world, &settings),
            Change::BrokenFile(text) => spoil_file(world, text.as_deref()),
            change => make(world, change).map_err(|error| error.to_string()),
        };
        match done {
            Ok(()) => world.books.count_change(name),
            Err(problem) => world.books.fault(format!("{name}: {problem}")),
        }
        world.wait(plan.wait(CHANGE_STANDS, Duration::from_secs(2)));
    }
}

fn make(world: &World, change: Change) -> Result<(), ChangeError> {
    let machine = &world.machine;
    match change {
        Change::Limits(limits) => call(world, "new limits", machine.set_limits(limits)),
        Change::Settings(settings) => call(world, "new settings", machine.set_settings(*settings)),
        Change::TightMemory { times, time } => tighten(world, times, time),
        Change::Pause(time) => {
            call(world, "a pause", machine.pause())?;
            world.wait(time);
            call(world, "the end of a pause", machine.resume())
        }
        Change::Snooze(time) => {
            call(world, "a snooze", machine.snooze(time))?;
            world.wait(time);
            Ok(())
        }
        Change::Finish(time) => {
            call(world, "a finish", machine.finish())?;
            world.wait(time);
            call(world, "the end of a finish", machine.resume())
        }
        Change::CancelAll => {
            let first = world.first();
            call(world, "the end of all requests", async {
                if let Some(first) = &first {
                    first.cancel_all().await;
                }
                Ok(())
            })
        }
        Change::Move | Change::WatchedFile(_) | Change::BrokenFile(_) => Ok(()),
    }
}

/// Settings in the watched file are those in force once that is told.
fn write_file(world: &World, settings: &Settings) -> Result<(), String> {
    let _flight = world
        .books
        .begin(Operation::Change, "settings in the watched file");
    world.watched.write(settings)?;
    in_force(world, settings)
}

/// A file that is broken or gone changes nothing. One that is gone is written again.
fn spoil_file(world: &World, text: Option<&str>) -> Result<(), String> {
    let before = world.machine.settings();
    let what = "a watched file that is broken";
    let _flight = world.books.begin(Operation::Change, what);
    world.watched.spoil(text)?;
    in_force(world, &before)?;
    match text {
        Some(_) => Ok(()),
        None => world.watched.write(&before),
    }
}

fn in_force(world: &World, asked: &Settings) -> Result<(), String> {
    let held = world.machine.settings();
    match held == *asked {
        true => Ok(()),
        false => Err(format!("{held:?} in force, not {asked:?}")),
    }
}

/// Waits for a change, in sight of the wall clock.
fn call(
    world: &World,
    what: &str,
    change: impl Future<Output = Result<(), ChangeError>>,
) -> Result<(), ChangeError> {
    let _flight = world.books.begin(Operation::Change, what);
    block_on(change)
}

/// A memory cap at so many times what is held, for so long, so that most requests find room.
fn tighten(world: &World, times: f64, time: Duration) -> Result<(), ChangeError> {
    let memory = status(world).memories[0].clone();
    let before = world.machine.settings().limits;
    let mut limits = before.clone();
    let share = memory.used_bytes as f64 * times / memory.total_bytes as f64;
    limits.max_vram_usage_percent = share.min(1.0);
    call(world, "tight memory", world.machine.set_limits(limits))?;
    world.wait(time);
    call(world, "memory as before", world.machine.set_limits(before))
}

/// Moves the first model's stages. There may be no room for both the old stages and the new ones.
fn relocate(world: &World, plan: &mut Plan, devices: usize) -> Result<(), String> {
    let Some(first) = world.first() else {
        return Ok(());
    };
    let pieces = first.stages().last().map_or(0, |last| last.span.end);
    let stages = plan.stages(pieces, devices);
    let flight = world
        .books
        .begin(Operation::Move, format!("a move to {stages:?}"));
    let moved = block_on(first.move_to(stages));
    drop(flight);
    match moved {
        Ok(()) => Ok(()),
        Err(OpenError::NotMoved(_) | OpenError::DoesNotFit(_)) => {
            world.books.count_change("moves refused");
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}
