//! A model, spread over devices, that answers requests.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_channel::{mpsc, oneshot};
use gogrid_host::Clock;
use gogrid_lease::{Kind, Ledger, Permit, Permits};
use gogrid_model::{Message, Model, OpenOptions};
use gogrid_units::Bytes;

use crate::bell::RingOnDrop;
use crate::core::{Beginning, Room};
use crate::device::{self, Device};
use crate::engine::{Ask, Engine, Message as Tell, Stopped, View};
use crate::error::{GenerateError, OpenError, Refusal};
use crate::gate::Gate;
use crate::generation::Generation;
use crate::ground::{self, Ground, Held};
use crate::intake::{Intake, Prepared};
use crate::limits::{ASKS_MAX, QUEUED_MAX, TELLS_MAX};
use crate::listener::Listener;
use crate::observer::Observer;
use crate::opening::{self, Opened};
use crate::options::Options;
use crate::pace::DutyPace;
use crate::places::{Place, Places};
use crate::request::GenerateRequest;
use crate::resource_manager::{ResourceConfig, ResourceStats};
use crate::senses::{Machine, Senses};
use crate::status::{DeviceStatus, Prediction, StageStatus, Status};
use crate::threads::Threads;

/// A model whose stages stand on devices, and the engine that sends requests through them.
/// It is shared by reference; many requests may be in flight at once. Dropping it ends them with
/// [`GenerateError::Stopped`] and waits until every thread has ended.
pub struct HeterogeneousPipeline {
    /// Ends before the engine does.
    observer: Observer,
    engine: Arc<Engine>,
    gate: Arc<Gate>,
    intake: Intake,
    room: Room,
    stages: Vec<StageStatus>,
    devices: Vec<Device>,
    /// The memory of each device.
    ledgers: Vec<Ledger>,
    /// The pace of each device.
    paces: Vec<Arc<DutyPace>>,
    threads: Threads,
    clock: Clock,
    places: Permits,
    asks: Places,
    tells: Places,
    /// For what the observer is told.
    words: Places,
    requests: AtomicU64,
    refused_memory: AtomicU64,
}

impl HeterogeneousPipeline {
    /// Opens the model at `path` on `devices`, under `limits`, or the default ones. Loads the
    /// weights: takes seconds, in which the limit on compute is not held yet.
    pub fn new(
        devices: &[Device],
        path: impl AsRef<Path>,
        limits: Option<ResourceConfig>,
    ) -> Result<Self, OpenError> {
        let limits = limits.unwrap_or_default();
        Self::open(
            devices,
            path,
            Options {
                limits,
                ..Options::default()
            },
        )
    }

    /// As [`new`](Self::new), with every option.
    pub fn open(
        devices: &[Device],
        path: impl AsRef<Path>,
        options: Options,
    ) -> Result<Self, OpenError> {
        options.limits.validate()?;
        let threads = Threads::new(&options.limits)?;
        let model = open_model(path.as_ref(), &options)?;
        let (devices, its) = (devices.to_vec(), threads.clone());
        threads.on_loader(move || {
            let grounds = device::ground(&devices, &options, &its)?;
            let senses = Box::new(Machine::new(its.clone()));
            Self::under(Arc::new(model), grounds, &options, (its, senses))
        })
    }

    /// Where the stages would stand and how fast they would be, without loading the weights.
    pub fn plan_only(
        devices: &[Device],
        path: impl AsRef<Path>,
        options: &Options,
    ) -> Result<Prediction, OpenError> {
        options.limits.validate()?;
        let threads = Threads::new(&options.limits)?;
        let model = open_model(path.as_ref(), options)?;
        let (devices, options, its) = (devices.to_vec(), options.clone(), threads.clone());
        threads.on_loader(move || {
            let grounds = device::ground(&devices, &options, &its)?;
            opening::predict(&model, grounds, &options)
        })
    }

