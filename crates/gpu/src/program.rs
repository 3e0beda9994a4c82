//! The operations of a step: which kernels, on which buffers, in which order.

use std::sync::Arc;

use gogrid_model::Decoder;
use gogrid_units::{Piece, Work};

use crate::cost::{Class, Cost};
use crate::device::{Buf, Device, Part};
use crate::formats::UNIT;
use crate::info::{Info, Tiles};
use crate::kernel::Kernel;
use crate::kv::Pool;
use crate::limits::{FEED_FORWARD_ROWS, VECTOR_ROWS};
use crate::op::{Dispatch, Op};
use crate::parts::{
    At, EmbeddingPart, FeedForwardPart, GateUp, HalfLayer, HeadPart, MixerPart, Onto, Pieces,
};
use crate::passes::Attend;
use crate::products::{MatMat, MatVec, Output, TILE};
use crate::recorder::Recorder;
use crate::scratch::{Scratch, Widths};
use crate::weights::Matrix;

/// No vector, in a kernel's immediate words.
pub(crate) const NONE: u32 = u32::MAX;

/// What all operations of a step share.
pub(crate) struct Program<'a, R: Recorder> {
    pub(crate) device: &'a Device<R>,
    pub(crate) pieces: &'a Pieces<R>,
    pub(crate) scratch: &'a Scratch<R>,
    pub(crate) pools: &'a [Pool<R>],
    pub(crate) widths: Widths,
    /// Width of the residual stream, and epsilon of its norms.
    pub(crate) width: usize,
    pub(crate) epsilon: f32,
    pub(crate) rows: usize,
    pub(crate) info: &'a Info,
    /// For each mixer, its tiles.
    pub(crate) tiles: &'a [Tiles],
    /// Layers of the model, which give pieces their numbers.
    pub(crate) layers: usize,
    pub(crate) ops: Vec<Op<R>>,
}

/// A product: which rows of which buffer, by what, to where.
struct Product<'a, R: Recorder> {
    matrix: &'a Matrix<R>,
    from: &'a Arc<Buf<R>>,
    /// Values from row to row, and the first.
    ld_in: usize,
    from_at: usize,
    to: &'a Arc<Buf<R>>,
    ld_out: usize,
    to_at: usize,
    rows: usize,
    /// The norm of the input.
    norm: At,
    bias: At,
    /// What is added is multiplied by it.
    scale: f32,
    output: Output,
}

/// Where kernels of a span's numbers: pieces in the order of the model.
pub(crate) fn piece_number(piece: Piece, layers: usize) -> u32 {
    // A model has far fewer than 2^30 pieces.
    match piece {
        Piece::Embedding => 0,
        Piece::Mixer(layer) => 1 + 2 * layer as u32,
        Piece::FeedForward(layer) => 2 + 2 * layer as u32,
        Piece::Head => 1 + 2 * layers as u32,
    }
}

/// The piece that [`piece_number`] gave the number.
pub(crate) fn numbered_piece(number: u32, layers: usize) -> Piece {
    let number = number as usize;
    match number {
        0 => Piece::Embedding,
        _ if number > 2 * layers => Piece::Head,
        _ if number % 2 == 1 => Piece::Mixer(number / 2),
        _ => Piece::FeedForward(number / 2 - 1),
    }
}

impl<'a, R: Recorder> Program<'a, R> {
    /// All pieces but the head. Where it is `watched`, rows that hold a value that is not finite are noted
    /// after each piece, else after the last.
    pub(crate) fn pieces(&mut self, watched: bool) {
        let pieces = self.pieces;
        let note = |piece| 2 * piece_number(piece, self.layers) + 1;
        let (notes, embedded): (Vec<u32>, _) = (
            pieces
                .halves
                .iter()
                .map(|half| note(half.piece()))
                .collect(),
            note(Piece::Embedding),
        );
        if let Some(part) = &pieces.embedding {
            self.embed(part);
            if watched {
                self.watch(embedded);
            }
        }
        let mut tiles = self.tiles.iter();
        for (half, note) in pieces.halves.iter().zip(notes) {
            match half {
                HalfLayer::Mixer(part) => {
                    let tiles = tiles.next().expect("tiles of each mixer");
                    self.mixer(part, *tiles);
                }
                HalfLayer::FeedForward(part) => self.feed_forward(part),
            }
            if watched {
                self.watch(note);
            }
        }
        self.watch(NONE - 1);
    }

