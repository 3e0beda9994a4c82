//! Opening a model's stages on a machine: at first, when layers move, and when a device is lost.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use gogrid_model::Model;
use gogrid_pipeline::{
    CostKey, Costs, Footprint, Meter, Opening, PlacedSpan, PlacedStage, Runner, StageError, measure,
};
use gogrid_units::Span;

use crate::core::Shape;
use crate::engine::{EngineInbox, ModelShape, Placement, Standing, stage_statuses};
use crate::error::OpenError;
use crate::limits::ROWS_IN_STEP_MAX;
use crate::machine::{DeviceContext, DutyPace, Hardware, Held, device_status};
use crate::options::Options;
use crate::placing::{self, Timing, place};
use crate::status::Prediction;

/// What opens the stages of one model on one machine.
pub(crate) struct Opener {
    pub(crate) hardware: Arc<Hardware>,
    pub(crate) model: Arc<Model>,
    pub(crate) options: Options,
    pub(crate) shape: ModelShape,
    /// What decides how long the model's pieces take.
    fingerprint: String,
}

impl Opener {
    pub(crate) fn new(hardware: Arc<Hardware>, model: Arc<Model>, options: Options) -> Self {
        Self {
            shape: ModelShape::of(model.decoder()),
            fingerprint: fingerprint(&model),
            hardware,
            model,
            options,
        }
    }

    /// The share of compute that the machine's limits allow.
    pub(crate) fn share(&self) -> f64 {
        self.hardware.threads.asked().max_compute_usage_percent
    }

    /// The devices that have a driver thread, and are not known to be lost.
    fn usable(&self) -> Vec<usize> {
        let devices = self.hardware.devices.iter().enumerate();
        let usable =
            devices.filter(|(_, device)| !device.driver.has_ended() && device.lost().is_none());
        usable.map(|(index, _)| index).collect()
    }

    /// The same; an error, where there is none.
    fn some_usable(&self) -> Result<Vec<usize>, OpenError> {
        let usable = self.usable();
        match usable.is_empty() {
            true => {
                let lost = self.hardware.degraded();
                let none = || "the driver thread of each has ended".to_owned();
                Err(OpenError::BadDevice(lost.unwrap_or_else(none)))
            }
            false => Ok(usable),
        }
    }

    /// Where the stages are to stand at first.
    pub(crate) fn first_spans(&self) -> Result<Vec<PlacedSpan>, OpenError> {
        let usable = self.some_usable()?;
        let chosen = usable.len() > 1 && self.options.plan.is_none();
        let timing = match chosen {
            true => Timing::Measured,
            false => Timing::Unmeasured,
        };
        Ok(place(self, &usable, &self.options, timing)?.stages())
    }

    /// Seconds of each piece on a device: as they are known, or timed now.
    pub(crate) fn costs(&self, device: &DeviceContext) -> Result<Costs, OpenError> {
        let (key, pieces) = (
            self.cost_key(device),
            Span::whole_model(self.shape.layers).len(),
        );
        if let Some(known) = self.hardware.costs().get(&key, pieces) {
            return Ok(known);
        }
        let meter = Meter {
            clock: &|| self.hardware.clock.now(),
            busy: &|| device.pace.busy_nanos(),
            loaded: &DutyPace::forget_thread,
            lanes: device.lanes,
        };
        let ledger = self.hardware.ledger(device);
        // Beside another model's steps the busy time is not the timed pieces' alone.
        let was_busy = self.hardware.engines.is_busy();
        let measured = measure(&mut **device.backend(), &self.model, ledger, &meter);
        let costs = match measured {
            // All work is stopped, by hand or for others, and opening a model waits for neither.
            Err(StageError::Abandoned) => return Ok(self.guessed_costs(device)),
            measured => measured,
        };
        let mut costs = costs.map_err(|error| failed_stage(device, error))?;
        costs.is_sure &= !was_busy && !self.hardware.engines.is_busy();
        if costs.is_sure {
            self.hardware.costs().put(key, costs.clone());
        }
        Ok(costs)
    }

    /// Costs in proportion to the weights that are read, which nothing is sure of.
    fn guessed_costs(&self, device: &DeviceContext) -> Costs {
        let whole = Span::whole_model(self.shape.layers);
        let backend = device.backend();
        let seconds = |piece| {
            let span = Span::new(piece, piece + 1);
            let weights = backend.predict(&self.model, span, ROWS_IN_STEP_MAX).weights;
            weights.0 as f64 / (device.guessed_bytes_per_s * device.lanes as f64)
        };
        let seconds: Vec<f64> = (whole.start..whole.end).map(seconds).collect();
        Costs {
            decode: seconds.clone(),
            prefill: seconds,
            is_sure: false,
        }
    }

