use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use crate::ability::{Ability, AbilityState, names};
use crate::cores::{CoreSet, Processor};
use crate::error::HostError;
use crate::gpu::GpuSample;
use crate::load::Pressure;
use crate::memory::{Resident, SystemMemory};
use crate::power::Battery;
use crate::presence::{Presence, PresenceSource};
use crate::priority::{Priority, Restraint, Restraints};
use crate::socket::SocketName;
use crate::thread::ThreadId;

fn absent<T>(ability: &'static str) -> Result<T, HostError> {
    Err(HostError::Absent { ability })
}

pub(crate) fn system_memory() -> Result<SystemMemory, HostError> {
    absent(names::MEMORY)
}

pub(crate) fn resident() -> Result<Resident, HostError> {
    absent(names::RESIDENT)
}

pub(crate) fn allowed_cores() -> Result<CoreSet, HostError> {
    absent(names::AFFINITY)
}

pub(crate) fn pin(_cores: &CoreSet) -> Result<(), HostError> {
    absent(names::AFFINITY)
}

pub(crate) fn current_thread() -> ThreadId {
    ThreadId(0)
}

pub(crate) fn restrain(_thread: ThreadId, priority: Priority) -> Restraints {
    Restraints {
        nice: Restraint::made(priority.nice, absent(names::NICE), absent(names::NICE)),
        io: Restraint::made(priority.io, absent(names::IO), absent(names::IO)),
        system: Vec::new(),
    }
}

pub(crate) fn thread_cpu_time() -> Result<Duration, HostError> {
    absent(names::CPU_TIME)
}

pub(crate) fn process_cpu_time() -> Result<Duration, HostError> {
    absent(names::CPU_TIME)
}

pub(crate) fn processor() -> Result<Processor, HostError> {
    absent(names::PROCESSOR)
}

#[derive(Debug)]
pub(crate) enum IdleClock {}

impl IdleClock {
    pub(crate) fn open(_cores: &CoreSet) -> Result<Self, HostError> {
        absent(names::LOAD)
    }

    pub(crate) fn idle(&mut self) -> Result<Duration, HostError> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum PressureFiles {}

impl PressureFiles {
    pub(crate) fn open() -> Result<Self, HostError> {
        absent(names::PRESSURE)
    }

    pub(crate) fn read(&mut self) -> Result<Pressure, HostError> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum MemoryFile {}

impl MemoryFile {
    pub(crate) fn open() -> Result<Self, HostError> {
        absent(names::MEMORY)
    }

    pub(crate) fn read(&mut self) -> Result<SystemMemory, HostError> {
        match *self {}
    }
}

pub(crate) enum PresenceSources {}

impl PresenceSources {
    pub(crate) fn may_exist() -> Result<(), Vec<PresenceSource>> {
        let problem = Some(format!("not built in for {}", std::env::consts::OS));
        let name = names::PRESENCE;
        Err(vec![PresenceSource { name, problem }])
    }

    pub(crate) fn open() -> Self {
        unreachable!("asked for only where a source may exist")
    }

    pub(crate) fn ask(&mut self) -> Option<Presence> {
        match *self {}
    }

    pub(crate) fn states(&self) -> Vec<PresenceSource> {
        match *self {}
    }
}

pub(crate) fn battery() -> Result<Battery, HostError> {
    absent(names::BATTERY)
}

#[derive(Debug)]
pub(crate) enum Thermometers {}

impl Thermometers {
    pub(crate) fn open() -> Result<Self, HostError> {
        absent(names::TEMPERATURE)
    }

    pub(crate) fn hottest_c(&self) -> Result<f64, HostError> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum PowerMeter {}

impl PowerMeter {
    pub(crate) fn open() -> Result<Self, HostError> {
        absent(names::POWER)
    }

    pub(crate) fn watts(&mut self) -> Result<f64, HostError> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Gpus {}

impl Gpus {
    pub(crate) fn open() -> Result<Self, HostError> {
        absent(names::GPU)
    }

    pub(crate) fn sample(&mut self) -> Vec<GpuSample> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Listener {}

impl Listener {
    pub(crate) fn bind(_name: &SocketName) -> Result<Self, HostError> {
        absent(names::SOCKET)
    }

    pub(crate) fn accept(&self) -> Result<Stream, HostError> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Stream {}

impl Stream {
    pub(crate) fn connect(_name: &SocketName) -> Result<Self, HostError> {
        absent(names::SOCKET)
    }

    pub(crate) fn set_timeout(&mut self, _each: Duration) -> Result<(), HostError> {
        match *self {}
    }
}

impl Read for Stream {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}

impl Write for Stream {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match *self {}
    }
}

pub(crate) fn free_space(_folder: &Path) -> Option<u64> {
    None
}

pub(crate) fn socket_files(_program: &str) -> Vec<String> {
    Vec::new()
}

pub(crate) fn socket_is_alive(_name: &SocketName) -> bool {
    false
}

pub(crate) fn abilities() -> Vec<Ability> {
    let state = AbilityState::Absent(format!("not built in for {}", std::env::consts::OS));
    names::ALL
        .map(|name| Ability {
            name,
            state: state.clone(),
        })
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ability_is_reported_and_absent() {
        let absent = abilities();
        assert_eq!(absent.len(), crate::abilities().len());
        assert!(
            absent
                .iter()
                .all(|a| matches!(a.state, AbilityState::Absent(_)))
        );
    }
}
