//! How the stages of a pipeline come to stand elsewhere while requests run: layers that are moved,
//! with the keys and values of what runs, and a model that is placed anew when a device is lost.
//!
//! A thread of its own does all that takes time: it opens the stages, asks the engine to hold still,
//! copies blocks from the old stages to the new ones, and hands the new line to the engine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gogrid_lease::{Lease, Permits};
use gogrid_pipeline::{
    BlockId, LayerKv, PlacedSpan, PlacedStage, RetiringStages, Runner, StageError,
};
use gogrid_units::{Moment, contain};

use super::inbox::{EngineInbox, Message};
use super::placement::{Placement, Standing};
use crate::core::Layout;
use crate::error::{GenerateError, OpenError, Refusal};
use crate::limits::{RETRY_LOST_AFTER_MAX, RETRY_LOST_AFTER_MIN};
use crate::log;
use crate::machine::{CachesOff, Crew, ThreadPlace};
use crate::opening::Opener;
use crate::placing::check_line;

/// What a thread that moves layers is called.
const NAME: &str = "mover";

/// Asks the engine to begin no step, and to give its stages up when none is in flight.
pub(crate) struct HoldStill {
    /// Where they stand, as the move began.
    pub(crate) before: Arc<Placement>,
    /// Where the stages will stand: sequences lease what they need there first.
    pub(crate) layout: Layout,
    pub(crate) answer: SyncSender<Result<StillHeld, Refusal>>,
}

/// What an engine that holds still gives up.
pub(crate) struct StillHeld {
    pub(crate) stages: RetiringStages,
    /// By KV group, the blocks in which some row was written.
    pub(crate) blocks: Vec<Vec<BlockId>>,
}

/// Where the stages of an engine stand from here on.
pub(crate) enum Relocated {
    /// Elsewhere, with the keys and values of all that runs.
    Moved(Standing),
    /// Where they stood before, with all they held.
    Unmoved(Standing),
    /// Elsewhere, without keys and values.
    Replaced(Standing),
    /// Nowhere.
    Failed(GenerateError),
}

/// Moves the layers of one pipeline, one move at a time.
pub(crate) struct Relocator {
    opener: Arc<Opener>,
    inbox: EngineInbox,
    crew: Crew,
    moves: Permits,
    turns: Mutex<()>,
    /// Whether the stages stand where they do because a device was lost.
    is_displaced: AtomicBool,
    /// A lock, held to look or to change it.
    retry: Mutex<Retry>,
}

/// The turn of a thread that opens stages.
struct Turn<'a> {
    _turn: MutexGuard<'a, ()>,
    _caches: CachesOff,
}

/// When a return that failed is tried again: after a second, and then after twice as long each time.
#[derive(Default)]
struct Retry {
    wait: Duration,
    at: Option<Moment>,
}

/// The stages of a new line: those that stay as they are, by their index in the old line, and those
/// that were opened.
enum NewStage {
    Kept(usize),
    Opened(PlacedStage),
}

impl Relocator {
    pub(crate) fn new(
        opener: Arc<Opener>,
        inbox: EngineInbox,
        place: Option<ThreadPlace>,
    ) -> Arc<Self> {
        Arc::new(Self {
            crew: Crew::new(NAME, opener.hardware.threads.clone(), place),
            opener,
            inbox,
            moves: Permits::new(1),
            turns: Mutex::default(),
            is_displaced: AtomicBool::new(false),
            retry: Mutex::default(),
        })
    }

    /// Has the stages stand at `spans`, between two steps. `done` is called with how it went.
    pub(crate) fn move_to(
        self: &Arc<Self>,
        spans: Vec<PlacedSpan>,
        done: impl FnOnce(Result<(), OpenError>) + Send + 'static,
    ) {
        let Some(permit) = self.moves.take() else {
            let why = "layers are being moved already".to_owned();
            return done(Err(OpenError::NotMoved(why)));
        };
        let relocator = Arc::clone(self);
        let work = move || {
            let turn = relocator.turn();
            let moved = guarded(|| relocator.relocate(spans));
            if moved.is_ok() {
                // They stand where a caller wants them.
                relocator.is_displaced.store(false, Ordering::Release);
            }
            drop(turn);
            drop(permit);
            done(moved);
        };
        // Where no thread can be started, `done` is dropped, and its caller hears that.
        let _ = self.crew.start(work);
    }

