//! Runs steps through the stages of one pipeline, each driven by its device's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use gogrid_lease::{Permit, Permits};
use gogrid_units::{Span, Whose};

use crate::driver::{DeviceDriver, DriverStage};
use crate::line::{
    FLIGHTS_MAX, Flight, LINES_MAX, Line, Mailbox, Message, RELEASES_MAX, Release, ReleasePlace,
    STAGES_MAX, Stop, Take, TakenStage,
};
use crate::spares::{Spares, spares};
use crate::stage::{Stage, StageError};
use crate::step::{BlockId, OutputBuf, Rows, Step};

/// A stage with its place: which device drives it, and which pieces it runs.
pub struct PlacedStage {
    /// Index of the device; stages with one index share a driver thread.
    pub device: usize,
    /// The pieces.
    pub span: Span,
    /// The stage.
    pub stage: Box<dyn Stage>,
}

/// A step to run, with what goes into the first stage.
#[derive(Debug)]
pub struct Job {
    /// The caller's own number; comes back in [`Finished`].
    pub id: u64,
    /// Rows, positions, block tables.
    pub step: Arc<Step>,
    /// As many as the step has.
    pub rows: Rows,
    /// Whose it is: a guest's, where one of its sequences is.
    pub whose: Whose,
}

/// The end of a job.
#[derive(Debug)]
pub struct Finished {
    /// The job's number.
    pub id: u64,
    /// What the last stage gave, or which stage failed.
    pub result: Result<OutputBuf, StageFailure>,
}

/// Which stage failed, where, and why.
#[derive(Debug, thiserror::Error)]
#[error("stage {stage} ({span}) on device {device}: {error}")]
pub struct StageFailure {
    /// Index of the stage in the pipeline.
    pub stage: usize,
    /// Index of its device.
    pub device: usize,
    /// Its pieces.
    pub span: Span,
    /// What happened.
    pub error: StageError,
}

/// Why stages could not be put on their drivers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// A device drives as many pipelines as it may.
    #[error("device {device} drives {LINES_MAX} pipelines already")]
    TooManyPipelines {
        /// Index of the device.
        device: usize,
    },
    /// More stages than a pipeline may have.
    #[error("{stages} stages; a pipeline has 1 to {STAGES_MAX}")]
    Stages {
        /// Stages that were given.
        stages: usize,
    },
}

/// What a runner calls, on a driver's thread, or on the thread that submits or releases where the
/// driver is gone; neither may block. A panic in one ends the driver.
#[derive(Clone)]
pub struct Hooks {
    /// With each job's end.
    pub finished: Arc<dyn Fn(Finished) + Send + Sync>,
    /// When a release that was given back finds a place.
    pub has_room: Arc<dyn Fn() + Send + Sync>,
}

/// The stages of one pipeline in a row, on their drivers. Dropping it takes them off after the step
/// each is in; jobs still in flight end with [`StageError::Abandoned`].
pub struct Runner {
    line: Arc<Line>,
    /// One for each distinct device, with its place there.
    drivers: Vec<LineOnDriver>,
    spares: Spares,
}

struct LineOnDriver {
    mailbox: Arc<Mailbox>,
    /// Places for releases in its channel.
    releases: Permits,
    place: Permit,
}

/// Numbers lines, so that drivers tell them apart.
static LINES_MADE: AtomicU64 = AtomicU64::new(0);

impl Runner {
    /// Puts `stages`, which are in pipeline order, on the drivers of their devices: `drivers[i]` is
    /// that of device `i`. As many jobs may be in flight as the stages' depths add up to.
    ///
    /// # Errors
    /// When a device has no place for another pipeline, or there are no stages or too many; the
    /// stages are dropped.
    pub fn open(
        stages: Vec<PlacedStage>,
        drivers: &[&DeviceDriver],
        hooks: Hooks,
    ) -> Result<Self, RunnerError> {
        if !(1..=STAGES_MAX).contains(&stages.len()) {
            let stages = stages.len();
            return Err(RunnerError::Stages { stages });
        }
        let depth: usize = stages.iter().map(|placed| placed.stage.depth()).sum();
        let stop = |placed: &PlacedStage| Stop {
            device: placed.device,
            span: placed.span,
            driver: Arc::clone(drivers[placed.device].mailbox()),
        };
        let in_flight_max = depth.clamp(1, FLIGHTS_MAX);
        let (spares, spares_return) = spares(in_flight_max);
        let line = Arc::new(Line {
            id: LINES_MADE.fetch_add(1, Ordering::Relaxed),
            stops: stages.iter().map(stop).collect(),
            in_flight_max,
            in_flight: AtomicUsize::new(0),
            hooks,
            spares: spares_return,
            wants_room: AtomicBool::new(false),
        });
        let drivers = places(&line)?;
        for (index, placed) in stages.into_iter().enumerate() {
            let stage = DriverStage::new(line.id, index, placed.stage);
            line.stops[index].driver.send(Message::Place(stage));
        }
        Ok(Self {
            line,
            drivers,
            spares,
        })
    }

