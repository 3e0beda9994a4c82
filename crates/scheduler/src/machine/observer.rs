//! The one owner of what may be taken: a thread that looks at the machine, asks the policy, and
//! holds what it says. Callers tell it of other settings and of what they ask for by hand.

use std::any::Any;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use gogrid_governor::{Caps, Decision, Governor, Manual, Observation, Profile, Situation, Verdict};
use gogrid_units::{
    Bytes, Each, LoopEnd, Moment, Renewal, Spawn, ThreadLoop, Whose, contain, start_loop,
};

use super::gate::Rule;
use super::hardware::Hardware;
use super::health::ThreadFailure;
use super::peers::{Peers, SeenPeers};
use super::process::Process;
use super::recovery::Recovery;
use super::senses::Senses;
use crate::engine::{Message, Order};
use crate::limits::TELLS_MAX;
use crate::log;
use crate::pause::Stops;
use crate::places::Place;
use crate::resource_manager::ResourceConfig;
use crate::settings::Settings;
use crate::status::{OwnerRuling, Ruling};

/// Between two looks while there is work, and while there is none.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_EVERY_IDLE: Duration = Duration::from_secs(1);
/// A machine that was opened less than this ago is looked at as often as one that works: a model is being
/// loaded, and others' load is to be known by when it answers.
const BEGINS_FOR: Duration = Duration::from_secs(2);
/// The same while work is stopped by hand: what the machine tells changes nothing then.
const LOOK_EVERY_STOPPED: Duration = Duration::from_secs(10);

/// What callers tell the observer. Each holds a place, so that there is room for every one.
pub(crate) enum Command {
    Settings(Box<Settings>, Answer),
    /// The limits alone: the same whether somebody is there or not.
    Limits(ResourceConfig, Answer),
    Manual(Manual, Answer),
    /// A pipeline was opened, and is to hear what holds.
    Joined(Answer),
    /// Its end; answered with the thread that ends.
    Stop(SyncSender<JoinHandle<()>>),
    /// A fault, for tests.
    #[cfg(test)]
    Panic,
}

/// What a caller waits on until its command holds, and its place. The caller hears that it is
/// dropped; each thread that must know of the command drops its share when it does.
pub(crate) struct Answer {
    pub(crate) _waits: Box<dyn Any + Send + Sync>,
    pub(crate) _place: Option<Place>,
}

/// What the observer is made of.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) senses: Box<dyn Senses>,
    pub(crate) peers: Option<Box<dyn Peers>>,
    /// Where the other machines of this process are.
    pub(crate) process: Arc<Process>,
    pub(crate) hardware: Arc<Hardware>,
}

/// What holds at the moment. Written by the observer, read by anybody without a lock.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    pub(crate) settings: Settings,
    /// Those of the profile.
    pub(crate) limits: ResourceConfig,
    pub(crate) ruling: Ruling,
    /// Who is stopped, and why.
    pub(crate) stops: Stops,
    /// What the machine does not tell.
    pub(crate) absent: Vec<String>,
    /// What other processes take.
    pub(crate) peers: SeenPeers,
}

/// The callers' end. Dropping it ends the thread.
pub(crate) struct Observer {
    commands: SyncSender<Command>,
    holding: Arc<ArcSwap<Holding>>,
}

impl Observer {
    /// Looks once and holds what the policy says before it returns.
    pub(crate) fn start(parts: Parts) -> io::Result<Self> {
        // One more for the command to stop.
        let (commands, heard) = sync_channel(TELLS_MAX + 1);
        let limits = parts.settings.limits.clone();
        let holding = Holding {
            ruling: ruling(&open(), &limits, 1),
            limits,
            stops: Stops::default(),
            settings: parts.settings.clone(),
            absent: Vec::new(),
            peers: SeenPeers::default(),
        };
        let holding = Arc::new(ArcSwap::from_pointee(holding));
        let mut state = State {
            governor: Governor::new(parts.settings.policy.clone()),
            recovery: Recovery::new(&parts.hardware),
            parts,
            manual: Manual::Run,
            finishing: false,
            looked_at: None,
            seen: Observation::default(),
            told_peers: SeenPeers::default(),
            seen_peers: SeenPeers::default(),
            beside_others: false,
            saw_others: false,
            heard,
            holding: Arc::clone(&holding),
            changes_at: None,
            ordered: Weak::<()>::new(),
            unsent: false,
            renews: false,
            in_hand: None,
        };
        state.look();
        let renewal = state.rule();
        // Nothing runs yet that would have to be replaced.
        drop(renewal);
        start_loop(state)?;
        Ok(Self { commands, holding })
    }

    /// Tells it something; gives it back when it has ended.
    pub(crate) fn tell(&self, command: Command) -> Result<(), Command> {
        self.commands.send(command).map_err(|unsent| unsent.0)
    }

