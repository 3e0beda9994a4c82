use gogrid_lease::{Kind, Ledger};
use gogrid_pipeline::{Opening, StageError};
use gogrid_units::{Bytes, Span};

use super::cases::{Case, VARIED};
use super::rig::{ROWS_MAX, Rig};
use super::{DeviceContext, Subject};

/// A stage leases what it says it holds, before it opens and after; gives it back when dropped;
/// is refused where there is no room; and forgets released blocks.
pub fn check_memory(subject: &Subject<'_>) {
    for &case in VARIED {
        let case = Case::open(case);
        check_leases(subject, &case);
        check_blocks(subject, &case);
    }
}

fn check_leases(subject: &Subject<'_>, case: &Case) {
    let name = &case.name;
    let span = Span::whole_model(case.model.decoder().layers.len());
    let memory = Ledger::new(Bytes::gib(1));
    let backend = |memory: &Ledger| {
        (subject.backend)(DeviceContext {
            memory: memory.clone(),
            ..DeviceContext::default()
        })
    };
    let open = |memory: &Ledger| backend(memory).open(Opening::new(&case.model, span, ROWS_MAX));
    let stage = open(&memory).unwrap_or_else(|error| panic!("{name}: {error}"));
    let held = stage.footprint();
    assert!(held.weights > Bytes::ZERO, "{name}: no weights");
    assert_eq!(
        memory.used_by(Kind::Weights),
        held.weights,
        "{name}: weights"
    );
    assert_eq!(
        memory.used_by(Kind::Scratch),
        held.scratch,
        "{name}: scratch"
    );
    drop(stage);
    assert_eq!(memory.used(), Bytes::ZERO, "{name}: given back");

    let short = Ledger::new(held.weights.share(0.9));
    let refused = matches!(open(&short), Err(StageError::Memory(_)));
    assert!(refused, "{name}: opened in less than its weights");
    assert_eq!(short.used(), Bytes::ZERO, "{name}: a refusal holds nothing");
    let predicted = backend(&memory).predict(&case.model, span, ROWS_MAX);
    assert_eq!(predicted.weights, held.weights, "{name}: predicted weights");
    assert_eq!(
        predicted.kv_block, held.kv_block,
        "{name}: predicted blocks"
    );
}

fn check_blocks(subject: &Subject<'_>, case: &Case) {
    let mut backend = (subject.backend)(DeviceContext::default());
    let mut rig = Rig::whole(&mut *backend, case);
    let mut sequence = rig.sequence(case.ids.clone());
    let rows = sequence.left();
    rig.feed(&mut [(&mut sequence, rows)]);
    let held = rig.stages[0].footprint();
    assert!(
        held.kv_blocks_held.iter().all(|&blocks| blocks > 0),
        "{}: {held:?}",
        case.name
    );
    assert!(
        held.kv_block.iter().all(|&bytes| bytes > Bytes::ZERO),
        "{}: {held:?}",
        case.name
    );
    rig.end(sequence);
    let held = rig.stages[0].footprint().kv_blocks_held;
    assert!(
        held.iter().all(|&blocks| blocks == 0),
        "{}: {held:?} released",
        case.name
    );
}
