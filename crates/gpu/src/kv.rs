//! The keys and values that a stage holds: slots in slabs, one pool for each KV group.
//!
//! A slab is a buffer with room for several blocks. Slots are given out lowest first, and a slab that is empty
//! goes back to the driver. Where blocks end in any order, those of the last slab move down as soon as the others
//! have room for all of them, so that less than a slab of slots is free where no step runs; a slab is leased as
//! scratch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gogrid_model::{Attention, Decoder};
use gogrid_pipeline::{BLOCK_TOKENS, BlockId, BlockPool, LayerKv, StageError};
use gogrid_units::{Bytes, Piece, Span};

use crate::device::{Buf, Device};
use crate::limits::{LARGE_SLAB_BYTES, SLAB_BYTES, SLAB_SLOTS_MAX};
use crate::recorder::{BufferKind, Command, Recorder};
use crate::weights::bytes_of;

/// What one layer keeps of a block: keys `[BLOCK_TOKENS, kv_heads, head_dim]`, then values, as halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerSlot {
    /// The layer's index in the model.
    pub(crate) layer: usize,
    /// Words of keys, and as many of values.
    pub(crate) words: usize,
    /// The first word of the keys in a slot.
    pub(crate) first: usize,
}

/// The shape of a KV group's blocks on a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupShape {
    pub(crate) window: Option<usize>,
    /// The stage's layers of the group, in order.
    pub(crate) layers: Vec<LayerSlot>,
    /// Words of a slot.
    pub(crate) slot_words: usize,
}

impl GroupShape {
    /// The groups of a model, with the layers of `span`.
    pub(crate) fn of(decoder: &Decoder, span: Span) -> Vec<Self> {
        let group = |group: &gogrid_model::KvGroup| Self {
            window: group.window,
            layers: Vec::new(),
            slot_words: 0,
        };
        let mut groups: Vec<_> = decoder.kv_groups.iter().map(group).collect();
        for piece in span.pieces(decoder.layers.len()) {
            if let Piece::Mixer(layer) = piece {
                let spec = &decoder.layers[layer].mixer;
                groups[spec.kv_group].add(layer, spec);
            }
        }
        groups
    }

    fn add(&mut self, layer: usize, spec: &Attention) {
        // Two halves a word; a head's width is even.
        let words = BLOCK_TOKENS * spec.kv_heads * spec.head_dim / 2;
        let first = self.slot_words;
        self.layers.push(LayerSlot {
            layer,
            words,
            first,
        });
        self.slot_words += 2 * words;
    }

    pub(crate) fn block_bytes(&self) -> Bytes {
        Bytes::of(4 * self.slot_words)
    }

    /// Slots of a slab on a device that binds so many bytes at once; none where a block has more.
    pub(crate) fn slots_per_slab(&self, binding_bytes_max: u64) -> u64 {
        let slot = self.block_bytes().0.max(1);
        (self.slack(binding_bytes_max).0 / slot).min(SLAB_SLOTS_MAX)
    }

    /// Bytes beyond those of the blocks in use: those of a slab. They grow with a block, so that a part of a span
    /// has no more of them than the span.
    pub(crate) fn slack(&self, binding_bytes_max: u64) -> Bytes {
        Bytes(match self.block_bytes().0 {
            0 => 0,
            slot if slot <= SLAB_BYTES / 8 => SLAB_BYTES.min(binding_bytes_max),
            _ => LARGE_SLAB_BYTES.min(binding_bytes_max),
        })
    }
}

/// The slabs of one group.
pub(crate) struct Slabs<R: Recorder> {
    device: Arc<Device<R>>,
    slot_bytes: u64,
    per_slab: usize,
    state: Mutex<State<R>>,
}

struct State<R: Recorder> {
    /// By number; none where it went back.
    slabs: Vec<Option<Slab<R>>>,
}

struct Slab<R: Recorder> {
    buffer: Arc<Buf<R>>,
    is_used: Vec<bool>,
}

