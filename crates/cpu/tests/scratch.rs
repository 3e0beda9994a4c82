//! Scratch follows the sequences that are run, not the context that a file claims.

use std::sync::Arc;
use std::task::Poll;

use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_lease::{Kind, Ledger};
use gogrid_model::{Model, OpenOptions};
use gogrid_pipeline::{
    Backend, BlockId, Input, Opening, OutputBuf, Positions, Rows, SequenceRows, Stage, Step, Want,
};
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::{Bytes, FullSpeed, Span, WeightType};

/// The longest context that a file may claim.
const CLAIMED: usize = 1 << 28;
/// Rows of a step.
const ROWS: usize = 128;

/// A stage of a whole tiny model that claims a context.
struct Subject {
    stage: Box<dyn Stage>,
    memory: Ledger,
    groups: usize,
    done: usize,
}

impl Subject {
    fn open(family: Family, context: usize, cap: Bytes) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        let spec = Spec {
            family,
            weights: WeightType::Q8_0,
            seed: 1,
        };
        let file = RandomModel::new(spec).claiming(context);
        file.write_gguf(&path).unwrap();
        let model = Model::open(&path, &OpenOptions::default()).unwrap();
        assert_eq!(model.decoder().context, context);
        let memory = Ledger::new(cap);
        let options = CpuOptions::new(2, memory.clone(), Arc::new(FullSpeed));
        let span = Span::whole_model(model.decoder().layers.len());
        let mut backend = CpuBackend::new(&options).unwrap();
        let predicted = backend.predict(&model, span, ROWS);
        let stage = backend.open(Opening::new(&model, span, ROWS)).unwrap();
        assert_eq!(predicted.scratch, stage.footprint().scratch);
        Self {
            stage,
            memory,
            groups: model.decoder().kv_groups.len(),
            done: 0,
        }
    }

    fn scratch(&self) -> Bytes {
        let bytes = self.stage.footprint().scratch;
        assert_eq!(bytes, self.memory.used_by(Kind::Scratch));
        bytes
    }

    /// Runs one sequence on to `end`, and gives the logits of its last row.
    fn run_to(&mut self, end: usize) -> Vec<f32> {
        let table = (0..end.div_ceil(32)).map(|block| Some(BlockId(block as u32)));
        let tables = Arc::new(vec![table.collect::<Vec<_>>(); self.groups]);
        let mut out = OutputBuf::default();
        while self.done < end {
            let rows = ROWS.min(end - self.done);
            let mut wants = vec![Want::Nothing; rows];
            wants[rows - 1] = Want::Logits;
            let sequence = SequenceRows {
                tables: Arc::clone(&tables),
                start: self.done,
                length: end,
                positions: Positions::Sequential,
                wants,
            };
            let step = Arc::new(Step {
                sequences: vec![sequence],
            });
            let ids = (self.done..self.done + rows).map(|i| (i % 7) as u32 + 1);
            let rows_in = Rows::of_ids(ids.collect());
            out.clear();
            let ticket = self.stage.submit(&step, Input::Rows(&rows_in)).unwrap();
            match self.stage.poll(ticket, &mut out) {
                Poll::Ready(done) => done.unwrap(),
                Poll::Pending => panic!("a CPU computes when it is polled"),
            }
            self.done += rows;
        }
        out.logits
    }
}

#[test]
fn a_context_that_a_file_claims_takes_kilobytes() {
    for family in Family::ALL {
        let claimed = Subject::open(family, CLAIMED, Bytes::gib(1)).scratch();
        let usual = Subject::open(family, 8192, Bytes::gib(1)).scratch();
        assert_eq!(claimed, usual, "{}", family.name());
        assert!(claimed < Bytes::mib(4), "{}: {claimed}", family.name());
    }
}

#[test]
fn scratch_grows_with_the_sequence_and_a_refusal_changes_no_bit() {
    let mut free = Subject::open(Family::Llama, CLAIMED, Bytes::gib(1));
    let first = free.scratch();
    let short = free.run_to(4096);
    assert_eq!(free.scratch(), first);
    let long = free.run_to(4300);
    let grown = free.scratch();
    assert!(grown > first, "{grown} after {first}");

    let held = free.memory.used().0 - (grown.0 - first.0);
    let mut capped = Subject::open(Family::Llama, CLAIMED, Bytes(held));
    assert_eq!(capped.run_to(4096), short);
    assert_eq!(capped.run_to(4300), long);
    assert_eq!(capped.scratch(), first, "no room to grow");
}

#[test]
fn a_growth_takes_the_difference_and_a_refused_one_is_tried_at_the_next_block() {
    let open = |cap| Subject::open(Family::Llama, CLAIMED, cap);
    let mut free = open(Bytes::gib(1));
    let first = free.scratch();
    free.run_to(4129);
    let (grown, needed) = (free.scratch(), free.memory.used());

    let mut exact = open(needed);
    exact.run_to(4129);
    assert_eq!(exact.scratch(), grown);

    let mut later = open(needed.saturating_sub(Bytes(1)));
    later.run_to(4100);
    later.memory.set_cap(needed);
    later.run_to(4128);
    assert_eq!(later.scratch(), first, "still in the block");
    later.run_to(4129);
    assert_eq!(later.scratch(), grown);
}