    pub(crate) fn push(&mut self, kernel: Kernel, parts: Vec<Part<R>>, what: Words) {
        let Words {
            mut words,
            groups,
            cost,
        } = what;
        words.insert(0, 0);
        self.ops.push(Op::Dispatch(Dispatch {
            kernel,
            parts,
            immediates: words,
            groups,
            cost,
        }));
    }

    fn embed(&mut self, part: &EmbeddingPart<R>) {
        let units = part.table.cols.div_ceil(UNIT);
        for chunk in &part.table.chunks {
            let [_, high, scales, blocks] = chunk.planes.starts();
            let words = Words::of(self.rows, 1, 1)
                .add([chunk.place.first, chunk.place.rows, units])
                .add([high, scales, blocks, part.table.cols, self.widths.width])
                .float(part.scale)
                .add([self.info.ids]);
            let parts = vec![
                chunk.part.clone(),
                chunk.part.clone(),
                Part::all(&self.scratch.info),
                Part::all(&self.scratch.x),
            ];
            let cost = pass(self.rows * self.width * 8);
            self.push(Kernel::Embed(part.table.ty), parts, words.costing(cost));
        }
    }

    fn mixer(&mut self, part: &MixerPart<R>, tiles: Tiles) {
        let (scratch, widths) = (self.scratch, self.widths);
        let mut first = 0;
        for matrix in &part.qkv {
            self.product(&Product {
                matrix,
                from: &scratch.x,
                ld_in: widths.width,
                from_at: 0,
                to: &scratch.qkv,
                ld_out: widths.qkv,
                to_at: first,
                rows: self.rows,
                norm: part.norm,
                bias: part.qkv_bias.map(|bias| bias + first as u32),
                scale: 1.0,
                output: Output::Store,
            });
            first += matrix.rows;
        }
        if part.is_normed_whole {
            self.norm_rows(part);
        }
        self.turn_and_keep(part);
        self.attend(part, tiles);
        let product = Product {
            matrix: &part.o,
            from: &scratch.attended,
            ld_in: widths.attended,
            from_at: 0,
            to: &scratch.x,
            ld_out: widths.width,
            to_at: 0,
            rows: self.rows,
            norm: None,
            bias: part.o_bias,
            scale: 1.0,
            output: Output::Add,
        };
        self.add_to_stream(product, part.residual);
    }

    /// Norms the queries of a row, and its keys, over all heads.
    fn norm_rows(&mut self, part: &MixerPart<R>) {
        let spec = part.spec;
        let (queries, keys) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        let at = |at: At| at.unwrap_or(NONE) as usize;
        let words = Words::of(self.rows, 2, 1)
            .add([self.widths.qkv])
            .float(self.epsilon)
            .add([queries, at(part.q_norm), keys, at(part.k_norm)]);
        let parts = vec![
            Part::all(&self.scratch.qkv),
            Part::all(&self.pieces.vectors),
        ];
        let cost = pass(self.rows * (queries + keys) * 12);
        self.push(Kernel::NormRows, parts, words.costing(cost));
    }

    /// A product that is added to the residual stream, multiplied or through a norm.
    fn add_to_stream(&mut self, product: Product<'_, R>, residual: Onto) {
        let norm = match residual {
            Onto::Scaled(scale) => return self.product(&Product { scale, ..product }),
            Onto::Normed(norm) => norm,
        };
        let scratch = self.scratch;
        let rows = product.rows;
        let first = product.to_at / self.widths.width;
        self.product(&Product {
            to: &scratch.normed,
            output: Output::Store,
            ..product
        });
        let words = Words::of(rows, 1, 1)
            .add([self.widths.width, self.width])
            .float(self.epsilon)
            .add([norm as usize]);
        let row_bytes = 4 * self.widths.width as u64;
        let from_row = |buffer: &Arc<Buf<R>>| Part {
            offset: first as u64 * row_bytes,
            bytes: bytes_from(buffer, first as u64 * row_bytes),
            ..Part::all(buffer)
        };
        let parts = vec![
            from_row(&scratch.normed),
            Part::all(&self.pieces.vectors),
            from_row(&scratch.x),
        ];
        self.push(
            Kernel::AddNormed,
            parts,
            words.costing(pass(rows * self.width * 12)),
        );
    }

