//! What a device is asked before it is used: whether its products are right, and by which kernel they are
//! fastest. A driver whose results are wrong is refused by name.

use std::sync::Arc;

use gogrid_pipeline::StageError;
use gogrid_units::WeightType;

use crate::device::{Buf, Device, Part};
use crate::formats::{Planes, UNIT};
use crate::kernel::Kernel;
use crate::limits::VECTOR_ROWS;
use crate::products::{MatMat, MatVec, Output, Reduction, TILE};
use crate::recorder::{BufferKind, Command, Failure, Recorder};
use crate::repack::Repack;
use crate::weights::bytes_of;

/// Rows of the matrix: as many as no cache of a GPU holds. Software reads a part of them slowly enough.
const ROWS: usize = 32_768;
const SOFTWARE_ROWS: usize = 2048;
const COLS: usize = 2048;
/// Rows of the input that tiles are tried with, and those of the matrix in software.
const BATCH: usize = 64;
const SOFTWARE_TILED_ROWS: usize = 256;
/// Runs of each kernel after the first, of which the fastest counts.
const RUNS: usize = 3;
/// The most by which a product of values below one may be off.
const OFF_MAX: f64 = 1e-3;

/// What was found of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) reduction: Reduction,
    /// Whether products of many rows are right, and faster, by tiles than by a few rows at a time.
    pub(crate) is_tiled: bool,
}

/// Finds the fastest kernels that give right results.
///
/// # Errors
/// [`StageError::Unsupported`] where none does, with what the device gave; errors of its driver.
pub(crate) fn find_kernels<R: Recorder>(device: &Device<R>) -> Result<Found, StageError> {
    let fail = |failure: Failure| device.error(failure);
    let test = Test::new(device).map_err(fail)?;
    let mut best: Option<(u64, Reduction)> = None;
    let mut problem = None;
    for reduction in candidates(device) {
        let (off, nanos) = match test.run(vector(1, reduction), (1, test.rows)) {
            Ok(result) => result,
            Err(Failure::Driver(text)) => {
                problem = Some(format!("{reduction:?}: {text}"));
                continue;
            }
            Err(failure) => return Err(fail(failure)),
        };
        if off.is_nan() || off > OFF_MAX {
            problem = Some(format!("{reduction:?}: off by {off}"));
            continue;
        }
        // Without timestamps the last that is right counts: they are in the order of what suits GPUs.
        let nanos = nanos.unwrap_or(0);
        if best.is_none_or(|(least, _)| nanos <= least) {
            best = Some((nanos, reduction));
        }
    }
    let (_, reduction) = best.ok_or_else(|| {
        StageError::Unsupported(format!(
            "{}: its driver computes wrong results ({})",
            device.facts().name,
            problem.unwrap_or_default()
        ))
    })?;
    Ok(Found {
        reduction,
        is_tiled: test.is_tiled(reduction).map_err(fail)?,
    })
}

fn vector(batch: usize, reduction: Reduction) -> Kernel {
    Kernel::MatVec(MatVec {
        ty: WeightType::Q4_0,
        batch,
        is_normed: false,
        output: Output::Store,
        reduction,
    })
}

fn candidates<R: Recorder>(device: &Device<R>) -> Vec<Reduction> {
    let mut all = vec![
        Reduction::Alone,
        Reduction::Shared(16),
        Reduction::Shared(64),
    ];
    if device.facts().has_subgroups {
        all.push(Reduction::Subgroups);
    }
    all
}

struct Test<'a, R: Recorder> {
    device: &'a Device<R>,
    planes: Planes,
    weights: Arc<Buf<R>>,
    input: Arc<Buf<R>>,
    output: Arc<Buf<R>>,
    readback: Arc<Buf<R>>,
    expected: Vec<f64>,
    rows: usize,
}

impl<'a, R: Recorder> Test<'a, R> {
    fn new(device: &'a Device<R>) -> Result<Self, Failure> {
        let ty = WeightType::Q4_0;
        let rows = match device.facts().is_software {
            true => SOFTWARE_ROWS,
            false => ROWS,
        };
        let planes = Planes::of(ty, rows, COLS / UNIT);
        let mut words = vec![0; planes.words()];
        let mut repack = Repack {
            ty,
            cols: COLS,
            planes,
            words: &mut words,
        };
        let input: Vec<f32> = (0..COLS).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
        let mut expected = Vec::with_capacity(rows);
        for row in 0..rows {
            let bytes = blocks(row);
            repack.put_row(row, &bytes);
            expected.push(product(&bytes, &input));
        }
        let device_buffer = |words: usize| device.unleased(4 * words as u64, BufferKind::Device);
        let test = Self {
            device,
            planes,
            weights: device_buffer(planes.words())?,
            input: device_buffer(BATCH * COLS)?,
            output: device_buffer(BATCH * rows)?,
            readback: device.unleased(4 * (BATCH * rows) as u64, BufferKind::Readback)?,
            expected,
            rows,
        };
        test.upload(&words, &test.weights)?;
        let input = (0..BATCH).flat_map(|row| {
            let row_of = input.iter().map(move |value| value * factor(row));
            row_of.map(f32::to_bits).collect::<Vec<_>>()
        });
        test.upload(&input.collect::<Vec<_>>(), &test.input)?;
        Ok(test)
    }

