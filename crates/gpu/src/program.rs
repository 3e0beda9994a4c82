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
use crate::limits::{FEED_FORWARD_ROWS, PARTIAL_BYTES, SLABS_BOUND, SPLITS_MAX, VECTOR_ROWS};
use crate::op::{Dispatch, Op};
use crate::parts::{At, EmbeddingPart, FeedForwardPart, GateUp, HalfLayer, HeadPart, MixerPart, Pieces};
use crate::passes::Attend;
use crate::products::{MatMat, MatVec, Output, TILE};
use crate::recorder::Recorder;
use crate::scratch::{Scratch, Widths};
use crate::weights::Matrix;

/// No vector, in a kernel's immediate words.
const NONE: u32 = u32::MAX;

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
            pieces.halves.iter().map(|half| note(half.piece())).collect(),
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

    fn push(&mut self, kernel: Kernel, parts: Vec<Part<R>>, what: Words, cost: Cost) {
        let Words { mut words, groups } = what;
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
            self.push(Kernel::Embed(part.table.ty), parts, words, cost);
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
                output: Output::Store,
            });
            first += matrix.rows;
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
            output: Output::Add,
        };
        self.add_to_stream(product, part.post_norm);
    }

    /// A product that is added to the residual stream, through a norm where there is one.
    fn add_to_stream(&mut self, product: Product<'_, R>, post_norm: At) {
        let Some(norm) = post_norm else {
            return self.product(&product);
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
        let from_row = |buffer| Part {
            offset: first as u64 * row_bytes,
            bytes: rows as u64 * row_bytes,
            ..Part::all(buffer)
        };
        let parts = vec![
            from_row(&scratch.normed),
            Part::all(&self.pieces.vectors),
            from_row(&scratch.x),
        ];
        self.push(Kernel::AddNormed, parts, words, pass(rows * self.width * 12));
    }

    fn turn_and_keep(&mut self, part: &MixerPart<R>) {
        let spec = part.spec;
        let pool = &self.pools[spec.kv_group];
        let slot = pool.shape.layers[part.kv_slot];
        let heads = spec.heads + 2 * spec.kv_heads;
        for (first_slab, slabs) in self.slabs(spec.kv_group) {
            let at = |at: At| at.unwrap_or(NONE) as usize;
            let words = Words::of(self.rows, heads, 1)
                .add([self.widths.qkv, spec.head_dim, spec.heads, spec.kv_heads])
                .add([at(part.q_norm), at(part.k_norm)])
                .float(self.epsilon)
                .add([self.info.turns[part.rotation], spec.pairs])
                .add([usize::from(spec.are_halves), self.info.rows[spec.kv_group]])
                .add([pool.slabs.per_slab(), pool.shape.slot_words, slot.first, first_slab])
                .add([piece_number(part.piece, self.layers) as usize, slot.words]);
            let mut parts = vec![
                Part::all(&self.scratch.qkv),
                Part::all(&self.pieces.vectors),
                Part::all(&self.scratch.info),
                Part::all(&self.scratch.flags),
            ];
            parts.extend(slabs);
            let cost = pass(self.rows * heads * spec.head_dim * 12);
            self.push(Kernel::TurnAndKeep, parts, words, cost);
        }
    }

    /// A group's slabs, as many at a time as a kernel binds; where there are fewer, one of them stands for
    /// the rest.
    fn slabs(&self, group: usize) -> Vec<(usize, Vec<Part<R>>)> {
        let buffers = self.pools[group].slabs.buffers();
        let Some(any) = buffers.iter().flatten().next() else {
            return Vec::new();
        };
        let groups = buffers.chunks(SLABS_BOUND).enumerate();
        let bound = groups.filter(|(_, slabs)| slabs.iter().any(Option::is_some));
        bound
            .map(|(index, slabs)| {
                let slab = |i: usize| slabs.get(i).and_then(Option::as_ref).unwrap_or(any);
                let parts = (0..SLABS_BOUND).map(|i| Part::all(slab(i))).collect();
                (index * SLABS_BOUND, parts)
            })
            .collect()
    }

    fn attend(&mut self, part: &MixerPart<R>, tiles: Tiles) {
        let spec = part.spec;
        let slabs = self.slabs(spec.kv_group);
        let kernel = Attend::of(spec.head_dim, spec.heads / spec.kv_heads);
        let row_bytes = spec.heads * (spec.head_dim + 2) * 4;
        let splits = self.splits(&kernel, (part, tiles), slabs.len());
        let parts = splits * slabs.len();
        // As many tiles at a time as the parts' results have room for.
        let at_once = match parts {
            1 => tiles.count,
            _ => {
                let rows = PARTIAL_BYTES as usize / (row_bytes * parts);
                (rows / tiles.rows).clamp(1, tiles.count.max(1))
            }
        };
        let mut done = 0;
        while done < tiles.count {
            let count = at_once.min(tiles.count - done);
            let some = SomeTiles {
                tiles,
                first: done,
                count,
            };
            let share = Splits { splits, parts };
            self.attend_some((part, &kernel), &some, (&slabs, share));
            done += count;
        }
    }

    /// The parts that each tile's tokens are shared out in: enough for all of the device, where a tile sees
    /// many tokens.
    fn splits(&self, kernel: &Attend, (part, tiles): (&MixerPart<R>, Tiles), slab_groups: usize) -> usize {
        let spec = part.spec;
        let head_tiles = (spec.heads / spec.kv_heads).div_ceil(kernel.heads);
        let groups = (tiles.count * spec.kv_heads * head_tiles).max(1);
        let wanted = if self.device.facts().is_software { 4 } else { 256 };
        let row_bytes = spec.heads * (spec.head_dim + 2) * 4 * slab_groups.max(1) * tiles.rows;
        let room = PARTIAL_BYTES as usize / row_bytes.max(1);
        (wanted / groups).min(tiles.blocks / 4).min(room).clamp(1, SPLITS_MAX)
    }

    fn attend_some(
        &mut self,
        (part, kernel): (&MixerPart<R>, &Attend),
        some: &SomeTiles,
        (slabs, share): (&[(usize, Vec<Part<R>>)], Splits),
    ) {
        let spec = part.spec;
        let pool = &self.pools[spec.kv_group];
        let slot = pool.shape.layers[part.kv_slot];
        let sharing = spec.heads / spec.kv_heads;
        let head_tiles = sharing.div_ceil(kernel.heads);
        let first_row = self.info.words[some.tiles.first + 4 * some.first] as usize;
        let last = some.tiles.first + 4 * (some.first + some.count - 1);
        let end_row = (self.info.words[last] + self.info.words[last + 1]) as usize;
        let scratch = self.scratch;
        let to = match share.parts {
            1 => &scratch.attended,
            _ => &scratch.parts,
        };
        for (index, (first_slab, slabs)) in slabs.iter().enumerate() {
            let words = Words::of(some.count, spec.kv_heads * head_tiles, share.splits)
                .add([self.widths.qkv, some.tiles.first + 4 * some.first, spec.heads])
                .add([spec.kv_heads, sharing, head_tiles])
                .float(spec.scale)
                .float(spec.softcap.unwrap_or(0.0))
                .add([spec.window.unwrap_or(0), pool.slabs.per_slab(), pool.shape.slot_words])
                .add([slot.first, slot.words, *first_slab])
                .add([some.tiles.blocks.div_ceil(share.splits), share.parts])
                .add([index * share.splits, self.widths.attended, first_row]);
            let mut parts = vec![
                Part::all(&scratch.qkv),
                Part::all(&scratch.info),
                Part::all(to),
            ];
            parts.extend(slabs.iter().cloned());
            let tokens = some.tiles.blocks * 32;
            let amount = some.count * kernel.rows * spec.heads * tokens * spec.head_dim * 4;
            let cost = Cost {
                class: Class::Attention,
                amount: amount as f64,
                work: Work {
                    bytes: (some.count * spec.kv_heads * tokens * spec.head_dim * 4) as u64,
                    multiply_adds: (amount / 2) as u64,
                },
            };
            self.push(Kernel::Attend(*kernel), parts, words, cost);
        }
        if share.parts > 1 {
            let rows = end_row - first_row;
            let words = Words::of(rows, spec.heads, 1)
                .add([spec.heads, share.parts, spec.head_dim, self.widths.attended, first_row]);
            let parts = vec![Part::all(&scratch.parts), Part::all(&scratch.attended)];
            let cost = pass(rows * spec.heads * share.parts * spec.head_dim * 4);
            self.push(Kernel::Merge, parts, words, cost);
        }
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
                output: Output::Add,
            };
            self.add_to_stream(product, part.post_norm);
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
            output,
        };
        match &part.gate_up {
            GateUp::Together(matrix) if rows <= VECTOR_ROWS => {
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
        let words = Words::of(part.hidden.div_ceil(64), rows, 1)
            .add([ld_out, part.hidden, widths.hidden]);
        let parts = vec![Part::all(&scratch.hidden)];
        self.push(Kernel::Gate(part.is_silu), parts, words, pass(rows * part.hidden * 12));
    }

    fn product(&mut self, product: &Product<'_, R>) {
        match product.rows <= VECTOR_ROWS {
            true => self.mat_vec(product),
            false => self.mat_mat(product),
        }
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
            self.push(Kernel::MatVec(kernel), parts, words, cost);
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
            self.push(Kernel::RootMeanSquare, parts, words, cost);
        }
        let kernel = MatMat {
            ty: matrix.ty,
            is_normed: product.norm.is_some(),
            is_added: product.output == Output::Add,
        };
        for chunk in &matrix.chunks {
            let place = chunk.place;
            let halves = [(0, place.first), (place.second, place.first + self.widths.hidden)];
            let halves = if matrix.is_gated { &halves[..] } else { &halves[..1] };
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
                self.push(Kernel::MatMat(kernel), parts, words, cost);
            }
        }
    }

    /// The immediate words of a product, but for those of its chunk.
    fn product_words(&self, words: Words, product: &Product<'_, R>, (first, out): (usize, usize)) -> Words {
        let units = product.matrix.cols.div_ceil(UNIT);
        let bias = product.bias.map_or(NONE as usize, |bias| bias as usize + out);
        let norm = product.norm.map_or(0, |norm| norm as usize / 4);
        words
            .add([0, units, product.rows, 0, 0, 0, first])
            .add([product.ld_in / 4, product.ld_out, product.to_at + out, norm, bias])
            .float(self.epsilon)
            // A width is far below 2^24.
            .float(1.0 / product.matrix.cols as f32)
            .add([product.from_at / 4, 0])
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
        self.push(Kernel::Watch, parts, words, pass(self.rows * self.width * 4));
    }

    /// Copies the rows that a list names to the front of the buffer for them.
    pub(crate) fn gather(&mut self, list: usize, rows: usize) {
        let words = Words::of(rows, 1, 1).add([self.widths.width, list]);
        let parts = vec![
            Part::all(&self.scratch.x),
            Part::all(&self.scratch.info),
            Part::all(&self.scratch.gathered),
        ];
        self.push(Kernel::Gather, parts, words, pass(rows * self.width * 8));
    }

    /// Logits of gathered rows.
    pub(crate) fn logits(&mut self, head: &HeadPart<R>, rows: usize) {
        let scratch = self.scratch;
        for first in (0..rows).step_by(VECTOR_ROWS) {
            self.product(&Product {
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
                output: Output::Store,
            });
        }
        if let Some(cap) = head.softcap {
            let count = rows * self.widths.vocab;
            let words = Words::of(count.div_ceil(64), 1, 1).add([count]).float(cap);
            let parts = vec![Part::all(&scratch.logits)];
            self.push(Kernel::Softcap, parts, words, pass(count * 8));
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
        self.push(Kernel::LogProbs, parts, words, pass(rows * self.widths.vocab * 8));
    }
}

