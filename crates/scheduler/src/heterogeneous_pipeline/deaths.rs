//! Threads that are killed at any moment of a pipeline's life, from its opening to its end. Whatever
//! dies and whenever, nobody waits for ever, no limit is said to hold that nobody holds, the death has
//! a name in the status, and nothing is left of the machine once it is closed.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures_executor::block_on;
use futures_util::future::join_all;
use gogrid_lease::{Kind, Ledger};
use gogrid_pipeline::{
    Backend, BlockId, Footprint, Input, LayerKv, Opening, OutputBuf, PlacedSpan, Stage, StageError,
    Step, Ticket,
};
use gogrid_testkit::Rng;
use gogrid_testkit::fakes::{FakeBackend, FakeModel};
use gogrid_units::Span;

use super::tests::{collect, free, greedy, next_given, request};
use super::*;
use crate::fixture::{TestDevice, TestMachine, model_claiming};
use crate::generation::Event;
use crate::opening::Opener;

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dies {
    Nothing,
    Engine,
    Observer,
    Driver,
    Spawner,
    /// The one that is in the middle of a text then, or the next that is.
    TextWorker,
    /// The thread that calls into a device at that moment: the loader as it opens or times stages,
    /// the mover as it opens, copies or drops them, a driver inside a stage.
    TheCaller,
}

const DIES: [Dies; 6] = [
    Dies::Engine,
    Dies::Observer,
    Dies::Driver,
    Dies::Spawner,
    Dies::TextWorker,
    Dies::TheCaller,
];

/// When it dies: at the n-th call into the devices, or before the n-th step of the story below.
#[derive(Clone, Copy, Debug)]
enum When {
    Call(u64),
    Chapter(usize),
}

/// Counts the calls into devices, and kills at one of them.
struct Trap {
    dies: Dies,
    when: When,
    calls: AtomicU64,
    has_struck: AtomicBool,
    /// How far the story has come.
    chapter: AtomicU64,
    machine: OnceLock<Weak<Machine>>,
    /// Kills a thread that tokenises, once there is a pipeline.
    text_killer: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// The machine, where the trap has looked at it, until the test lets it go.
    kept: Mutex<Vec<Arc<Machine>>>,
}

impl Trap {
    fn call(&self) {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        if matches!(self.when, When::Call(at) if at == number) && !std::thread::panicking() {
            self.strike();
        }
    }

    fn chapter(&self, number: usize) {
        self.chapter.store(number as u64, Ordering::SeqCst);
        // Between two calls nobody is inside a device.
        let strikes = matches!(self.when, When::Chapter(at) if at == number);
        if strikes && self.dies != Dies::TheCaller {
            self.strike();
        }
    }

    fn strike(&self) {
        let machine = self.machine.get().and_then(Weak::upgrade);
        if self.dies == Dies::TheCaller {
            // The devices themselves end with the machine, on the thread that drops it.
            let thread = std::thread::current();
            if !thread
                .name()
                .is_some_and(|name| name.starts_with("gogrid-"))
            {
                return;
            }
            // Not the last to hold it, whose own drop would be cut short.
            drop(machine);
            self.has_struck.store(true, Ordering::SeqCst);
            panic!("struck, as a test asked");
        }
        let Some(machine) = machine else { return };
        let engines = machine.hardware.engines.all();
        match self.dies {
            Dies::Nothing => return,
            Dies::Engine => match engines.first() {
                Some(engine) => drop(engine.send(Message::Panic)),
                None => return,
            },
            Dies::Observer => machine.kill_observer(),
            Dies::Driver => machine.hardware.devices[1].driver.inject_panic(),
            Dies::Spawner => machine.hardware.threads.kill_spawner(),
            Dies::TextWorker => match self.text_killer.get() {
                Some(kill) => kill(),
                None => return,
            },
            Dies::TheCaller => unreachable!("it was struck above"),
        }
        self.has_struck.store(true, Ordering::SeqCst);
        // This may be a thread of the machine, which must not be the one that drops it.
        self.kept().push(machine);
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Arc<Machine>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A device that tells a trap of each call.
struct Trapped<T: ?Sized> {
    trap: Arc<Trap>,
    inner: Box<T>,
}

impl Backend for Trapped<FakeBackend> {
    fn check(&self, model: &Model, span: Span) -> Result<(), StageError> {
        self.inner.check(model, span)
    }

    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        self.trap.call();
        self.inner.predict(model, span, rows_max)
    }

    fn open(&mut self, opening: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        self.trap.call();
        let inner = self.inner.open(opening)?;
        let trap = Arc::clone(&self.trap);
        Ok(Box::new(Trapped { trap, inner }))
    }
}

impl<T: ?Sized> Drop for Trapped<T> {
    fn drop(&mut self) {
        self.trap.call();
    }
}

impl Stage for Trapped<dyn Stage> {
    fn footprint(&self) -> Footprint {
        self.trap.call();
        self.inner.footprint()
    }

