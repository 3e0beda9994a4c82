//! The one owner of what may be taken: a thread that looks at the machine, asks the policy, and
//! holds what it says. Callers tell it of other settings and of what they ask for by hand.

use std::any::Any;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_channel::oneshot;
use gogrid_governor::{Caps, Decision, Governor, Manual, Observation, Profile, Situation, Verdict};
use gogrid_host::Clock;
use gogrid_lease::Ledger;
use gogrid_pipeline::Renewal;
use gogrid_units::{Moment, hand_over};

use crate::device::Device;
use crate::engine::{Engine, Message, Order};
use crate::gate::Gate;
use crate::ground;
use crate::limits::TELLS_MAX;
use crate::pace::DutyPace;
use crate::places::Place;
use crate::resource_manager::ResourceConfig;
use crate::senses::Senses;
use crate::settings::Settings;
use crate::status::Ruling;
use crate::threads::Threads;

/// Between two looks while there is work, and while there is none.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_EVERY_IDLE: Duration = Duration::from_secs(1);
/// The same while work is stopped by hand: what the machine tells changes nothing then.
const LOOK_EVERY_STOPPED: Duration = Duration::from_secs(10);

const NAME: &str = "observer";

/// What callers tell the observer. Each holds a place, so that there is room for every one.
pub(crate) enum Word {
    Settings(Box<Settings>, Answer),
    /// The limits alone: the same whether somebody is there or not.
    Limits(ResourceConfig, Answer),
    Manual(Manual, Answer),
    /// Its end; answered with the thread that ends.
    Stop(SyncSender<JoinHandle<()>>),
}

/// Who waits until something holds, and their place. They hear that it is gone, which the last to be
/// done with it drops.
pub(crate) struct Answer {
    pub(crate) _waits: oneshot::Sender<()>,
    pub(crate) _place: Place,
}

/// What the observer is made of.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) senses: Box<dyn Senses>,
    pub(crate) devices: Vec<Device>,
    pub(crate) ledgers: Vec<Ledger>,
    pub(crate) paces: Vec<Arc<DutyPace>>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) threads: Threads,
    pub(crate) clock: Clock,
    pub(crate) engine: Arc<Engine>,
}

/// What holds at the moment. Written by the observer, read by anybody without a lock.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    pub(crate) settings: Settings,
    /// Those of the profile.
    pub(crate) limits: ResourceConfig,
    pub(crate) ruling: Ruling,
    /// What the machine does not tell.
    pub(crate) absent: Vec<String>,
}

/// The callers' end. Dropping it ends the thread.
pub(crate) struct Observer {
    words: SyncSender<Word>,
    holding: Arc<ArcSwap<Holding>>,
}

impl Observer {
    /// Looks once and holds what the policy says before it returns.
    pub(crate) fn start(parts: Parts) -> io::Result<Self> {
        // One more for the word to stop.
        let (words, heard) = sync_channel(TELLS_MAX + 1);
        let spawn = parts.threads.starter(None);
        let limits = parts.settings.limits.clone();
        let holding = Holding {
            ruling: ruling(&open(), &limits),
            limits,
            settings: parts.settings.clone(),
            absent: Vec::new(),
        };
        let holding = Arc::new(ArcSwap::from_pointee(holding));
        let mut inside = Inside {
            governor: Governor::new(parts.settings.policy.clone()),
            parts,
            manual: Manual::Run,
            finishing: false,
            looked_at: None,
            seen: Observation::default(),
            heard,
            holding: Arc::clone(&holding),
            renewal: None,
            changes_at: None,
            before: None,
            ordered: Weak::<()>::new(),
            unsent: false,
            renews: false,
        };
        inside.look();
        inside.rule(None);
        hand_over(&*spawn, NAME, inside, Inside::run).map_err(|(_, error)| error)?;
        Ok(Self { words, holding })
    }

    /// Tells it something; gives it back when it has ended.
    pub(crate) fn tell(&self, word: Word) -> Result<(), Word> {
        self.words.send(word).map_err(|unsent| unsent.0)
    }

    pub(crate) fn holding(&self) -> Arc<Holding> {
        self.holding.load_full()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let (answer, ended) = sync_channel(1);
        // A thread that panicked, which it reported itself, is joined by nobody.
        if self.tell(Word::Stop(answer)).is_ok()
            && let Ok(thread) = ended.recv()
        {
            let _ = thread.join();
        }
    }
}

