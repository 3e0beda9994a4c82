use super::presence::idle;
use super::{
    Gpus, IdleClock, PowerMeter, PressureFiles, Thermometers, allowed_cores, processor, resident,
    system_memory, thread_cpu_time,
};
use crate::ability::{Ability, AbilityState, named, state};
use crate::imp::battery::battery;
use crate::programs::can_list;

pub(crate) fn abilities() -> Vec<Ability> {
    let per_file = "Windows has it for files and not for threads".to_owned();
    named([
        state(system_memory(), |_| None),
        state(resident(), |_| None),
        state(allowed_cores(), |cores| Some(format!("cores {cores}"))),
        AbilityState::Available,
        AbilityState::Absent(per_file),
        state(thread_cpu_time(), |_| None),
        state(processor(), |_| None),
        AbilityState::Absent(
            "Windows puts a thread aside at once for one of a higher priority".to_owned(),
        ),
        AbilityState::Available,
        state(
            allowed_cores().and_then(|cores| IdleClock::open(&cores)),
            |_| None,
        ),
        state(PressureFiles::open(), |_| None),
        state(idle(), |_| None),
        state(battery(), |_| None),
        state(Thermometers::open(), |_| None),
        state(PowerMeter::open(), |_| None),
        state(Gpus::open(), |_| None),
        state(can_list(), |_| None),
    ])
}