    /// What the costs of this model on a device are kept under.
    pub(crate) fn cost_key(&self, device: &DeviceContext) -> CostKey {
        CostKey {
            device: format!("{}, {} threads", device.name, device.lanes),
            driver: device.driver_text.clone(),
            model: self.fingerprint.clone(),
        }
    }

    /// The same for each device, by its index.
    pub(crate) fn cost_keys(&self) -> Vec<CostKey> {
        let devices = self.hardware.devices.iter();
        devices.map(|device| self.cost_key(device)).collect()
    }

    /// What stages at `spans` would hold.
    pub(crate) fn predict(&self, spans: &[PlacedSpan]) -> Vec<Footprint> {
        let footprint = |&PlacedSpan { device, span }: &PlacedSpan| {
            let backend = self.hardware.devices[device].backend();
            backend.predict(&self.model, span, ROWS_IN_STEP_MAX)
        };
        spans.iter().map(footprint).collect()
    }

    pub(crate) fn placement(
        &self,
        spans: Vec<PlacedSpan>,
        footprints: Vec<Footprint>,
    ) -> Placement {
        Placement::new(&self.hardware, &self.shape, spans, footprints)
    }

    /// Opens one stage, which ends with the engine's cancellation.
    pub(crate) fn open_stage(
        &self,
        PlacedSpan { device, span }: PlacedSpan,
        inbox: &EngineInbox,
    ) -> Result<PlacedStage, OpenError> {
        let context = self.hardware.devices.get(device).ok_or_else(|| {
            let devices = self.hardware.devices.len();
            OpenError::BadDevice(format!("index {device}, of {devices}"))
        })?;
        if context.driver.has_ended() {
            let problem = "its driver thread has ended".to_owned();
            return Err(failed(context, problem));
        }
        // Whoever wants a lost device now does not wait for the next try.
        context.reopen()?;
        let opening = Opening {
            waker: context.driver.waker(),
            cancel: inbox.cancellation(),
            ..Opening::new(&self.model, span, ROWS_IN_STEP_MAX)
        };
        let opened = context.backend().open(opening);
        let stage = opened.map_err(|error| failed_stage(context, error))?;
        context.note_found();
        Ok(PlacedStage {
            device,
            span,
            stage,
        })
    }

    pub(crate) fn open_stages(
        &self,
        spans: &[PlacedSpan],
        inbox: &EngineInbox,
    ) -> Result<Vec<PlacedStage>, OpenError> {
        let stages = spans.iter().map(|&span| {
            if inbox.cancellation().is_cancelled() {
                let why = "the pipeline is being closed".to_owned();
                return Err(OpenError::NotMoved(why));
            }
            self.open_stage(span, inbox)
        });
        stages.collect()
    }

    /// Puts stages on their drivers.
    pub(crate) fn stand(
        &self,
        mut placement: Placement,
        stages: Vec<PlacedStage>,
        inbox: &EngineInbox,
    ) -> Result<Standing, OpenError> {
        let drivers: Vec<_> = self.hardware.devices.iter().map(|d| &d.driver).collect();
        let runner = Runner::open(stages, &drivers, inbox.hooks());
        let runner = runner.map_err(|error| OpenError::BadOption {
            field: "plan",
            problem: error.to_string(),
        })?;
        placement.layout.depth = runner.depth();
        Ok(Standing { runner, placement })
    }

    /// Places the model as it is placed at first.
    pub(crate) fn stand_first(&self, inbox: &EngineInbox) -> Result<Standing, OpenError> {
        self.stand_at(self.first_spans()?, inbox)
    }

    /// Places the model on the devices that are left, wherever it stood. A device that turns out to be
    /// lost is left out, and the others are tried without it.
    pub(crate) fn stand_anew(&self, inbox: &EngineInbox) -> Result<Standing, OpenError> {
        loop {
            let usable = self.usable();
            let stood = self.stand_on(&usable, inbox);
            if stood.is_ok() || self.usable().len() >= usable.len() {
                return stood;
            }
        }
    }