    fn upload(&self, words: &[u32], to: &Buf<R>) -> Result<(), Failure> {
        let bytes = 4 * words.len() as u64;
        let upload = self.device.unleased(bytes, BufferKind::Upload)?;
        self.device.recorder.fill(&upload.raw, &bytes_of(words))?;
        let copy = Command::Copy {
            from: (&upload.raw, 0),
            to: (&to.raw, 0),
            bytes,
        };
        self.device.run(&[copy], Some(&upload), None).map(drop)
    }

    /// Whether tiles give right results, and sooner than as many rows a few at a time.
    fn is_tiled(&self, reduction: Reduction) -> Result<bool, Failure> {
        let rows = match self.device.facts().is_software {
            true => SOFTWARE_TILED_ROWS,
            false => self.rows,
        };
        let tiles = Kernel::MatMat(MatMat {
            ty: WeightType::Q4_0,
            is_normed: false,
            is_added: false,
        });
        let (off, by_tiles) = match self.run(tiles, (BATCH, rows)) {
            Err(Failure::Driver(_)) => return Ok(false),
            ran => ran?,
        };
        let few = vector(VECTOR_ROWS, reduction);
        let (_, by_few) = self.run(few, (VECTOR_ROWS, rows))?;
        let is_faster = match (by_tiles, by_few) {
            (Some(tiles), Some(few)) => tiles <= few * (BATCH / VECTOR_ROWS) as u64,
            _ => true,
        };
        Ok(off <= OFF_MAX && is_faster)
    }

    /// The most by which a product of `batch` rows of input by `rows` of the matrix is off, and the nanoseconds
    /// of all where the device tells.
    fn run(
        &self,
        kernel: Kernel,
        (batch, rows): (usize, usize),
    ) -> Result<(f64, Option<u64>), Failure> {
        let pipeline = self.device.pipeline(kernel)?;
        let mut parts = vec![
            &self.weights,
            &self.weights,
            &self.input,
            &self.input,
            &self.output,
        ];
        let per_group = match kernel {
            Kernel::MatVec(kernel) => kernel.rows_per_group(),
            _ => {
                parts.push(&self.input);
                TILE
            }
        };
        let parts: Vec<_> = parts.into_iter().map(Part::all).collect();
        let bindings = self.device.bindings(&pipeline, &parts)?;
        let [_, high, scales, blocks] = self.planes.starts();
        let units = COLS / UNIT;
        let mut words = [0usize; 18];
        words[1..8].copy_from_slice(&[rows, units, batch, high, scales, blocks, 0]);
        words[8..11].copy_from_slice(&[COLS / 4, rows, 0]);
        // No bias.
        words[12] = u32::MAX as usize;
        let immediates = bytes_of(&words.map(|word| word as u32));
        let dispatch = || Command::Dispatch {
            pipeline: &*pipeline,
            bindings: &bindings,
            immediates: &immediates,
            groups: [(rows as u32).div_ceil(per_group), 1, 1],
        };
        // Compiled, and memory touched.
        self.device.run(&[dispatch()], None, None)?;
        let mut fastest: Option<u64> = None;
        for _ in 0..RUNS {
            let nanos = self.device.run(&[dispatch()], None, None)?;
            fastest = fastest.into_iter().chain(nanos).min();
        }
        let bytes = 4 * (batch * rows) as u64;
        let copy = Command::Copy {
            from: (&self.output.raw, 0),
            to: (&self.readback.raw, 0),
            bytes,
        };
        self.device.run(&[copy], None, Some(&self.readback))?;
        let mut given = vec![0; 4 * batch * rows];
        self.device.recorder.read(&self.readback.raw, &mut given)?;
        let given = given.chunks_exact(4);
        let given = given.map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        let right = (0..batch).flat_map(|row| {
            let expected = &self.expected[..rows];
            expected
                .iter()
                .map(move |right| right * f64::from(factor(row)))
        });
        let off = given.zip(right).map(|(ours, right)| (ours - right).abs());
        // A value that is no number is as far off as can be.
        let off = off.fold(0.0, |most: f64, off| {
            if off > most || off.is_nan() {
                off
            } else {
                most
            }
        });
        Ok((off, fastest))
    }
}

/// What a row of the input is of the first.
fn factor(row: usize) -> f32 {
    // Exact: a few bits.
    1.0 + row as f32 / BATCH as f32
}

/// A row of Q4_0 blocks, other levels in each: scales of 1/64 as halves.
fn blocks(row: usize) -> Vec<u8> {
    let mut state = (row as u32).wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut bytes = Vec::new();
    for _ in 0..COLS / UNIT {
        bytes.extend([0x00, 0x24]);
        for _ in 0..UNIT / 2 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.push((state >> 24) as u8);
        }
    }
    bytes
}

/// The product of such a row, by the format's definition.
fn product(bytes: &[u8], input: &[f32]) -> f64 {
    let blocks = bytes.chunks_exact(18).zip(input.chunks_exact(UNIT));
    let value = |(block, input): (&[u8], &[f32])| -> f64 {
        let level = |i: usize| block[2 + i % 16] >> (4 * (i / 16)) & 15;
        let values = input.iter().enumerate();
        values
            .map(|(i, &x)| f64::from(x) * (f64::from(level(i)) - 8.0) / 64.0)
            .sum()
    };
    blocks.map(value).sum()
}
