//! A model, spread over devices, that answers requests.

use std::collections::BTreeSet;
use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gogrid_lease::{Permit, Permits};
use gogrid_model::{Conversation, Model, ModelSource, OpenOptions};
use gogrid_units::{Bytes, Moment, OutOfMemory, Whose};

use crate::caller;
use crate::constraint::Constraint;
use crate::core::Beginning;
use crate::engine::{
    self, Ask, Engine, EngineParts, Listener, Matchers, Message, OTHER_EVENTS_MAX, Relocator,
    RingOnDrop, Seat, StatePlace, Stopped,
};
use crate::error::{OpenError, Refusal};
use crate::generation::{Event, Figures, Finish, Generation};
use crate::intake::{Intake, NoPrompt, Prepared, TextWorkers};
use crate::limits::{ASKS_MAX, OPENING_BYTES, QUEUED_MAX, RETRY_AFTER_MIN};
use crate::log;
use crate::machine::{Device, Machine, MachineOptions};
use crate::opening::Opener;
use crate::options::Options;
use crate::places::{Places, take_for};
use crate::request::GenerateRequest;
use crate::resource_manager::{ResourceConfig, ResourceStats};
use crate::status::{Prediction, Status};

/// A model whose stages stand on a machine's devices, and the engine that sends requests through
/// them. It is shared by reference; many requests may be in flight at once. Dropping it ends them with
/// [`GenerateError::Stopped`](crate::GenerateError::Stopped) and waits until every thread of its own has
/// ended; the last on its machine ends that too.
pub struct HeterogeneousPipeline {
    /// Ends first.
    engine: Option<Engine>,
    entered: u64,
    relocator: Arc<Relocator>,
    intake: Intake,
    text_workers: TextWorkers,
    matchers: Matchers,
    places: Permits,
    asks: Places,
    requests: AtomicU64,
    refused_memory: AtomicU64,
    machine: Arc<Machine>,
    /// Dropped after the model.
    _return: ReturnFreedBlocks,
}

/// Gives back what the allocator keeps of a model's many small blocks: its header and its tokenizer.
struct ReturnFreedBlocks;

impl Drop for ReturnFreedBlocks {
    fn drop(&mut self) {
        gogrid_host::return_freed_blocks();
    }
}

impl HeterogeneousPipeline {
    /// Opens `model`, a path or a shape, on `devices`, under `limits`, or the default ones, on a machine of
    /// its own. Loads the weights: takes seconds, in which the limit on compute is not held yet.
    pub fn new(
        devices: &[Device],
        model: impl Into<ModelSource>,
        limits: Option<ResourceConfig>,
    ) -> Result<Self, OpenError> {
        let limits = limits.unwrap_or_default();
        Self::open(
            devices,
            model,
            Options {
                limits,
                ..Options::default()
            },
        )
    }

    /// As [`new`](Self::new), with every option.
    pub fn open(
        devices: &[Device],
        model: impl Into<ModelSource>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let machine = Machine::open(devices, machine_options(&options))?;
        Self::open_on(&Arc::new(machine), model, &options)
    }

    /// Opens `model` on a machine, beside the others that are open there: together they
    /// keep to its limits. What of the options is the machine's (limits, policy, threads) is not
    /// looked at.
    pub fn open_on(
        machine: &Arc<Machine>,
        model: impl Into<ModelSource>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let model = Arc::new(open_model(&model.into(), options)?);
        let (machine, options) = (Arc::clone(machine), options.clone());
        let threads = machine.hardware.threads.clone();
        threads.on_loader(move || Self::under(&machine, model, &options))
    }

    /// Where the stages would stand and how fast they would be, without loading the weights.
    pub fn plan_only(
        devices: &[Device],
        model: impl Into<ModelSource>,
        options: &Options,
    ) -> Result<Prediction, OpenError> {
        let machine = Machine::open(devices, machine_options(options))?;
        Self::plan_on(&machine, model, options)
    }

    /// The same on a machine that is open, with what is free on it. Pieces that were timed for it are
    /// among the machine's [`known_costs`](Machine::known_costs) afterwards.
    pub fn plan_on(
        machine: &Machine,
        model: impl Into<ModelSource>,
        options: &Options,
    ) -> Result<Prediction, OpenError> {
        let model = Arc::new(open_model(&model.into(), options)?);
        let opener = Opener::new(Arc::clone(&machine.hardware), model, options.clone());
        machine.hardware.threads.on_loader(move || opener.foresee())
    }