/// Tiles that attention does together.
struct SomeTiles {
    tiles: Tiles,
    first: usize,
    count: usize,
}

/// How attention is shared out: of the tokens in slabs that are bound together, and in all.
#[derive(Clone, Copy)]
struct Splits {
    splits: usize,
    parts: usize,
}

/// A kernel's workgroups, and its immediate words after the first.
struct Words {
    words: Vec<u32>,
    groups: [u32; 3],
}

impl Words {
    /// Extents of a step fit 32 bits.
    fn of(x: usize, y: usize, z: usize) -> Self {
        Self {
            words: Vec::with_capacity(24),
            groups: [x, y, z].map(|extent| extent as u32),
        }
    }

    fn add<const N: usize>(mut self, words: [usize; N]) -> Self {
        self.words.extend(words.map(|word| word as u32));
        self
    }

    fn float(mut self, value: f32) -> Self {
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

/// The cost of a kernel that reads and writes so many bytes.
fn pass(bytes: usize) -> Cost {
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
    let most = crate::limits::HEAD_DIM_MAX;
    match spec.head_dim.is_multiple_of(2) && (2..=most).contains(&spec.head_dim) {
        true => Ok(()),
        false => Err(format!(
            "{piece}: a head's width of {}; supported: even ones, 2 to {most}",
            spec.head_dim
        )),
    }
}
