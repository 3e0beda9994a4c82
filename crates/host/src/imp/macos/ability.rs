use super::{
    Gpus, IdleClock, PowerMeter, PressureFiles, Thermometers, allowed_cores, processor, resident,
    system_memory, thread_cpu_time,
};
use crate::ability::{Ability, AbilityState, named, state};
use crate::imp::battery::battery;
use crate::imp::unix::socket_folder;
use crate::programs::can_list;

pub(crate) fn abilities() -> Vec<Ability> {
    let absent = |reason: &str| AbilityState::Absent(reason.to_owned());
    named([
        state(system_memory(), |_| None),
        state(resident(), |_| None),
        absent("macOS keeps no thread to some cores"),
        absent("macOS has it for the whole process only; quality of service classes stand for it"),
        AbilityState::Available,
        state(thread_cpu_time(), |_| None),
        state(processor(), |_| None),
        absent("macOS has quality of service classes instead"),
        state(socket_folder(), |_| None),
        state(
            allowed_cores().and_then(|cores| IdleClock::open(&cores)),
            |_| None,
        ),
        state(PressureFiles::open(), |_| None),
        AbilityState::Available,
        state(battery(), |_| None),
        state(Thermometers::open(), |_| None),
        state(PowerMeter::open(), |_| None),
        state(Gpus::open(), |_| None),
        state(can_list(), |_| None),
    ])
}