    /// Opens a model on a machine; on the calling thread.
    pub(crate) fn under(
        machine: &Arc<Machine>,
        model: Arc<Model>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let hardware = Arc::clone(&machine.hardware);
        // Until its stages stand, nobody else keeps what they may need.
        let _caches = hardware.engines.clear_caches();
        let opener = Opener::new(Arc::clone(&hardware), Arc::clone(&model), options.clone());
        let opener = Arc::new(opener);
        let spans = opener.first_spans()?;
        let foreseen = opener.placement(spans.clone(), opener.predict(&spans));
        let name = (model.name().to_owned(), model.decoder().context);
        let (inbox, ears) = engine::channel(name, foreseen);
        let stages = opener.open_stages(&spans, &inbox)?;
        let footprints = stages.iter().map(|placed| placed.stage.footprint());
        let placement = opener.placement(spans, footprints.collect());
        let standing = opener.stand(placement, stages, &inbox)?;
        let thread_place = hardware.threads.place_of_model();
        let relocator = Relocator::new(Arc::clone(&opener), inbox.clone(), thread_place.clone());
        let text_workers = TextWorkers::new(&opener, inbox.clone(), thread_place.clone());
        let matchers = Matchers::new(&opener, inbox.clone(), thread_place.clone());
        let engine = Engine::start(EngineParts {
            hardware,
            inbox: inbox.clone(),
            ears,
            shape: opener.engine_shape(),
            limits: machine.settings().limits,
            standing,
            relocator: Arc::clone(&relocator),
            cost_keys: opener.cost_keys(),
            place: thread_place,
        });
        let engine = engine.map_err(|source| OpenError::NoThread {
            thread: "engine".to_owned(),
            source,
        })?;
        Ok(Self {
            entered: machine.enter(&inbox),
            engine: Some(engine),
            relocator,
            intake: Intake { model },
            text_workers,
            matchers,
            places: Permits::new(QUEUED_MAX as u32),
            asks: Places::new(ASKS_MAX),
            requests: AtomicU64::new(0),
            refused_memory: AtomicU64::new(0),
            machine: Arc::clone(machine),
            _return: ReturnFreedBlocks,
        })
    }

    /// The machine it stands on.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// The model it runs.
    pub fn model(&self) -> &Model {
        &self.intake.model
    }

    fn engine(&self) -> &engine::EngineInbox {
        let engine = self.engine.as_ref();
        engine
            .expect("it is there until the pipeline is dropped")
            .inbox()
    }

    /// Whether a request of this class would be taken now, before any work is done for it. Reserves nothing.
    pub fn check_admits(&self, whose: Whose) -> Result<(), Refusal> {
        self.check_accepts()?;
        self.place(whose).map(drop)
    }

    /// The whole way of a request: admits it or says why not, waits for its start, runs it, and
    /// streams what it generates. Resolves when it is admitted; waiting and running are the
    /// stream's. A text of more than 8 KiB is tokenised on a thread of the pipeline meanwhile, which
    /// dropping the future ends.
    pub async fn generate(&self, request: GenerateRequest) -> Result<Generation, Refusal> {
        let whose = request.whose;
        let (prompt, terms) = self.intake.terms(request, self.now())?;
        self.check_accepts()?;
        // From here on it counts among the requests that wait, with the text it holds.
        let place = self.place(whose)?;
        let prompt = match self.intake.prompt(prompt, whose, &self.text_workers).await {
            Ok(prompt) => prompt,
            Err(NoPrompt::Refused(refusal)) => return Err(self.counted(refusal)),
            Err(NoPrompt::Cancelled) => return Ok(self.cancelled()),
        };
        let prepared = self.intake.generation(prompt, terms)?;
        let room = prepared.task.adds() + OTHER_EVENTS_MAX;
        let (events, stream) = caller::events(room, self.engine().bell());
        let state = StatePlace::default();
        let listener = Listener::stream(events, state.clone());
        let prompt_tokens = prepared.prompt.rows.len();
        self.submit(prepared, place, listener)?;
        let bell = self.engine().bell();
        Ok(Generation::new(stream, state, prompt_tokens, bell))
    }

    /// The token ids of a text, on the calling thread: special tokens in it parsed, BOS before it where `bos` and the
    /// model say so.
    pub fn tokenize(&self, text: &str, bos: bool) -> Result<Vec<u32>, Refusal> {
        self.intake.tokenize(text, bos)
    }

    /// A conversation as the model's chat template writes it, up to where its ending says, on the
    /// calling thread.
    pub fn render_chat(&self, conversation: &Conversation) -> Result<String, Refusal> {
        let chat = self.intake.render(conversation)?;
        Ok(chat.text().to_owned())
    }

