//! What is planned for is what opening takes, with the figures of the CPU backend.

mod gpus;

use gogrid_cpu::{CpuBackend, CpuOptions};
use std::sync::Arc;

use gogrid_lease::Ledger;
use gogrid_model::OpenOptions;
use gogrid_pipeline::{Backend, DeviceLoad, Objective};
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::{FullSpeed, WeightType};

use super::*;
use crate::fixture::{TestDevice, TestMachine};
use crate::resource_manager::ResourceConfig;

fn model(family: Family) -> Arc<Model> {
    let spec = Spec {
        family,
        weights: WeightType::Q4K,
        seed: 1,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    RandomModel::mixed(spec, WeightType::Q8_0)
        .write_gguf(&path)
        .expect("it is written");
    Arc::new(Model::open(&path, &OpenOptions::default()).expect("it opens"))
}

fn options(plan: Option<Vec<PlacedSpan>>) -> Options {
    let limits = ResourceConfig {
        max_vram_usage_percent: 1.0,
        ..ResourceConfig::default()
    };
    Options {
        limits,
        objective: Objective::Throughput,
        plan,
        ..Options::default()
    }
}

fn backend(memory: Ledger) -> CpuBackend {
    let options = CpuOptions::new(1, memory, Arc::new(FullSpeed));
    CpuBackend::new(&options).expect("a team of one")
}

/// Devices of one core on one memory, where every piece takes a second.
fn opener(model: &Arc<Model>, devices: usize, memory: Bytes) -> (Opener, Vec<usize>) {
    let device = |core: usize| {
        TestDevice::cpu(core, |loan| {
            Box::new(backend(loan.memory)) as Box<dyn Backend>
        })
    };
    let machine = TestMachine {
        memories: vec![memory],
        ..TestMachine::of((0..devices).map(device).collect())
    };
    let hardware = Arc::clone(&machine.open(&options(None)).hardware);
    let opener = Opener::new(hardware, Arc::clone(model), options(None));
    opener.know_costs(&[1.0; 8][..devices]);
    (opener, (0..devices).collect())
}

/// What opening `span` leases.
fn footprint(model: &Model, span: Span) -> Footprint {
    backend(Ledger::new(Bytes::gib(1))).predict(model, span, ROWS_IN_STEP_MAX)
}

/// What is planned for one device that has the whole model.
fn planned_once(model: &Arc<Model>) -> DeviceLoad {
    let (opener, usable) = opener(model, 1, Bytes::gib(1));
    let placing = place(&opener, &usable, &options(None), Timing::Unmeasured);
    placing.expect("it fits").plan.loads[0]
}

#[test]
fn no_span_holds_more_than_it_is_planned_with() {
    for family in Family::ALL {
        let model = model(family);
        let whole = Span::whole_model(model.decoder().layers.len());
        let (opener, usable) = opener(&model, 3, Bytes::gib(1));
        let spans =
            (0..whole.end).flat_map(|start| (start + 1..=whole.end).map(move |e| (start, e)));
        for (start, end) in spans {
            let stages = [(0, 0, start), (1, start, end), (2, end, whole.end)];
            let stages = stages.into_iter().filter(|(_, start, end)| start < end);
            let by_hand = stages.map(|(device, start, end)| PlacedSpan {
                device,
                span: Span::new(start, end),
            });
            let options = options(Some(by_hand.collect()));
            let placing = place(&opener, &usable, &options, Timing::Unmeasured);
            let planned = placing.expect("it fits").plan.loads[1].bytes();
            let footprint = footprint(&model, Span::new(start, end));
            let kv = planned_kv(&model, &footprint);
            let held = footprint.weights + footprint.scratch + kv;
            assert!(
                planned >= held,
                "{family:?} {start}..{end}: planned with {planned}, holds {held}"
            );
        }
        let (load, footprint) = (planned_once(&model), footprint(&model, whole));
        assert_eq!(
            (load.weights, load.scratch),
            (footprint.weights, footprint.scratch),
            "{family:?}: the whole model is planned with what it holds"
        );
    }
}

#[test]
fn a_model_that_fits_once_in_shared_memory_stands_on_fewer_devices() {
    let model = model(Family::Gemma3);
    let once = planned_once(&model).bytes();
    let placed = |devices, memory| {
        let (opener, usable) = opener(&model, devices, memory);
        let placing = place(&opener, &usable, &options(None), Timing::Measured);
        placing.map(|placing| placing.plan)
    };
    let stages = |memory| placed(3, memory).map(|plan| plan.stages.len());
    assert_eq!(stages(Bytes::gib(1)).expect("it fits"), 3);
    let on_two = placed(2, Bytes::gib(1)).expect("it fits");
    let two = on_two.loads.iter().map(DeviceLoad::bytes).sum();
    assert_eq!(stages(two).expect("it fits on two devices"), 2);
    assert_eq!(stages(once).expect("it fits on one device"), 1);
    let refused = stages(Bytes(once.0 - 1)).unwrap_err().to_string();
    assert!(refused.contains(&once.to_string()), "{refused}");
}

#[test]
fn memory_that_keeps_a_device_out_is_said_to_cost() {
    let model = model(Family::Gemma3);
    let (opener, usable) = opener(&model, 2, planned_once(&model).bytes());
    let placing = place(&opener, &usable, &options(None), Timing::Measured);
    let why = placing
        .expect("it fits on one")
        .why(&opener.hardware, false);
    let costs = |line: &&String| {
        line.starts_with("the memory limit of cpu:0 and cpu:1 costs a factor of 2")
    };
    assert_eq!(why.iter().filter(costs).count(), 1, "{why:?}");
}

#[test]
fn a_placement_whose_search_was_cut_short_is_said_to_be_unproven() {
    let model = model(Family::Gemma3);
    let (opener, usable) = opener(&model, 2, planned_once(&model).bytes());
    let placing = place(&opener, &usable, &options(None), Timing::Measured);
    let mut placing = placing.expect("it fits on one");
    let is_said = |placing: &Placing| {
        let why = placing.why(&opener.hardware, false);
        why.iter()
            .any(|line| line.contains("not proven to be the best"))
    };
    assert!(!is_said(&placing));
    placing.is_cut_short = true;
    assert!(is_said(&placing));
}

#[test]
fn a_device_with_credit_works_as_wide_as_its_team() {
    let duty_of =
        |cores, threads: Option<usize>, share| duty((cores, threads.unwrap_or(cores)), share);
    let check = |duty: PlanDuty, expected: (f64, f64, f64)| {
        assert_eq!((duty.share, duty.burst, duty.credit), expected);
    };
    check(duty_of(1, None, 0.5), (0.5, 1.0, 2.5e-3));
    // A share of half pays for 4 of 8 threads, and credit for one more.
    check(duty_of(8, None, 0.5), (0.5, 0.625, 2.5e-3));
    check(duty_of(8, Some(4), 0.25), (0.5, 0.75, 5e-3));
    check(duty_of(8, Some(2), 0.5), (1.0, 1.0, 1e-2));
}
