//! What goes to the device with a step, and what of it comes back.

use std::collections::VecDeque;
use std::sync::Arc;

use gogrid_kernels::capability::KV_MAX;
use gogrid_pipeline::{RowFault, StageError, Step, Want};

use crate::device::Buf;
use crate::info::Info;
use crate::limits::HEAD_ROWS;
use crate::op::Op;
use crate::program::numbered_piece;
use crate::recorder::Recorder;
use crate::stage::{GpuStage, Open};
use crate::weights::bytes_of;

/// What the readback buffer has once a list of operations is done: flags of all rows, and after them the
/// residual stream, or what the head gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Whether the pieces ran, so that the flags are new.
    pub(crate) has_flags: bool,
    /// Rows of the head.
    pub(crate) head: Option<HeadChunk>,
}

/// Rows that the head gives something for, at most [`HEAD_ROWS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadChunk {
    what: HeadWant,
    /// Where the list of rows begins in the step's information, and that of their targets.
    list: usize,
    targets: usize,
    rows: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadWant {
    Hidden,
    Logits,
    LogProbs,
}

/// What a step begins with on the device: bytes, and where parts of them go.
pub(crate) struct Upload<R: Recorder> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) copies: Vec<UploadCopy<R>>,
}

/// A part of an upload: its first byte, its place, and its length.
type UploadCopy<R> = (u64, (Arc<Buf<R>>, u64), u64);

impl<R: Recorder> GpuStage<R> {
    /// What a step begins with: information, flags that note nothing, and rows that bring themselves.
    pub(crate) fn upload_bytes(&self, open: &Open<R>) -> Upload<R> {
        let (width, ld) = (self.shape.width, self.shape.widths.width);
        let scratch = &self.scratch;
        let mut words = open.info.words.clone();
        let mut copies = vec![(0, (Arc::clone(&scratch.info), 0), 4 * words.len() as u64)];
        let rows = open.step.rows();
        copies.push((
            4 * words.len() as u64,
            (Arc::clone(&scratch.flags), 0),
            4 * rows as u64,
        ));
        words.resize(words.len() + rows, u32::MAX);
        let mut put = |first: usize, values: &[f32]| {
            let from = 4 * words.len() as u64;
            for row in values.chunks_exact(width) {
                words.extend(row.iter().map(|value| value.to_bits()));
                words.resize(words.len() + ld - width, 0);
            }
            let to = (Arc::clone(&scratch.x), 4 * (first * ld) as u64);
            copies.push((from, to, 4 * words.len() as u64 - from));
        };
        match self.pieces.embedding {
            Some(_) => {
                for run in &open.rows.embedded {
                    put(run.rows.start, &run.values);
                }
            }
            None => put(0, &open.hidden),
        }
        Upload {
            bytes: bytes_of(&words),
            copies,
        }
    }

    /// Reads what is done, and makes what comes next. Says whether the step is done.
    pub(crate) fn read(&mut self, open: &mut Open<R>) -> Result<bool, StageError> {
        let (rows, reads) = (open.step.rows(), open.reads);
        let flags_len = self.scratch.flags.bytes as usize;
        let values = match (reads.head, &self.pieces.head) {
            (Some(chunk), _) => chunk.rows * self.values_per_row(chunk.what),
            (None, None) => rows * self.shape.widths.width,
            (None, Some(_)) => 0,
        };
        open.is_reading = false;
        let bytes = self.read_back(flags_len + 4 * values)?;
        if reads.has_flags {
            let flags: Vec<u32> = words_of(&bytes[..4 * rows]).collect();
            let has_faults = flags.iter().any(|flag| *flag != u32::MAX);
            if has_faults && !open.is_watched && self.pieces.embedding.is_some() {
                // Again, to find the piece: a step can be run twice, and this one's request fails.
                open.is_watched = true;
                open.heads.extend(reads.head);
                open.heads.rotate_right(usize::from(reads.head.is_some()));
                self.main_ops(open);
                return Ok(false);
            }
            open.given.faults.extend(self.faults(&flags));
        }
        match reads.head {
            Some(chunk) => self.give_head(chunk, (&bytes[flags_len..], open)),
            None => self.give_rows(&bytes[flags_len..], &mut open.given.hidden),
        }
        match open.heads.pop_front() {
            Some(chunk) => {
                open.ops = self.head_ops(open, chunk).into();
                open.reads = Reads {
                    has_flags: false,
                    head: Some(chunk),
                };
                Ok(false)
            }
            None => Ok(true),
        }
    }

    fn values_per_row(&self, what: HeadWant) -> usize {
        match what {
            HeadWant::Hidden => self.shape.widths.width,
            HeadWant::Logits => self.shape.vocab,
            HeadWant::LogProbs => 1,
        }
    }

