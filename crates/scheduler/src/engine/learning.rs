use std::sync::Arc;

use gogrid_pipeline::{CostKey, Step};
use gogrid_units::Span;

use super::placement::Placement;
use crate::machine::Hardware;

/// Steps of one decoded row each, one after the other, that make an observation: enough that what a
/// thread has not settled yet, a millisecond at most, is a small part.
const STEPS: u64 = 64;

/// Learns what pieces take from what decoding takes: the busy time of each device over steps that
/// were one row of one sequence, while no other model worked.
pub(super) struct Learning {
    /// What each device's costs are kept under, by its index.
    keys: Vec<CostKey>,
    /// Steps since the figures below were read.
    steps: u64,
    /// Busy nanoseconds of each device then.
    busy_at: Vec<u64>,
}

impl Learning {
    pub(super) fn new(keys: Vec<CostKey>) -> Self {
        Self {
            keys,
            steps: 0,
            busy_at: Vec::new(),
        }
    }

    /// The stages stand elsewhere.
    pub(super) fn begin_anew(&mut self) {
        self.steps = 0;
    }

    /// A step has ended well. Steps of anything but one decoded row begin the count anew, and so does
    /// `alone`, where it says that another model has work.
    pub(super) fn step_ended(
        &mut self,
        step: &Arc<Step>,
        hardware: &Hardware,
        (placement, alone): (&Placement, bool),
    ) {
        if !alone || step.rows() != 1 || step.sequences[0].start == 0 {
            self.steps = 0;
            return;
        }
        if self.steps == 0 {
            self.busy_at = busy(hardware);
        }
        self.steps += 1;
        if self.steps > STEPS {
            self.learn(hardware, placement);
            self.steps = 0;
        }
    }

    fn learn(&self, hardware: &Hardware, placement: &Placement) {
        let steps = (self.steps - 1) as f64;
        let now = busy(hardware);
        let mut costs = hardware.costs();
        for (index, device) in hardware.devices.iter().enumerate() {
            let its = placement.spans.iter().filter(|span| span.device == index);
            let spans: Vec<Span> = its.map(|span| span.span).collect();
            let nanos = now[index].saturating_sub(self.busy_at[index]);
            let seconds = nanos as f64 * 1e-9 / device.lanes as f64 / steps;
            if !spans.is_empty() {
                costs.learn(&self.keys[index], &spans, seconds);
            }
        }
    }
}

fn busy(hardware: &Hardware) -> Vec<u64> {
    let devices = hardware.devices.iter();
    devices.map(|device| device.pace.busy_nanos()).collect()
}

#[cfg(test)]
mod tests {
    use gogrid_pipeline::{Positions, SequenceRows, Want};
    use gogrid_testkit::fakes::Faults;
    use gogrid_units::Pace;

    use super::*;
    use crate::fixture::{TestMachine, free, model};
    use crate::heterogeneous_pipeline::fake_cpu;
    use crate::opening::Opener;
    use crate::placing::{Timing, place};

    fn step(start: usize, rows: usize) -> Arc<Step> {
        Arc::new(Step {
            sequences: vec![SequenceRows {
                tables: Arc::default(),
                start,
                length: start + rows,
                positions: Positions::Sequential,
                wants: vec![Want::Logits; rows],
            }],
        })
    }

    /// A device that was thought to take a millisecond a piece, and takes two.
    #[test]
    fn costs_move_towards_what_decoding_takes_and_only_that_counts() {
        let machine = TestMachine::of(vec![fake_cpu(0, Faults::default())]).open(&free());
        let opener = Opener::new(Arc::clone(&machine.hardware), model(), free());
        opener.know_costs(&[1e-3]);
        let placing = place(&opener, &[0], &free(), Timing::Unmeasured).expect("it fits");
        let spans = placing.stages();
        let placement = opener.placement(spans.clone(), opener.predict(&spans));
        let device = &machine.hardware.devices[0];
        let pieces = spans[0].span.len();
        let decode = || opener.costs(device).expect("they are known").decode[1];
        let mut learning = Learning::new(opener.cost_keys());
        let mut run = |step: &Arc<Step>, alone| {
            device.pace.charge(2_000_000 * pieces as u64);
            learning.step_ended(step, &machine.hardware, (&placement, alone));
        };
        for number in 0..200 {
            // Prompts in between, or another model at work.
            run(&step(10, if number % 9 == 0 { 40 } else { 1 }), true);
            run(&step(10, 1), number % 7 != 0);
        }
        assert_eq!(decode(), 1e-3, "no run of decoded rows was long enough");
        for _ in 0..4000 {
            run(&step(10, 1), true);
        }
        assert!((decode() - 2e-3).abs() < 1e-5, "{}", decode());
    }
}
