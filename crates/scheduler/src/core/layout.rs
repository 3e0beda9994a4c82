//! Where the stages stand: what changes when layers move, and when a device is lost.

use std::collections::{BTreeMap, BTreeSet};

use gogrid_lease::Lease;
use gogrid_pipeline::BlockId;

use super::draft::StepTimes;
use super::{Action, Core, Room};
use crate::error::{GenerateError, Refusal};

/// Where the stages stand, as far as steps and sequences need to know.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) room: Room,
    /// Steps that may be in flight.
    pub(crate) depth: usize,
    /// Whether what a row gives is the same to the bit whatever rows are beside it: on CPUs it is.
    pub(crate) rows_are_alone: bool,
}

/// What the running sequences hold in the room that their stages move to, by id.
#[derive(Debug)]
pub(crate) struct MoveLeases(BTreeMap<u64, Vec<Lease>>);

#[cfg(test)]
impl MoveLeases {
    /// The sequences that they are for.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }
}

/// Whether there is something to run steps.
#[derive(Debug)]
pub(super) enum Stages {
    Standing,
    /// A device is gone, with what its stages held. Steps and starts wait for stages elsewhere.
    Lost,
    /// For good, unless it is for want of a place: stages may stand somewhere again.
    Failed(GenerateError),
}

/// Whether a model failed for want of a place, which it may find again.
fn wants_a_place(error: &GenerateError) -> bool {
    matches!(error, GenerateError::NoPlaceLeft { .. })
}

impl Core {
    /// Begins no step and starts no sequence while `still`: the stages are being moved. What is in
    /// flight ends, and requests queue.
    pub(crate) fn hold_still(&mut self, still: bool) {
        self.held_still = still;
    }

    pub(crate) fn steps_in_flight(&self) -> usize {
        self.steps.len()
    }

    /// Leases all running sequences in `room`, where the stages are about to move; until they have
    /// ([`Input::Moved`](super::Input::Moved)) what is held stays held. Requests that wait give their
    /// leases back first, and take others later; what is kept of others is given back. To be called while held still, so that no sequence
    /// starts in between.
    pub(crate) fn lease_for(&mut self, room: &Room) -> Result<MoveLeases, Refusal> {
        assert!(self.held_still, "a sequence could start without a lease");
        self.take_ready();
        self.evict_all();
        let lease = |s: &super::Sequence| Ok((s.id, room.lease_or_refuse(s.rows_at_most())?));
        let holding = self.running.iter().filter(|s| !s.is_parked);
        let leased: Result<_, Refusal> = holding.map(lease).collect();
        leased.map(MoveLeases)
    }

    /// By KV group, the blocks that must come along when the stages move: those in which a row has
    /// been written, each once. No step is in flight.
    pub(crate) fn written_blocks(&self) -> Vec<Vec<BlockId>> {
        assert!(self.steps.is_empty(), "a step is writing");
        let mut written = vec![BTreeSet::new(); self.numbers.len()];
        for sequence in &self.running {
            for (group, blocks) in written.iter_mut().zip(sequence.written_blocks()) {
                group.extend(blocks);
            }
        }
        let in_order = |group: BTreeSet<_>| group.into_iter().collect();
        written.into_iter().map(in_order).collect()
    }

    /// A device is gone, with what its stages held.
    pub(super) fn lose(&mut self, error: &GenerateError) {
        self.degrade(error);
        if matches!(self.stages, Stages::Standing) {
            self.stages = Stages::Lost;
        }
    }

    /// Stages stand elsewhere and hold no keys and values: all that runs begins again, in the order
    /// it started, as far as there is room.
    pub(super) fn replace(&mut self, layout: Layout) {
        assert!(self.steps.is_empty(), "a step is in flight");
        self.take_ready();
        self.evict_all();
        // The stages that knew these blocks are no more.
        self.actions
            .retain(|action| !matches!(action, Action::Release { .. }));
        for sequence in &mut self.running {
            let held = sequence.begin_again();
            for (blocks, numbers) in held.into_iter().zip(&mut self.numbers) {
                for block in blocks {
                    numbers.give_back(block);
                }
            }
        }
        self.settle(layout);
        let holding = self.running.iter().filter(|s| !s.is_parked);
        let ids: Vec<u64> = holding.map(|sequence| sequence.id).collect();
        for id in ids {
            let rows = self.sequence(id).rows_at_most();
            match self.layout.room.lease_or_refuse(rows) {
                Ok(leases) => self.sequence(id).leases = leases,
                Err(refusal) => self.end(id, |_| Err(refusal.into())),
            }
        }
    }

    /// Stages stand elsewhere and hold all keys and values.
    pub(super) fn go_on_in(&mut self, layout: Layout, leases: MoveLeases) {
        assert!(self.steps.is_empty(), "a step is in flight");
        self.settle(layout);
        let MoveLeases(mut leases) = leases;
        for sequence in self.running.iter_mut().filter(|s| !s.is_parked) {
            let moved = leases.remove(&sequence.id);
            sequence.leases = moved.expect("all that runs was leased for the move");
        }
    }

    fn settle(&mut self, layout: Layout) {
        assert_eq!(
            layout.room.windows, self.layout.room.windows,
            "the model's groups"
        );
        self.take_ready();
        assert!(!self.has_cache(), "its blocks stay behind");
        self.layout = layout;
        self.step_times = StepTimes::default();
        match &self.stages {
            Stages::Lost => self.stages = Stages::Standing,
            Stages::Failed(error) if wants_a_place(error) => {
                (self.stages, self.degraded) = (Stages::Standing, None);
            }
            Stages::Standing | Stages::Failed(_) => {}
        }
    }

    /// All leases of what runs, waits and is kept, once a device is lost and the stages go: sequences lease anew
    /// where the stages stand next ([`Input::Replaced`](super::Input::Replaced)).
    pub(crate) fn give_up_leases(&mut self) -> Vec<Lease> {
        self.take_ready();
        let mut leases = self.take_cache_leases();
        let running = self.running.iter_mut();
        leases.extend(running.flat_map(|s| std::mem::take(&mut s.leases)));
        leases
    }

    /// Nothing can run any more: what runs and waits ends with the error, and so does all that comes, until
    /// stages stand somewhere again where it is for want of a place.
    pub(super) fn fail_for_good(&mut self, error: GenerateError) {
        if let Stages::Failed(first) = &self.stages
            && (!wants_a_place(first) || wants_a_place(&error))
        {
            return;
        }
        self.degraded = Some(error.to_string());
        self.stages = Stages::Failed(error);
        self.evict_all();
        self.end_failed();
    }

    /// Where nothing can run any more, ends what waits and what is in no step.
    pub(super) fn end_failed(&mut self) {
        let Stages::Failed(error) = &self.stages else {
            return;
        };
        let error = error.clone();
        while !self.queue.is_empty() {
            self.end_first(Err(error.clone()));
        }
        let free = self.running.iter().filter(|sequence| !sequence.in_flight);
        let ids: Vec<u64> = free.map(|sequence| sequence.id).collect();
        for id in ids {
            self.end(id, |_| Err(error.clone()));
        }
    }

    /// Notes a failure for the status. The one after which nothing can run stays.
    pub(super) fn degrade(&mut self, error: &GenerateError) {
        if !matches!(self.stages, Stages::Failed(_)) {
            self.degraded = Some(error.to_string());
        }
    }
}