    /// Whether the model's chat template itself opens a thought at the end of a conversation, so
    /// that the answer begins inside of one. Found by rendering it, on the calling thread.
    pub fn opens_reasoning(&self, conversation: &Conversation) -> Result<bool, Refusal> {
        let chat = self.intake.render(conversation)?;
        Ok(chat.opens_reasoning())
    }

    /// Whether some device has room under its cap for `estimated_vram_bytes` more. Reserves
    /// nothing.
    pub async fn check_resource_limits(&self, estimated_vram_bytes: u64) -> Result<(), Refusal> {
        let placement = self.engine().placement();
        self.count_memory(placement.layout.room.check(Bytes(estimated_vram_bytes)))
    }

    /// Waits until a request may start, and marks the start. It is a credit that the next
    /// `generate` uses within a second. A caller that stops waiting takes no start; while 256 wait,
    /// others wait for a place among them first.
    pub async fn throttle_if_needed(&self) {
        // A caller that cannot be woken would wait for ever.
        let Ok(place) = self.asks.take().await else {
            return;
        };
        // Dropped after the answer's receiver, so that the engine wakes to a closed channel.
        let _ring = RingOnDrop(self.engine().bell());
        let (answer, start) = caller::answer();
        let ask = Ask {
            answer,
            _place: place,
        };
        if self.engine().send(Message::Ask(ask)).is_ok() {
            // An engine that stopped starts nothing, so there is nothing to wait for.
            let _ = start.await;
        }
    }

    /// What the starts came to.
    pub async fn get_resource_stats(&self) -> ResourceStats {
        self.engine().view().await.stats
    }

    /// Ends every request, waiting or running, with [`Finish::Cancelled`](crate::Finish).
    pub async fn cancel_all(&self) {
        // Texts first, so that none of them reaches the engine after it has heard of it.
        self.text_workers.cancel_all();
        // An engine that has ended has none.
        let _ = self.engine().tell(Message::CancelAll).await;
    }

    /// What it is, holds and does, with what its machine holds and does for all models.
    pub async fn status(&self) -> Status {
        let mut model = self.engine().status().await;
        self.machine.note_degraded(&mut model);
        let refused = self.refused_memory.load(Ordering::Relaxed);
        Status::of(self.machine.status_with(Vec::new()), model, refused)
    }

    fn submit(&self, prepared: Prepared, place: Permit, listener: Listener) -> Result<(), Refusal> {
        let Prepared {
            prompt,
            task,
            text,
            log_probs,
            urgency,
            constraint,
            cache_salt,
        } = prepared;
        let engine = self.engine();
        let placement = engine.placement();
        let room = &placement.layout.room;
        self.count_memory(room.refuse_what_never_fits(prompt.rows.len() + task.adds()))?;
        self.check_accepts()?;
        let whose = urgency.whose;
        let seat = constraint.map(|its| self.seat(its, whose)).transpose()?;
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        let beginning = Box::new(Beginning {
            id,
            prompt,
            task,
            text,
            asked: self.now(),
            log_probs,
            urgency,
            is_constrained: seat.is_some(),
            cache_salt,
        });
        let sent = engine.send(Message::Submit {
            beginning,
            place,
            listener,
            seat,
        });
        sent.map_err(|Stopped| self.ended())
    }

    /// Refuses what comes where nothing is accepted any more.
    fn check_accepts(&self) -> Result<(), Refusal> {
        if let Some(failure) = self.engine().failure() {
            return Err(Refusal::ThreadFailed(failure.clone()));
        }
        match self.machine.hardware.gate.refuses() {
            true => Err(Refusal::Finishing),
            false => Ok(()),
        }
    }

    /// Why nothing is answered any more.
    fn ended(&self) -> Refusal {
        match self.engine().failure() {
            Some(failure) => Refusal::ThreadFailed(failure.clone()),
            None => Refusal::Stopped,
        }
    }

    fn place(&self, whose: Whose) -> Result<Permit, Refusal> {
        take_for(whose, &self.places).ok_or_else(|| self.too_many())
    }

    fn now(&self) -> Moment {
        self.machine.hardware.clock.now()
    }

    /// A matcher for a request with a constraint.
    fn seat(&self, constraint: Constraint, whose: Whose) -> Result<Seat, Refusal> {
        let seat = self.matchers.seat(constraint, whose)?;
        seat.ok_or_else(|| self.too_many())
    }