    /// Opens a model on devices whose backends are there, on a machine that tells what it is told to.
    pub(crate) fn under(
        model: Arc<Model>,
        grounds: Vec<Ground>,
        options: &Options,
        (threads, senses): (Threads, Box<dyn Senses>),
    ) -> Result<Self, OpenError> {
        options.settings().validate()?;
        let gate = Arc::clone(grounds[0].pace.gate());
        let devices = grounds.iter().map(|ground| ground.device.clone()).collect();
        let ledgers = grounds.iter().map(|ground| ground.ledger.clone()).collect();
        let pace = |ground: &Ground| Arc::clone(&ground.pace);
        let paces = grounds.iter().map(pace).collect();
        let Opened {
            engine,
            observer,
            room,
            stages,
            clock,
        } = opening::open(&model, grounds, options, (&threads, senses))?;
        Ok(Self {
            observer,
            engine,
            gate,
            intake: Intake { model },
            room,
            stages,
            devices,
            ledgers,
            paces,
            threads,
            clock,
            places: Permits::new(QUEUED_MAX as u32),
            asks: Places::new(ASKS_MAX),
            tells: Places::new(TELLS_MAX),
            words: Places::new(TELLS_MAX),
            requests: AtomicU64::new(0),
            refused_memory: AtomicU64::new(0),
        })
    }

    /// The whole way of a request: admits it or says why not, waits for its start, runs it, and
    /// streams what it generates. Resolves when it is admitted; waiting and running are the
    /// stream's.
    pub async fn generate(&self, request: GenerateRequest) -> Result<Generation, Refusal> {
        let prepared = self.intake.generation(request)?;
        // An event for each token, one for text held back, and the end.
        let (events, stream) = mpsc::channel(prepared.task.adds() + 2);
        self.submit(prepared, Listener::Generation(events))?;
        Ok(Generation::new(stream, self.engine.bell()))
    }

    /// The natural logarithm of the probability of each of `ids` but the first, given those before
    /// it. The same way through admission, steps, stages and kernels as a prompt of `generate`.
    pub async fn score(&self, ids: Vec<u32>) -> Result<Vec<f32>, GenerateError> {
        let prepared = self.intake.score(ids)?;
        // Dropped after the answer's receiver, so that the engine wakes to a closed channel.
        let _ring = RingOnDrop(self.engine.bell());
        let (scores, answer) = oneshot::channel();
        self.submit(prepared, Listener::Scores(scores))?;
        answer.await.unwrap_or(Err(GenerateError::Stopped))
    }

    /// The token ids of a text: special tokens in it parsed, BOS before it where `bos` and the
    /// model say so.
    pub fn tokenize(&self, text: &str, bos: bool) -> Result<Vec<u32>, Refusal> {
        self.intake.tokenize(text, bos)
    }

    /// A conversation as the model's chat template writes it, with the opening of the assistant's
    /// turn.
    pub fn render_chat(&self, messages: &[Message]) -> Result<String, Refusal> {
        self.intake.render(messages)
    }

    /// Whether some device has room under its cap for `estimated_vram_bytes` more. Reserves
    /// nothing.
    pub async fn check_resource_limits(&self, estimated_vram_bytes: u64) -> Result<(), Refusal> {
        self.count_memory(self.room.check(Bytes(estimated_vram_bytes)))
    }

    /// Waits until a request may start, and marks the start. It is a credit that the next
    /// `generate` uses within a second. A caller who stops waiting takes no start; while 256 wait,
    /// others wait for a place among them first.
    pub async fn throttle_if_needed(&self) {
        let place = self.asks.take().await;
        // Dropped after the answer's receiver, so that the engine wakes to a closed channel.
        let _ring = RingOnDrop(self.engine.bell());
        let (answer, start) = oneshot::channel();
        if self.engine.send(Tell::Ask(Ask::new(answer, place))).is_ok() {
            // An engine that stopped starts nothing, so there is nothing to wait for.
            let _ = start.await;
        }
    }

    /// What the starts came to.
    pub async fn get_resource_stats(&self) -> ResourceStats {
        self.view()
            .await
            .map_or_else(ResourceStats::default, |view| view.stats)
    }

    /// Ends every request, waiting or running, with [`Finish::Cancelled`](crate::Finish).
    pub async fn cancel_all(&self) {
        let _ = self.tell(Tell::CancelAll).await;
    }