    fn stand_on(&self, usable: &[usize], inbox: &EngineInbox) -> Result<Standing, OpenError> {
        if usable.is_empty() {
            return Err(OpenError::BadDevice("none is left".to_owned()));
        }
        // A placement by hand names devices that may be gone.
        let options = Options {
            plan: None,
            ..self.options.clone()
        };
        let timing = match usable.len() {
            1 => Timing::Unmeasured,
            _ => Timing::Measured,
        };
        self.stand_at(place(self, usable, &options, timing)?.stages(), inbox)
    }

    fn stand_at(&self, spans: Vec<PlacedSpan>, inbox: &EngineInbox) -> Result<Standing, OpenError> {
        let stages = self.open_stages(&spans, inbox)?;
        let footprints = stages.iter().map(|placed| placed.stage.footprint());
        let placement = self.placement(spans, footprints.collect());
        self.stand(placement, stages, inbox)
    }

    /// What never changes of an engine for this model.
    pub(crate) fn engine_shape(&self) -> Shape {
        let (decoder, tokenizer) = (self.model.decoder(), self.model.tokenizer());
        // A vocabulary fits 32 bits.
        let ends = (0..tokenizer.vocab() as u32)
            .filter(|&id| tokenizer.ends(id))
            .collect();
        Shape {
            vocab: decoder.vocab,
            width: decoder.width,
            ends,
            rotations_change_above: decoder.rotations_change_above(),
            drafts: self.options.prompt_lookup,
        }
    }

    /// What opening it would do, without reading a weight beyond those that are timed.
    pub(crate) fn foresee(&self) -> Result<Prediction, OpenError> {
        // What others keep for requests to come counts as free.
        let _caches = self.hardware.engines.clear_caches();
        let placing = place(self, &self.some_usable()?, &self.options, Timing::Measured)?;
        let (prefill, decode) = placing.seconds();
        let why = placing.why(&self.hardware, self.options.plan.is_some());
        let stages = placing.stages();
        let footprints = self.predict(&stages);
        let device = |(index, context): (usize, &DeviceContext)| {
            let its = stages.iter().zip(&footprints);
            let its = its.filter(|(stage, _)| stage.device == index);
            let held = its.fold(Held::default(), |sum, (_, footprint)| Held {
                weights: sum.weights + footprint.weights,
                kv: sum.kv + placing::planned_kv(&self.model, footprint),
                scratch: sum.scratch + footprint.scratch,
                prefix: sum.prefix,
            });
            device_status(&self.hardware, context, held)
        };
        let devices = self.hardware.devices.iter().enumerate();
        Ok(Prediction {
            model: self.model.name().to_owned(),
            context: self.model.decoder().context,
            stages: stage_statuses(&self.hardware, self.shape.layers, (&stages, &footprints)),
            planned_tokens: placing::planned_tokens(&self.model),
            devices: devices.map(device).collect(),
            decode_tok_s: 1.0 / decode,
            prefill_tok_s: 1.0 / prefill,
            is_sure: placing.is_sure(),
            is_cut_short: placing.is_cut_short,
            why,
        })
    }
}

#[cfg(test)]
impl Opener {
    /// Has every piece take so many seconds on each device.
    pub(crate) fn know_costs(&self, seconds: &[f64]) {
        let pieces = Span::whole_model(self.shape.layers).len();
        for (device, &seconds) in self.hardware.devices.iter().zip(seconds) {
            let costs = Costs {
                decode: vec![seconds; pieces],
                prefill: vec![seconds; pieces],
                is_sure: true,
            };
            self.hardware.costs().put(self.cost_key(device), costs);
        }
    }
}

/// The model's name, and its pieces' types and shapes, hashed.
fn fingerprint(model: &Model) -> String {
    let decoder = model.decoder();
    let mut hasher = DefaultHasher::new();
    for piece in Span::whole_model(decoder.layers.len()).pieces(decoder.layers.len()) {
        for weight in decoder.piece_weights(piece) {
            (weight.kept.name(), weight.rows, weight.cols).hash(&mut hasher);
        }
    }
    for layer in &decoder.layers {
        let mixer = &layer.mixer;
        (mixer.heads, mixer.kv_heads, mixer.head_dim, mixer.window).hash(&mut hasher);
    }
    format!("{}, {:016x}", model.name(), hasher.finish())
}

/// A stage's error in the words of opening a model; a device that is lost is noted.
fn failed_stage(context: &DeviceContext, error: StageError) -> OpenError {
    if let StageError::Lost(problem) = &error {
        context.note_lost(problem);
    }
    OpenError::of_stage(&context.name, error)
}

fn failed(context: &DeviceContext, problem: String) -> OpenError {
    OpenError::Device {
        device: context.name.clone(),
        problem,
    }
}
