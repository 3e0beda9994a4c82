//! Steps that do not fit a stage are refused by name, and change nothing.

use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_lease::Ledger;
use gogrid_model::{Model, OpenOptions};
use gogrid_pipeline::{
    Backend, BlockId, EmbeddedRows, Input, Opening, OutputBuf, Positions, Rows, SequenceRows,
    Stage, StageError, Step, Want,
};
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::{Bytes, FullSpeed, Span, WeightType};

/// Rows of the good step.
const ROWS: usize = 4;

struct Bench {
    stage: Box<dyn Stage>,
    width: usize,
    vocab: u32,
    groups: usize,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let spec = Spec {
        family: Family::Gemma3,
        weights: WeightType::Q8_0,
        seed: 1,
    };
    RandomModel::new(spec).write_gguf(&path).unwrap();
    let model = Model::open(&path, &OpenOptions::default()).unwrap();
    let options = CpuOptions::new(1, Ledger::new(Bytes::gib(1)), Arc::new(FullSpeed));
    let mut backend = CpuBackend::new(&options).unwrap();
    let span = Span::whole_model(model.decoder().layers.len());
    Bench {
        stage: backend.open(Opening::new(&model, span, 8)).unwrap(),
        width: model.decoder().width,
        vocab: model.decoder().vocab as u32,
        groups: model.decoder().kv_groups.len(),
    }
}

impl Bench {
    fn good(&self) -> (SequenceRows, Rows) {
        let rows = SequenceRows {
            tables: Arc::new(vec![vec![Some(BlockId(0)), Some(BlockId(1))]; self.groups]),
            start: 0,
            length: 64,
            positions: Positions::Sequential,
            wants: vec![Want::Logits; ROWS],
        };
        (rows, Rows::of_ids(vec![1; ROWS]))
    }

    fn run(&mut self, sequences: Vec<SequenceRows>, rows: &Rows) -> Result<(), StageError> {
        let step = Arc::new(Step { sequences });
        let ticket = self.stage.submit(&step, Input::Rows(rows))?;
        match self.stage.poll(ticket, &mut OutputBuf::default()) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("a CPU computes when it is polled"),
        }
    }

    /// Panics unless the step that `change` makes of the good one is refused with these words, and
    /// the good one runs after it.
    fn check_refused(&mut self, words: &str, change: impl Fn(&mut SequenceRows, &mut Rows)) {
        let (mut sequence, mut rows) = self.good();
        change(&mut sequence, &mut rows);
        let error = self.run(vec![sequence], &rows).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
        let (sequence, rows) = self.good();
        self.run(vec![sequence], &rows).unwrap();
    }

    fn embedded(&self, rows: Range<usize>, values: usize) -> EmbeddedRows {
        EmbeddedRows {
            rows,
            values: vec![0.5; values].into(),
        }
    }
}

#[test]
fn rows_that_do_not_fit() {
    let mut bench = bench();
    let vocab = bench.vocab;
    bench.check_refused("token id: the stage takes ids below", |_, rows| {
        rows.ids[2] = vocab
    });
    bench.check_refused("input: the stage takes 4, the step has 3", |_, rows| {
        rows.ids.pop();
    });
    bench.check_refused(
        "rows: the stage takes 1 to 8, the step has 9",
        |sequence, rows| {
            sequence.wants = vec![Want::Nothing; 9];
            rows.ids = vec![1; 9];
        },
    );
    bench.check_refused(
        "rows: the stage takes 1 to 8, the step has 0",
        |sequence, rows| {
            sequence.wants.clear();
            rows.ids.clear();
        },
    );
}

#[test]
fn embeddings_that_do_not_fit() {
    let mut bench = bench();
    let width = bench.width;
    let runs_of = |ranges: &[(usize, usize)]| -> Vec<_> {
        let runs = ranges.iter();
        runs.map(|&(start, end)| bench.embedded(start..end, (end - start) * width))
            .collect()
    };
    let bad = [
        (
            runs_of(&[(2, 5)]),
            "embedded rows: the stage takes runs of rows in order",
        ),
        (runs_of(&[(2, 2)]), "embedded rows"),
        (runs_of(&[(1, 3), (2, 4)]), "embedded rows"),
        (runs_of(&[(2, 3), (0, 1)]), "embedded rows"),
    ];
    for (runs, words) in bad {
        bench.check_refused(words, |_, rows| rows.embedded.clone_from(&runs));
    }
    let short = bench.embedded(0..2, 2 * width - 1);
    bench.check_refused("values", |_, rows| rows.embedded.push(short.clone()));
}

#[test]
fn positions_that_do_not_fit() {
    let mut bench = bench();
    for (axes, count, words) in [
        (
            1,
            ROWS - 1,
            "positions: the stage takes 4 rows on 1 to 3 axes",
        ),
        (0, 0, "positions"),
        (4, 4 * ROWS, "positions"),
        (2, ROWS, "positions"),
    ] {
        bench.check_refused(words, |sequence, _| {
            sequence.positions = Positions::Given {
                axes,
                values: vec![0; count].into(),
            };
        });
    }
    bench.check_refused("a row at [1, 2]", |sequence, _| {
        sequence.positions = Positions::Given {
            axes: 2,
            values: [0, 0, 1, 2, 2, 2, 3, 3].into(),
        };
    });
}

#[test]
fn tables_that_do_not_fit() {
    let mut bench = bench();
    bench.check_refused("block tables", |sequence, _| {
        sequence.tables = Arc::default();
    });
    bench.check_refused(
        "block table: the stage takes a block for each of 0..1",
        |sequence, _| {
            Arc::make_mut(&mut sequence.tables)[0][0] = None;
        },
    );
    // Rows before them that nobody wrote, and that have no block at all.
    bench.check_refused(
        "block 0 of group 0: 4 tokens were written there, 20 are read",
        |s, _| {
            s.start = 20;
        },
    );
    bench.check_refused(
        "block table: the stage takes a block for each position",
        |s, _| {
            s.start = 32;
            Arc::make_mut(&mut s.tables)
                .iter_mut()
                .for_each(|table| table[0] = None);
        },
    );
}

#[test]
fn a_block_that_one_sequence_writes_and_another_reads() {
    let mut bench = bench();
    let (sequence, rows) = bench.good();
    bench.run(vec![sequence.clone()], &rows).unwrap();
    let writes = SequenceRows {
        start: ROWS,
        wants: vec![Want::Nothing],
        ..sequence.clone()
    };
    let fill = SequenceRows {
        start: ROWS,
        wants: vec![Want::Nothing; 8],
        ..sequence.clone()
    };
    for start in [4, 12, 20] {
        let next = SequenceRows {
            start,
            ..fill.clone()
        };
        bench.run(vec![next], &Rows::of_ids(vec![1; 8])).unwrap();
    }
    let mut wants = vec![Want::Nothing; 4];
    wants[3] = Want::Logits;
    let last = SequenceRows {
        start: 28,
        wants,
        ..sequence.clone()
    };
    bench.run(vec![last], &Rows::of_ids(vec![1; 4])).unwrap();
    let reads = SequenceRows {
        start: 32,
        wants: vec![Want::Logits],
        ..sequence
    };
    let two = Rows::of_ids(vec![1; 2]);
    let error = bench.run(vec![writes, reads.clone()], &two).unwrap_err();
    assert!(
        matches!(&error, StageError::Block { block: 0, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("another sequence"), "{error}");
    bench.run(vec![reads], &Rows::of_ids(vec![1])).unwrap();
}
