//! The thread that looks at what is held, again and again, and has it checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use corpgrid_scheduler::MachineStatus;
use futures_executor::block_on;
use gogrid_host::{process_cpu_time, resident};

use super::JOIN_EVERY;
use super::books::Operation;
use super::checks::{Checks, MIB, Sample};
use super::limits::LOOK_EVERY;
use super::world::World;
use crate::clock::{now, sleep};
use crate::error::BenchError;

/// The thread of the looks.
pub(super) struct Watch {
    goes_on: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(world: &Arc<World>, cores: Vec<usize>) -> Result<Self, BenchError> {
        let goes_on = Arc::new(AtomicBool::new(true));
        let (world, told) = (Arc::clone(world), Arc::clone(&goes_on));
        let look = move || watch(&world, Checks::new(cores), &told);
        let thread = thread::Builder::new().name("soak checks".to_owned());
        let thread = thread.spawn(look).map_err(BenchError::Thread)?;
        Ok(Self { goes_on, thread })
    }

    /// Waits for the last look; whether none of them panicked.
    pub(super) fn end(self) -> bool {
        self.goes_on.store(false, Ordering::Relaxed);
        while !self.thread.is_finished() {
            sleep(JOIN_EVERY);
        }
        self.thread.join().is_ok()
    }
}

fn watch(world: &World, mut checks: Checks, goes_on: &AtomicBool) {
    let (began, mut failures) = (now(), 0);
    while goes_on.load(Ordering::Relaxed) {
        let status = status(world);
        for failure in status.failures.iter().skip(failures) {
            world.books.fault(failure.to_string());
        }
        failures = status.failures.len();
        if let Some(sample) = sample(world, status, began) {
            let faults = checks.take(sample);
            faults
                .into_iter()
                .for_each(|fault| world.books.fault(fault));
            world.books.set_extremes(checks.extremes());
        }
        sleep(LOOK_EVERY);
    }
}

/// The status of the machine under test.
pub(super) fn status(world: &World) -> MachineStatus {
    let _flight = world
        .books
        .begin(Operation::Status, "a question for the status");
    block_on(world.machine.status())
}

/// The status of the second machine, where there is one.
fn status_beside(world: &World) -> Option<MachineStatus> {
    let machine = world.beside()?;
    let what = "a question for the status of a second machine";
    // Dropped after the machine, which this may be the last to hold.
    let _flight = world.books.begin(Operation::Status, what);
    let status = block_on(machine.status());
    drop(machine);
    Some(status)
}

/// `None` where the system does not tell how much of the CPU was taken.
fn sample(world: &World, status: MachineStatus, began: Instant) -> Option<Sample> {
    let beside = status_beside(world);
    let all = || std::iter::once(&status).chain(beside.as_ref());
    world.books.spent();
    // The soak's own time first: what is taken in between counts as the devices'.
    let own_cpu_s = world.books.own_cpu_s();
    let cpu_s = process_cpu_time().ok()?.as_secs_f64() - own_cpu_s;
    Some(Sample {
        at_s: (now() - began).as_secs_f64(),
        asked_at_s: status.at_s,
        used: status.memories[0].used_bytes,
        cap: status.memories[0].cap_bytes,
        leased: all().map(|status| status.memories[0].used_bytes).sum(),
        share: status.ruling.compute_share,
        share_of_all: all().map(|status| status.ruling.compute_share).sum(),
        busy_s: status.devices.iter().map(|device| device.busy_s).collect(),
        cpu_s,
        loads: world.books.loads(),
        models: all().map(|status| status.models.len()).sum(),
        resident_mib: resident_mib(),
        floor_mib: world.books.floor_mib(),
        not_held: all()
            .flat_map(|status| status.not_enforced.clone())
            .collect(),
    })
}

/// Resident MiB of this process that no file backs, where the system tells.
pub(super) fn resident_mib() -> Option<f64> {
    resident()
        .ok()
        .map(|resident| resident.anonymous.0 as f64 / MIB)
}
