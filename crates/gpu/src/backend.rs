use std::collections::HashMap;
use std::sync::Arc;

use gogrid_kernels::Packed;
use gogrid_lease::{Kind, Ledger};
use gogrid_model::Model;
use gogrid_pipeline::{Backend, Footprint, Opening, Stage, StageError};
use gogrid_units::{Pace, Span, Spawn};

use crate::adapter::raw_adapter;
use crate::device::{Ask, Device};
use crate::kv::{GroupShape, Pool};
use crate::limits::{COPIED_BYTES, COPIES};
use crate::parts::sources;
use crate::products::Reduction;
use crate::program::check_heads;
use crate::recorder::{BufferKind, Command, Recorder, WgpuRecorder};
use crate::scratch::{Scratch, Widths, predict};
use crate::stage::{GpuStage, Shape};
use crate::weights::{Loader, Shared, too_wide};

/// How a GPU computes.
#[derive(Clone)]
pub struct GpuOptions {
    /// [`Adapter::index`](crate::Adapter::index).
    pub adapter: usize,
    /// Starts the thread that waits for the device.
    pub spawn: Arc<dyn Spawn>,
    /// The ledger of the device's memory.
    pub memory: Ledger,
    /// The pace its work keeps.
    pub pace: Arc<dyn Pace>,
}

/// An open GPU, with a queue of its own. Clones are the same.
#[derive(Clone)]
pub struct Gpu {
    device: Arc<Device<WgpuRecorder>>,
}

impl Gpu {
    /// Opens an adapter by its number, with a thread that waits for it.
    ///
    /// # Errors
    /// [`StageError::Unsupported`] where there is no such adapter, or it lacks what is needed, by name.
    pub fn open(adapter: usize, spawn: &dyn Spawn) -> Result<Self, StageError> {
        Self::open_as(adapter, spawn, None)
    }

    /// The same with a way to add up, instead of the one that is found to be fastest: for tests, and for
    /// measurements of each.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn open_as(
        adapter: usize,
        spawn: &dyn Spawn,
        reduction: Option<Reduction>,
    ) -> Result<Self, StageError> {
        let raw = raw_adapter(adapter)?;
        let recorder = WgpuRecorder::open(&raw, spawn);
        let recorder = recorder.map_err(|failure| failure.on(&raw.get_info().name))?;
        let device = Arc::new(Device::open(recorder, reduction)?);
        Ok(Self { device })
    }
}

/// One GPU as a device for stages.
pub struct GpuBackend {
    inner: Inner<WgpuRecorder>,
}

impl GpuBackend {
    /// Opens the device.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn new(options: &GpuOptions) -> Result<Self, StageError> {
        let gpu = Gpu::open(options.adapter, &*options.spawn)?;
        Ok(Self::on(
            &gpu,
            options.memory.clone(),
            Arc::clone(&options.pace),
        ))
    }

    /// On a device that is open.
    pub fn on(gpu: &Gpu, memory: Ledger, pace: Arc<dyn Pace>) -> Self {
        let device = Arc::clone(&gpu.device);
        Self {
            inner: Inner::new(device, memory, pace),
        }
    }
}

impl Backend for GpuBackend {
    fn check(&self, model: &Model, span: Span) -> Result<(), StageError> {
        self.inner.check(model, span)
    }

    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        self.inner.predict(model, span, rows_max)
    }

    fn open(&mut self, opening: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        self.inner.open(opening)
    }

    fn copy_bytes_per_second(&mut self) -> Result<Option<f64>, StageError> {
        self.inner.copy_bytes_per_second()
    }
}

/// A backend on any recorder.
pub(crate) struct Inner<R: Recorder> {
    device: Arc<Device<R>>,
    memory: Ledger,
    pace: Arc<dyn Pace>,
    shared: Shared<R>,
}

impl<R: Recorder> Inner<R> {
    pub(crate) fn new(device: Arc<Device<R>>, memory: Ledger, pace: Arc<dyn Pace>) -> Self {
        Self {
            device,
            memory,
            pace,
            shared: Shared::default(),
        }
    }

