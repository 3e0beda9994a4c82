//! A stage's weights: read, repacked, uploaded in pieces, every byte leased, and compared with what arrived.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use gogrid_kernels::kept_row;
use gogrid_lease::{Kind, Ledger};
use gogrid_model::{Model, ModelId, Weight};
use gogrid_pipeline::{Cancel, StageError};
use gogrid_units::{Bytes, Pace, WeightType};

use crate::device::{Ask, Buf, Device, Part, buffer_bytes};
use crate::formats::{Planes, UNIT, plane_words};
use crate::kernel::Kernel;
use crate::limits::UPLOAD_BYTES;
use crate::recorder::{BufferKind, Command, Recorder};
use crate::repack::Repack;

/// A matrix on the device, in chunks of rows that a kernel can bind.
pub(crate) struct Matrix<R: Recorder> {
    pub(crate) ty: WeightType,
    /// Rows of what it gives.
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Whether it is gates, and then as many rows that they let through.
    pub(crate) is_gated: bool,
    pub(crate) chunks: Vec<Chunk<R>>,
}

/// Some rows of a matrix.
pub(crate) struct Chunk<R: Recorder> {
    pub(crate) part: Part<R>,
    pub(crate) place: ChunkPlace,
    pub(crate) planes: Planes,
}

/// The rows of a chunk: those of what it gives, from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkPlace {
    pub(crate) first: usize,
    pub(crate) rows: usize,
    /// Where the second matrix begins in the chunk, of two that are multiplied with each other.
    pub(crate) second: usize,
}

/// What becomes one matrix: tensors one after the other, or the gates and as many others.
#[derive(Clone)]
pub(crate) struct MatrixSource<'a> {
    pub(crate) weights: Vec<&'a Weight>,
    pub(crate) is_gated: bool,
}

impl MatrixSource<'_> {
    fn ty(&self) -> WeightType {
        self.weights[0].kept
    }

    fn cols(&self) -> usize {
        self.weights[0].cols
    }

    fn units(&self) -> usize {
        self.cols().div_ceil(UNIT)
    }

    fn rows(&self) -> usize {
        match self.is_gated {
            true => self.weights[0].rows,
            false => self.weights.iter().map(|weight| weight.rows).sum(),
        }
    }

    /// Rows of the planes of a chunk.
    fn plane_rows(&self, place: ChunkPlace) -> usize {
        place.second + if self.is_gated { place.rows } else { 0 }
    }

    fn planes(&self, place: ChunkPlace) -> Planes {
        Planes::of(self.ty(), self.plane_rows(place), self.units())
    }

    /// The chunks, each of at most `most` bytes. Where one row has more there is none.
    pub(crate) fn chunks(&self, most: u64) -> Option<Vec<ChunkPlace>> {
        let (rows, halves) = (self.rows(), if self.is_gated { 2 } else { 1 });
        let pair = Planes::of(self.ty(), 2 * halves, self.units()).words() as u64 * 4;
        // At least two rows, and an even number: planes of halves are then filled to a word's end.
        let pairs = usize::try_from(most / pair).unwrap_or(usize::MAX);
        let at_once = pairs
            .min(rows.div_ceil(2))
            .checked_mul(2)
            .filter(|&rows| rows > 0)?;
        let place = |first: usize| {
            let rows = at_once.min(rows - first);
            let second = match self.is_gated {
                true => rows.next_multiple_of(2),
                false => rows,
            };
            ChunkPlace {
                first,
                rows,
                second,
            }
        };
        Some((0..rows).step_by(at_once).map(place).collect())
    }

    /// Bytes that it takes on the device.
    pub(crate) fn bytes(&self, most: u64) -> Bytes {
        let chunks = self.chunks(most).unwrap_or_default();
        let bytes =
            |place: &ChunkPlace| Bytes(buffer_bytes(self.planes(*place).words() as u64 * 4));
        chunks.iter().map(bytes).sum()
    }

    /// The tensor that has row `row` of all tensors one after the other, and which of its rows it is.
    fn find(&self, mut row: usize) -> (&Weight, usize) {
        for weight in &self.weights {
            if row < weight.rows {
                return (weight, row);
            }
            row -= weight.rows;
        }
        unreachable!("rows are within the tensors")
    }

    /// What tells it from other matrices of all models: where its first tensor is.
    fn key(&self, model: &Model) -> MatrixKey {
        MatrixKey {
            model: model.id(),
            tensors: self
                .weights
                .iter()
                .map(|w| (w.file, w.offset, w.rows))
                .collect(),
            is_gated: self.is_gated,
        }
    }
}