    pub(crate) fn holding(&self) -> Arc<Holding> {
        self.holding.load_full()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let (answer, ended) = sync_channel(1);
        // A thread that panicked has told of it, and is joined by nobody.
        if self.tell(Command::Stop(answer)).is_ok()
            && let Ok(thread) = ended.recv()
        {
            let _ = thread.join();
        }
    }
}

/// What the observer's thread owns.
struct State {
    /// Ends before what it may hold for the last does.
    recovery: Recovery,
    parts: Parts,
    governor: Governor,
    /// A pause or a snooze.
    manual: Manual,
    /// Whether nothing more is accepted, whatever else was asked for since.
    finishing: bool,
    /// When it last looked; `None` before the first look, and when what it saw counts no more.
    looked_at: Option<Moment>,
    seen: Observation,
    /// What other processes take.
    told_peers: SeenPeers,
    /// The same with what the other machines of this process take.
    seen_peers: SeenPeers,
    /// Whether there were other machines in this process at the last look, or at the one before.
    beside_others: bool,
    /// Whether there were at the last.
    saw_others: bool,
    heard: Receiver<Command>,
    holding: Arc<ArcSwap<Holding>>,
    /// When time alone may change what the policy says.
    changes_at: Option<Moment>,
    /// What the engines were last ordered without anybody waiting, until it is done: so there is
    /// room for every order.
    ordered: Weak<dyn Any + Send + Sync>,
    /// An order that waits for that.
    unsent: bool,
    /// Whether threads are to be replaced with the next order.
    renews: bool,
    /// What a caller waits on, while what it asked for is being done. Kept here, so that after a panic
    /// the caller hears that it is dropped when the failure has been noted, and not before.
    in_hand: Option<Renewal>,
}

impl ThreadLoop for State {
    const NAME: &'static str = "observer";

    fn spawn(&self) -> Arc<dyn Spawn> {
        self.parts.hardware.threads.starter(None)
    }

    fn run(&mut self) -> LoopEnd {
        loop {
            let renewal = match self.heard.recv_timeout(self.look_after()) {
                Ok(Command::Stop(answer)) => return LoopEnd::Stopped(answer),
                Ok(command) => {
                    self.hear(command);
                    self.look_if_due();
                    self.rule()
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.look_if_due();
                    self.rule()
                }
                Err(RecvTimeoutError::Disconnected) => {
                    unreachable!("the callers' end stops the thread before it goes")
                }
            };
            self.in_hand = None;
            if let Some(renewal) = renewal {
                return LoopEnd::Renewed(renewal);
            }
        }
    }

    fn failed(&mut self, problem: &str) {
        let Hardware {
            health, engines, ..
        } = &*self.parts.hardware;
        let failure: ThreadFailure = health.note_governing(Self::NAME, problem);
        for engine in engines.all() {
            engine.fail(failure.clone());
        }
        log::error(&failure);
    }
}

impl State {
    fn now(&self) -> Moment {
        self.parts.hardware.clock.now()
    }

    /// The time to the next look, or to when without one the policy says something else, or a lost device is
    /// due.
    fn look_after(&self) -> Duration {
        let now = self.now();
        // While all work is stopped no device is tried.
        let is_shut = self.parts.hardware.gate.is_shut(Whose::Owner);
        let due = self.recovery.due().filter(|_| !is_shut);
        let earlier = [self.changes_at, due].into_iter().flatten();
        let next = earlier.fold(self.look_at(), Moment::min);
        next.since(now)
    }

    /// When the next look is due: at once, where what is stopped or idle goes on and the last was
    /// long ago.
    fn look_at(&self) -> Moment {
        let every = self.look_every();
        let after = |looked: Moment| looked.after(every);
        self.looked_at.map_or(Moment::default(), after)
    }

    fn look_every(&self) -> Duration {
        let begins = self.now() < Moment::default().after(BEGINS_FOR);
        match (self.manual, begins || self.parts.hardware.engines.is_busy()) {
            (Manual::Paused | Manual::Snoozed { .. }, _) => LOOK_EVERY_STOPPED,
            (_, true) => LOOK_EVERY,
            (_, false) => LOOK_EVERY_IDLE,
        }
    }

    /// Words that come one after another keep it from no look.
    fn look_if_due(&mut self) {
        if self.look_at() <= self.now() {
            self.look();
        }
    }

    fn heeds_load(&self) -> bool {
        self.parts.settings.limits.enable_auto_throttle
    }

