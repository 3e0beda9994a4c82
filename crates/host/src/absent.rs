use crate::ability::Ability;
use crate::memory::{ProcessMemory, SystemMemory};
use crate::restraint::{InEffect, Restraint};

const WHY: Option<&str> = Some("not supported on this system yet");

pub(crate) const ABILITIES: &[Ability] = &[
    Ability {
        name: "memory of the machine and of this process",
        absent: WHY,
    },
    Ability {
        name: "cpu time of each thread",
        absent: WHY,
    },
    Ability {
        name: "priority of each thread",
        absent: WHY,
    },
    Ability {
        name: "i/o priority of each thread",
        absent: WHY,
    },
    Ability {
        name: "cores of each thread",
        absent: WHY,
    },
];

pub(crate) fn restrain(asked: &Restraint) -> InEffect {
    let mut problems = vec![
        "nice: not supported on this system yet".to_owned(),
        "i/o priority: not supported on this system yet".to_owned(),
    ];
    if asked.cores.is_some() {
        problems.push("cores: not supported on this system yet".to_owned());
    }
    InEffect {
        problems,
        ..InEffect::default()
    }
}

#[cfg(test)]
pub(crate) fn unrestrained() -> Restraint {
    Restraint {
        nice: 0,
        io_class: 0,
        io_level: 0,
        cores: None,
    }
}

/// The cores by count: which of them this process may use, the standard library does not tell.
pub(crate) fn cores() -> Vec<usize> {
    (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
}

pub(crate) fn thread_cpu_nanos() -> Option<u64> {
    None
}

pub(crate) fn process_cpu_nanos() -> Option<u64> {
    None
}

pub(crate) fn system_memory() -> Option<SystemMemory> {
    None
}

pub(crate) fn process_memory() -> Option<ProcessMemory> {
    None
}

pub(crate) fn cpu_name() -> Option<String> {
    None
}
