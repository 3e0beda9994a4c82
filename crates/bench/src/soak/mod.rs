//! `gogrid bench soak`: hours of disorder in minutes. Callers ask and leave, limits change, stages
//! move, models come and go, files and callers fail; all the while what is held is held against the
//! limits in force. After each round everything comes to rest, and what is left is measured. A call
//! that does not come back ends the soak.

mod books;
mod callers;
mod chance;
mod changes;
mod checks;
mod files;
mod limits;
mod models;
mod plan;
mod report;
mod rest;
mod watch;
mod watched;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corpgrid_scheduler::{Device, HeterogeneousPipeline, Machine, MachineOptions, Options, Policy};
use futures_executor::block_on;
use gogrid_host::threads_keep_blocks;

use crate::clock::{now, sleep};
use crate::error::BenchError;
use books::{Books, Operation};
use limits::{CALLERS, CLOCK_LOOKS, LINES_MAX, ROUND};
use plan::{NICE_LEAST, Plan};
pub use report::SoakReport;
use rest::{Held, Rest, come_to_rest};
use watch::Watch;
use watched::Watched;
use world::{World, at_rest_limits};

/// What is soaked, for how long, and the seed of every choice.
#[derive(Clone, Debug)]
pub struct SoakOptions {
    /// The models, at least one: the first is open in every round, all are opened beside it.
    pub models: Vec<PathBuf>,
    /// The devices, at least one; between several, stages move.
    pub devices: Vec<Device>,
    /// How long; a round that has begun is finished.
    pub time: Duration,
    /// Decides all choices of all actors.
    pub seed: u64,
}

/// Between two looks at whether something has come about.
const JOIN_EVERY: Duration = Duration::from_millis(20);

/// Runs rounds until the time is over or `goes_on` says no; `progress` is told after each. Returns at
/// once, with the report as far as it goes, when a call is over its bound; that call still waits on a
/// thread of its own, so the process is to end then.
pub fn soak(
    options: &SoakOptions,
    goes_on: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(&str),
) -> Result<SoakReport, BenchError> {
    let books = Arc::new(Books::default());
    let is_over = Arc::new(AtomicBool::new(false));
    let (lines, told) = sync_channel(LINES_MAX);
    let rounds = Rounds {
        options: options.clone(),
        books: Arc::clone(&books),
        is_over: Arc::clone(&is_over),
        lines,
    };
    let thread = thread::Builder::new().name("soak rounds".to_owned());
    let thread = thread
        .spawn(move || rounds.run())
        .map_err(BenchError::Thread)?;
    let mut ask = || {
        if !goes_on() {
            is_over.store(true, Ordering::Relaxed);
        }
    };
    if keep_time(&books, &told, &mut ask, progress) {
        match thread.join() {
            Ok(ended) => ended?,
            Err(_) => books.fault("the soak's own rounds panicked".to_owned()),
        }
    }
    Ok(books.report())
}

