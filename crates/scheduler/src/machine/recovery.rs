//! Devices that were lost are tried again, each by a thread of its own: a driver may take its time, or hang.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, TryLockError};
use std::time::Duration;

use gogrid_model::Model;
use gogrid_pipeline::{Backend, Footprint, Opening, Stage, StageError};
use gogrid_units::{Moment, Span, contain};

use super::crew::Crew;
use super::hardware::{DeviceContext, Hardware};
use crate::error::OpenError;
use crate::limits::{RETRY_LOST_AFTER_MAX, RETRY_LOST_AFTER_MIN};
use crate::log;

/// The machine's devices, as far as they are lost. Dropping it waits for the tries that are under way.
pub(super) struct Recovery {
    crew: Crew,
    devices: Vec<Tried>,
}

struct Tried {
    backoff: Backoff,
    /// Whether a thread tries it.
    is_under_way: Arc<AtomicBool>,
}

/// When a device is tried again: after a second, and then after twice as long each time. One that comes back
/// and is soon lost again is tried no more often than before.
#[derive(Debug)]
struct Backoff {
    wait: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// It is there, since this moment.
    Here(Moment),
    /// It is tried when this comes.
    Waits(Moment),
    /// It is being tried.
    Tried,
}

impl Recovery {
    pub(super) fn new(hardware: &Hardware) -> Self {
        let tried = || Tried {
            backoff: Backoff::new(),
            is_under_way: Arc::default(),
        };
        Self {
            crew: Crew::new("reopener", hardware.threads.clone(), None),
            devices: hardware.devices.iter().map(|_| tried()).collect(),
        }
    }

    /// Begins the tries that are due.
    pub(super) fn look(&mut self, hardware: &Arc<Hardware>) {
        let now = hardware.clock.now();
        for (index, tried) in self.devices.iter_mut().enumerate() {
            let device = &hardware.devices[index];
            // Nothing runs again on a device whose driver's thread has ended.
            let is_lost = device.lost().is_some() && !device.driver.has_ended();
            let is_under_way = tried.is_under_way.load(Ordering::Acquire);
            if !tried.backoff.begins((is_lost, is_under_way), now) {
                continue;
            }
            tried.is_under_way.store(true, Ordering::Release);
            let (hardware, ends) = (
                Arc::clone(hardware),
                EndsTry(Arc::clone(&tried.is_under_way)),
            );
            // Where no thread can be started, the try has failed.
            let _ = self.crew.start(move || {
                let _ends = ends;
                try_again(&hardware, &hardware.devices[index]);
            });
        }
    }

    /// When the next is due.
    pub(super) fn due(&self) -> Option<Moment> {
        let due = self
            .devices
            .iter()
            .filter_map(|tried| match tried.backoff.state {
                State::Waits(at) => Some(at),
                State::Here(_) | State::Tried => None,
            });
        due.min()
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        self.crew.join();
    }
}

/// A try that ends, however it does.
struct EndsTry(Arc<AtomicBool>);

impl Drop for EndsTry {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn try_again(hardware: &Hardware, device: &DeviceContext) {
    match device.reopen() {
        Ok(()) => {
            log::info(&format_args!("{} is back", device.name));
            hardware
                .engines
                .all()
                .iter()
                .for_each(|engine| engine.seek_place());
        }
        Err(problem) => log::info(&format_args!(
            "{} is tried again later: {problem}",
            device.name
        )),
    }
}

impl Backoff {
    fn new() -> Self {
        Self {
            wait: Duration::ZERO,
            state: State::Here(Moment::default()),
        }
    }

    /// Whether a try of the device begins at `now`, given whether it is lost and whether a try is under way.
    fn begins(&mut self, (is_lost, is_under_way): (bool, bool), now: Moment) -> bool {
        self.state = match (is_lost, self.state) {
            (_, State::Tried) if is_under_way => State::Tried,
            (false, State::Here(since)) => State::Here(since),
            (false, State::Waits(_) | State::Tried) => State::Here(now),
            (true, State::Here(since)) => {
                if now.since(since) >= RETRY_LOST_AFTER_MAX {
                    self.wait = Duration::ZERO;
                }
                self.waits(now)
            }
            (true, State::Tried) => self.waits(now),
            (true, State::Waits(at)) if at <= now => {
                self.state = State::Tried;
                return true;
            }
            (true, State::Waits(at)) => State::Waits(at),
        };
        false
    }

