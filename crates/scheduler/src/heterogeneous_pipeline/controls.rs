//! What can be changed while a pipeline runs.

use std::time::Duration;

use futures_channel::oneshot;
use gogrid_governor::Manual;
use gogrid_units::Moment;

use super::HeterogeneousPipeline;
use crate::error::OpenError;
use crate::observer::{Answer, Word};
use crate::placing;
use crate::resource_manager::ResourceConfig;
use crate::settings::Settings;
use crate::status::Ruling;

impl HeterogeneousPipeline {
    /// Changes the limits while it runs, to the same whether somebody is there or not; the policy
    /// stays. In effect at the next pause point. Nothing in flight is lost; memory held over a
    /// lowered cap goes as requests end, and what waits meanwhile is refused. Other priorities are
    /// given to every thread at once; where the system refuses that, threads that have them take
    /// over between two steps, and this returns when they have.
    /// [`Status::not_enforced`](crate::Status) names what did not take.
    pub async fn set_limits(&self, limits: ResourceConfig) -> Result<(), OpenError> {
        limits.validate()?;
        placing::check_compute(&limits)?;
        self.say(|answer| Word::Limits(limits, answer)).await;
        Ok(())
    }

    /// Changes everything that may be taken and when, as [`set_limits`](Self::set_limits) does.
    pub async fn set_settings(&self, settings: Settings) -> Result<(), OpenError> {
        settings.validate()?;
        placing::check_compute(&settings.limits)?;
        placing::check_compute(&settings.away)?;
        let settings = Box::new(settings);
        self.say(|answer| Word::Settings(settings, answer)).await;
        Ok(())
    }

    /// The settings in force.
    pub fn settings(&self) -> Settings {
        self.observer.holding().settings.clone()
    }

    /// What the policy says of this moment.
    pub fn ruling(&self) -> Ruling {
        self.observer.holding().ruling.clone()
    }

    /// Stops all work at the next pause point, until [`resume`](Self::resume). Requests keep their
    /// memory, and new ones wait.
    pub async fn pause(&self) {
        self.stop(Manual::Paused).await;
    }

    /// As [`pause`](Self::pause), for so long.
    pub async fn snooze(&self, time: Duration) {
        // 2^64 nanoseconds are 584 years.
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let until = Moment(self.clock.now().0.saturating_add(nanos));
        self.stop(Manual::Snoozed { until }).await;
    }

    /// Refuses new requests, and finishes those it has accepted.
    pub async fn finish(&self) {
        // At once: the observer, told next, may wait for a core.
        self.gate.refuse();
        self.say(|answer| Word::Manual(Manual::Finishing, answer))
            .await;
    }

    /// Ends a pause, a snooze, and a finish.
    pub async fn resume(&self) {
        self.say(|answer| Word::Manual(Manual::Run, answer)).await;
    }

    async fn stop(&self, manual: Manual) {
        // Threads that compute look at it; the observer, told next, may wait for a core.
        self.gate.stop();
        self.say(|answer| Word::Manual(manual, answer)).await;
    }

    /// Tells the observer something, once there is a place for it, and waits until it holds.
    async fn say(&self, word: impl FnOnce(Answer) -> Word) {
        let (waits, held) = oneshot::channel();
        let place = self.words.take().await;
        let answer = Answer {
            _waits: waits,
            _place: place,
        };
        // An observer that has ended has nothing to hold.
        if self.observer.tell(word(answer)).is_ok() {
            let _ = held.await;
        }
    }
}