    fn feed_forward(&mut self, part: &FeedForwardPart<R>) {
        for first in (0..self.rows).step_by(FEED_FORWARD_ROWS) {
            let rows = FEED_FORWARD_ROWS.min(self.rows - first);
            self.gate_up(part, first, rows);
            let scratch = self.scratch;
            let product = Product {
                matrix: &part.down,
                from: &scratch.hidden,
                ld_in: 2 * self.widths.hidden,
                from_at: 0,
                to: &scratch.x,
                ld_out: self.widths.width,
                to_at: first * self.widths.width,
                rows,
                norm: None,
                bias: None,
                scale: 1.0,
                output: Output::Add,
            };
            self.add_to_stream(product, part.residual);
        }
    }

    /// The gated values of some rows, at the front of the buffer for them.
    fn gate_up(&mut self, part: &FeedForwardPart<R>, first: usize, rows: usize) {
        let (scratch, widths) = (self.scratch, self.widths);
        let ld_out = 2 * widths.hidden;
        let product = |matrix, to_at, output| Product {
            matrix,
            from: &scratch.x,
            ld_in: widths.width,
            from_at: first * widths.width,
            to: &scratch.hidden,
            ld_out,
            to_at,
            rows,
            norm: part.norm,
            bias: None,
            scale: 1.0,
            output,
        };
        match &part.gate_up {
            GateUp::Together(matrix) if self.is_by_vectors(rows) => {
                let output = match part.is_silu {
                    true => Output::Silu,
                    false => Output::GeluTanh,
                };
                return self.product(&product(matrix, 0, output));
            }
            GateUp::Together(matrix) => self.product(&product(matrix, 0, Output::Store)),
            GateUp::Apart([gate, up]) => {
                self.product(&product(gate, 0, Output::Store));
                self.product(&product(up, widths.hidden, Output::Store));
            }
        }
        let words =
            Words::of(part.hidden.div_ceil(64), rows, 1).add([ld_out, part.hidden, widths.hidden]);
        let parts = vec![Part::all(&scratch.hidden)];
        self.push(
            Kernel::Gate(part.is_silu),
            parts,
            words.costing(pass(rows * part.hidden * 12)),
        );
    }

    fn product(&mut self, product: &Product<'_, R>) {
        if !self.is_by_vectors(product.rows) {
            return self.mat_mat(product);
        }
        for first in (0..product.rows).step_by(VECTOR_ROWS) {
            self.mat_vec(&Product {
                from_at: product.from_at + first * product.ld_in,
                to_at: product.to_at + first * product.ld_out,
                rows: VECTOR_ROWS.min(product.rows - first),
                ..*product
            });
        }
    }

    /// Whether so many rows are multiplied a few at a time.
    fn is_by_vectors(&self, rows: usize) -> bool {
        rows <= VECTOR_ROWS || !self.device.is_tiled
    }

    fn mat_vec(&mut self, product: &Product<'_, R>) {
        let matrix = product.matrix;
        let kernel = MatVec {
            ty: matrix.ty,
            batch: product.rows.next_power_of_two(),
            is_normed: product.norm.is_some(),
            output: product.output,
            reduction: self.device.reduction,
        };
        for chunk in &matrix.chunks {
            // Rows of outputs fit 32 bits.
            let groups = (chunk.place.rows as u32).div_ceil(kernel.rows_per_group());
            let words = Words::of(groups as usize, 1, 1);
            let words = self.product_words(words, product, (chunk.place.second, chunk.place.first));
            let words = words.patch(chunk.place.rows, chunk.planes.starts());
            let parts = self.product_parts(product, &chunk.part);
            let cost = Cost {
                class: Class::Vector,
                amount: chunk.part.bytes as f64 * (1.0 + 0.2 * (product.rows - 1) as f64),
                work: Work {
                    bytes: chunk.part.bytes,
                    multiply_adds: (chunk.place.rows * matrix.cols * product.rows) as u64,
                },
            };
            self.push(Kernel::MatVec(kernel), parts, words.costing(cost));
        }
    }