    pub(crate) fn open_stage(&mut self, request: &Opening<'_>) -> Result<GpuStage<R>, StageError> {
        let Opening {
            model,
            span,
            rows_max,
            ..
        } = *request;
        self.check(model, span)?;
        let (device, memory, decoder) = (&self.device, &self.memory, model.decoder());
        let footprint = predict(model, span, (device.facts(), rows_max));
        let scratch = Scratch::new(device, memory, (model, span, rows_max))?;
        let groups = GroupShape::of(decoder, span);
        let slack = groups.iter().map(|group| {
            memory.reserve(Kind::Scratch, group.slack(device.facts().binding_bytes_max))
        });
        let slack = slack.collect::<Result<Vec<_>, _>>()?;
        self.shared.forget_dropped();
        let pieces = Loader {
            device,
            model,
            memory,
            shared: &mut self.shared,
            pace: &*self.pace,
            cancel: &request.cancel,
            upload: Arc::clone(&scratch.upload),
            readback: Arc::clone(&scratch.readback),
        }
        .load(span)?;
        model.check_unchanged()?;
        let pools = groups.into_iter().enumerate();
        let pools = pools.map(|(index, shape)| Pool::new(device, index, shape));
        Ok(GpuStage {
            span,
            shape: Shape {
                width: decoder.width,
                vocab: decoder.vocab,
                epsilon: decoder.norm_epsilon,
                rows_max,
                layers: decoder.layers.len(),
                widths: Widths::of(decoder, span),
            },
            pieces,
            pools: pools.collect(),
            scratch,
            slack,
            weights: footprint.weights,
            memory: memory.clone(),
            pace: Arc::clone(&self.pace),
            cancel: request.cancel.clone(),
            waker: request.waker.clone(),
            bindings: HashMap::new(),
            open: None,
            tickets: 0,
            device: Arc::clone(device),
        })
    }
}

impl<R: Recorder> Backend for Inner<R> {
    fn check(&self, model: &Model, span: Span) -> Result<(), StageError> {
        let (decoder, most) = (model.decoder(), self.device.facts().binding_bytes_max);
        for piece in span.pieces(decoder.layers.len()) {
            check_heads(decoder, piece).map_err(StageError::Unsupported)?;
            for source in sources(decoder, piece) {
                for weight in &source.weights {
                    let kept = Packed::can_keep(weight.stored, weight.kept);
                    kept.map_err(|refusal| {
                        StageError::CannotKeep(format!("{}: {refusal}", weight.name))
                    })?;
                }
                source
                    .chunks(most)
                    .ok_or_else(|| too_wide(source.weights[0]))?;
            }
        }
        for (index, group) in GroupShape::of(decoder, span).iter().enumerate() {
            if group.slot_words > 0 && group.slots_per_slab(most) == 0 {
                return Err(StageError::Unsupported(format!(
                    "a block of KV group {index} has {}, of which the device binds {} at once",
                    group.block_bytes(),
                    gogrid_units::Bytes(most)
                )));
            }
        }
        Ok(())
    }

    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        predict(model, span, (self.device.facts(), rows_max))
    }

    fn open(&mut self, opening: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        Ok(Box::new(self.open_stage(&opening)?))
    }

    fn copy_bytes_per_second(&mut self) -> Result<Option<f64>, StageError> {
        let buffer = || {
            self.device.leased(Ask {
                memory: &self.memory,
                kind: Kind::Scratch,
                bytes: COPIED_BYTES,
                place: BufferKind::Device,
            })
        };
        let (from, to) = (buffer()?, buffer()?);
        let mut fastest: Option<u64> = None;
        for _ in 0..COPIES {
            let copy = Command::Copy {
                from: (&from.raw, 0),
                to: (&to.raw, 0),
                bytes: COPIED_BYTES,
            };
            let nanos = self.device.run(&[copy], None, None);
            let nanos = nanos.map_err(|failure| self.device.error(failure))?;
            nanos.into_iter().for_each(|nanos| self.pace.charge(nanos));
            fastest = fastest.into_iter().chain(nanos).min();
        }
        // Read and written.
        let rate = |nanos: u64| 2.0 * COPIED_BYTES as f64 / (nanos.max(1) as f64 / 1e9);
        Ok(fastest.map(rate))
    }
}