    fn look(&mut self) {
        let heeds_load = self.heeds_load();
        let Parts {
            senses,
            settings,
            peers,
            process,
            hardware,
        } = &mut self.parts;
        self.seen = senses.observe(&settings.policy, heeds_load);
        if let Some(asked) = peers {
            match contain(|| asked.look(hardware.engines.is_busy())) {
                Ok(seen) => self.told_peers = seen,
                Err(problem) => {
                    self.told_peers.tell_no_more(&problem);
                    let _ = contain(|| drop(peers.take()));
                }
            }
            // What they take is under the caps that this process shares with them.
            let theirs = self.told_peers.cpu_share();
            let others = self.seen.others_cpu;
            self.seen.others_cpu = others.map(|others| (others - theirs).max(0.0));
        }
        self.seen_peers = self.told_peers.clone();
        let others = process.others(&hardware.gate);
        let saw = std::mem::replace(&mut self.saw_others, !others.is_empty());
        self.beside_others = saw || self.saw_others;
        self.seen_peers.peers.extend(others);
        self.looked_at = Some(self.now());
    }

    fn hear(&mut self, command: Command) {
        let settings = &mut self.parts.settings;
        match command {
            Command::Settings(asked, answer) => {
                self.in_hand = Some(Arc::new(answer));
                self.governor.set_policy(asked.policy.clone());
                *settings = *asked;
                // What the other policy asks for may not have been looked at.
                self.parts.senses.look_anew();
                self.looked_at = None;
            }
            Command::Limits(limits, answer) => {
                self.in_hand = Some(Arc::new(answer));
                settings.away = limits.clone();
                settings.limits = limits;
            }
            Command::Manual(manual, answer) => {
                self.in_hand = Some(Arc::new(answer));
                match manual {
                    Manual::Finishing => (self.manual, self.finishing) = (Manual::Run, true),
                    Manual::Run => (self.manual, self.finishing) = (manual, false),
                    Manual::Paused | Manual::Snoozed { .. } => self.manual = manual,
                }
            }
            Command::Joined(answer) => self.in_hand = Some(Arc::new(answer)),
            Command::Stop(_) => unreachable!("it ends by that"),
            #[cfg(test)]
            Command::Panic => panic!("as a test asked"),
        }
    }

    /// Asks the policy and holds what it says. Gives the renewal of threads that this asks for.
    fn rule(&mut self) -> Option<Renewal> {
        let now = self.now();
        if matches!(self.manual, Manual::Snoozed { until } if until <= now) {
            self.manual = Manual::Run;
        }
        let settings = &self.parts.settings;
        let situation = Situation {
            now,
            manual: self.manual,
            heeds_load: self.heeds_load(),
            caps: Caps {
                present: settings.limits.max_compute_usage_percent,
                away: settings.away.max_compute_usage_percent,
            },
            observation: &self.seen,
        };
        let mut decision = self.governor.decide(&situation);
        let stops = Stops::of(&decision, self.governor.window_changes_by(&situation));
        decision.admits &= !self.finishing;
        self.changes_at = decision.until;
        let limits = match decision.profile {
            Profile::Present => settings.limits.clone(),
            Profile::Away => settings.away.clone(),
        };
        let renewal = self.hold(&decision, stops, limits);
        if !self.parts.hardware.gate.is_shut(Whose::Owner) {
            self.recovery.look(&self.parts.hardware);
        }
        renewal
    }

    fn hold(
        &mut self,
        decision: &Decision,
        stops: Stops,
        limits: ResourceConfig,
    ) -> Option<Renewal> {
        let hardware = Arc::clone(&self.parts.hardware);
        let ruling = ruling(decision, &limits, self.seen_peers.sharers());
        let is_shut = || Each::of(|whose| hardware.gate.is_shut(whose));
        let was_shut = is_shut();
        let rule = Rule {
            shut: Each::of(|whose| stops.each.its(whose).is_some()),
            owner_first: stops.owner_first,
            by_hand: self.manual != Manual::Run,
            admits: decision.admits,
        };
        let before = self.holding.load_full();
        let (shares, shares_before) = (shares(&ruling), shares(&before.ruling));
        // A class that is shut goes by no share, so that none goes by another's for a moment.
        if rule.shut.guest {
            hardware.gate.rule(rule);
        }
        // A share that stays the same ends no rest.
        if shares != shares_before {
            hardware.set_shares(shares);
        }
        hardware.gate.rule(rule);
        // Others may have given some back at any moment, to which no look need have been witness.
        let mut room_changed = self.beside_others;
        for memory in &hardware.memories {
            // What other machines of this process hold, the ledger counts itself.
            let theirs = Bytes(self.told_peers.bytes_in(&memory.name));
            let cap = memory.cap(&limits, theirs);
            // Above a lowered cap, what is kept for requests to come goes.
            room_changed |= cap > memory.ledger.cap() || cap < memory.ledger.used();
            memory.ledger.set_cap(cap);
        }
        let is_news = before.limits != limits
            || !before.stops.are_as(&stops)
            || self.in_hand.is_some()
            || self.unsent;
        self.renews |= !hardware.threads.set_limits(&limits);
        self.holding.store(Arc::new(Holding {
            settings: self.parts.settings.clone(),
            limits: limits.clone(),
            ruling: ruling.clone(),
            stops: stops.clone(),
            absent: self.parts.senses.absent(),
            peers: self.seen_peers.clone(),
        }));
        let is_shut = is_shut();
        let opens = was_shut.owner && !is_shut.owner || was_shut.guest && !is_shut.guest;
        if room_changed || opens {
            hardware.engines.ring();
        }
        let renewal = is_news.then(|| self.order(limits, stops)).flatten();
        // A log that takes its time delays nothing that holds.
        tell_of(&before.ruling, &ruling);
        renewal
    }