    /// Jobs that may be in flight: the depths of its stages together.
    pub fn depth(&self) -> usize {
        self.line.in_flight_max
    }

    /// Sends a job to the first stage; gives it back when as many as may be are in flight.
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        let (rows, wanted) = (job.rows.len(), job.step.rows());
        assert_eq!(rows, wanted, "one row of input for each of the step");
        if !self.line.enter() {
            return Err(job);
        }
        Flight::begin(job, Arc::clone(&self.line), self.spares.take()).hand_over();
        Ok(())
    }

    /// Takes a job's output back that the caller has read: jobs to come are given its memory.
    pub fn reuse(&self, output: OutputBuf) {
        self.line.spares.output(output);
    }

    /// Gives the system back what is kept for jobs to come; worth it when none comes soon.
    pub fn free_spares(&self) {
        self.spares.free();
    }

    /// Tells every stage to forget blocks. No job in flight may name one of them: a block belongs to
    /// sequences, and goes when the last of them is in no step. Gives the blocks back, and tells no
    /// stage, when as many releases as may be wait for some driver; [`Hooks::has_room`] is called
    /// when it is worth trying again.
    pub fn release(&self, group: usize, blocks: Arc<[BlockId]>) -> Result<(), Arc<[BlockId]>> {
        let Some(places) = self.release_places() else {
            return Err(blocks);
        };
        for (driver, place) in self.drivers.iter().zip(places) {
            driver.mailbox.send(Message::Release(Release {
                line: self.line.id,
                group,
                blocks: Arc::clone(&blocks),
                _place: ReleasePlace::new(place, &self.line),
            }));
        }
        Ok(())
    }

    /// A place for a release in the channel of every driver, or a call when there may be.
    fn release_places(&self) -> Option<Vec<Permit>> {
        let take = || self.drivers.iter().map(|driver| driver.releases.take());
        let places: Option<Vec<_>> = take().collect();
        places.or_else(|| {
            self.line.wants_room.store(true, Ordering::Release);
            // One that came free before the line was told calls nobody.
            take().collect()
        })
    }

    /// Takes the stages off their drivers, in order with what was sent before. Ask for it when no
    /// job is in flight: one that is ends with an error.
    pub fn retire(mut self) -> RetiringStages {
        let asked = self.take_off();
        let stops = self.line.stops.iter();
        RetiringStages {
            places: stops.map(|stop| (stop.device, stop.span)).collect(),
            asked,
        }
    }

    /// Asks every driver for the line's stages; there is nothing left to ask for after that.
    fn take_off(&mut self) -> Vec<Receiver<Vec<TakenStage>>> {
        let line = self.line.id;
        let take = |driver: LineOnDriver| {
            let (answer, taken) = sync_channel(1);
            driver.mailbox.send(Message::Take(Take {
                line,
                answer,
                place: driver.place,
            }));
            taken
        };
        self.drivers.drain(..).map(take).collect()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        for taken in self.take_off() {
            // Stages that were retired, or whose driver is gone, are not there.
            drop(taken.recv());
        }
    }
}

/// Stages on their way off their drivers.
pub struct RetiringStages {
    places: Vec<(usize, Span)>,
    asked: Vec<Receiver<Vec<TakenStage>>>,
}

impl RetiringStages {
    /// Waits until every driver has given its stages up. A stage that panicked, or whose driver
    /// ended, is missing.
    pub fn wait(self) -> Vec<PlacedStage> {
        let answers = self.asked.into_iter().filter_map(|taken| taken.recv().ok());
        let mut taken: Vec<_> = answers.flatten().collect();
        taken.sort_by_key(|taken| taken.index);
        let places = self.places;
        let placed = taken.into_iter().filter_map(|taken| {
            let (device, span) = *places.get(taken.index)?;
            let stage = taken.into_stage()?;
            Some(PlacedStage {
                device,
                span,
                stage,
            })
        });
        placed.collect()
    }
}

/// A place on each distinct driver of the line.
fn places(line: &Line) -> Result<Vec<LineOnDriver>, RunnerError> {
    let mut drivers: Vec<LineOnDriver> = Vec::new();
    for stop in &line.stops {
        let known = |driver: &LineOnDriver| Arc::ptr_eq(&driver.mailbox, &stop.driver);
        if drivers.iter().any(known) {
            continue;
        }
        let device = stop.device;
        let place = stop.driver.lines.take();
        drivers.push(LineOnDriver {
            mailbox: Arc::clone(&stop.driver),
            releases: Permits::new(RELEASES_MAX as u32),
            place: place.ok_or(RunnerError::TooManyPipelines { device })?,
        });
    }
    Ok(drivers)
}