    /// It waits from `now` on, for longer than the time before.
    fn waits(&mut self, now: Moment) -> State {
        self.wait = (self.wait * 2).clamp(RETRY_LOST_AFTER_MIN, RETRY_LOST_AFTER_MAX);
        State::Waits(now.after(self.wait))
    }
}

/// Stands for the backend of a device that is lost, which may hold memory as long as it lives.
pub(super) struct Gone(pub(super) String);

impl Gone {
    fn lost(&self) -> StageError {
        StageError::Lost(self.0.clone())
    }
}

impl Backend for Gone {
    fn check(&self, _model: &Model, _span: Span) -> Result<(), StageError> {
        Err(self.lost())
    }

    fn predict(&self, _model: &Model, _span: Span, _rows_max: usize) -> Footprint {
        Footprint::default()
    }

    fn open(&mut self, _opening: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        Err(self.lost())
    }
}

/// Between why a device was lost and why it is not back.
const RETRIED: &str = "; it was tried again: ";

impl DeviceContext {
    /// Opens it anew where it is lost. What was opened there before stays lost.
    pub(crate) fn reopen(&self) -> Result<(), OpenError> {
        if self.lost().is_none() {
            return Ok(());
        }
        let mut opening = match self.opening.try_lock() {
            Ok(opening) => opening,
            // A panic in it ended the try that it was in.
            Err(TryLockError::Poisoned(panicked)) => panicked.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Device {
                    device: self.name.clone(),
                    problem: "it was lost, and is being opened again".to_owned(),
                });
            }
        };
        let Some(lost) = self.lost() else {
            // Another thread was first.
            return Ok(());
        };
        let (why, _) = lost.split_once(RETRIED).unwrap_or((&lost, ""));
        let gone = Box::new(Gone(why.to_owned()));
        let dead = std::mem::replace(&mut *self.backend(), gone);
        // A panic of what is dead anyway changes nothing.
        let _ = contain(|| drop(dead));
        let loan = opening.loan.clone();
        let opened = contain(|| (opening.open)(loan)).unwrap_or_else(|panicked| {
            Err(OpenError::Device {
                device: self.name.clone(),
                problem: format!("its driver panicked: {panicked}"),
            })
        });
        match opened {
            Ok(backend) => {
                let mut current = self.backend();
                *current = backend;
                self.reopened.fetch_add(1, Ordering::AcqRel);
                drop(current);
                self.note_found();
                Ok(())
            }
            Err(problem) => {
                self.note_lost(&format!("{why}{RETRIED}{problem}"));
                Err(problem)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds at which a device is tried that is lost at these, in virtual time: a try takes no time.
    fn tried_at(is_lost: impl Fn(u64) -> bool, until: u64) -> Vec<u64> {
        let mut backoff = Backoff::new();
        let at = |second: u64| Moment(second * 1_000_000_000);
        let seconds = 1..until;
        seconds
            .filter(|&second| backoff.begins((is_lost(second), false), at(second)))
            .collect()
    }

    #[test]
    fn a_lost_device_is_tried_after_a_second_and_then_after_twice_as_long_each_time() {
        let tried = tried_at(|_| true, 2000);
        let waits: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(tried[..2], [2, 5]);
        // The look after a try, a second later, finds that it failed.
        assert_eq!(waits[..7], [3, 5, 9, 17, 33, 65, 129]);
        assert!(waits[8..].iter().all(|&wait| wait == 301), "{waits:?}");
    }

    #[test]
    fn a_device_that_comes_and_goes_is_tried_less_and_less_and_one_that_stayed_as_at_first() {
        let check = |stays: u64, expected: &[u64]| {
            // Back right after its second try, at 5 s.
            let tried = tried_at(|second| !(6..6 + stays).contains(&second), 6 + stays + 9);
            let after: Vec<_> = tried[2..].iter().map(|at| at - 6 - stays).collect();
            assert_eq!(after, expected, "after {stays} s");
        };
        check(10, &[4]);
        check(300, &[1, 4]);
    }

    #[test]
    fn a_try_that_hangs_is_not_begun_again() {
        let mut backoff = Backoff::new();
        let at = |second: u64| Moment(second * 1_000_000_000);
        assert!(!backoff.begins((true, false), at(0)));
        assert!(backoff.begins((true, false), at(1)));
        for second in 2..1000 {
            assert!(!backoff.begins((true, true), at(second)));
        }
        assert!(!backoff.begins((true, false), at(1000)));
        assert!(backoff.begins((true, false), at(1002)));
    }
}