    fn depth(&self) -> usize {
        self.trap.call();
        self.inner.depth()
    }

    fn submit(&mut self, step: &Arc<Step>, input: Input<'_>) -> Result<Ticket, StageError> {
        self.trap.call();
        self.inner.submit(step, input)
    }

    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>> {
        self.trap.call();
        self.inner.poll(ticket, out)
    }

    fn release(&mut self, group: usize, blocks: &[BlockId]) {
        self.trap.call();
        self.inner.release(group, blocks);
    }

    fn export(&mut self, group: usize, block: BlockId) -> Result<Vec<LayerKv>, StageError> {
        self.trap.call();
        self.inner.export(group, block)
    }

    fn import(
        &mut self,
        group: usize,
        block: BlockId,
        layers: &[LayerKv],
    ) -> Result<(), StageError> {
        self.trap.call();
        self.inner.import(group, block, layers)
    }

    fn renew_threads(&mut self, renewals: u64) {
        self.trap.call();
        self.inner.renew_threads(renewals);
    }
}

/// What is left to look at when all is closed.
struct Remains {
    ledger: Ledger,
    threads: Box<dyn Fn() -> usize + Send>,
}

/// A pipeline's life, and what it has to be like.
struct Story {
    trap: Arc<Trap>,
    machine: Arc<Machine>,
    model: Arc<Model>,
    fake: FakeModel,
    is_timed: bool,
}

const CHAPTERS: usize = 12;

impl Story {
    fn begin(trap: Arc<Trap>, is_timed: bool) -> Self {
        let device = |core| {
            let trap = Arc::clone(&trap);
            TestDevice::cpu(core, move |loan| {
                let trap = Arc::clone(&trap);
                let inner = Box::new(FakeBackend::new(loan.memory));
                Box::new(Trapped { trap, inner }) as Box<dyn Backend>
            })
        };
        let machine = TestMachine::of(vec![device(0), device(1)]).open(&free());
        let _ = trap.machine.set(Arc::downgrade(&machine));
        let model = model_claiming(texts::CONTEXT);
        let fake = FakeModel::of(model.decoder());
        if !is_timed {
            // Known already, also where the model is placed anew.
            let hardware = Arc::clone(&machine.hardware);
            Opener::new(hardware, Arc::clone(&model), free()).know_costs(&[1e-3, 1e-3]);
        }
        Self {
            trap,
            machine,
            model,
            fake,
            is_timed,
        }
    }

    fn cut(&self, at: usize) -> Vec<PlacedSpan> {
        let layers = self.model.decoder().layers.len();
        let (front, back) = Span::whole_model(layers).split_at(at);
        let stages = [(0, front), (1, back)];
        stages
            .map(|(device, span)| PlacedSpan { device, span })
            .to_vec()
    }

    fn open(&self) -> Result<HeterogeneousPipeline, OpenError> {
        let plan = (!self.is_timed).then(|| self.cut(3));
        let (machine, model) = (Arc::clone(&self.machine), Arc::clone(&self.model));
        let options = Options { plan, ..free() };
        let threads = self.machine.hardware.threads.clone();
        threads.on_loader(move || HeterogeneousPipeline::under(&machine, model, &options))
    }

    /// Lives through it, and gives what may be looked at when it is over.
    fn live(self) -> Remains {
        let remains = Remains {
            ledger: self.machine.hardware.memories[0].ledger.clone(),
            threads: Box::new(self.machine.hardware.threads.count()),
        };
        self.trap.chapter(0);
        match self.open() {
            Ok(pipeline) => {
                let killer = Box::new(pipeline.text_workers.killer());
                let _ = self.trap.text_killer.set(killer);
                block_on(self.tell(&pipeline));
                self.trap.chapter(CHAPTERS - 1);
                drop(pipeline);
            }
            Err(error) => self.check_excused(&error.to_string()),
        }
        self.check_seen();
        remains
    }

