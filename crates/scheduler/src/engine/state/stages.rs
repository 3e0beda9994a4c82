//! The engine's part in a relocation: it gives its stages up, and goes on where they stand next.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use gogrid_units::Whose;

use super::{Outgoing, State};
use crate::core::{Ended, Input};
use crate::engine::placement::Standing;
use crate::engine::relocation::{Relocated, StillHeld};

impl State {
    /// Goes on where the stages stand now, once every step of the old line has ended: the last of them
    /// may come after its stages are gone.
    pub(super) fn go_on_if_relocated(&mut self, inputs: &mut Vec<Input>) {
        let is_unsent = |outgoing: &&Outgoing| matches!(outgoing, Outgoing::Job(_));
        let unsent = self.outbox.iter().filter(is_unsent).count();
        if self.relocated.is_none() || self.in_flight.len() > unsent {
            return;
        }
        // Dropped when the engine goes on: the mover waits for that.
        let Some((relocated, _goes_on)) = self.relocated.take() else {
            return;
        };
        if matches!(*relocated, Relocated::Replaced(_) | Relocated::Failed(_)) {
            inputs.extend(self.unsent_steps());
        }
        inputs.extend(self.stand(*relocated));
    }

    /// Goes on where the stages stand now.
    fn stand(&mut self, relocated: Relocated) -> Option<Input> {
        self.core.hold_still(false);
        (self.lost, self.still) = (None, None);
        self.learning.begin_anew();
        let leases = self.move_leases.take();
        let mut put = |standing: Standing| {
            let Standing { runner, placement } = standing;
            let layout = placement.layout.clone();
            self.runner = Some(runner);
            self.inbox.published.placement.store(Arc::new(placement));
            layout
        };
        match relocated {
            Relocated::Moved(standing) => {
                let layout = put(standing);
                let leases = leases.expect("they were leased before the stages were given up");
                Some(Input::Moved(layout, leases))
            }
            Relocated::Unmoved(standing) => {
                put(standing);
                None
            }
            Relocated::Replaced(standing) => Some(Input::Replaced(put(standing))),
            Relocated::Failed(error) => {
                let nowhere = self.inbox.placement().nowhere();
                self.inbox.published.placement.store(Arc::new(nowhere));
                Some(Input::Failed(error))
            }
        }
    }

    /// The ends of steps that never got to the stages that are no more. Releases for those are void.
    fn unsent_steps(&mut self) -> Vec<Input> {
        let unsent = self.outbox.drain(..).filter_map(|outgoing| match outgoing {
            Outgoing::Job(job) => {
                self.in_flight.remove(&job.id);
                Some(Input::Done(job.id, Ended::Abandoned))
            }
            Outgoing::Release { .. } => None,
        });
        unsent.collect()
    }

    /// Has the model placed anew, once, where a device or a stage was lost.
    pub(super) fn recover_if_lost(&mut self) {
        if self.lost.is_none() {
            return;
        }
        // A move that waits hears that it is over.
        self.still = None;
        if let (Some(runner), Some(lost)) = (self.runner.take(), self.lost.take()) {
            let leases = self.core.give_up_leases();
            self.relocator.recover((runner, leases), lost);
        }
    }

    /// Has the stages stand where they would if the model were opened now, where a device is back, or a return
    /// that failed is due again. Stages that no lost device displaced stay: another placement was chosen, or
    /// the same.
    pub(super) fn go_back_if_asked(&self) {
        if !self.may_go_back() {
            return;
        }
        let asked = &self.inbox.published.seeks_place;
        let is_asked = asked.swap(false, Ordering::AcqRel);
        let is_due = self.relocator.takes_return(self.hardware.clock.now());
        let stands_nowhere = self.inbox.placement().spans.is_empty();
        if (is_asked || is_due) && (stands_nowhere || self.relocator.is_displaced()) {
            self.relocator.go_back();
        }
    }

    /// Not while the stages are on their way somewhere, nor while work is stopped.
    pub(super) fn may_go_back(&self) -> bool {
        let is_on_its_way = self.runner.is_none() && !self.inbox.placement().spans.is_empty();
        !is_on_its_way && !self.hardware.gate.is_shut(Whose::Owner)
    }

    /// Gives the stages to the thread that moves them, once no step is in flight and the sequences
    /// have room where they go.
    pub(super) fn give_up_stages_if_still(&mut self) {
        if self.still.is_none() || self.core.steps_in_flight() > 0 || !self.outbox.is_empty() {
            return;
        }
        let (Some(still), Some(runner)) = (self.still.take(), self.runner.take()) else {
            return;
        };
        match self.core.lease_for(&still.layout.room) {
            Ok(leases) => {
                self.move_leases = Some(leases);
                let held = StillHeld {
                    blocks: self.core.written_blocks(),
                    stages: runner.retire(),
                };
                // The thread that moves them waits for it.
                let _ = still.answer.send(Ok(held));
            }
            Err(refusal) => {
                self.runner = Some(runner);
                self.core.hold_still(false);
                self.inbox.ring();
                let _ = still.answer.send(Err(refusal));
            }
        }
    }
}
