use std::fs;

use super::super::unix::socket_folder;
use super::cores::asked_cores;
use super::memory::listed_memory;
use super::policy::Turns;
use super::priority::{io, nice};
use super::supply::battery;
use super::{
    Gpus, IdleClock, PowerMeter, PresenceSources, PressureFiles, Thermometers, allowed_cores,
    cpu_quota, current_thread, processor, resident, system_memory, thread_cpu_time,
};
use crate::ability::{Ability, AbilityState, named, state};
use crate::cores::CoreSet;
use crate::memory::SystemMemory;
use crate::power::Battery;
use crate::programs::can_list;

pub(crate) fn abilities() -> Vec<Ability> {
    let memory = state(listed_memory().and_then(|_| system_memory()), limit);
    let resident = state(resident(), |_| None);
    let affinity = state(asked_cores(), |cores| Some(on_cores(cores)));
    let nice = state(nice(current_thread()), |nice| {
        (*nice != 0).then(|| format!("nice {nice}"))
    });
    let cpu_time = state(thread_cpu_time(), |_| None);
    let processor = state(processor(), |_| None);
    named([
        memory,
        resident,
        affinity,
        nice,
        io_state(),
        cpu_time,
        processor,
        state(Turns::of(current_thread()), |turns| {
            turns.stands_back().then(|| turns.name().to_owned())
        }),
        state(socket_folder(), |_| None),
        state(
            allowed_cores().and_then(|cores| IdleClock::open(&cores)),
            |_| None,
        ),
        state(PressureFiles::open(), |_| None),
        presence_state(),
        state(battery(), unknown),
        state(Thermometers::open(), |_| None),
        state(PowerMeter::open(), |_| None),
        state(Gpus::open(), |_| None),
        state(can_list(), |_| None),
    ])
}

fn limit(memory: &SystemMemory) -> Option<String> {
    let SystemMemory { total, machine, .. } = memory;
    let text = || format!("limited to {total} of {machine} by a control group");
    memory.is_limited().then(text)
}

fn on_cores(cores: &CoreSet) -> String {
    match cpu_quota() {
        Some(quota) => format!("cores {cores}, with the time of {quota:.2} by a quota"),
        None => format!("cores {cores}"),
    }
}

fn unknown(battery: &Battery) -> Option<String> {
    let text = || battery.unknown.join(", ");
    (!battery.unknown.is_empty()).then(text)
}

/// Without waiting for the desktop, which only a probe does.
fn presence_state() -> AbilityState {
    match PresenceSources::may_exist() {
        Ok(()) => AbilityState::Available,
        Err(sources) => {
            let reasons: Vec<_> = sources.iter().map(ToString::to_string).collect();
            AbilityState::Absent(reasons.join("; "))
        }
    }
}

/// An I/O priority can be set on any system, and matters only where a disk's scheduler looks.
fn io_state() -> AbilityState {
    let schedulers = disk_schedulers();
    let honours =
        |(_, scheduler): &(String, String)| scheduler == "bfq" || scheduler == "mq-deadline";
    if !schedulers.iter().any(honours) {
        let list: Vec<_> = schedulers
            .iter()
            .map(|(disk, s)| format!("{disk} has {s}"))
            .collect();
        let disks = if list.is_empty() {
            "no disk is seen".to_owned()
        } else {
            list.join(", ")
        };
        return AbilityState::Absent(format!("no disk's scheduler honours it: {disks}"));
    }
    state(io(current_thread()), |io| {
        (io.class != 0).then(|| io.to_string())
    })
}

/// Disks and the scheduler each uses: the one in brackets in its `queue/scheduler`.
fn disk_schedulers() -> Vec<(String, String)> {
    let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut schedulers: Vec<_> = disks
        .filter_map(|disk| {
            let name = disk.file_name().into_string().ok()?;
            let text = fs::read_to_string(disk.path().join("queue/scheduler")).ok()?;
            let chosen = text.split_once('[')?.1.split_once(']')?.0.to_owned();
            let real = !name.starts_with("loop") && !name.starts_with("ram");
            real.then_some((name, chosen))
        })
        .collect();
    schedulers.sort();
    schedulers
}