    fn read_back(&self, len: usize) -> Result<Vec<u8>, StageError> {
        let mut bytes = vec![0; len];
        let read = self
            .device
            .recorder
            .read(&self.scratch.readback.raw, &mut bytes);
        read.map_err(|failure| self.device.error(failure))?;
        Ok(bytes)
    }

    fn faults(&self, flags: &[u32]) -> Vec<RowFault> {
        let noted = flags
            .iter()
            .enumerate()
            .filter(|(_, flag)| **flag != u32::MAX);
        let fault = |(row, flag): (usize, &u32)| {
            let what = match *flag {
                flag if flag == u32::MAX - 1 => {
                    format!(
                        "a value that is not finite after the stage of {}",
                        self.span
                    )
                }
                flag => {
                    let piece = numbered_piece(flag / 2, self.shape.layers);
                    match flag % 2 {
                        0 => format!(
                            "a key or value that the KV cache cannot hold, past {KV_MAX} or not finite, in {piece}"
                        ),
                        _ => format!("a value that is not finite after {piece}"),
                    }
                }
            };
            RowFault { row, what }
        };
        noted.map(fault).collect()
    }

    /// Rows of the residual stream, without what they are padded with.
    fn give_rows(&self, bytes: &[u8], to: &mut Vec<f32>) {
        for row in bytes.chunks_exact(4 * self.shape.widths.width) {
            to.extend(words_of(&row[..4 * self.shape.width]).map(f32::from_bits));
        }
    }

    /// The operations of some rows of the head.
    pub(crate) fn head_ops(&self, open: &Open<R>, chunk: HeadChunk) -> Vec<Op<R>> {
        let Some(head) = &self.pieces.head else {
            return Vec::new();
        };
        let scratch = &self.scratch;
        let mut program = self.program(open);
        program.gather(chunk.list, chunk.rows);
        let from = match chunk.what {
            HeadWant::Hidden => &scratch.gathered,
            HeadWant::Logits => {
                program.logits(head, chunk.rows);
                &scratch.logits
            }
            HeadWant::LogProbs => {
                program.logits(head, chunk.rows);
                program.log_probs(chunk.targets, chunk.rows);
                &scratch.log_probs
            }
        };
        let mut ops = program.ops;
        ops.push(Op::Copy {
            from: (Arc::clone(from), 0),
            to: (Arc::clone(&scratch.readback), scratch.flags.bytes),
            bytes: 4 * (chunk.rows * self.values_per_row(chunk.what)) as u64,
        });
        ops
    }

    fn give_head(&self, chunk: HeadChunk, (bytes, open): (&[u8], &mut Open<R>)) {
        let out = &mut open.given;
        match chunk.what {
            HeadWant::Hidden => self.give_rows(bytes, &mut out.hidden),
            HeadWant::Logits => out.logits.extend(words_of(bytes).map(f32::from_bits)),
            HeadWant::LogProbs => {
                for (index, log_prob) in words_of(bytes).map(f32::from_bits).enumerate() {
                    if !log_prob.is_finite() {
                        out.faults.push(RowFault {
                            row: open.info.words[chunk.list + index] as usize,
                            what: format!("a log-probability of {log_prob} in the head"),
                        });
                    }
                    out.log_probs.push(log_prob);
                }
            }
        }
    }
}

fn words_of(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let words = bytes.chunks_exact(4);
    words.map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

/// The parts of what a step's rows want of the head, in the order in which it is given.
pub(crate) fn head_chunks(step: &Step, info: &mut Info) -> VecDeque<HeadChunk> {
    let mut chunks = VecDeque::new();
    let rows_of = |is_wanted: &dyn Fn(Want) -> bool| -> Vec<usize> {
        let wants = step.wants().enumerate();
        wants
            .filter(|(_, want)| is_wanted(*want))
            .map(|(row, _)| row)
            .collect()
    };
    let target = |row: usize| match step.wants().nth(row) {
        Some(Want::LogProb(id)) => id,
        _ => 0,
    };
    let kinds: [(HeadWant, Vec<usize>); 3] = [
        (HeadWant::Hidden, rows_of(&|want| want == Want::Hidden)),
        (HeadWant::Logits, rows_of(&|want| want == Want::Logits)),
        (
            HeadWant::LogProbs,
            rows_of(&|want| matches!(want, Want::LogProb(_))),
        ),
    ];
    for (what, rows) in kinds {
        for rows in rows.chunks(HEAD_ROWS) {
            chunks.push_back(HeadChunk {
                what,
                list: info.put_list(rows.iter().map(|&row| row as u32)),
                targets: info.put_list(rows.iter().map(|&row| target(row))),
                rows: rows.len(),
            });
        }
    }
    chunks
}