#[derive(PartialEq, Eq, Hash)]
struct MatrixKey {
    model: ModelId,
    tensors: Vec<(usize, u64, usize)>,
    is_gated: bool,
}

/// Matrices that stages of one device share, so that a table tied between the embedding and the head is held
/// once.
pub(crate) struct Shared<R: Recorder> {
    held: HashMap<MatrixKey, Weak<Matrix<R>>>,
}

impl<R: Recorder> Default for Shared<R> {
    fn default() -> Self {
        let held = HashMap::new();
        Self { held }
    }
}

impl<R: Recorder> Shared<R> {
    /// Forgets matrices that no stage has any more.
    pub(crate) fn forget_dropped(&mut self) {
        self.held.retain(|_, held| held.strong_count() > 0);
    }
}

/// Reads and uploads for one stage.
pub(crate) struct Loader<'a, R: Recorder> {
    pub(crate) device: &'a Arc<Device<R>>,
    pub(crate) model: &'a Model,
    pub(crate) memory: &'a Ledger,
    pub(crate) shared: &'a mut Shared<R>,
    pub(crate) pace: &'a dyn Pace,
    pub(crate) cancel: &'a Cancel,
    pub(crate) upload: Arc<Buf<R>>,
    pub(crate) readback: Arc<Buf<R>>,
}

