//! Devices without a machine that has them: adapters and processors are made up.

use gogrid_units::Bytes;

use super::*;
use crate::machine::hardware::{MachineSpec, MemorySpec};

fn system() -> SystemMemory {
    SystemMemory {
        total: Bytes::gib(32),
        available: Bytes::gib(20),
        machine: Bytes::gib(64),
    }
}

fn adapter(index: usize, kind: AdapterKind, memory: Bytes) -> Adapter {
    let shares_system_memory = matches!(kind, AdapterKind::Integrated | AdapterKind::Software);
    Adapter {
        index,
        name: format!("GPU {index}"),
        kind,
        api: "vulkan",
        driver: "a driver 1.2".to_owned(),
        memory: Some(memory),
        memory_free: None,
        shares_system_memory,
    }
}

/// A discrete GPU of 24 GiB, one of 2 GiB, one in the processor, and one that the processor plays.
fn four() -> Vec<Device> {
    gpus(four_adapters(), &system())
}

fn four_adapters() -> Vec<Adapter> {
    vec![
        adapter(0, AdapterKind::Discrete, Bytes::gib(24)),
        adapter(1, AdapterKind::Discrete, Bytes::gib(2)),
        adapter(2, AdapterKind::Integrated, Bytes::gib(64)),
        adapter(3, AdapterKind::Software, Bytes::gib(64)),
    ]
}

fn cpu(name: &str, quota_millicores: Option<u32>) -> Device {
    Device {
        kind: DeviceKind::Cpu {
            cores: name.parse::<CoreSet>().expect("a list").cores().to_vec(),
            whole: false,
        },
        name: "a processor".to_owned(),
        memory_total_bytes: Bytes::gib(32).0,
        memory_free_bytes: Some(Bytes::gib(20).0),
        memory_built_in_bytes: Bytes::gib(64).0,
        quota_millicores,
        is_asked_for: false,
    }
}

fn asked_for(device: &Device) -> Device {
    Device {
        is_asked_for: true,
        ..device.clone()
    }
}

fn opened_from(devices: &[Device]) -> MachineSpec {
    specs(devices, None).expect("they are apart")
}

/// The names of the devices that a machine is opened with, and the memory of each.
fn placed(spec: &MachineSpec) -> Vec<(&str, &str)> {
    let devices = spec.devices.iter();
    let placed = devices.map(|device| (&*device.place.name, &*spec.memories[device.memory].name));
    placed.collect()
}

#[test]
fn names_are_core_sets_and_numbers_of_gpus() {
    let first = devices()[0].cores()[0];
    let one = Device::named(&format!("cpu:{first}")).expect("the core is there");
    let kind = DeviceKind::Cpu {
        cores: vec![first],
        whole: false,
    };
    assert_eq!((one.to_string(), one.kind), (format!("cpu:{first}"), kind));
    for gpu in four() {
        let found = gpu_named(&gpu.to_string(), four_adapters(), &system()).expect("it is there");
        assert_eq!(found, gpu);
    }
    let error = Device::named("gpu:99").expect_err("no machine has so many");
    assert!(error.to_string().starts_with("device: "), "{error}");
}

#[test]
fn a_gpu_that_is_not_there_is_told_with_those_that_are() {
    let check = |name: &str, adapters, evidence: &str| {
        let error = gpu_named(name, adapters, &system())
            .expect_err("it is not there")
            .to_string();
        assert!(error.contains(name) && error.contains(evidence), "{error}");
    };
    for name in ["gpu:4", "gpu:", "gpu", "gpu:01", "gpu:-1"] {
        check(
            name,
            four_adapters(),
            "gpu:0 (GPU 0), gpu:1 (GPU 1), gpu:2 (GPU 2), gpu:3 (GPU 3)",
        );
        check(name, Vec::new(), "no driver of a GPU was found by ");
    }
    let untold = Adapter {
        memory: None,
        ..adapter(0, AdapterKind::Discrete, Bytes::ZERO)
    };
    check(
        "gpu:0",
        vec![untold],
        "(GPU 0) cannot be used: its driver does not tell its memory",
    );
}

