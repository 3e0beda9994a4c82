use crate::error::HostError;
use crate::imp;

/// Something that can be measured or held back on this machine, or that cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ability {
    /// Its name: `thread nice values`.
    pub name: &'static str,
    /// Whether it is there.
    pub state: AbilityState,
}

/// Whether an ability is there, and at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AbilityState {
    /// It can be used.
    Available,
    /// The calling thread is under it now: how, in words.
    InEffect(String),
    /// It cannot be used: why.
    Absent(String),
}

/// Every ability this crate knows of, as it is for the calling thread.
pub fn abilities() -> Vec<Ability> {
    imp::abilities()
}

/// The state that a trial shows; `in_effect` says how the calling thread is under it.
pub(crate) fn state<T>(
    got: Result<T, HostError>,
    in_effect: impl FnOnce(&T) -> Option<String>,
) -> AbilityState {
    match got {
        Ok(value) => in_effect(&value).map_or(AbilityState::Available, AbilityState::InEffect),
        Err(error) => AbilityState::Absent(error.to_string()),
    }
}

/// The abilities, whose states are in the order of [`names::ALL`].
pub(crate) fn named(states: [AbilityState; names::ALL.len()]) -> Vec<Ability> {
    let named = names::ALL.into_iter().zip(states);
    named.map(|(name, state)| Ability { name, state }).collect()
}

/// The names, so that every platform reports the same ones.
pub(crate) mod names {
    pub(crate) const MEMORY: &str = "memory figures";
    pub(crate) const RESIDENT: &str = "own memory figures";
    pub(crate) const AFFINITY: &str = "thread core sets";
    pub(crate) const NICE: &str = "thread nice values";
    pub(crate) const IO: &str = "thread I/O priorities";
    pub(crate) const CPU_TIME: &str = "CPU time";
    pub(crate) const PROCESSOR: &str = "processor name";

    pub(crate) const TURNS: &str = "batch scheduling";

    pub(crate) const SOCKET: &str = "local sockets";

    pub(crate) const LOAD: &str = "CPU load of others";
    pub(crate) const PRESSURE: &str = "pressure";

    pub(crate) const PRESENCE: &str = "presence";

    pub(crate) const BATTERY: &str = "battery";
    pub(crate) const TEMPERATURE: &str = "processor temperature";
    pub(crate) const POWER: &str = "power";
    pub(crate) const GPU: &str = "GPU load of others";

    pub(crate) const PROGRAMS: &str = "running programs";

    pub(crate) const ALL: [&str; 17] = [
        MEMORY,
        RESIDENT,
        AFFINITY,
        NICE,
        IO,
        CPU_TIME,
        PROCESSOR,
        TURNS,
        SOCKET,
        LOAD,
        PRESSURE,
        PRESENCE,
        BATTERY,
        TEMPERATURE,
        POWER,
        GPU,
        PROGRAMS,
    ];
}