    /// Has the stages stand where they would if the model were opened now, between two steps. Where that
    /// cannot be, they stay where they are, or stand nowhere as before, and it is tried again later.
    pub(crate) fn go_back(self: &Arc<Self>) {
        let Some(permit) = self.moves.take() else {
            // The caller that moves them decides, if they are moved.
            return self.return_later();
        };
        let relocator = Arc::clone(self);
        let work = move || {
            let turn = relocator.turn();
            let moved = guarded(|| relocator.stand_as_at_first());
            if moved.is_ok() {
                // While another device is lost, its return may change the place again.
                let is_displaced = relocator.opener.hardware.degraded().is_some();
                relocator
                    .is_displaced
                    .store(is_displaced, Ordering::Release);
                *relocator.retry() = Retry::default();
            }
            drop((turn, permit));
            if let Err(problem) = moved {
                log::info(&format_args!(
                    "a device is back, and not used yet: {problem}"
                ));
                relocator.return_later();
            }
        };
        // Where no thread can be started, they stay for now.
        if self.crew.start(work).is_err() {
            self.return_later();
        }
    }

    /// Whether the stages stand where they do because a device was lost.
    pub(super) fn is_displaced(&self) -> bool {
        self.is_displaced.load(Ordering::Acquire)
    }

    /// When a return that failed is to be tried again.
    pub(crate) fn return_at(&self) -> Option<Moment> {
        self.retry().at
    }

    /// Whether a return that failed is to be tried again now; it is then no more due.
    pub(super) fn takes_return(&self, now: Moment) -> bool {
        self.retry().at.take_if(|at| *at <= now).is_some()
    }

    /// Has the engine ask again, later.
    fn return_later(&self) {
        let now = self.opener.hardware.clock.now();
        self.retry().fail(now);
        // It sleeps until then.
        self.inbox.ring();
    }

    fn retry(&self) -> MutexGuard<'_, Retry> {
        // Every write leaves it sound.
        self.retry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand_as_at_first(&self) -> Result<(), OpenError> {
        if self.inbox.placement().spans.is_empty() {
            let standing = self.opener.stand_first(&self.inbox)?;
            // Dropped when the engine goes on.
            let _ = self.tell(Relocated::Replaced(standing)).recv();
            return Ok(());
        }
        let spans = self.opener.first_spans()?;
        match spans == self.inbox.placement().spans {
            true => Ok(()),
            false => self.relocate(spans),
        }
    }

    /// Places the model anew on the devices that are left, after `lost` says what happened. What `old`
    /// holds, stages and leases, is free before the new stages are opened.
    pub(crate) fn recover(self: &Arc<Self>, old: (Runner, Vec<Lease>), lost: String) {
        let relocator = Arc::clone(self);
        let why = lost.clone();
        // Where no thread can be started, the one that starts them must not drop the runner: that
        // waits for drivers, which may wait for that thread.
        let old = Arc::new(Mutex::new(Some(old)));
        let its_old = Arc::clone(&old);
        let work = move || {
            let _turn = relocator.turn();
            let mut unsettled = Unsettled(Some(&relocator));
            let placed = guarded(|| {
                drop(
                    its_old
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .take(),
                );
                Ok(relocator.anew(&why))
            });
            // Where it panicked, the engine hears that it failed.
            if let Ok(relocated) = placed {
                unsettled.settle(relocated);
            }
        };
        if let Err(error) = self.crew.start(work) {
            let problem = format!("no thread to place it elsewhere: {error}");
            // On the engine's own thread, which hears of it at its next turn.
            drop(self.tell(Relocated::Failed(GenerateError::NoPlaceLeft {
                lost,
                problem,
            })));
        }
    }