/// The wall clock. It calls nothing that may wait for the machine. Whether the rounds came to an end;
/// false at once when an operation is over its bound.
fn keep_time(
    books: &Books,
    told: &Receiver<String>,
    look: &mut dyn FnMut(),
    progress: &mut dyn FnMut(&str),
) -> bool {
    loop {
        match told.recv_timeout(CLOCK_LOOKS) {
            Ok(line) => progress(&line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return true,
        }
        look();
        if books.count_stuck(now()) {
            return false;
        }
    }
}

/// The thread that has one round follow the other.
struct Rounds {
    options: SoakOptions,
    books: Arc<Books>,
    is_over: Arc<AtomicBool>,
    lines: SyncSender<String>,
}

impl Rounds {
    fn run(self) -> Result<(), BenchError> {
        let (began, first) = (now(), Held::settled());
        self.books.advance(|course| {
            course.seed = self.options.seed;
            course.first = first;
            course.heap_is_exact = !threads_keep_blocks();
        });
        let world = Arc::new(open(&self.options, &self.books)?);
        // A GPU's time counts as that of one core.
        let cores = self
            .options
            .devices
            .iter()
            .map(|device| device.cores().len().max(1));
        let watch = Watch::start(&world, cores.collect())?;
        let came_to_rest = self.rounds(&world, began)?;
        if !watch.end() {
            self.books
                .fault("a look at the machine panicked".to_owned());
        }
        let flight = self
            .books
            .begin(Operation::Close, "the machine that closes");
        drop(world);
        drop(flight);
        if came_to_rest {
            let closed = Held::settled();
            self.books.advance(|course| course.closed = Some(closed));
        }
        Ok(())
    }

    /// Whether each came to rest.
    fn rounds(&self, world: &Arc<World>, began: Instant) -> Result<bool, BenchError> {
        let mut number = 0;
        while now() - began < self.options.time && !self.is_over.load(Ordering::Relaxed) {
            let held = round(world, &self.options, number)?;
            let at_s = (now() - began).as_secs_f64();
            let line = self.books.advance(|course| {
                course.seconds = at_s;
                course.rests.extend(held.map(|held| Rest { at_s, held }));
            });
            // The wall clock may have ended the soak; then nobody is told.
            let _ = self.lines.send(line);
            if held.is_none() {
                return Ok(false);
            }
            number += 1;
        }
        Ok(true)
    }
}

fn open(options: &SoakOptions, books: &Arc<Books>) -> Result<World, BenchError> {
    let flight = books.begin(Operation::Open, "the machine that opens");
    let machine = Machine::open(
        &options.devices,
        MachineOptions {
            limits: at_rest_limits(NICE_LEAST),
            policy: Policy::server(),
            ..MachineOptions::default()
        },
    )?;
    drop(flight);
    let flight = books.begin(Operation::Status, "the first question for the status");
    let threads = block_on(machine.status()).threads;
    drop(flight);
    // An ordinary user's threads never come below the nice value that the process began with.
    let least_nice = threads.iter().filter_map(|thread| thread.nice).max();
    let least_nice = least_nice.unwrap_or(NICE_LEAST).max(NICE_LEAST);
    let machine = Arc::new(machine);
    let watched = Watched::start(&machine, &machine.settings()).map_err(BenchError::Watched)?;
    let world = World::new(machine, Arc::clone(books), watched, least_nice);
    let flight = books.begin(Operation::Change, "the first limits");
    block_on(world.machine.set_limits(world.at_rest_limits()))?;
    drop(flight);
    Ok(world)
}

/// Opens the first model; disorder; rest, and what is left then. `None` if it did not come to rest.
fn round(
    world: &Arc<World>,
    options: &SoakOptions,
    number: u64,
) -> Result<Option<Held>, BenchError> {
    let path = &options.models[0];
    let flight = world
        .books
        .begin(Operation::Open, "the first model that opens");
    let first = HeterogeneousPipeline::open_on(&world.machine, path, &Options::default())?;
    drop(flight);
    world.replace_first(Some(first));
    world.set_going(true);
    let actors = start_actors(world, options, number)?;
    sleep(ROUND);
    world.set_going(false);
    let ended = || actors.iter().all(JoinHandle::is_finished);
    let held = come_to_rest(world, &ended);
    for actor in actors.into_iter().filter(JoinHandle::is_finished) {
        if actor.join().is_err() {
            world
                .books
                .fault("an actor of the soak panicked".to_owned());
        }
    }
    Ok(held)
}

fn start_actors(
    world: &Arc<World>,
    options: &SoakOptions,
    number: u64,
) -> Result<Vec<JoinHandle<()>>, BenchError> {
    let plan = |actor| Plan::new(options.seed, number, actor).with_least_nice(world.least_nice);
    let mut actors = Vec::new();
    for caller in 0..CALLERS as u64 {
        let plan = plan(caller);
        actors.push(start(world, "caller", move |world| {
            callers::call(world, plan)
        })?);
    }
    let (changes, devices) = (plan(CALLERS as u64), options.devices.len());
    actors.push(start(world, "changer", move |world| {
        changes::change(world, changes, devices);
    })?);
    let (opener, options) = (plan(CALLERS as u64 + 1), options.clone());
    actors.push(start(world, "opener", move |world| {
        models::open_and_close(world, opener, &options);
    })?);
    Ok(actors)
}

fn start(
    world: &Arc<World>,
    name: &str,
    body: impl FnOnce(&World) + Send + 'static,
) -> Result<JoinHandle<()>, BenchError> {
    let world = Arc::clone(world);
    let thread = thread::Builder::new().name(format!("soak {name}"));
    thread
        .spawn(move || body(&world))
        .map_err(BenchError::Thread)
}

/// Whether `done` comes true in time.
fn within(time: Duration, done: &dyn Fn() -> bool) -> bool {
    let until: Instant = now() + time;
    while !done() {
        if now() > until {
            return false;
        }
        sleep(JOIN_EVERY);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_returns_while_a_call_waits_for_ever() {
        let (books, (_lines, told)) = (Books::default(), sync_channel(1));
        let _flight = books.begin_long_ago(Operation::Change, "a change that waits for ever");
        assert!(!keep_time(&books, &told, &mut || {}, &mut |_| {}));
        let report = books.report();
        assert_eq!(report.faults(), 1);
        assert!(report.table().contains("a change that waits for ever"));
    }

    #[test]
    fn the_wall_clock_tells_lines_until_the_rounds_end() {
        let (books, (lines, told)) = (Books::default(), sync_channel(1));
        let mut heard = Vec::new();
        lines.send("round 1".to_owned()).unwrap();
        let mut lines = Some(lines);
        let mut end = || drop(lines.take());
        assert!(keep_time(&books, &told, &mut end, &mut |line| heard
            .push(line.to_owned())));
        assert_eq!(heard, ["round 1"]);
    }
}