    async fn tell(&self, pipeline: &HeterogeneousPipeline) {
        self.trap.chapter(1);
        let running = pipeline.generate(request(vec![1; 40], 30)).await;
        let waiting = pipeline.generate(request(vec![2; 70], 20)).await;
        self.trap.chapter(2);
        let running = self.first_token(running).await;
        self.trap.chapter(3);
        self.set_limits(pipeline, 19).await;
        self.trap.chapter(4);
        self.check_held(pipeline.pause().await);
        self.trap.chapter(5);
        self.check_held(pipeline.resume().await);
        self.trap.chapter(6);
        if let Err(error) = pipeline.move_to(self.cut(4)).await {
            self.check_excused(&error.to_string());
        }
        self.trap.chapter(7);
        if let Some((generation, first)) = running {
            let whole = greedy(&self.fake, &[1; 40], 30);
            self.check_end(collect(generation).await, &whole[first..]);
        }
        match waiting {
            Ok(waiting) => {
                let whole = greedy(&self.fake, &[2; 70], 20);
                self.check_end(collect(waiting).await, &whole);
            }
            Err(refusal) => self.check_excused(&refusal.to_string()),
        }
        self.set_limits(pipeline, 18).await;
        self.trap.chapter(8);
        if let Err(error) = pipeline.score(vec![3; 50], Whose::Guest).await {
            self.check_excused(&error.to_string());
        }
        pipeline.throttle_if_needed().await;
        if matches!(self.trap.when, When::Chapter(_)) {
            self.tokenize(pipeline).await;
        }
        pipeline.cancel_all().await;
        drop(pipeline.status().await);
    }

    /// Long texts, two that are worked on and one that waits for that: in the middle of a pause, and
    /// when it is over.
    async fn tokenize(&self, pipeline: &HeterogeneousPipeline) {
        self.check_held(pipeline.pause().await);
        let mut ended = Vec::new();
        let mut waiting: Vec<_> = (0..3)
            .map(|_| Box::pin(pipeline.generate(texts::long())))
            .collect();
        let mut context = Context::from_waker(Waker::noop());
        waiting.retain_mut(|text| match text.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => {
                ended.push(outcome);
                false
            }
            Poll::Pending => true,
        });
        self.trap.chapter(9);
        self.check_held(pipeline.resume().await);
        self.trap.chapter(10);
        ended.extend(join_all(waiting).await);
        for outcome in ended {
            match outcome {
                // It has more tokens than fit, which nobody knows before they are counted.
                Err(Refusal::PromptTooLong { .. }) => {}
                Err(refusal) => self.check_excused(&refusal.to_string()),
                Ok(_) => panic!("it does not fit, {}", self.what()),
            }
        }
    }

    /// The first tokens of a generation, and how many.
    async fn first_token(
        &self,
        admitted: Result<Generation, Refusal>,
    ) -> Option<(Generation, usize)> {
        let mut generation = match admitted {
            Ok(generation) => generation,
            Err(refusal) => {
                self.check_excused(&refusal.to_string());
                return None;
            }
        };
        match next_given(&mut generation).await {
            Some(Ok(Event::Delta { ids, .. })) => {
                let whole = greedy(&self.fake, &[1; 40], 30);
                assert_eq!(ids, whole[..ids.len()], "{}", self.what());
                Some((generation, ids.len()))
            }
            Some(Err(error)) => {
                self.check_excused(&error.to_string());
                None
            }
            other => panic!("{other:?}, {}", self.what()),
        }
    }

    /// Limits that are said to hold are those that were asked for.
    async fn set_limits(&self, pipeline: &HeterogeneousPipeline, process_priority: i32) {
        let limits = ResourceConfig {
            process_priority,
            ..free().limits
        };
        let set = pipeline.set_limits(limits.clone()).await;
        if set.is_ok() {
            assert_eq!(pipeline.settings().limits, limits, "{}", self.what());
        }
        self.check_held(set);
    }

    fn check_held(&self, change: Result<(), crate::ChangeError>) {
        if let Err(error) = change {
            let is_dead = self.machine.hardware.health.governing().is_some();
            assert!(is_dead, "{error}, {}", self.what());
        }
    }

    /// Tokens are the model's, whatever else happens; an error has a reason.
    fn check_end(&self, outcome: super::tests::Outcome, expected: &[u32]) {
        match outcome {
            Ok((ids, ..)) => assert_eq!(ids, expected, "{}", self.what()),
            Err(error) => self.check_excused(&error.to_string()),
        }
    }

    /// Nothing fails where nothing was killed, and what fails says what was.
    fn check_excused(&self, error: &str) {
        let struck = self.trap.has_struck.load(Ordering::SeqCst);
        assert!(struck, "{error}, {}", self.what());
        let words = [
            "ended", "panicked", "stopped", "failed", "started", "lost", "refuses",
        ];
        let names_it = words.iter().any(|word| error.contains(word));
        assert!(names_it, "{error}, {}", self.what());
    }