    fn too_many(&self) -> Refusal {
        let queued = QUEUED_MAX - self.places.available() as usize;
        let interval = Duration::from_millis(
            self.machine
                .hardware
                .threads
                .asked()
                .min_request_interval_ms,
        );
        // At most some hundreds.
        let retry_after = interval.saturating_mul(queued as u32);
        let retry_after = retry_after.max(RETRY_AFTER_MIN);
        Refusal::TooManyQueued {
            queued,
            retry_after,
        }
    }

    fn count_memory(&self, checked: Result<(), Refusal>) -> Result<(), Refusal> {
        checked.map_err(|refusal| self.counted(refusal))
    }

    /// Counts a refusal for want of memory.
    fn counted(&self, refusal: Refusal) -> Refusal {
        let of_memory = matches!(
            refusal,
            Refusal::MemoryCap { .. } | Refusal::NoRoomForText { .. }
        );
        if of_memory {
            self.refused_memory.fetch_add(1, Ordering::Relaxed);
        }
        refusal
    }

    /// A request that was cancelled before the engine heard of it.
    fn cancelled(&self) -> Generation {
        let bell = self.engine().bell();
        let (mut events, stream) = caller::events(1, bell.clone());
        events.tell(Ok(Event::Finished {
            reason: Finish::Cancelled,
            figures: Figures::default(),
        }));
        Generation::new(stream, StatePlace::default(), 0, bell)
    }
}

impl Drop for HeterogeneousPipeline {
    fn drop(&mut self) {
        self.machine.hardware.engines.leave(self.entered);
        self.text_workers.close();
        self.matchers.stop();
        drop(self.engine.take());
        self.matchers.close();
        self.relocator.join();
        // What it held is free for requests of other models that wait for room.
        self.machine.hardware.engines.ring();
    }
}

impl fmt::Debug for HeterogeneousPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self.intake.model.name();
        f.debug_struct("HeterogeneousPipeline")
            .field("model", &model)
            .finish_non_exhaustive()
    }
}

fn open_model(source: &ModelSource, options: &Options) -> Result<Model, OpenError> {
    let Options {
        context, quantise, ..
    } = *options;
    check_room().map_err(|error| OpenError::DoesNotFit(error.to_string()))?;
    let mut model = Model::from_source(source, &OpenOptions { context, quantise })?;
    if let Some(template) = &options.chat_template {
        model.set_chat_template(template.clone());
    }
    if let Some(asked) = quantise
        && let Some(stored) = kept_as_stored(&model)
    {
        let (name, asked) = (model.name(), asked.name());
        log::warn(&format_args!(
            "{name}: quantise {asked} changes nothing: its matrices are stored as {stored} and are kept so"
        ));
    }
    for warning in model.warnings().iter().chain(model.tokenizer().notices()) {
        log::warn(&format_args!("{}: {warning}", model.name()));
    }
    Ok(model)
}

/// What its matrices are stored as, where all of them are kept so.
fn kept_as_stored(model: &Model) -> Option<String> {
    let weights = model.decoder().weights();
    let are_kept = weights.iter().all(|weight| weight.kept == weight.stored);
    let names: BTreeSet<_> = weights.iter().map(|weight| weight.stored.name()).collect();
    are_kept.then(|| names.into_iter().collect::<Vec<_>>().join(", "))
}

/// Asks for what a header and a tokenizer may take, and gives it back: they are made of many small
/// allocations, which have no error, so that the first of them must not meet the end of memory.
fn check_room() -> Result<(), OutOfMemory> {
    let mut room: Vec<u8> = Vec::new();
    let asked = room.try_reserve_exact(OPENING_BYTES);
    // Otherwise the compiler may leave out an allocation of which nothing is used.
    black_box(&mut room);
    asked.map_err(|_| OutOfMemory {
        asked: Bytes::of(OPENING_BYTES),
    })
}

fn machine_options(options: &Options) -> MachineOptions {
    MachineOptions {
        limits: options.limits.clone(),
        away: options.away.clone(),
        policy: options.policy.clone(),
        threads: options.threads,
        peers: None,
        known_costs: options.known_costs.clone(),
    }
}

mod controls;
mod readings;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod beside;
#[cfg(test)]
mod callers;
#[cfg(test)]
mod crowds;
#[cfg(test)]
mod deaths;
#[cfg(test)]
mod extremes;
#[cfg(test)]
mod live;
#[cfg(test)]
mod moves;
#[cfg(test)]
mod prefixes;
#[cfg(test)]
mod serving;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod texts;
#[cfg(test)]
pub(crate) use tests::fake_cpu;