#[test]
fn a_gpu_says_what_it_is_as_json() {
    let said = serde_json::to_value(&four()[2]).expect("plain data");
    let expected = serde_json::json!({
        "kind": "gpu",
        "index": 2,
        "api": "vulkan",
        "driver": "a driver 1.2",
        "adapter": "integrated",
        "shares_system_memory": true,
        "name": "GPU 2",
        "memory_total_bytes": Bytes::gib(32).0,
        "memory_free_bytes": Bytes::gib(20).0,
        "memory_built_in_bytes": Bytes::gib(64).0,
        "quota_millicores": null,
    });
    assert_eq!(said, expected);
    // What is free of a card's own memory its driver does not tell here.
    assert_eq!(four()[0].memory_free_bytes, None);
}

#[test]
fn each_gpu_has_its_own_memory_or_shares_that_of_the_cpus() {
    let cpus = [cpu("0-3", None), cpu("4-7", None)];
    let devices: Vec<_> = cpus.iter().chain(&four()).map(asked_for).collect();
    let spec = opened_from(&devices);
    let expected = [
        ("cpu:0-3", "system"),
        ("cpu:4-7", "system"),
        ("gpu:0", "gpu:0"),
        ("gpu:1", "gpu:1"),
        ("gpu:2", "system"),
        ("gpu:3", "system"),
    ];
    assert_eq!(placed(&spec), expected);
    let memories = spec
        .memories
        .iter()
        .map(|m| (&*m.name, m.total, m.room, m.free));
    let others = Bytes(Bytes::gib(24).0 / 6);
    let expected = [
        (
            "system",
            Bytes::gib(32),
            Bytes::gib(32),
            Some(Bytes::gib(20)),
        ),
        (
            "gpu:0",
            Bytes::gib(24),
            Bytes::gib(24).saturating_sub(others),
            None,
        ),
        ("gpu:1", Bytes::gib(2), Bytes::mib(1536), None),
    ];
    assert_eq!(memories.collect::<Vec<_>>(), expected);
    let lanes = spec
        .devices
        .iter()
        .map(|device| (device.cores, device.lanes));
    assert_eq!(
        lanes.collect::<Vec<_>>(),
        [(4, 4), (4, 4), (1, 1), (1, 1), (1, 1), (1, 1)]
    );
}

#[test]
fn texts_have_the_systems_memory_and_threads_the_machines_cores_where_no_device_is_a_cpu() {
    let spec = opened_from(&[asked_for(&four()[0])]);
    let names: Vec<_> = spec.memories.iter().map(|memory| &*memory.name).collect();
    assert_eq!(names, ["system", "gpu:0"]);
    let machine = allowed_cores().expect("this system tells").cores().len();
    assert_eq!(spec.cores.cores, machine);
    let error = specs(&[asked_for(&four()[0])], Some(2)).map(drop);
    let error = error.expect_err("threads of no CPU").to_string();
    assert!(error.starts_with("threads: "), "{error}");
}

#[test]
fn gpus_that_nobody_asked_for_are_used_if_they_are_real_and_may_be_missing() {
    let cpu = cpu("0-3", None);
    let devices: Vec<_> = [cpu.clone()].into_iter().chain(four()).collect();
    let spec = opened_from(&devices);
    let names = |spec: &MachineSpec| {
        let devices = spec.devices.iter();
        devices
            .map(|device| (device.place.name.clone(), device.is_optional))
            .collect::<Vec<_>>()
    };
    let expected = ["cpu:0-3", "gpu:0", "gpu:1", "gpu:2"];
    assert_eq!(names(&spec), expected.map(|name| (name.to_owned(), true)));
    assert!(spec.left_out.is_empty(), "{:?}", spec.left_out);
    let software = asked_for(&four()[3]);
    assert_eq!(
        names(&opened_from(&[software])),
        [("gpu:3".to_owned(), false)]
    );
}

#[test]
fn more_gpus_than_a_placement_has_devices_are_left_out_with_the_reason() {
    let many = (0..9).map(|index| adapter(index, AdapterKind::Discrete, Bytes::gib(8)));
    let devices = [cpu("0-3", None)]
        .into_iter()
        .chain(gpus(many.collect(), &system()));
    let spec = opened_from(&devices.collect::<Vec<_>>());
    assert_eq!(spec.devices.len(), 8);
    assert_eq!(spec.left_out.len(), 2, "{:?}", spec.left_out);
    assert!(
        spec.left_out[0].starts_with("gpu:8: "),
        "{:?}",
        spec.left_out
    );
}