    /// Has the engines go by other limits. Threads that could not be given their priorities are
    /// replaced by fresh ones, this one too.
    fn order(&mut self, limits: ResourceConfig, stops: Stops) -> Option<Renewal> {
        let waited_for = self.in_hand.is_some();
        self.unsent = !waited_for && self.ordered.strong_count() > 0;
        if self.unsent {
            return None;
        }
        let renewal = self.in_hand.clone().unwrap_or_else(|| Arc::new(()));
        if !waited_for {
            self.ordered = Arc::downgrade(&renewal);
        }
        let renews = std::mem::take(&mut self.renews);
        let hardware = &self.parts.hardware;
        if renews {
            for device in &hardware.devices {
                // Where another renewal waits already, the next order tries again.
                let told = device.driver.renew(Arc::clone(&renewal));
                self.renews |= told.is_err();
            }
            self.unsent = self.renews;
        }
        for engine in hardware.engines.all() {
            let order = Order {
                limits: limits.clone(),
                stops: stops.clone(),
                renews,
                done: Arc::clone(&renewal),
            };
            // An engine that has ended has nothing to hold.
            let _ = engine.send(Message::Order(order));
        }
        renews.then_some(renewal)
    }
}

/// Nothing against taking all.
fn open() -> Decision {
    Decision {
        profile: Profile::Present,
        verdict: Verdict::Open,
        owner: Verdict::Open,
        admits: true,
        until: None,
    }
}

/// What holds of a decision where so many processes share the machine's time.
fn ruling(decision: &Decision, limits: &ResourceConfig, sharers: usize) -> Ruling {
    let share =
        |verdict: &Verdict| verdict.share(limits.max_compute_usage_percent) / sharers as f64;
    Ruling {
        profile: decision.profile,
        verdict: decision.verdict.clone(),
        compute_share: share(&decision.verdict),
        owner: OwnerRuling {
            verdict: decision.owner.clone(),
            compute_share: share(&decision.owner),
        },
        admits: decision.admits,
    }
}

/// The shares that devices work by. While guests are shut out nothing is done for them, and what is done for
/// all goes by the owner's.
fn shares(ruling: &Ruling) -> Each<f64> {
    let owner = ruling.owner.compute_share;
    let guest = match ruling.verdict {
        Verdict::Shut(_) => owner,
        Verdict::Open | Verdict::Limited { .. } => ruling.compute_share,
    };
    Each { owner, guest }
}

/// Tells an operator when less may be taken than before, or more, and why; not of every figure.
fn tell_of(before: &Ruling, after: &Ruling) {
    let kind = |verdict: &Verdict| match verdict {
        Verdict::Open => ("open", Vec::new()),
        Verdict::Limited { why, .. } => ("limited", why.iter().map(|why| why.name()).collect()),
        Verdict::Shut(why) => ("shut", vec![why.name()]),
    };
    let kinds = |ruling: &Ruling| (kind(&ruling.verdict), kind(&ruling.owner.verdict));
    if kinds(before) == kinds(after) {
        return;
    }
    let percent = |share: f64| share * 100.0;
    match (&after.verdict, &after.owner.verdict) {
        (Verdict::Open, _) => log::info(&"going on as the limits allow"),
        (Verdict::Limited { share, why }, _) => {
            let why: Vec<_> = why.iter().map(ToString::to_string).collect();
            let (share, why) = (percent(*share), why.join("; "));
            log::info(&format_args!("taking {share:.0} % of the processor: {why}"));
        }
        (Verdict::Shut(why), Verdict::Shut(_)) => log::warn(&format_args!("stopped: {why}")),
        (Verdict::Shut(why), Verdict::Open | Verdict::Limited { .. }) => {
            let share = percent(after.owner.compute_share);
            log::warn(&format_args!(
                "guests' requests are stopped: {why}; the owner's may take {share:.0} % of the processor"
            ));
        }
    }
}
