//! The CPU stage against the conformance suite, on one thread and on two.

use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_pipeline::Backend;
use gogrid_testkit::conformance::{
    DeviceContext, Subject, Tolerance, check_abandoned_steps, check_batches, check_chunks,
    check_cuts, check_embeddings, check_faults, check_head_widths, check_long_sequences,
    check_meaning, check_memory, check_moved_blocks, check_positions,
    check_quantised_while_opening, check_rests_and_widths, check_shared_blocks,
    check_unwritten_blocks, check_wants,
};
use gogrid_units::WeightType;

const SUBJECT: Subject<'_> = Subject {
    backend: &|DeviceContext { memory, pace }| {
        let backend = CpuBackend::new(&CpuOptions::new(2, memory, pace));
        Box::new(backend.expect("two threads")) as Box<dyn Backend>
    },
    tolerance: &tolerance,
    is_exact: true,
};

/// Quantised matrices read inputs rounded to eight bits, with a scale for each 32 values or each 256;
/// float matrices see only the KV cache rounded to halves.
fn tolerance(weights: WeightType) -> Tolerance {
    let (mean, max) = match weights.block_len() {
        1 => (0.002, 0.02),
        32 => (0.03, 0.3),
        _ => (0.05, 0.5),
    };
    Tolerance { mean, max }
}

#[test]
fn every_family_and_weight_type_means_what_the_reference_means() {
    check_meaning(&SUBJECT);
}

#[test]
fn weights_quantised_while_opening_mean_the_same() {
    check_quantised_while_opening(&SUBJECT);
}

#[test]
fn any_number_of_stages_gives_the_bits_of_one() {
    check_cuts(&SUBJECT);
}

#[test]
fn any_chunking_of_the_prompt_gives_the_same_bits() {
    check_chunks(&SUBJECT);
}

#[test]
fn sequences_in_a_batch_give_the_bits_they_give_alone() {
    check_batches(&SUBJECT);
}

#[test]
fn rows_get_what_they_want_and_nothing_else() {
    check_wants(&SUBJECT);
}

#[test]
fn an_abandoned_step_leaves_no_trace() {
    check_abandoned_steps(&SUBJECT);
}

#[test]
fn rests_and_widths_change_no_bit() {
    check_rests_and_widths(&SUBJECT);
}

#[test]
fn memory_is_leased_as_predicted_and_given_back() {
    check_memory(&SUBJECT);
}

#[test]
fn blocks_that_move_to_other_stages_serve_as_if_they_had_stayed() {
    check_moved_blocks(&SUBJECT);
}

#[test]
fn a_block_that_was_never_written_is_an_error() {
    check_unwritten_blocks(&SUBJECT);
}

#[test]
fn sequences_of_one_step_can_share_the_blocks_they_read() {
    check_shared_blocks(&SUBJECT);
}

#[test]
fn given_positions_turn_rows_as_the_reference_turns_them() {
    check_positions(&SUBJECT);
}

#[test]
fn rows_can_bring_their_own_embeddings() {
    check_embeddings(&SUBJECT);
}

#[test]
fn heads_of_every_even_width_mean_what_the_reference_means() {
    check_head_widths(&SUBJECT);
}

#[test]
fn a_sequence_is_turned_by_its_own_length() {
    check_long_sequences(&SUBJECT);
}

#[test]
fn what_is_not_finite_is_told_with_its_place() {
    check_faults(&SUBJECT);
}
