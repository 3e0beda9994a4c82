//! What can be changed while a machine runs, and what it says of itself.

use std::time::Duration;

use gogrid_governor::{Manual, Reason, Verdict};

use super::health::ThreadFailure;
use super::observer::{Answer, Command, Holding};
use super::owner::Machine;
use crate::caller::{self, NoAnswer, WakerPanicked};
use crate::error::ChangeError;
use crate::resource_manager::ResourceConfig;
use crate::settings::Settings;
use crate::status::OwnerRuling;
use crate::status::{MachineStatus, ModelStatus, Ruling};

impl Machine {
    /// Changes the limits while it runs, to the same whether somebody is there or not; the policy
    /// stays. In effect at the next pause point. Nothing in flight is lost; memory held over a
    /// lowered cap goes as requests end, and what waits meanwhile is refused. Other priorities are
    /// given to every thread at once; where the system refuses that, threads that have them take
    /// over between two steps, and this returns when they have.
    /// [`Status::not_enforced`](crate::Status) names what did not take.
    pub async fn set_limits(&self, limits: ResourceConfig) -> Result<(), ChangeError> {
        limits.validate()?;
        limits.check_compute()?;
        self.command(|answer| Command::Limits(limits, answer)).await
    }

    /// Changes everything that may be taken and when, as [`set_limits`](Self::set_limits) does.
    pub async fn set_settings(&self, settings: Settings) -> Result<(), ChangeError> {
        settings.validate()?;
        settings.limits.check_compute()?;
        settings.away.check_compute()?;
        let settings = Box::new(settings);
        self.command(|answer| Command::Settings(settings, answer))
            .await
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.observer.holding().settings.clone()
    }

    /// What the policy says of this moment.
    pub fn ruling(&self) -> Ruling {
        self.ruling_of(&self.observer.holding())
    }

    /// Stops all work at the next pause point, until [`resume`](Self::resume). Requests keep their
    /// memory, and new ones wait.
    ///
    /// # Errors
    /// When nobody holds the limits any more; then all work has stopped for good.
    pub async fn pause(&self) -> Result<(), ChangeError> {
        self.stop(Manual::Paused).await
    }

    /// As [`pause`](Self::pause), for so long.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub async fn snooze(&self, time: Duration) -> Result<(), ChangeError> {
        let until = self.hardware.clock.now().after(time);
        self.stop(Manual::Snoozed { until }).await
    }

    /// Refuses new requests, and finishes those it has accepted.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub async fn finish(&self) -> Result<(), ChangeError> {
        // At once: the observer, told next, may wait for a core.
        self.hardware.gate.refuse();
        self.command(|answer| Command::Manual(Manual::Finishing, answer))
            .await
    }

    /// Ends a pause, a snooze, and a finish.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<(), ChangeError> {
        self.command(|answer| Command::Manual(Manual::Run, answer))
            .await
    }

    /// What it is, holds and does, with a part for each model that is open on it.
    pub async fn status(&self) -> MachineStatus {
        let mut models: Vec<ModelStatus> = Vec::new();
        for engine in self.hardware.engines.all() {
            models.push(engine.status().await);
        }
        self.status_with(models)
    }

    /// The same, where the models have told of themselves.
    pub(crate) fn status_with(&self, mut models: Vec<ModelStatus>) -> MachineStatus {
        models
            .iter_mut()
            .for_each(|model| self.note_degraded(model));
        let holding = self.observer.holding();
        let hardware = &self.hardware;
        let (devices, asked_at) = (hardware.device_statuses(), hardware.clock.now());
        let mut not_seen = holding.absent.clone();
        not_seen.extend(holding.peers.unknown.iter().cloned());
        MachineStatus {
            limits: holding.limits.clone(),
            ruling: self.ruling_of(&holding),
            memories: hardware.memory_statuses(&holding.peers),
            at_s: Duration::from_nanos(asked_at.0).as_secs_f64(),
            devices,
            left_out: hardware.left_out.clone(),
            threads: hardware.threads.statuses(),
            failures: hardware.health.failures(),
            not_enforced: self.not_enforced(),
            not_seen,
            peers: holding.peers.peers.clone(),
            models,
        }
    }

    /// A model whose steps pass is degraded all the same while a device is lost.
    pub(crate) fn note_degraded(&self, model: &mut ModelStatus) {
        let degraded = model.degraded.take();
        model.degraded = degraded.or_else(|| self.hardware.degraded());
    }

    /// What holds; where the thread that holds the limits has ended, that nothing may be taken.
    fn ruling_of(&self, holding: &Holding) -> Ruling {
        let ruling = holding.ruling.clone();
        match self.hardware.health.governing() {
            None => ruling,
            Some(failure) => Ruling {
                verdict: failed(failure),
                compute_share: 0.0,
                owner: OwnerRuling {
                    verdict: failed(failure),
                    compute_share: 0.0,
                },
                admits: false,
                ..ruling
            },
        }
    }

    fn not_enforced(&self) -> Vec<String> {
        let mut named = self.hardware.threads.not_enforced();
        if let Some(failure) = self.hardware.health.governing() {
            named.push(format!("limits: all work is stopped, since {failure}"));
        }
        named
    }

    async fn stop(&self, manual: Manual) -> Result<(), ChangeError> {
        // Threads that compute look at it; the observer, told next, may wait for a core.
        self.hardware.gate.stop();
        self.command(|answer| Command::Manual(manual, answer)).await
    }

    /// Tells the observer something, once there is a place for it, and waits until it holds.
    async fn command(&self, command: impl FnOnce(Answer) -> Command) -> Result<(), ChangeError> {
        let unheard = |WakerPanicked(problem)| ChangeError::Unheard { problem };
        let (waits, held) = caller::answer::<()>();
        let place = self.commands.take().await.map_err(unheard)?;
        let answer = Answer {
            _waits: Box::new(waits),
            _place: Some(place),
        };
        if self.observer.tell(command(answer)).is_ok() {
            // Dropped when it holds, or when the observer ends.
            if let Err(NoAnswer::WakerPanicked(panicked)) = held.await {
                return Err(unheard(panicked));
            }
        }
        match self.hardware.health.governing() {
            None => Ok(()),
            Some(failure) => Err(ChangeError::NotHeld(failure.clone())),
        }
    }

    /// Kills the thread that holds the limits.
    #[cfg(test)]
    pub(crate) fn kill_observer(&self) {
        let _ = self.observer.tell(Command::Panic);
    }
}

/// That nothing may be taken since this thread has ended.
fn failed(failure: &ThreadFailure) -> Verdict {
    let problem = failure.to_string();
    Verdict::Shut(Reason::Failed { problem })
}
