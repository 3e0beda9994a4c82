//! How long a step takes, told apart from what other programs and rests take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::thread::{Thread, current, park};
use std::time::Duration;

use gogrid_units::Moment;

use super::{Meter, TimedStage};
use crate::stage::StageError;
use crate::step::Step;

/// Busy time of a stretch of steps: long beside what the meter may lag.
const STRETCH: Duration = Duration::from_millis(30);
/// Busy time of a lane that does for a stretch where the device gets little of the machine.
const SHORT_STRETCH: Duration = Duration::from_millis(5);
/// Wall time after which a stretch may be short, and after which it ends whatever was done.
const SHORT_AFTER: Duration = Duration::from_millis(150);
const STRETCH_WALL_MAX: Duration = Duration::from_secs(1);
/// Stretches until two agree, at most.
const STRETCHES_MAX: usize = 6;
/// Stretches agree when neither is longer than the other by more than this share.
const AGREEMENT: f64 = 0.1;
/// Wall time of all timing, after which one step of each kind must do.
const WALL_MAX: Duration = Duration::from_secs(10);
/// Lanes cannot be busy for longer than the wall time of each; what says so by more than this, and
/// by more than the figure may lag, counts something else.
const BUSY_OVER_WALL_MAX: f64 = 1.1;
const LAG: Duration = Duration::from_millis(1);

/// Wakes a thread that waits for a stage.
pub(super) struct Bell {
    has_rung: AtomicBool,
    waiter: Thread,
}

impl Bell {
    /// A bell for the calling thread.
    pub(super) fn new() -> Self {
        Self {
            has_rung: AtomicBool::new(false),
            waiter: current(),
        }
    }

    /// Sleeps until it has rung since it was last waited for.
    pub(super) fn wait(&self) {
        while !self.has_rung.swap(false, Ordering::Acquire) {
            park();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.waiter.unpark();
    }
}

/// Times steps.
pub(super) struct Stopwatch<'a> {
    meter: Meter<'a>,
    began: Moment,
}

/// Seconds that were found, and how far another finding was from them.
#[derive(Clone, Copy)]
pub(super) struct Figure {
    pub(super) seconds: f64,
    pub(super) doubt: f64,
}

impl Figure {
    /// Seconds that nothing confirms.
    fn guessed(seconds: f64) -> Self {
        let doubt = seconds;
        Self { seconds, doubt }
    }
}

/// What some steps took.
struct Stretch {
    steps: u64,
    wall: Duration,
    busy: u64,
}

impl<'a> Stopwatch<'a> {
    pub(super) fn start(meter: Meter<'a>) -> Self {
        assert!(meter.lanes > 0, "a device without a lane");
        Self {
            began: (meter.clock)(),
            meter,
        }
    }

    /// What the thread used since its last step is not the device's.
    pub(super) fn forget_load(&self) {
        (self.meter.loaded)();
    }

    /// Seconds for a row in such steps, after a step to warm up: the shorter of two stretches that
    /// agree, or else the shortest with its distance from the next.
    pub(super) fn seconds_per_row(
        &self,
        stage: &mut TimedStage,
        step: &Arc<Step>,
    ) -> Result<Figure, StageError> {
        stage.run(step)?;
        let rows = step.rows() as f64;
        let mut found: Vec<f64> = Vec::new();
        for _ in 0..STRETCHES_MAX {
            let stretch = self.stretch(stage, step)?;
            let Some(seconds) = self.seconds(&stretch) else {
                let seconds = stretch.wall.as_secs_f64() / stretch.steps as f64 / rows;
                return Ok(Figure::guessed(seconds));
            };
            found.push(seconds / rows);
            found.sort_by(f64::total_cmp);
            // The shortest are the least disturbed.
            let agree = matches!(found[..], [one, other, ..] if other <= one * (1.0 + AGREEMENT));
            if agree || self.is_late() {
                break;
            }
        }
        Ok(match found[..] {
            [one, other, ..] => Figure {
                seconds: f64::midpoint(one, other.min(one * (1.0 + AGREEMENT))),
                doubt: other - one,
            },
            _ => Figure::guessed(found[0]),
        })
    }

    /// Runs steps until the device was busy for long enough, or as long as may be.
    fn stretch(&self, stage: &mut TimedStage, step: &Arc<Step>) -> Result<Stretch, StageError> {
        let Meter { clock, busy, .. } = self.meter;
        let (began, busy_before) = (clock(), busy());
        let mut steps = 0;
        loop {
            stage.run(step)?;
            steps += 1;
            let stretch = Stretch {
                steps,
                wall: clock().since(began),
                busy: busy().saturating_sub(busy_before),
            };
            if self.is_enough(&stretch) || self.is_late() {
                return Ok(stretch);
            }
        }
    }

    fn is_late(&self) -> bool {
        (self.meter.clock)().since(self.began) > WALL_MAX
    }

    fn is_enough(&self, stretch: &Stretch) -> bool {
        // Without a figure for busy time the wall's is all there is.
        let busy = match stretch.busy {
            0 => stretch.wall,
            busy => Duration::from_nanos(busy),
        };
        let short = SHORT_STRETCH * self.lanes();
        busy >= STRETCH.max(short)
            || (busy >= short && stretch.wall >= SHORT_AFTER)
            || stretch.wall >= STRETCH_WALL_MAX
    }

    /// Seconds for a step: the device's busy time shared out among its lanes. `None` where that is
    /// more than there was.
    fn seconds(&self, stretch: &Stretch) -> Option<f64> {
        let lanes = self.lanes();
        let busy = Duration::from_nanos(stretch.busy);
        let possible = (stretch.wall * lanes).mul_f64(BUSY_OVER_WALL_MAX) + LAG * lanes;
        let time = match busy.is_zero() {
            true => stretch.wall,
            false => busy / lanes,
        };
        (busy <= possible).then(|| time.as_secs_f64() / stretch.steps as f64)
    }

    fn lanes(&self) -> u32 {
        u32::try_from(self.meter.lanes).expect("a device has far fewer lanes")
    }
}