/// A slot that nobody else has, until it is dropped.
pub(crate) struct Slot<R: Recorder> {
    /// Its number over all slabs.
    pub(crate) number: usize,
    slabs: Arc<Slabs<R>>,
}

impl<R: Recorder> Drop for Slot<R> {
    fn drop(&mut self) {
        self.slabs.give_back(self.number);
    }
}

impl<R: Recorder> Slabs<R> {
    pub(crate) fn new(device: &Arc<Device<R>>, shape: &GroupShape) -> Arc<Self> {
        let per_slab = shape.slots_per_slab(device.facts().binding_bytes_max);
        Arc::new(Self {
            device: Arc::clone(device),
            slot_bytes: shape.block_bytes().0,
            // At most as many as a slab has bytes.
            per_slab: per_slab as usize,
            state: Mutex::new(State { slabs: Vec::new() }),
        })
    }

    pub(crate) fn per_slab(&self) -> usize {
        self.per_slab
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        // A slot's bit is the whole of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slabs by number, as kernels bind them.
    pub(crate) fn buffers(&self) -> Vec<Option<Arc<Buf<R>>>> {
        let state = self.lock();
        let buffer = |slab: &Option<Slab<R>>| slab.as_ref().map(|slab| Arc::clone(&slab.buffer));
        state.slabs.iter().map(buffer).collect()
    }

    /// The buffer of a slot, and where it begins there.
    pub(crate) fn place(&self, slot: usize) -> Option<(Arc<Buf<R>>, u64)> {
        let state = self.lock();
        let slab = state.slabs.get(slot / self.per_slab)?.as_ref()?;
        let offset = (slot % self.per_slab) as u64 * self.slot_bytes;
        Some((Arc::clone(&slab.buffer), offset))
    }

    /// The lowest free slot, in a new slab where there is none.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Slot<R>, StageError> {
        let mut state = self.lock();
        let found = state.lowest_free(usize::MAX);
        let number = match found {
            Some((slab, slot)) => slab * self.per_slab + slot,
            None => self.grow(&mut state)? * self.per_slab,
        };
        state.set(number, (self.per_slab, true));
        drop(state);
        let slabs = Arc::clone(self);
        Ok(Slot { number, slabs })
    }

    /// A new slab in the lowest place.
    fn grow(&self, state: &mut State<R>) -> Result<usize, StageError> {
        let bytes = self.per_slab as u64 * self.slot_bytes;
        let buffer = self.device.unleased(bytes, BufferKind::Device);
        let slab = Slab {
            buffer: buffer.map_err(|failure| self.device.error(failure))?,
            is_used: vec![false; self.per_slab],
        };
        let place = state.slabs.iter().position(Option::is_none);
        let place = place.unwrap_or_else(|| {
            state.slabs.push(None);
            state.slabs.len() - 1
        });
        state.slabs[place] = Some(slab);
        Ok(place)
    }

    fn give_back(&self, number: usize) {
        let mut state = self.lock();
        state.set(number, (self.per_slab, false));
        let place = number / self.per_slab;
        let is_empty = |slab: &Slab<R>| !slab.is_used.contains(&true);
        let empty = match state.slabs[place].as_ref().is_some_and(is_empty) {
            true => state.slabs[place].take(),
            false => None,
        };
        while state.slabs.last().is_some_and(Option::is_none) {
            state.slabs.pop();
        }
        // The driver is called without the lock.
        drop(state);
        drop(empty);
    }

    /// Slots for all that is in the last slab, where the others have room for it, and its number.
    fn make_way(self: &Arc<Self>) -> Option<(usize, Vec<Slot<R>>)> {
        let mut state = self.lock();
        let last = state.slabs.len().checked_sub(1)?;
        let used = state.slabs[last].as_ref()?.used();
        let others = state.slabs[..last].iter().flatten();
        let free: usize = others.map(|slab| self.per_slab - slab.used()).sum();
        if free < used {
            return None;
        }
        let numbers = (0..used).map(|_| {
            let (slab, slot) = state.lowest_free(last).expect("they were counted");
            let number = slab * self.per_slab + slot;
            state.set(number, (self.per_slab, true));
            number
        });
        let numbers: Vec<_> = numbers.collect();
        drop(state);
        let slot = |number| Slot {
            number,
            slabs: Arc::clone(self),
        };
        Some((last, numbers.into_iter().map(slot).collect()))
    }
}