    fn mat_mat(&mut self, product: &Product<'_, R>) {
        let matrix = product.matrix;
        if product.norm.is_some() {
            let scratch = self.scratch;
            let words = Words::of(product.rows, 1, 1)
                .add([product.ld_in, self.width])
                .float(self.epsilon);
            let from = Part {
                offset: 4 * product.from_at as u64,
                bytes: product.from.bytes - 4 * product.from_at as u64,
                ..Part::all(product.from)
            };
            let parts = vec![from, Part::all(&scratch.roots)];
            let cost = pass(product.rows * self.width * 4);
            self.push(Kernel::RootMeanSquare, parts, words.costing(cost));
        }
        let kernel = MatMat {
            ty: matrix.ty,
            is_normed: product.norm.is_some(),
            is_added: product.output == Output::Add,
        };
        for chunk in &matrix.chunks {
            let place = chunk.place;
            let halves = [
                (0, place.first),
                (place.second, place.first + self.widths.hidden),
            ];
            let halves = if matrix.is_gated {
                &halves[..]
            } else {
                &halves[..1]
            };
            for &(first, out) in halves {
                let tiles = (place.rows as u32).div_ceil(TILE) as usize;
                let words = Words::of(tiles, product.rows.div_ceil(TILE as usize), 1);
                let words = self.product_words(words, product, (first, out));
                let words = words.patch(place.rows, chunk.planes.starts());
                let mut parts = self.product_parts(product, &chunk.part);
                parts.push(Part::all(&self.scratch.roots));
                let multiply_adds = place.rows * matrix.cols * product.rows;
                let cost = Cost {
                    class: Class::Tiles,
                    amount: multiply_adds as f64,
                    work: Work {
                        bytes: chunk.part.bytes,
                        multiply_adds: multiply_adds as u64,
                    },
                };
                self.push(Kernel::MatMat(kernel), parts, words.costing(cost));
            }
        }
    }

    /// The immediate words of a product, but for those of its chunk.
    fn product_words(
        &self,
        words: Words,
        product: &Product<'_, R>,
        (first, out): (usize, usize),
    ) -> Words {
        let units = product.matrix.cols.div_ceil(UNIT);
        let bias = product
            .bias
            .map_or(NONE as usize, |bias| bias as usize + out);
        let norm = product.norm.map_or(0, |norm| norm as usize / 4);
        words
            .add([0, units, product.rows, 0, 0, 0, first])
            .add([
                product.ld_in / 4,
                product.ld_out,
                product.to_at + out,
                norm,
                bias,
            ])
            .float(self.epsilon)
            // A width is far below 2^24.
            .float(1.0 / product.matrix.cols as f32)
            .add([product.from_at / 4, 0])
            .float(product.scale)
    }

    fn product_parts(&self, product: &Product<'_, R>, weights: &Part<R>) -> Vec<Part<R>> {
        vec![
            weights.clone(),
            weights.clone(),
            Part::all(product.from),
            Part::all(&self.pieces.vectors),
            Part::all(product.to),
        ]
    }

    fn watch(&mut self, note: u32) {
        let words = Words::of(self.rows, 1, 1).add([self.widths.width, self.width, note as usize]);
        let parts = vec![Part::all(&self.scratch.x), Part::all(&self.scratch.flags)];
        self.push(
            Kernel::Watch,
            parts,
            words.costing(pass(self.rows * self.width * 4)),
        );
    }

    /// Copies the rows that a list names to the front of the buffer for them.
    pub(crate) fn gather(&mut self, list: usize, rows: usize) {
        let words = Words::of(rows, 1, 1).add([self.widths.width, list]);
        let parts = vec![
            Part::all(&self.scratch.x),
            Part::all(&self.scratch.info),
            Part::all(&self.scratch.gathered),
        ];
        self.push(
            Kernel::Gather,
            parts,
            words.costing(pass(rows * self.width * 8)),
        );
    }