impl<R: Recorder> Loader<'_, R> {
    /// The matrix on the device, shared if a stage has it already.
    pub(crate) fn matrix(
        &mut self,
        source: &MatrixSource<'_>,
    ) -> Result<Arc<Matrix<R>>, StageError> {
        let key = source.key(self.model);
        if let Some(held) = self.shared.held.get(&key).and_then(Weak::upgrade) {
            return Ok(held);
        }
        let places = source.chunks(self.device.facts().binding_bytes_max);
        let places = places.ok_or_else(|| too_wide(source.weights[0]))?;
        let chunks = places.into_iter().map(|place| self.chunk(source, place));
        let matrix = Arc::new(Matrix {
            ty: source.ty(),
            rows: source.rows(),
            cols: source.cols(),
            is_gated: source.is_gated,
            chunks: chunks.collect::<Result<_, _>>()?,
        });
        self.shared.held.insert(key, Arc::downgrade(&matrix));
        Ok(matrix)
    }

    fn chunk(
        &mut self,
        source: &MatrixSource<'_>,
        place: ChunkPlace,
    ) -> Result<Chunk<R>, StageError> {
        let planes = source.planes(place);
        let buffer = self.device.leased(Ask {
            memory: self.memory,
            kind: Kind::Weights,
            bytes: planes.words() as u64 * 4,
            place: BufferKind::Device,
        })?;
        let mut batch = Batch {
            loader: self,
            to: &buffer,
            planes,
            sum: 0,
        };
        let rows = place.first..place.first + place.rows;
        batch.rows(source, rows.clone(), 0)?;
        if source.is_gated {
            let others = source.rows();
            batch.rows(source, rows.start + others..rows.end + others, place.second)?;
        }
        let sum = batch.sum;
        self.compare(&buffer, sum)?;
        let part = Part::all(&buffer);
        Ok(Chunk {
            part,
            place,
            planes,
        })
    }

    /// A vector of floats on the device, in units of columns.
    pub(crate) fn vectors(&mut self, values: &[f32]) -> Result<Arc<Buf<R>>, StageError> {
        let words: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        let buffer = self.device.leased(Ask {
            memory: self.memory,
            kind: Kind::Weights,
            bytes: words.len() as u64 * 4,
            place: BufferKind::Device,
        })?;
        let mut sum = 0u32;
        let most = self.upload.bytes as usize / 4;
        for (index, words) in words.chunks(most).enumerate() {
            let first = index * most;
            sum = sum.wrapping_add(checksum(first, words));
            self.copy(words, &buffer, first)?;
        }
        self.compare(&buffer, sum)?;
        Ok(buffer)
    }

    /// Uploads words to a buffer, from its word `first` on.
    fn copy(&self, words: &[u32], to: &Arc<Buf<R>>, first: usize) -> Result<(), StageError> {
        let bytes = 4 * words.len() as u64;
        if self.cancel.is_cancelled() {
            return Err(StageError::Abandoned);
        }
        let command = Command::Copy {
            from: (&self.upload.raw, 0),
            to: (&to.raw, 4 * first as u64),
            bytes,
        };
        let filled = self
            .device
            .recorder
            .fill(&self.upload.raw, &bytes_of(words));
        let done = filled.and_then(|()| self.device.run(&[command], Some(&self.upload), None));
        self.charge(done.map_err(|failure| self.device.error(failure))?);
        Ok(())
    }

    fn charge(&self, nanos: Option<u64>) {
        if let Some(nanos) = nanos {
            self.pace.charge(nanos);
        }
    }

    /// Whether the words of a buffer are those that were sent.
    fn compare(&self, buffer: &Arc<Buf<R>>, sent: u32) -> Result<(), StageError> {
        let arrived = self
            .arrived(buffer)
            .map_err(|failure| self.device.error(failure))?;
        match arrived == sent {
            true => Ok(()),
            false => Err(StageError::Device(format!(
                "{}: weights did not arrive as they were sent (checksum {arrived:08x}, not {sent:08x})",
                self.device.facts().name
            ))),
        }
    }

    fn arrived(&self, buffer: &Arc<Buf<R>>) -> Result<u32, crate::recorder::Failure> {
        let device = self.device;
        let words = buffer.bytes / 4;
        let sum = device.unleased(16, BufferKind::Device)?;
        let pipeline = device.pipeline(Kernel::Checksum)?;
        let bindings = device.bindings(&pipeline, &[Part::all(buffer), Part::all(&sum)])?;
        // 16 MiB at a time.
        let groups = words.div_ceil(4096);
        for base in (0..groups).step_by(1024) {
            // Words of a binding fit 32 bits.
            let immediates = [base as u32, words as u32, 0]
                .map(u32::to_le_bytes)
                .concat();
            let command = Command::Dispatch {
                pipeline: &*pipeline,
                bindings: &bindings,
                immediates: &immediates,
                groups: [(groups - base).min(1024) as u32, 1, 1],
            };
            self.charge(device.run(&[command], None, None)?);
        }
        let copy = Command::Copy {
            from: (&sum.raw, 0),
            to: (&self.readback.raw, 0),
            bytes: 4,
        };
        device.run(&[copy], None, Some(&self.readback))?;
        let mut bytes = [0; 4];
        device.recorder.read(&self.readback.raw, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

/// Rows on their way to a chunk.
struct Batch<'a, 'b, R: Recorder> {
    loader: &'a Loader<'b, R>,
    to: &'a Arc<Buf<R>>,
    /// Of the chunk.
    planes: Planes,
    sum: u32,
}

impl<R: Recorder> Batch<'_, '_, R> {
    /// Uploads rows of all tensors one after the other, to the chunk's rows from `first` on.
    fn rows(
        &mut self,
        source: &MatrixSource<'_>,
        rows: std::ops::Range<usize>,
        first: usize,
    ) -> Result<(), StageError> {
        let (ty, units) = (source.ty(), source.units());
        let pair = Planes::of(ty, 2, units).words() * 4;
        let at_once = 2 * (UPLOAD_BYTES as usize / pair).max(1);
        for start in rows.clone().step_by(at_once) {
            let range = start..rows.end.min(start + at_once);
            let planes = Planes::of(ty, range.len(), units);
            let mut words = vec![0; planes.words()];
            let mut repack = Repack {
                ty,
                cols: source.cols(),
                planes,
                words: &mut words,
            };
            let mut stored = Vec::new();
            for (index, row) in range.clone().enumerate() {
                let (weight, row) = source.find(row);
                stored.resize(weight.row_bytes(), 0);
                self.loader
                    .model
                    .read_rows(weight, row..row + 1, &mut stored)?;
                repack.put_row(index, &kept_row(weight.kept, weight.stored, &stored));
            }
            let before = plane_words(ty, (first + start - rows.start) * units);
            let filled = plane_words(ty, range.len() * units);
            for plane in 0..4 {
                let from = planes.starts()[plane];
                let to = self.planes.starts()[plane] + before[plane];
                self.send(&words[from..from + filled[plane]], to)?;
            }
        }
        Ok(())
    }

    /// Sends words to the chunk's word `to` and those after it, in pieces of the upload buffer.
    fn send(&mut self, words: &[u32], to: usize) -> Result<(), StageError> {
        let most = self.loader.upload.bytes as usize / 4;
        for (index, piece) in words.chunks(most).enumerate() {
            let to = to + index * most;
            self.sum = self.sum.wrapping_add(checksum(to, piece));
            self.loader.copy(piece, self.to, to)?;
        }
        Ok(())
    }
}

/// The sum that the device makes of words from `first` on.
fn checksum(first: usize, words: &[u32]) -> u32 {
    let words = words.iter().zip(first..);
    // Places of a binding's words fit 32 bits.
    words.fold(0u32, |sum, (word, at)| {
        sum.wrapping_add(word.wrapping_mul((2 * at + 1) as u32))
    })
}

pub(crate) fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn too_wide(weight: &Weight) -> StageError {
    StageError::Unsupported(format!(
        "{}: two of its rows are more than the device binds at once",
        weight.name
    ))
}