    /// The death has a name, once, and limits that nobody holds are not said to hold.
    fn check_seen(&self) {
        let health = &self.machine.hardware.health;
        let struck = self.trap.has_struck.load(Ordering::SeqCst);
        let name = match self.trap.dies {
            Dies::Engine => Some("engine"),
            Dies::Observer => Some("observer"),
            Dies::Driver => Some("cpu:1 driver"),
            _ => None,
        };
        // An engine whose pipeline is gone may have ended before it heard.
        let must_show = struck && matches!(self.trap.dies, Dies::Observer | Dies::Driver);
        while must_show && health.failures().is_empty() {
            std::thread::yield_now();
        }
        let named: Vec<_> = health.failures().into_iter().map(|f| f.thread).collect();
        let expected: Vec<_> = name.into_iter().collect();
        assert!(named.len() <= 1, "{named:?}, {}", self.what());
        assert!(
            named.is_empty() || named == expected,
            "{named:?}, {}",
            self.what()
        );
        if self.trap.dies == Dies::Observer && struck {
            assert!(
                self.machine.hardware.gate.is_shut(Whose::Owner),
                "{}",
                self.what()
            );
            assert_eq!(self.machine.ruling().compute_share, 0.0, "{}", self.what());
            let refused = block_on(self.machine.set_limits(free().limits));
            assert!(refused.is_err(), "{}", self.what());
        }
        if self.trap.dies == Dies::Spawner && struck {
            let ended = |line: &String| line.contains("spawner: it has ended");
            while !block_on(self.machine.status())
                .not_enforced
                .iter()
                .any(ended)
            {
                std::thread::yield_now();
            }
        }
    }

    fn what(&self) -> String {
        let Trap { dies, when, .. } = &*self.trap;
        let timed = if self.is_timed {
            "timed"
        } else {
            "placed by hand"
        };
        format!("{dies:?} at {when:?}, {timed}")
    }
}

/// One life; gives how many calls there were into devices. A case that hangs fails by name.
fn check_life(dies: Dies, when: When, is_timed: bool) -> u64 {
    let trap = Arc::new(Trap {
        dies,
        when,
        calls: AtomicU64::new(0),
        has_struck: AtomicBool::new(false),
        chapter: AtomicU64::new(0),
        machine: OnceLock::new(),
        text_killer: OnceLock::new(),
        kept: Mutex::default(),
    });
    let (tell, told) = sync_channel(1);
    let its = Arc::clone(&trap);
    let life = std::thread::spawn(move || {
        let story = Story::begin(Arc::clone(&its), is_timed);
        let what = story.what();
        let remains = story.live();
        // A thread that died is joined by nobody.
        while (remains.threads)() > 0 {
            its.kept().clear();
            std::thread::yield_now();
        }
        its.kept().clear();
        for kind in [Kind::Weights, Kind::Kv, Kind::Scratch] {
            assert_eq!(
                remains.ledger.used_by(kind),
                Bytes::ZERO,
                "{kind:?}, {what}"
            );
        }
        let _ = tell.send(());
    });
    match told.recv_timeout(Duration::from_secs(30)) {
        Ok(()) => life.join().expect("it has told that all is well"),
        Err(RecvTimeoutError::Disconnected) => {
            let failed = life.join().expect_err("it told nothing");
            std::panic::resume_unwind(failed);
        }
        Err(RecvTimeoutError::Timeout) => {
            let chapter = trap.chapter.load(Ordering::SeqCst);
            panic!("somebody waits for ever in chapter {chapter}: {dies:?} at {when:?}")
        }
    }
    trap.calls.load(Ordering::SeqCst)
}

/// Every thread, before every chapter.
#[test]
fn whatever_dies_between_two_calls_is_seen_and_keeps_nobody_waiting() {
    for dies in DIES {
        for chapter in 0..CHAPTERS {
            check_life(dies, When::Chapter(chapter), false);
        }
    }
}

/// Every thread, at calls into the devices that a seed chooses.
#[test]
fn whatever_dies_at_any_call_into_a_device_is_seen_and_keeps_nobody_waiting() {
    let mut rng = Rng::new(11);
    for (is_timed, cases) in CASES {
        let calls = check_life(Dies::Nothing, When::Call(u64::MAX), is_timed) as usize;
        for dies in DIES {
            for _ in 0..cases {
                check_life(dies, When::Call(rng.below(calls) as u64), is_timed);
            }
        }
    }
}

/// Whether pieces are timed as the model is opened, which takes most of a second, and how many moments
/// are tried for each thread then.
const CASES: [(bool, usize); 2] = [(false, 40), (true, 3)];
