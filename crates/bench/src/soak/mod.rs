//! `gogrid bench soak`: hours of disorder in minutes. Callers ask and leave, limits change, stages
//! move, models come and go, files and callers fail; all the while what is held is held against the
//! limits in force. After each round everything comes to rest, and what is left is measured.

mod callers;
mod chance;
mod changes;
mod checks;
mod limits;
mod models;
mod plan;
mod report;
mod rest;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corpgrid_scheduler::{
    Device, HeterogeneousPipeline, Machine, MachineOptions, Options, Policy, ResourceConfig,
};

use crate::clock::{now, sleep};
use crate::error::BenchError;
use checks::{Checks, Extremes};
use limits::{CALLERS, ROUND};
use plan::Plan;
use report::Course;
pub use report::SoakReport;
use rest::{Held, Rest, come_to_rest};
use world::World;

/// What is soaked, for how long, and the seed of every choice.
#[derive(Clone, Debug)]
pub struct SoakOptions {
    /// The models, at least one: the first stays open, all are opened beside it.
    pub models: Vec<PathBuf>,
    /// The devices, at least one; between several, stages move.
    pub devices: Vec<Device>,
    /// How long; a round that has begun is finished.
    pub time: Duration,
    /// Decides all choices of all actors.
    pub seed: u64,
}

/// Between two looks at whether actors have ended.
const JOIN_EVERY: Duration = Duration::from_millis(20);
/// How long the allocator and threads that end are left alone after all was closed.
const CLOSED_FOR: Duration = Duration::from_millis(500);

/// Runs rounds until the time is over or `goes_on` says no; `progress` is told after each.
pub fn soak(
    options: &SoakOptions,
    goes_on: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(&str),
) -> Result<SoakReport, BenchError> {
    let first = Held::now();
    let began = now();
    let mut course = Course {
        seed: options.seed,
        first,
        ..Course::default()
    };
    let world = Arc::new(open(options)?);
    let watch = Watch::start(&world, options, first.resident_mib.unwrap_or(0.0))?;
    while now() - began < options.time && goes_on() {
        let at_rest = round(&world, options, course.rests.len() as u64)?;
        let held = Held::now();
        course.rests.push(Rest {
            at_s: (now() - began).as_secs_f64(),
            held,
        });
        course.seconds = (now() - began).as_secs_f64();
        progress(&course.line(&world.tally()));
        if !at_rest {
            // What does not end cannot be closed.
            return Ok(course.report(world.tally(), watch.last()));
        }
    }
    let extremes = watch.end();
    let tally = world.tally();
    drop(world);
    sleep(CLOSED_FOR);
    course.closed = Some(Held::now());
    Ok(course.report(tally, extremes))
}

fn open(options: &SoakOptions) -> Result<World, BenchError> {
    let machine = Machine::open(
        &options.devices,
        MachineOptions {
            limits: at_rest_limits(),
            policy: Policy::server(),
            ..MachineOptions::default()
        },
    )?;
    let machine = Arc::new(machine);
    let opened = HeterogeneousPipeline::open_on(&machine, &options.models[0], &Options::default())?;
    Ok(World::new(machine, Arc::new(opened)))
}

/// Limits under which everything that was asked comes to its end soon.
fn at_rest_limits() -> ResourceConfig {
    ResourceConfig {
        process_priority: 5,
        ..ResourceConfig::aggressive()
    }
}

/// Disorder, then rest; whether it came to rest.
fn round(world: &Arc<World>, options: &SoakOptions, number: u64) -> Result<bool, BenchError> {
    world.set_going(true);
    let plan = |actor| Plan::new(options.seed, number, actor);
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
    let (opener, models) = (plan(CALLERS as u64 + 1), options.models.clone());
    actors.push(start(world, "opener", move |world| {
        models::open_and_close(world, opener, &models);
    })?);
    sleep(ROUND);
    world.set_going(false);
    let ended = || actors.iter().all(JoinHandle::is_finished);
    let is_at_rest = come_to_rest(world, &at_rest_limits(), &ended);
    for actor in actors.into_iter().filter(JoinHandle::is_finished) {
        if actor.join().is_err() {
            world.fault("an actor of the soak panicked".to_owned());
        }
    }
    Ok(is_at_rest)
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

/// The thread of the checks.
struct Watch {
    goes_on: Arc<AtomicBool>,
    thread: JoinHandle<Extremes>,
}

impl Watch {
    fn start(
        world: &Arc<World>,
        options: &SoakOptions,
        first_mib: f64,
    ) -> Result<Self, BenchError> {
        let goes_on = Arc::new(AtomicBool::new(true));
        let cores = options.devices.iter().map(|d| d.cores().len()).collect();
        let (world, told) = (Arc::clone(world), Arc::clone(&goes_on));
        let thread = thread::Builder::new().name("soak checks".to_owned());
        let checks = move || Checks::new(&world, cores, first_mib).run(&told);
        let thread = thread.spawn(checks).map_err(BenchError::Thread)?;
        Ok(Self { goes_on, thread })
    }

    /// Waits for the last look.
    fn end(self) -> Extremes {
        self.goes_on.store(false, Ordering::Relaxed);
        while !self.thread.is_finished() {
            sleep(JOIN_EVERY);
        }
        self.thread.join().unwrap_or_default()
    }

    /// As far as it is, where it may never end.
    fn last(self) -> Extremes {
        self.goes_on.store(false, Ordering::Relaxed);
        let until = now() + Duration::from_secs(5);
        while !self.thread.is_finished() && now() < until {
            sleep(JOIN_EVERY);
        }
        match self.thread.is_finished() {
            true => self.thread.join().unwrap_or_default(),
            false => Extremes::default(),
        }
    }
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