    /// One at a time opens stages: a move that is opening its own holds memory that a recovery counts. Meanwhile
    /// nobody keeps what they may need.
    fn turn(&self) -> Turn<'_> {
        Turn {
            // It guards nothing but the turn.
            _turn: self.turns.lock().unwrap_or_else(PoisonError::into_inner),
            _caches: self.opener.hardware.engines.clear_caches(),
        }
    }

    /// Waits until no thread of it is left.
    pub(crate) fn join(&self) {
        self.crew.join();
    }

    /// Tells the engine where its stages stand. The answer is dropped when it goes on there, or when
    /// it has ended.
    fn tell(&self, relocated: Relocated) -> Receiver<()> {
        let (goes_on, answer) = sync_channel(0);
        // An engine that has ended has no stages.
        let _ = self
            .inbox
            .send(Message::Relocated(Box::new(relocated), goes_on));
        answer
    }

    fn relocate(&self, spans: Vec<PlacedSpan>) -> Result<(), OpenError> {
        check_line(&self.opener, &spans)?;
        let before = self.inbox.placement();
        let new = self.open_changed(&before, &spans)?;
        let footprints = new.iter().map(|stage| match stage {
            NewStage::Kept(index) => before.footprints[*index].clone(),
            NewStage::Opened(placed) => placed.stage.footprint(),
        });
        let mut placement = self.opener.placement(spans, footprints.collect());
        for (opening, stage) in placement.openings.iter_mut().zip(&new) {
            if let NewStage::Kept(index) = stage {
                *opening = before.openings[*index];
            }
        }
        let held = self.hold_still(&before, placement.layout.clone())?;
        let mut unsettled = Unsettled(Some(self));
        let old = held.stages.wait();
        if old.len() < before.spans.len() {
            drop((new, old));
            let why = "a stage or its driver failed meanwhile";
            unsettled.settle(self.anew(why));
            return Err(OpenError::NotMoved(why.to_owned()));
        }
        let (stages, error) = match guarded(|| Ok(self.put(new, old, &held.blocks))) {
            Ok(put) => put,
            Err(panicked) => {
                unsettled.settle(self.anew(&panicked.to_string()));
                return Err(panicked);
            }
        };
        let stood = match error {
            None => {
                let stood = self.opener.stand(placement, stages, &self.inbox);
                stood.map(Relocated::Moved)
            }
            Some(_) => {
                let before = Placement::clone(&before);
                let stood = self.opener.stand(before, stages, &self.inbox);
                stood.map(Relocated::Unmoved)
            }
        };
        let error = error.map(|error| error.to_string());
        let (relocated, failure) = match stood {
            Ok(relocated) => (relocated, error),
            Err(problem) => (self.anew(&problem.to_string()), Some(problem.to_string())),
        };
        unsettled.settle(relocated);
        failure.map_or(Ok(()), |why| Err(OpenError::NotMoved(why)))
    }

    /// The model placed anew, where nothing is left of the old line that could go on.
    fn anew(&self, lost: &str) -> Relocated {
        self.is_displaced.store(true, Ordering::Release);
        match self.opener.stand_anew(&self.inbox) {
            Ok(standing) => Relocated::Replaced(standing),
            Err(problem) => Relocated::Failed(GenerateError::NoPlaceLeft {
                lost: lost.to_owned(),
                problem: problem.to_string(),
            }),
        }
    }

    /// The stages of `spans`: one that stands in the same place already stays.
    fn open_changed(
        &self,
        before: &Placement,
        spans: &[PlacedSpan],
    ) -> Result<Vec<NewStage>, OpenError> {
        let stage = |span: &PlacedSpan| match before.spans.iter().position(|old| old == span) {
            Some(index) => Ok(NewStage::Kept(index)),
            None => {
                let opened = self.opener.open_stage(*span, &self.inbox)?;
                Ok(NewStage::Opened(opened))
            }
        };
        spans.iter().map(stage).collect()
    }

    fn hold_still(&self, before: &Arc<Placement>, layout: Layout) -> Result<StillHeld, OpenError> {
        let (answer, held) = sync_channel(1);
        let message = Message::HoldStill(HoldStill {
            before: Arc::clone(before),
            layout,
            answer,
        });
        let gone = || OpenError::NotMoved("the pipeline has stopped, or lost a device".to_owned());
        self.inbox.send(message).map_err(|_| gone())?;
        let held = held.recv().map_err(|_| gone())?;
        held.map_err(|refusal| OpenError::NotMoved(refusal.to_string()))
    }

    /// Copies what the opened stages need from the old ones, and puts the new line in order. Gives the
    /// old stages back, with the reason, where a block does not go over.
    fn put(
        &self,
        mut new: Vec<NewStage>,
        mut old: Vec<PlacedStage>,
        blocks: &[Vec<BlockId>],
    ) -> (Vec<PlacedStage>, Option<StageError>) {
        for (group, blocks) in blocks.iter().enumerate() {
            for &block in blocks {
                if let Err(error) = self.copy_block((group, block), &mut old, &mut new) {
                    discard(new);
                    return (old, Some(error));
                }
            }
        }
        let mut old: Vec<_> = old.into_iter().map(Some).collect();
        let stages = new.into_iter().map(|stage| match stage {
            NewStage::Kept(index) => old[index].take().expect("a span stands once in a line"),
            NewStage::Opened(placed) => placed,
        });
        let stages = stages.collect();
        discard(old);
        (stages, None)
    }

    fn copy_block(
        &self,
        (group, block): (usize, BlockId),
        old: &mut [PlacedStage],
        new: &mut [NewStage],
    ) -> Result<(), StageError> {
        let shape = &self.opener.shape;
        let opened = new.iter().filter_map(|stage| match stage {
            NewStage::Opened(placed) => Some(shape.layers_of(group, placed.span)),
            NewStage::Kept(_) => None,
        });
        let wanted: Vec<usize> = opened.flatten().collect();
        let mut layers: BTreeMap<usize, LayerKv> = BTreeMap::new();
        for placed in old {
            let has = shape.layers_of(group, placed.span);
            if has.iter().any(|layer| wanted.contains(layer)) {
                let held = placed.stage.export(group, block)?;
                layers.extend(held.into_iter().map(|kv| (kv.layer, kv)));
            }
        }
        for stage in new {
            let NewStage::Opened(PlacedStage { span, stage, .. }) = stage else {
                continue;
            };
            let wanted = shape.layers_of(group, *span);
            let its: Vec<_> = wanted
                .iter()
                .filter_map(|layer| layers.remove(layer))
                .collect();
            if !wanted.is_empty() {
                stage.import(group, block, &its)?;
            }
        }
        Ok(())
    }
}