impl<R: Recorder> Slab<R> {
    fn used(&self) -> usize {
        self.is_used.iter().filter(|used| **used).count()
    }
}

impl<R: Recorder> State<R> {
    /// The lowest free slot of slabs below `end`.
    fn lowest_free(&self, end: usize) -> Option<(usize, usize)> {
        let slabs = self.slabs.iter().enumerate().take(end);
        slabs
            .filter_map(|(index, slab)| Some((index, slab.as_ref()?)))
            .find_map(|(index, slab)| Some((index, slab.is_used.iter().position(|used| !used)?)))
    }

    fn set(&mut self, number: usize, (per_slab, is_used): (usize, bool)) {
        let slab = self.slabs[number / per_slab].as_mut();
        slab.expect("a slot that is taken has its slab").is_used[number % per_slab] = is_used;
    }
}

/// One KV group's blocks on a stage.
pub(crate) struct Pool<R: Recorder> {
    pub(crate) blocks: BlockPool<Slot<R>>,
    pub(crate) shape: GroupShape,
    pub(crate) slabs: Arc<Slabs<R>>,
}

impl<R: Recorder> Pool<R> {
    pub(crate) fn new(device: &Arc<Device<R>>, group: usize, shape: GroupShape) -> Self {
        Self {
            blocks: BlockPool::new(group, shape.window),
            slabs: Slabs::new(device, &shape),
            shape,
        }
    }

    /// Has slabs of so few slots that few blocks lie in many. Nothing is held.
    #[cfg(test)]
    pub(crate) fn narrow(&mut self, per_slab: usize) {
        let slabs = Slabs {
            device: Arc::clone(&self.slabs.device),
            slot_bytes: self.slabs.slot_bytes,
            per_slab,
            state: Mutex::new(State { slabs: Vec::new() }),
        };
        self.slabs = Arc::new(slabs);
    }

    /// Moves blocks out of the last slab while the others have room for all that is in it. No step is open.
    ///
    /// # Errors
    /// Where blocks could not be copied; they then stay where they were.
    pub(crate) fn compact(&mut self) -> Result<(), StageError> {
        while let Some((last, lower)) = self.slabs.make_way() {
            let per_slab = self.slabs.per_slab();
            let in_last = |block: &&mut Slot<R>| block.number / per_slab == last;
            let moved: Vec<_> = self.blocks.held_blocks_mut().filter(in_last).collect();
            if moved.is_empty() {
                return Ok(());
            }
            let slabs = &self.slabs;
            let places = moved.iter().zip(&lower).filter_map(|(from, to)| {
                Some((slabs.place(from.number)?, slabs.place(to.number)?))
            });
            let places: Vec<_> = places.collect();
            let commands = places
                .iter()
                .map(|((from, at), (to, there))| Command::Copy {
                    from: (&from.raw, *at),
                    to: (&to.raw, *there),
                    bytes: self.shape.block_bytes().0,
                });
            let commands: Vec<_> = commands.collect();
            let done = slabs.device.run(&commands, None, None);
            done.map_err(|failure| slabs.device.error(failure))?;
            for (block, lower) in moved.into_iter().zip(lower) {
                *block = lower;
            }
        }
        Ok(())
    }

