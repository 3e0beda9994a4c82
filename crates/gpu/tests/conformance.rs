//! The GPU stage against the conformance suite, on the first adapter there is. Without one the tests say so
//! and pass, unless `GOGRID_NEEDS_GPU` is set, as it is in CI.

use std::sync::OnceLock;

use gogrid_gpu::{Gpu, GpuBackend, Reduction};
use gogrid_pipeline::Backend;
use gogrid_testkit::conformance::{
    DeviceContext, Subject, Tolerance, check_abandoned_steps, check_batches, check_chunks,
    check_cuts, check_embeddings, check_faults, check_head_widths, check_long_sequences,
    check_meaning, check_memory, check_moved_blocks, check_positions,
    check_quantised_while_opening, check_rests_and_widths, check_shared_blocks,
    check_unwritten_blocks, check_wants,
};
use gogrid_units::{PlainThreads, WeightType};

/// One device for all tests, so that its kernels are compiled once.
static GPU: OnceLock<Option<Gpu>> = OnceLock::new();

fn gpu() -> Option<&'static Gpu> {
    let open = || {
        if gogrid_gpu::adapters().is_empty() {
            let needed = std::env::var_os("GOGRID_NEEDS_GPU").is_some();
            assert!(!needed, "no GPU driver offers an adapter");
            return None;
        }
        Some(Gpu::open(0, &PlainThreads).expect("the first adapter opens"))
    };
    GPU.get_or_init(open).as_ref()
}

/// The same device with products of many rows by tiles, which in software are slower than a few rows at a
/// time.
static TILED: OnceLock<Gpu> = OnceLock::new();

fn tiled() -> &'static Gpu {
    let open = || Gpu::open_as(0, &PlainThreads, Some(Reduction::Alone));
    TILED.get_or_init(|| open().expect("the first adapter opens again"))
}

const BY_TILES: Subject<'_> = Subject {
    backend: &|DeviceContext { memory, pace }| Box::new(GpuBackend::on(tiled(), memory, pace)),
    ..SUBJECT
};

const SUBJECT: Subject<'_> = Subject {
    backend: &|DeviceContext { memory, pace }| {
        let gpu = gpu().expect("asked before");
        Box::new(GpuBackend::on(gpu, memory, pace)) as Box<dyn Backend>
    },
    tolerance: &tolerance,
    is_exact: false,
};

/// Inputs stay floats; the KV cache is rounded to halves.
fn tolerance(_weights: WeightType) -> Tolerance {
    Tolerance {
        mean: 0.002,
        max: 0.02,
    }
}

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn check(check: impl Fn(&Subject<'_>)) {
    match gpu() {
        Some(_) => check(&SUBJECT),
        None => eprintln!("skipped: no GPU driver offers an adapter"),
    }
}

#[test]
fn every_family_and_weight_type_means_what_the_reference_means() {
    check(check_meaning);
}

#[test]
fn products_by_tiles_mean_what_the_reference_means() {
    check(|_| check_meaning(&BY_TILES));
}

#[test]
fn products_by_tiles_give_the_same_in_any_chunking() {
    check(|_| check_chunks(&BY_TILES));
}

#[test]
fn weights_quantised_while_opening_mean_the_same() {
    // Here weights lose what rounding to eight bits takes, of which the check allows twice.
    let rounded = |_| Tolerance {
        mean: 0.01,
        max: 0.1,
    };
    check(|subject| {
        check_quantised_while_opening(&Subject {
            tolerance: &rounded,
            ..*subject
        });
    });
}

#[test]
fn any_number_of_stages_gives_what_one_gives() {
    check(check_cuts);
}

#[test]
fn any_chunking_of_the_prompt_gives_the_same() {
    check(check_chunks);
}

#[test]
fn sequences_in_a_batch_give_what_they_give_alone() {
    check(check_batches);
}

#[test]
fn rows_get_what_they_want_and_nothing_else() {
    check(check_wants);
}

#[test]
fn an_abandoned_step_leaves_no_trace() {
    check(check_abandoned_steps);
}

#[test]
fn rests_change_nothing() {
    check(check_rests_and_widths);
}

#[test]
fn memory_is_leased_as_predicted_and_given_back() {
    check(check_memory);
}

#[test]
fn blocks_that_move_to_other_stages_serve_as_if_they_had_stayed() {
    check(check_moved_blocks);
}

#[test]
fn a_block_that_was_never_written_is_an_error() {
    check(check_unwritten_blocks);
}

#[test]
fn sequences_of_one_step_can_share_the_blocks_they_read() {
    check(check_shared_blocks);
}

#[test]
fn given_positions_turn_rows_as_the_reference_turns_them() {
    check(check_positions);
}

#[test]
fn rows_can_bring_their_own_embeddings() {
    check(check_embeddings);
}

#[test]
fn heads_of_every_even_width_mean_what_the_reference_means() {
    check(check_head_widths);
}

#[test]
fn a_sequence_is_turned_by_its_own_length() {
    check(check_long_sequences);
}

#[test]
fn what_is_not_finite_is_told_with_its_place() {
    check(check_faults);
}