impl Retry {
    fn fail(&mut self, now: Moment) {
        self.wait = (self.wait * 2).clamp(RETRY_LOST_AFTER_MIN, RETRY_LOST_AFTER_MAX);
        self.at = Some(now.after(self.wait));
    }
}

/// An engine that has given its stages up, and waits to hear where they stand. It hears that they
/// stand nowhere where this is dropped before.
struct Unsettled<'a>(Option<&'a Relocator>);

impl Unsettled<'_> {
    fn settle(&mut self, relocated: Relocated) {
        if let Some(relocator) = self.0.take() {
            // Dropped when the engine goes on.
            let _ = relocator.tell(relocated).recv();
        }
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.settle(Relocated::Failed(GenerateError::NoPlaceLeft {
            lost: "the stages were lost while layers moved".to_owned(),
            problem: "the thread that moved them has ended".to_owned(),
        }));
    }
}

/// Drops stages that are not needed, each by itself: a panic of one goes no further. What a function
/// is about to return is not dropped where a local value's drop panics.
fn discard<T>(stages: Vec<T>) {
    for stage in stages {
        // The panic hook has shown it.
        let _ = contain(|| drop(stage));
    }
}

/// Runs `work`; a panic in it is an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    contain(work).unwrap_or_else(|problem| {
        Err(OpenError::Device {
            device: NAME.to_owned(),
            problem: format!("its thread panicked: {problem}"),
        })
    })
}