    /// A block's keys and values, layer by layer.
    pub(crate) fn export(
        &self,
        id: BlockId,
        readback: &Buf<R>,
    ) -> Result<Vec<LayerKv>, StageError> {
        let unwritten = || self.blocks.error(id, "it was never written here");
        let (slot, written) = self.blocks.held_block(id).ok_or_else(unwritten)?;
        let (buffer, offset) = self.slabs.place(slot.number).ok_or_else(unwritten)?;
        let device = &self.slabs.device;
        let fail = |failure| device.error(failure);
        let mut bytes = vec![0; 4 * self.shape.slot_words];
        for (index, piece) in bytes.chunks_mut(readback.bytes as usize).enumerate() {
            let copy = Command::Copy {
                from: (&buffer.raw, offset + index as u64 * readback.bytes),
                to: (&readback.raw, 0),
                bytes: piece.len() as u64,
            };
            device.run(&[copy], None, Some(readback)).map_err(fail)?;
            device.recorder.read(&readback.raw, piece).map_err(fail)?;
        }
        let layers = self.shape.layers.iter().map(|layer| {
            let part = |first: usize| halves(&bytes[4 * first..4 * (first + layer.words)], written);
            LayerKv {
                layer: layer.layer,
                keys: part(layer.first),
                values: part(layer.first + layer.words),
            }
        });
        Ok(layers.collect())
    }

    /// Takes a block in, in the place of any that it has under that number.
    pub(crate) fn import(
        &mut self,
        id: BlockId,
        given: &[LayerKv],
        upload: &Buf<R>,
    ) -> Result<(), StageError> {
        if self.shape.layers.is_empty() {
            return Err(self.blocks.error(id, "no layer of the group is here"));
        }
        let words = self.words(id, given)?;
        let slot = self.slabs.take()?;
        let (buffer, offset) = self.slabs.place(slot.number).expect("it was just taken");
        let device = &self.slabs.device;
        let at_once = upload.bytes as usize / 4;
        for (index, piece) in words.chunks(at_once).enumerate() {
            let copy = Command::Copy {
                from: (&upload.raw, 0),
                to: (&buffer.raw, offset + 4 * (index * at_once) as u64),
                bytes: 4 * piece.len() as u64,
            };
            let filled = device.recorder.fill(&upload.raw, &bytes_of(piece));
            let done = filled.and_then(|()| device.run(&[copy], Some(upload), None));
            done.map_err(|failure| device.error(failure))?;
        }
        self.blocks.insert(id, slot);
        Ok(())
    }

    /// The words of a slot, from what layers are given.
    fn words(&self, id: BlockId, given: &[LayerKv]) -> Result<Vec<u32>, StageError> {
        let mut words = vec![0; self.shape.slot_words];
        for LayerSlot {
            layer,
            words: len,
            first,
        } in &self.shape.layers
        {
            let mut its = given.iter().filter(|kv| kv.layer == *layer);
            let (Some(kv), None) = (its.next(), its.next()) else {
                return Err(self
                    .blocks
                    .error(id, &format!("layer {layer} is not given once")));
            };
            if [kv.keys.len(), kv.values.len()] != [2 * len; 2] {
                let (takes, keys, values) = (2 * len, kv.keys.len(), kv.values.len());
                let what =
                    format!("layer {layer} takes {takes} halves, not {keys} keys, {values} values");
                return Err(self.blocks.error(id, &what));
            }
            for (first, halves) in [(*first, &kv.keys), (first + len, &kv.values)] {
                for (word, pair) in words[first..].iter_mut().zip(halves.chunks_exact(2)) {
                    *word = u32::from(pair[0]) | u32::from(pair[1]) << 16;
                }
            }
        }
        if given.len() != self.shape.layers.len() {
            let (here, not) = (self.shape.layers.len(), given.len());
            return Err(self
                .blocks
                .error(id, &format!("{here} layers are here, not {not}")));
        }
        Ok(words)
    }
}

/// Halves of little-endian bytes; those of tokens that were not written are zero.
fn halves(bytes: &[u8], written: usize) -> Vec<u16> {
    let kept = bytes.len() / 2 / BLOCK_TOKENS * written;
    let pairs = bytes.chunks_exact(2).enumerate();
    let half = |(index, pair): (usize, &[u8])| match index < kept {
        true => u16::from_le_bytes([pair[0], pair[1]]),
        false => 0,
    };
    pairs.map(half).collect()
}