/// What the observer's thread owns.
struct Inside {
    parts: Parts,
    governor: Governor,
    /// A pause or a snooze.
    manual: Manual,
    /// Whether nothing more is accepted, whatever else was asked for since.
    finishing: bool,
    /// When it last looked; `None` before the first look, and when what it saw counts no more.
    looked_at: Option<Moment>,
    seen: Observation,
    heard: Receiver<Word>,
    holding: Arc<ArcSwap<Holding>>,
    /// To go on in a fresh thread.
    renewal: Option<Renewal>,
    /// When time alone may change what the policy says.
    changes_at: Option<Moment>,
    /// The thread it ran on before.
    before: Option<JoinHandle<()>>,
    /// What the engine was last ordered without anybody waiting, until it is done: so there is room
    /// for every order.
    ordered: Weak<dyn Any + Send + Sync>,
    /// An order that waits for that.
    unsent: bool,
    /// Whether threads are to be replaced with the next order.
    renews: bool,
}

impl Inside {
    /// Runs on the calling thread, whose handle is `own`, until it is stopped or a fresh thread has
    /// taken over.
    fn run(mut self, mut own: JoinHandle<()>) {
        loop {
            match self.heard.recv_timeout(self.look_after()) {
                Ok(Word::Stop(answer)) => {
                    if let Some(ended) = self.before.take() {
                        let _ = ended.join();
                    }
                    drop(self);
                    let _ = answer.try_send(own);
                    return;
                }
                Ok(word) => {
                    let answer = self.hear(word);
                    self.look_if_due();
                    self.rule(Some(answer));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.look_if_due();
                    self.rule(None);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(renewal) = self.renewal.take() {
                match self.renew(own, renewal) {
                    Some(kept) => (self, own) = kept,
                    None => return,
                }
            }
        }
    }

    /// Goes on in a fresh thread. Gives back what it took where there is none.
    fn renew(self, own: JoinHandle<()>, renewal: Renewal) -> Option<(Self, JoinHandle<()>)> {
        let spawn = self.parts.threads.starter(None);
        let state = (self, own, renewal);
        let go_on = |(mut inside, before, renewal): (Self, _, _), own| {
            drop(renewal);
            if let Some(ended) = inside.before.replace(before) {
                let _ = ended.join();
            }
            inside.run(own);
        };
        let (inside, own, _) = hand_over(&*spawn, NAME, state, go_on).err()?.0;
        Some((inside, own))
    }

    /// The time to the next look, or to when the policy says something else without one.
    fn look_after(&self) -> Duration {
        let now = self.parts.clock.now();
        let until = |at: Moment| Duration::from_nanos(at.0.saturating_sub(now.0));
        let look = until(self.look_at());
        self.changes_at.map_or(look, |at| look.min(until(at)))
    }

    /// When the next look is due: at once, where what is stopped or idle goes on and the last was
    /// long ago.
    fn look_at(&self) -> Moment {
        // 2^64 nanoseconds are 584 years.
        let every = self.look_every().as_nanos() as u64;
        let after = |looked: Moment| Moment(looked.0.saturating_add(every));
        self.looked_at.map_or(Moment::default(), after)
    }

    fn look_every(&self) -> Duration {
        match (self.manual, self.parts.gate.is_busy()) {
            (Manual::Paused | Manual::Snoozed { .. }, _) => LOOK_EVERY_STOPPED,
            (_, true) => LOOK_EVERY,
            (_, false) => LOOK_EVERY_IDLE,
        }
    }

    /// Words that come one after another keep it from no look.
    fn look_if_due(&mut self) {
        if self.look_at() <= self.parts.clock.now() {
            self.look();
        }
    }

    fn heeds_load(&self) -> bool {
        self.parts.settings.limits.enable_auto_throttle
    }

    fn look(&mut self) {
        let heeds_load = self.heeds_load();
        let Parts {
            senses, settings, ..
        } = &mut self.parts;
        self.seen = senses.observe(&settings.policy, heeds_load);
        self.looked_at = Some(self.parts.clock.now());
    }

    fn hear(&mut self, word: Word) -> Answer {
        let settings = &mut self.parts.settings;
        match word {
            Word::Settings(asked, answer) => {
                self.governor.set_policy(asked.policy.clone());
                *settings = *asked;
                // What the other policy asks for may not have been looked at.
                self.parts.senses.look_anew();
                self.looked_at = None;
                answer
            }
            Word::Limits(limits, answer) => {
                settings.away = limits.clone();
                settings.limits = limits;
                answer
            }
            Word::Manual(manual, answer) => {
                match manual {
                    Manual::Finishing => (self.manual, self.finishing) = (Manual::Run, true),
                    Manual::Run => (self.manual, self.finishing) = (manual, false),
                    Manual::Paused | Manual::Snoozed { .. } => self.manual = manual,
                }
                answer
            }
            Word::Stop(_) => unreachable!("it ends by that"),
        }
    }

    /// Asks the policy and holds what it says.
    fn rule(&mut self, answer: Option<Answer>) {
        let now = self.parts.clock.now();
        if matches!(self.manual, Manual::Snoozed { until } if until <= now) {
            self.manual = Manual::Run;
        }
        let settings = &self.parts.settings;
        let mut decision = self.governor.decide(&Situation {
            now,
            manual: self.manual,
            heeds_load: self.heeds_load(),
            caps: Caps {
                present: settings.limits.max_compute_usage_percent,
                away: settings.away.max_compute_usage_percent,
            },
            observation: &self.seen,
        });
        decision.admits &= !self.finishing;
        self.changes_at = decision.until;
        let limits = match decision.profile {
            Profile::Present => settings.limits.clone(),
            Profile::Away => settings.away.clone(),
        };
        self.hold(&decision, limits, answer);
    }

    fn hold(&mut self, decision: &Decision, limits: ResourceConfig, answer: Option<Answer>) {
        let Parts {
            settings,
            devices,
            ledgers,
            paces,
            gate,
            threads,
            senses,
            ..
        } = &self.parts;
        let ruling = ruling(decision, &limits);
        gate.rule(
            matches!(decision.verdict, Verdict::Shut(_)),
            self.manual != Manual::Run,
            decision.admits,
        );
        for (device, ledger) in devices.iter().zip(ledgers) {
            ledger.set_cap(ground::cap(device.memory_total_bytes, &limits));
        }
        let before = self.holding.load_full();
        // A share that stays the same ends no rest.
        if before.ruling.compute_share != ruling.compute_share {
            for pace in paces {
                pace.set_share(ruling.compute_share);
            }
        }
        tell_of(&before.ruling, &ruling);
        let advances = ruling.compute_share > 0.0;
        let is_news = before.limits != limits
            || advances != (before.ruling.compute_share > 0.0)
            || answer.is_some()
            || self.unsent;
        self.renews |= !threads.set_limits(&limits);
        self.holding.store(Arc::new(Holding {
            settings: settings.clone(),
            limits: limits.clone(),
            ruling,
            absent: senses.absent().to_vec(),
        }));
        if is_news {
            self.order(limits, advances, answer);
        }
    }

    /// Has the engine go by other limits. Threads that could not be given their priorities are
    /// replaced by fresh ones, this one too.
    fn order(&mut self, limits: ResourceConfig, advances: bool, answer: Option<Answer>) {
        let waited_for = answer.is_some();
        self.unsent = !waited_for && self.ordered.strong_count() > 0;
        if self.unsent {
            return;
        }
        let renewal: Renewal = Arc::new(answer);
        if !waited_for {
            self.ordered = Arc::downgrade(&renewal);
        }
        let renews = std::mem::take(&mut self.renews);
        if renews {
            self.renewal = Some(Arc::clone(&renewal));
        }
        let order = Order {
            limits,
            advances,
            renews,
            done: renewal,
        };
        // An engine that has ended has nothing to hold.
        let _ = self.parts.engine.send(Message::Order(order));
    }
}

/// Nothing against taking all.
fn open() -> Decision {
    Decision {
        profile: Profile::Present,
        verdict: Verdict::Open,
        admits: true,
        until: None,
    }
}

fn ruling(decision: &Decision, limits: &ResourceConfig) -> Ruling {
    Ruling {
        profile: decision.profile,
        verdict: decision.verdict.clone(),
        compute_share: decision.verdict.share(limits.max_compute_usage_percent),
        admits: decision.admits,
    }
}

/// Tells an operator when less may be taken than before, or more, and why; not of every figure.
fn tell_of(before: &Ruling, after: &Ruling) {
    let kind = |ruling: &Ruling| match &ruling.verdict {
        Verdict::Open => ("open", Vec::new()),
        Verdict::Limited { why, .. } => ("limited", why.iter().map(|why| why.name()).collect()),
        Verdict::Shut(why) => ("shut", vec![why.name()]),
    };
    if kind(before) == kind(after) {
        return;
    }
    match &after.verdict {
        Verdict::Open => tracing::info!("going on as the limits allow"),
        Verdict::Limited { share, why } => {
            let why: Vec<_> = why.iter().map(ToString::to_string).collect();
            let why = why.join("; ");
            tracing::info!("taking {:.0} % of the processor: {why}", share * 100.0);
        }
        Verdict::Shut(why) => tracing::warn!("stopped: {why}"),
    }
}