    /// Logits of gathered rows.
    pub(crate) fn logits(&mut self, head: &HeadPart<R>, rows: usize) {
        let scratch = self.scratch;
        for first in (0..rows).step_by(VECTOR_ROWS) {
            self.mat_vec(&Product {
                matrix: &head.output,
                from: &scratch.gathered,
                ld_in: self.widths.width,
                from_at: first * self.widths.width,
                to: &scratch.logits,
                ld_out: self.widths.vocab,
                to_at: first * self.widths.vocab,
                rows: VECTOR_ROWS.min(rows - first),
                norm: head.norm,
                bias: None,
                scale: 1.0,
                output: Output::Store,
            });
        }
        if let Some(cap) = head.softcap {
            let count = rows * self.widths.vocab;
            let words = Words::of(count.div_ceil(64), 1, 1).add([count]).float(cap);
            let parts = vec![Part::all(&scratch.logits)];
            self.push(Kernel::Softcap, parts, words.costing(pass(count * 8)));
        }
    }

    /// Log-probabilities of the tokens that a list names, from logits.
    pub(crate) fn log_probs(&mut self, list: usize, rows: usize) {
        let words = Words::of(rows, 1, 1).add([self.widths.vocab, list]);
        let parts = vec![
            Part::all(&self.scratch.logits),
            Part::all(&self.scratch.info),
            Part::all(&self.scratch.log_probs),
        ];
        self.push(
            Kernel::LogProbs,
            parts,
            words.costing(pass(rows * self.widths.vocab * 8)),
        );
    }
}

/// A kernel's workgroups, its immediate words after the first, and what it takes.
pub(crate) struct Words {
    words: Vec<u32>,
    groups: [u32; 3],
    cost: Cost,
}

impl Words {
    /// Extents of a step fit 32 bits.
    pub(crate) fn of(x: usize, y: usize, z: usize) -> Self {
        Self {
            words: Vec::with_capacity(24),
            groups: [x, y, z].map(|extent| extent as u32),
            cost: pass(0),
        }
    }

    pub(crate) fn costing(self, cost: Cost) -> Self {
        Self { cost, ..self }
    }

    pub(crate) fn add<const N: usize>(mut self, words: [usize; N]) -> Self {
        self.words.extend(words.map(|word| word as u32));
        self
    }

    pub(crate) fn float(mut self, value: f32) -> Self {
        self.words.push(value.to_bits());
        self
    }

    /// Puts the rows and planes of a chunk in their places.
    fn patch(mut self, rows: usize, [_, high, scales, blocks]: [usize; 4]) -> Self {
        self.words[0] = rows as u32;
        self.words[3..6].copy_from_slice(&[high, scales, blocks].map(|word| word as u32));
        self
    }
}

/// What of a buffer is left from a byte on. The same for any number of rows, so that it is bound once.
fn bytes_from<R: Recorder>(buffer: &Buf<R>, first: u64) -> u64 {
    buffer.bytes - first
}

/// The cost of a kernel that reads and writes so many bytes.
pub(crate) fn pass(bytes: usize) -> Cost {
    Cost {
        class: Class::Pass,
        amount: bytes as f64,
        work: Work {
            bytes: bytes as u64,
            multiply_adds: 0,
        },
    }
}

/// Which mixers of a model do attention by equal tiles, as (KV group, rows of a tile).
pub(crate) fn tile_kinds<R: Recorder>(pieces: &Pieces<R>) -> Vec<(usize, usize)> {
    let kind = |half: &HalfLayer<R>| match half {
        HalfLayer::Mixer(part) => {
            let kernel = Attend::of(part.spec.head_dim, part.spec.heads / part.spec.kv_heads);
            Some((part.spec.kv_group, kernel.rows))
        }
        HalfLayer::FeedForward(_) => None,
    };
    pieces.halves.iter().filter_map(kind).collect()
}

/// What a model is checked for: extents that kernels have in their workgroups' memory.
pub(crate) fn check_heads(decoder: &Decoder, piece: Piece) -> Result<(), String> {
    let Piece::Mixer(layer) = piece else {
        return Ok(());
    };
    let spec = &decoder.layers[layer].mixer;
    let most = gogrid_kernels::capability::HEAD_DIM_MAX;
    match spec.head_dim.is_multiple_of(2) && (2..=most).contains(&spec.head_dim) {
        true => Ok(()),
        false => Err(format!(
            "{piece}: a head's width of {}; supported: even ones, 2 to {most}",
            spec.head_dim
        )),
    }
}