#[test]
fn a_container_has_the_threads_that_its_quota_keeps_busy() {
    let check = |names: &[&str], quota, expected: &[(usize, f64)]| {
        let devices: Vec<_> = names.iter().map(|name| cpu(name, quota)).collect();
        let spec = opened_from(&devices);
        let found: Vec<_> = spec
            .devices
            .iter()
            .map(|s| (s.lanes, s.quota_share))
            .collect();
        assert_eq!(found, expected, "{names:?} {quota:?}");
        assert_eq!(
            (spec.memories[0].room, spec.memories[0].free),
            (Bytes::gib(32), Some(Bytes::gib(20)))
        );
    };
    check(&["0-7"], None, &[(8, 1.0)]);
    check(&["0-7"], Some(1500), &[(2, 0.1875)]);
    check(&["0-7"], Some(1), &[(1, 0.000_125)]);
    check(&["0-7"], Some(64_000), &[(8, 1.0)]);
    check(&["0-3", "4-7"], Some(2000), &[(1, 0.25), (1, 0.25)]);
}

#[test]
fn devices_may_not_overlap_nor_be_named_twice() {
    let check = |devices: &[Device]| {
        let error = specs(devices, None)
            .map(drop)
            .expect_err("they share something");
        assert!(error.to_string().starts_with("device: "), "{error}");
    };
    let whole = whole_cpu().expect("this system tells").1;
    check(&[whole.clone(), whole]);
    let gpu = asked_for(&four()[0]);
    check(&[gpu.clone(), cpu("0-1", None), gpu]);
    check(&[]);
}

#[test]
fn a_machine_of_software_gpus_that_nobody_asked_for_says_how_to_ask() {
    let software = &four()[3..];
    let error = specs(software, None).map(drop).expect_err("none is of use");
    let error = error.to_string();
    assert!(error.contains("gpu:3 is a software GPU"), "{error}");
    assert_eq!(opened_from(&[asked_for(&software[0])]).devices.len(), 1);
}

#[test]
fn a_gpu_is_opened_again_only_where_its_number_is_still_its_own() {
    let card = adapter(0, AdapterKind::Discrete, Bytes::gib(24));
    let listed = &gpus(vec![card.clone()], &system())[0];
    let check = |adapters: &[Adapter], expected: Option<&str>| {
        let problem = specs::check_still_there(listed, adapters).err();
        let problem = problem.map(|problem| problem.to_string());
        let is_as_expected = match (&problem, expected) {
            (Some(problem), Some(part)) => problem.contains(part),
            (problem, expected) => problem.is_none() && expected.is_none(),
        };
        assert!(is_as_expected, "{problem:?}");
    };
    check(std::slice::from_ref(&card), None);
    check(&[], Some("that of nothing now"));
    let next = Adapter {
        name: "GPU 1".to_owned(),
        ..card.clone()
    };
    check(&[next], Some("that of \"GPU 1\" now"));
    let played = Adapter {
        kind: AdapterKind::Software,
        ..card.clone()
    };
    check(&[played], Some("is not there"));
    let other_driver = Adapter {
        driver: "a driver 2.0".to_owned(),
        ..card
    };
    check(&[other_driver], Some("is not there"));
}

#[test]
fn what_others_held_is_not_counted_on_and_what_this_process_held_is() {
    let check = |free: Option<u64>, held: u64, expected: u64| {
        let spec = MemorySpec {
            name: "gpu:0".to_owned(),
            total: Bytes::gib(24),
            room: Bytes::gib(20),
            free: free.map(Bytes::gib),
        };
        let room = spec.room_beside(Bytes::gib(held));
        assert_eq!(room, Bytes::gib(expected), "{free:?} free, {held} held");
    };
    check(None, 0, 20);
    // What other machines of this process hold adds nothing to what is never ours.
    check(None, 10, 20);
    check(Some(8), 0, 8);
    check(Some(8), 10, 18);
    check(Some(14), 10, 20);
    let told = Adapter {
        memory_free: Some(Bytes::gib(8)),
        ..adapter(0, AdapterKind::Discrete, Bytes::gib(24))
    };
    let spec = opened_from(&gpus(vec![told], &system()));
    assert_eq!(spec.memories[1].free, Some(Bytes::gib(8)));
}

#[test]
fn a_real_gpu_is_guessed_to_read_faster_than_the_processor() {
    let four = four();
    let spec = opened_from(&four.iter().map(asked_for).collect::<Vec<_>>());
    let guessed = spec.devices.iter().map(|device| device.guessed_bytes_per_s);
    assert_eq!(guessed.collect::<Vec<_>>(), [50e9, 50e9, 50e9, 2e9]);
}
