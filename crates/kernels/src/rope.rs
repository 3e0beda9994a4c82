use gogrid_units::{Bytes, OutOfMemory};

use crate::buffer::Buffer;
use crate::exp::sin_cos;

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotaryPairs {
    /// `(2 i, 2 i + 1)`.
    Adjacent,
    /// `(i, i + n)` with `n` the number of pairs.
    Halves,
}

/// Rotary positions (Su et al. 2021) of the rows of one step, made once and used by every layer
/// with the same frequencies.
#[derive(Debug)]
pub struct Rotations {
    /// Pairs that turn, so twice as many leading elements of a head.
    pairs: usize,
    rows: usize,
    /// `[rows, pairs]` at the front.
    cos: Buffer<f32>,
    /// `[rows, pairs]` at the front.
    sin: Buffer<f32>,
}

/// The inputs of [`Rotations`].
#[derive(Clone, Copy, Debug)]
pub struct Rotary<'a> {
    /// The factor of sine and cosine.
    pub magnitude: f32,
    /// The rows; all have as many pairs.
    pub rows: &'a [TurnedRow<'a>],
}

/// How far a row turns.
#[derive(Clone, Copy, Debug)]
pub struct TurnedRow<'a> {
    /// Where the row stands.
    pub position: usize,
    /// Radians per position of each pair.
    pub frequencies: &'a [f32],
}

impl Rotary<'_> {
    /// Pairs of every row.
    pub(crate) fn pairs(&self) -> usize {
        self.rows.first().map_or(0, |row| row.frequencies.len())
    }
}

impl Rotations {
    /// None yet, with room for those of `rows` rows of `pairs` pairs: [`bytes_for`](Self::bytes_for).
    ///
    /// # Errors
    /// When the system has no memory for them.
    pub fn with_capacity(rows: usize, pairs: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            pairs: 0,
            rows: 0,
            cos: Buffer::zeroed(rows * pairs)?,
            sin: Buffer::zeroed(rows * pairs)?,
        })
    }

    /// Holds one rotation for each row and pair.
    pub(crate) fn resize(&mut self, rotary: &Rotary<'_>) {
        let (rows, pairs) = (rotary.rows.len(), rotary.pairs());
        let alike = rotary.rows.iter().all(|row| row.frequencies.len() == pairs);
        assert!(alike, "rows of {pairs} pairs and of others");
        let (len, room) = (rows * pairs, self.cos.len());
        assert!(
            len <= room,
            "rotations of {rows} rows of {pairs} pairs where {room} fit"
        );
        self.pairs = pairs;
        self.rows = rows;
    }

    pub(crate) fn parts(&mut self) -> (&mut [f32], &mut [f32]) {
        let len = self.rows * self.pairs;
        (&mut self.cos[..len], &mut self.sin[..len])
    }

    /// Pairs that turn.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs
    }

    /// Rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes it holds for `rows` rows of `pairs` pairs.
    pub fn bytes_for(rows: usize, pairs: usize) -> Bytes {
        Buffer::<f32>::bytes_for(rows * pairs).times(2)
    }

    /// Turns the heads of `x`, which belong to `row`.
    pub(crate) fn turn(
        &self,
        pairing: RotaryPairs,
        row: usize,
        heads: std::slice::ChunksExactMut<'_, f32>,
    ) {
        let range = row * self.pairs..(row + 1) * self.pairs;
        let (cos, sin) = (&self.cos[range.clone()], &self.sin[range]);
        for head in heads {
            match pairing {
                RotaryPairs::Adjacent => turn_adjacent(head, cos, sin),
                RotaryPairs::Halves => turn_halves(head, cos, sin),
            }
        }
    }
}

/// The cosines and sines of one row.
pub(crate) fn rotate_row(
    row: &TurnedRow<'_>,
    magnitude: f32,
    (cos, sin): (&mut [f32], &mut [f32]),
) {
    // Exact: positions are far below 2^53.
    let position = row.position as f64;
    let magnitude = f64::from(magnitude);
    let pairs = cos.iter_mut().zip(sin).zip(row.frequencies);
    for ((cos, sin), &frequency) in pairs {
        let (s, c) = sin_cos(position * f64::from(frequency));
        // To float, rounded once.
        *cos = (c * magnitude) as f32;
        *sin = (s * magnitude) as f32;
    }
}

// Plain products and sums, each rounded: the compiler may use any instructions and the bits stay.

fn turn_adjacent(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((pair, &cos), &sin) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * cos - b * sin;
        pair[1] = a * sin + b * cos;
    }
}

fn turn_halves(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, rest) = head.split_at_mut(cos.len());
    for (((a, b), &cos), &sin) in first.iter_mut().zip(rest).zip(cos).zip(sin) {
        let (old_a, old_b) = (*a, *b);
        *a = old_a * cos - old_b * sin;
        *b = old_a * sin + old_b * cos;
    }
}