    /// What it is, holds and does.
    pub async fn status(&self) -> Status {
        let view = self.view().await.unwrap_or_else(View::stopped);
        let model = &self.intake.model;
        let holding = self.observer.holding();
        let not_enforced = self.threads.not_enforced();
        Status {
            model: model.name().to_owned(),
            context: model.decoder().context,
            limits: holding.limits.clone(),
            ruling: holding.ruling.clone(),
            stages: self.stages.clone(),
            devices: self.device_statuses(),
            threads: self.threads.statuses(),
            stats: view.stats,
            queued: view.queued,
            running: view.running,
            refused_memory: self.refused_memory.load(Ordering::Relaxed),
            not_enforced,
            not_seen: holding.absent.clone(),
            degraded: view.degraded,
        }
    }

    fn submit(&self, prepared: Prepared, listener: Listener) -> Result<(), Refusal> {
        let Prepared { ids, task, text } = prepared;
        self.count_memory(self.room.refuse_what_never_fits(ids.len() + task.adds()))?;
        if self.gate.refuses() {
            return Err(Refusal::Finishing);
        }
        let place = self.place()?;
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        let beginning = Beginning {
            id,
            ids,
            task,
            text,
            asked: self.clock.now(),
        };
        self.engine
            .send(Tell::Submit {
                beginning,
                place,
                listener,
            })
            .map_err(|Stopped| Refusal::Stopped)
    }

    fn place(&self) -> Result<Permit, Refusal> {
        self.places.take().ok_or_else(|| self.too_many())
    }

    fn too_many(&self) -> Refusal {
        let queued = QUEUED_MAX - self.places.available() as usize;
        let interval = Duration::from_millis(self.threads.asked().min_request_interval_ms);
        let retry_after = (interval * queued as u32).max(Duration::from_secs(1));
        Refusal::TooManyQueued {
            queued,
            retry_after,
        }
    }

    fn count_memory(&self, checked: Result<(), Refusal>) -> Result<(), Refusal> {
        if checked.is_err() {
            self.refused_memory.fetch_add(1, Ordering::Relaxed);
        }
        checked
    }

    async fn view(&self) -> Option<View> {
        let (answer, view) = oneshot::channel();
        self.tell(|place| Tell::Look(answer, place)).await.ok()?;
        view.await.ok()
    }

    /// Tells the engine something, once there is a place for it.
    async fn tell(&self, message: impl FnOnce(Place) -> Tell) -> Result<(), Stopped> {
        self.engine.send(message(self.tells.take().await))
    }

    fn device_statuses(&self) -> Vec<DeviceStatus> {
        let accounts = self.ledgers.iter().zip(&self.paces);
        let both = self.devices.iter().zip(accounts);
        let status = both.map(|(device, (ledger, pace))| {
            let name = device.to_string();
            // Devices on one memory share its account; stages say which part is whose.
            let held = |kind, bytes: fn(&StageStatus) -> u64| {
                let all: u64 = self.stages.iter().map(bytes).sum();
                let its = self
                    .stages
                    .iter()
                    .filter(|stage| stage.device == name)
                    .map(bytes);
                ledger
                    .used_by(kind)
                    .share(its.sum::<u64>() as f64 / all.max(1) as f64)
            };
            let held = Held {
                weights: held(Kind::Weights, |stage| stage.weights_bytes),
                kv: held(Kind::Kv, |stage| stage.kv_bytes_per_token),
                scratch: held(Kind::Scratch, |stage| stage.scratch_bytes),
            };
            ground::device_status((device, ledger, pace), held)
        });
        status.collect()
    }
}

impl fmt::Debug for HeterogeneousPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self.intake.model.name();
        f.debug_struct("HeterogeneousPipeline")
            .field("model", &model)
            .field("stages", &self.stages)
            .finish_non_exhaustive()
    }
}

fn open_model(path: &Path, options: &Options) -> Result<Model, OpenError> {
    let Options {
        context, quantise, ..
    } = *options;
    Ok(Model::open(path, &OpenOptions { context, quantise })?)
}

mod controls;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod crowds;
#[cfg(test)]
mod live;
#[cfg(test)]
mod tests;
