//! The stages, their drivers and the memories they stand in.

use std::collections::VecDeque;
use std::sync::Arc;

use gogrid_lease::{Kind, Ledger};
use gogrid_pipeline::{BlockId, OutputBuf, Rows, Step};
use gogrid_units::Bytes;

use super::fake::{Dice, Memory, WINDOWS, rows_of};
use super::world::Spice;
use crate::core::{Account, Ended, Input, Layout, Room};
use crate::error::GenerateError;

/// Devices with a memory of their own.
pub(super) struct Memories(Vec<Ledger>);

/// A place for stages, and which memories its accounts are of.
pub(super) struct Site {
    pub(super) layout: Layout,
    pub(super) memories: Vec<usize>,
}

impl Memories {
    pub(super) fn new(caps: impl Iterator<Item = u64>) -> Self {
        Self(caps.map(|cap| Ledger::new(Bytes(cap))).collect())
    }

    pub(super) fn ledgers(&self) -> &[Ledger] {
        &self.0
    }

    /// Some stages, in one or two of the memories.
    pub(super) fn any_site(&self, dice: &mut Dice) -> Site {
        let depth = 1 + dice.below(3) as usize;
        let first = dice.below(self.0.len() as u64) as usize;
        let mut memories = vec![first];
        if dice.chance(40) {
            memories.push((first + 1) % self.0.len());
        }
        let account = |&memory: &usize| Account {
            device: format!("fake {memory}"),
            ledger: self.0[memory].clone(),
            kv_block: vec![Bytes(dice.below(10)), Bytes(1 + dice.below(3))],
        };
        let room = Room {
            accounts: memories.iter().map(account).collect(),
            windows: WINDOWS.to_vec(),
        };
        let layout = Layout {
            room,
            depth,
            rows_are_alone: dice.chance(80),
        };
        Site { layout, memories }
    }

    pub(super) fn used(&self) -> Vec<Bytes> {
        self.0.iter().map(Ledger::used).collect()
    }

    pub(super) fn leased(&self, kind: Kind) -> Vec<Bytes> {
        self.0.iter().map(|memory| memory.used_by(kind)).collect()
    }
}

/// Stages with a driver each.
pub(super) struct Rig {
    stages: Vec<Memory>,
    /// What each stage's driver has to do, in order.
    lines: Vec<VecDeque<Op>>,
    /// A stage whose device is gone.
    lost: Option<usize>,
}

#[derive(Clone)]
pub(super) enum Op {
    Run(Run),
    Release { group: usize, blocks: Vec<BlockId> },
}

#[derive(Clone)]
pub(super) struct Run {
    pub(super) id: u64,
    pub(super) step: Arc<Step>,
    pub(super) rows: Rows,
}

/// What decides whether a step goes wrong.
pub(super) struct Chance<'a> {
    pub(super) dice: &'a mut Dice,
    pub(super) spice: Spice,
}

impl Rig {
    pub(super) fn new(stages: usize) -> Self {
        Self::holding(&Memory::default(), stages)
    }

    /// Stages that all hold what one holds.
    pub(super) fn holding(memory: &Memory, stages: usize) -> Self {
        Self {
            stages: vec![memory.clone(); stages],
            lines: vec![VecDeque::new(); stages],
            lost: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.stages.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lines.iter().all(VecDeque::is_empty)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    pub(super) fn lose(&mut self, stage: usize) {
        self.lost = Some(stage);
    }

    pub(super) fn memories(&self) -> &[Memory] {
        &self.stages
    }

    pub(super) fn run(&mut self, run: Run) {
        self.lines[0].push_back(Op::Run(run));
    }

    pub(super) fn release(&mut self, op: &Op) {
        for line in &mut self.lines {
            line.push_back(op.clone());
        }
    }

    /// A stage's driver does the next thing in its line; a step's end comes back.
    pub(super) fn advance(&mut self, stage: usize, chance: Chance<'_>) -> Option<Input> {
        match self.lines[stage].pop_front()? {
            Op::Release { group, blocks } => {
                self.stages[stage].release(group, &blocks);
                None
            }
            Op::Run(run) => match self.run_step(stage, &run, chance) {
                Ended::Output(_) if stage + 1 < self.len() => {
                    self.lines[stage + 1].push_back(Op::Run(run));
                    None
                }
                ended => Some(Input::Done(run.id, ended)),
            },
        }
    }

    fn run_step(&mut self, stage: usize, run: &Run, chance: Chance<'_>) -> Ended {
        let Chance { dice, spice } = chance;
        let broken = |problem: &str| GenerateError::BadOutput(problem.to_owned());
        if self.lost == Some(stage) {
            return Ended::Lost(broken("it is gone"));
        }
        if spice.failures && dice.chance(1) {
            return Ended::Failed(broken("it broke"));
        }
        let abandons = spice.abandons && dice.chance(5);
        let mut out = OutputBuf::default();
        let contents = rows_of(&run.step, &run.rows);
        let mut rest = &contents[..];
        for rows in &run.step.sequences {
            let its = rest
                .split_off(..rows.wants.len())
                .expect("each row is there");
            let (logits, log_probs) = self.stages[stage].run(rows, its);
            out.logits.extend(logits);
            out.log_probs.extend(log_probs);
            if abandons {
                return Ended::Abandoned;
            }
        }
        Ended::Output(out)
    }
}
