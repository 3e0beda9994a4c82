//! What is planned for is what opening takes, with the figures of the CPU backend.

use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_lease::Ledger;
use gogrid_model::OpenOptions;
use gogrid_pipeline::{Backend, DeviceLoad, Objective, Opening, Stage, StageError};
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::WeightType;

use super::*;
use crate::device::{Device, DeviceKind};

/// Says what a CPU backend would hold, and that every piece takes a second.
struct Slow(CpuBackend);

impl Backend for Slow {
    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        self.0.predict(model, span, rows_max)
    }

    fn measure(&mut self, model: &Model, _memory: &Ledger) -> Result<Costs, StageError> {
        let pieces = Span::whole_model(model.decoder().layers.len()).len();
        Ok(Costs {
            decode: vec![1.0; pieces],
            prefill: vec![1.0; pieces],
        })
    }

    fn open(&mut self, request: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        self.0.open(request)
    }
}

fn model(family: Family) -> Model {
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
    Model::open(&path, &OpenOptions::default()).expect("it opens")
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

/// Devices of one core on one memory.
fn grounds(devices: usize, memory: Bytes) -> Vec<Ground> {
    let device = |core: usize| {
        let device = Device {
            kind: DeviceKind::Cpu,
            cores: vec![core],
            whole: false,
            name: "slow".to_owned(),
            memory_total_bytes: memory.0,
            memory_free_bytes: memory.0,
        };
        let backend = CpuBackend::new(&CpuOptions::threads(1)).expect("a team of one");
        (device, Box::new(Slow(backend)) as Box<dyn Backend>)
    };
    Ground::on_one_memory((0..devices).map(device).collect(), &options(None).limits)
}

/// What opening `span` leases.
fn footprint(model: &Model, span: Span) -> Footprint {
    let backend = CpuBackend::new(&CpuOptions::threads(1)).expect("a team of one");
    backend.predict(model, span, ROWS_IN_STEP_MAX)
}

/// What is planned for one device that has the whole model.
fn planned_once(model: &Model) -> DeviceLoad {
    let mut grounds = grounds(1, Bytes::gib(1));
    let placing = place(model, &mut grounds, &options(None), Timing::Unmeasured);
    placing.expect("it fits").plan.loads[0]
}

#[test]
fn no_span_holds_more_than_it_is_planned_with() {
    for family in Family::ALL {
        let model = model(family);
        let whole = Span::whole_model(model.decoder().layers.len());
        let mut grounds = grounds(3, Bytes::gib(1));
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
            let placing = place(&model, &mut grounds, &options, Timing::Unmeasured);
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
        let mut grounds = grounds(devices, memory);
        let placing = place(&model, &mut grounds, &options(None), Timing::Measured);
        placing.map(|placing| placing.plan)
    };
    let stages = |memory| placed(3, memory).map(|plan| plan.stages.len());
    assert_eq!(stages(Bytes::gib(1)).expect("it fits"), 3);
    let two = bytes(&placed(2, Bytes::gib(1)).expect("it fits"));
    assert_eq!(stages(two).expect("it fits on two devices"), 2);
    assert_eq!(stages(once).expect("it fits on one device"), 1);
    let refused = stages(Bytes(once.0 - 1)).unwrap_err().to_string();
    assert!(refused.contains(&once.to_string()), "{refused}");
}

#[test]
fn memory_that_keeps_a_device_out_is_said_to_cost() {
    let model = model(Family::Gemma3);
    let mut grounds = grounds(2, planned_once(&model).bytes());
    let placing = place(&model, &mut grounds, &options(None), Timing::Measured);
    let names = ["first".to_owned(), "second".to_owned()];
    let why = placing.expect("it fits on one").why(&names, false);
    let costs = |line: &&String| line.starts_with("the memory limit of second costs a factor of 2");
    assert_eq!(why.iter().filter(costs).count(), 1, "{why:?}");
}
