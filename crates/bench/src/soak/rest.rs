//! Rest: what was asked ends, what was opened closes, and what is left is measured.

use std::time::Duration;

use corpgrid_scheduler::{ChangeError, MachineStatus};
use futures_executor::block_on;
use gogrid_host::{heap_in_use, own_counts, return_freed_blocks};
use serde::Serialize;

use super::books::Operation;
use super::checks::MIB;
use super::limits::REST_MAX;
use super::watch::{resident_mib, status};
use super::within;
use super::world::World;
use crate::clock::sleep;

/// Looks at what is left, of which the least counts: blocks are freed and threads end a moment after
/// the last answer, and other threads of the soak allocate meanwhile.
const LOOKS: usize = 6;
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// What the process has at one moment; `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Held {
    pub(super) resident_mib: Option<f64>,
    /// Blocks that were asked for and not freed: resident bytes also grow where these do not, by what
    /// lies between them.
    pub(super) heap_mib: Option<f64>,
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
            heap_mib: heap_in_use().map(|bytes| bytes.0 as f64 / MIB),
            descriptors: counts.map(|counts| counts.descriptors),
            threads: counts.map(|counts| counts.threads),
        }
    }

    /// The least of several looks, before each of which the allocator gives back what it keeps: that is
    /// as scattered as what went before, and no leak.
    pub(super) fn settled() -> Self {
        let look = || {
            sleep(BETWEEN_LOOKS);
            return_freed_blocks();
            Self::now()
        };
        let looks: Vec<Self> = (0..LOOKS).map(|_| look()).collect();
        let least =
            |of: fn(&Self) -> Option<f64>| looks.iter().filter_map(of).min_by(f64::total_cmp);
        Self {
            resident_mib: least(|held| held.resident_mib),
            heap_mib: least(|held| held.heap_mib),
            descriptors: looks.iter().filter_map(|held| held.descriptors).min(),
            threads: looks.iter().filter_map(|held| held.threads).min(),
        }
    }
}

/// Lets work go on, waits until actors have ended, and closes both models. `None`, with a fault that
/// says why, where that does not come about.
pub(super) fn come_to_rest(world: &World, ended: &dyn Fn() -> bool) -> Option<Held> {
    let come = let_work_go_on(world)
        .map_err(|error| error.to_string())
        .and_then(|()| wait_for_actors(ended))
        .and_then(|()| close_second(world))
        .and_then(|()| close_first(world));
    match come {
        Ok(()) => Some(Held::settled()),
        Err(problem) => {
            world.books.fault(format!("coming to rest: {problem}"));
            None
        }
    }
}

fn let_work_go_on(world: &World) -> Result<(), ChangeError> {
    let _flight = world.books.begin(Operation::Change, "work that goes on");
    block_on(async {
        world.machine.resume().await?;
        world.machine.set_limits(world.at_rest_limits()).await
    })
}

fn wait_for_actors(ended: &dyn Fn() -> bool) -> Result<(), String> {
    match within(REST_MAX, ended) {
        true => Ok(()),
        false => Err("a caller, a change or an opening does not end".to_owned()),
    }
}

/// Requests give everything back while their model is open, not only when it closes.
fn close_second(world: &World) -> Result<(), String> {
    world.replace_second(None);
    until(world, "one model is open and idle", &|status| {
        status.models.len() == 1 && is_idle(status)
    })
}

fn close_first(world: &World) -> Result<(), String> {
    world.replace_first(None);
    until(world, "nothing is open and leased", &|status| {
        status.models.is_empty() && status.memories.iter().all(|memory| memory.used_bytes == 0)
    })
}

fn until(world: &World, what: &str, is_so: &dyn Fn(&MachineStatus) -> bool) -> Result<(), String> {
    if within(REST_MAX, &|| is_so(&status(world))) {
        return Ok(());
    }
    let status = status(world);
    let requests: usize = status
        .models
        .iter()
        .map(|model| model.queued + model.running)
        .sum();
    Err(format!(
        "it does not come about that {what}: {} models, {requests} requests, {} bytes of keys and values, {} bytes leased",
        status.models.len(),
        kv_bytes(&status),
        status.memories[0].used_bytes,
    ))
}

/// Whether nothing is held for requests.
fn is_idle(status: &MachineStatus) -> bool {
    let mut models = status.models.iter();
    models.all(|model| model.queued + model.running == 0) && kv_bytes(status) == 0
}

fn kv_bytes(status: &MachineStatus) -> u64 {
    status.devices.iter().map(|device| device.kv_bytes).sum()
}
