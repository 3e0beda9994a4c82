//! Rest: what was asked ends, what was opened closes, and what is left is measured.

use std::time::Duration;

use corpgrid_scheduler::{PlacedSpan, ResourceConfig, Span};
use futures_executor::block_on;
use gogrid_host::{own_counts, return_freed_blocks};
use serde::Serialize;

use super::checks::resident_mib;
use super::limits::REST_MAX;
use super::within;
use super::world::World;
use crate::clock::sleep;

/// How long a machine at rest is left alone before it is measured: blocks are freed and threads end a
/// moment after the last answer.
const QUIET: Duration = Duration::from_millis(500);

/// What the process has at one moment; `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Held {
    pub(super) resident_mib: Option<f64>,
    pub(super) descriptors: Option<usize>,
    pub(super) threads: Option<usize>,
}

/// What was left after a round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    /// Seconds since the beginning.
    pub(super) at_s: f64,
    pub(super) held: Held,
}

impl Held {
    pub(super) fn now() -> Self {
        let counts = own_counts();
        Self {
            resident_mib: resident_mib(),
            descriptors: counts.map(|counts| counts.descriptors),
            threads: counts.map(|counts| counts.threads),
        }
    }
}

/// Lets work go on, waits until actors have ended and nothing is held for requests, closes the second
/// model, and opens the first one's stages anew in one place. False, with a fault that says why, where that does not come about.
pub(super) fn come_to_rest(
    world: &World,
    limits: &ResourceConfig,
    ended: &dyn Fn() -> bool,
) -> bool {
    let machine = &world.machine;
    let set = block_on(async {
        machine.resume().await?;
        machine.set_limits(limits.clone()).await
    });
    if let Err(error) = set {
        world.fault(format!("coming to rest: {error}"));
        return false;
    }
    if !within(REST_MAX, ended) {
        world.fault("coming to rest: a caller, a change or an opening does not end".to_owned());
        return false;
    }
    world.replace_second(None);
    let is_idle = || block_on(idle(world));
    if !within(REST_MAX, &is_idle) {
        let status = block_on(machine.status());
        let held: u64 = status.devices.iter().map(|device| device.kv_bytes).sum();
        let models = status.models.iter();
        let requests: usize = models.map(|model| model.queued + model.running).sum();
        world.fault(format!(
            "at rest: {} models, {requests} requests, {held} bytes of keys and values",
            status.models.len()
        ));
        return false;
    }
    // Anew and always in one place, so that what is resident can be held against the rest before.
    let pieces = world.first.stages().last().map_or(0, |last| last.span.end);
    let place = PlacedSpan {
        device: 0,
        span: Span::new(0, pieces),
    };
    if let Err(error) = block_on(world.first.move_to(vec![place])) {
        world.fault(format!("coming to rest: {error}"));
        return false;
    }
    sleep(QUIET);
    // What the allocator keeps of freed blocks is as scattered as what went before, and no leak.
    return_freed_blocks();
    true
}

/// Whether one model is open, and nothing is held for requests.
async fn idle(world: &World) -> bool {
    let status = world.machine.status().await;
    let [model] = &status.models[..] else {
        return false;
    };
    let kv_bytes: u64 = status.devices.iter().map(|device| device.kv_bytes).sum();
    model.queued + model.running == 0 && kv_bytes == 0
}
