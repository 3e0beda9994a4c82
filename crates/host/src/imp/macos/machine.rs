use std::env::consts::ARCH;
use std::ffi::CStr;
use std::sync::OnceLock;
use std::thread::available_parallelism;
use std::time::Duration;

use gogrid_units::Bytes;

use super::{done, unread};
use crate::ability::names;
use crate::cores::{CoreSet, Processor};
use crate::error::HostError;
use crate::gpu::GpuSample;
use crate::imp::battery::battery;
use crate::load::Pressure;
use crate::memory::{Resident, SystemMemory};

/// All: macOS keeps no thread to some.
pub(crate) fn allowed_cores() -> Result<CoreSet, HostError> {
    let count = available_parallelism().map_or(1, usize::from);
    CoreSet::new(0..count).ok_or(HostError::Absent {
        ability: names::AFFINITY,
    })
}

pub(crate) fn pin(_cores: &CoreSet) -> Result<(), HostError> {
    unread(names::AFFINITY, "macOS keeps no thread to some cores")
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
fn sysctl(name: &'static CStr, buffer: &mut [u8]) -> Result<usize, HostError> {
    let mut length = buffer.len();
    // SAFETY: the name ends with zero, and the call writes at most `length` bytes, which is what
    // the buffer has.
    done("sysctlbyname", unsafe {
        let to = buffer.as_mut_ptr().cast();
        libc::sysctlbyname(name.as_ptr(), to, &raw mut length, std::ptr::null_mut(), 0)
    })?;
    Ok(length)
}

pub(crate) fn processor() -> Result<Processor, HostError> {
    let mut buffer = [0; 256];
    sysctl(c"machdep.cpu.brand_string", &mut buffer)?;
    let name = CStr::from_bytes_until_nul(&buffer).map_or(ARCH.into(), CStr::to_string_lossy);
    Ok(Processor {
        name: name.into_owned(),
        flags: Vec::new(),
    })
}

#[expect(unsafe_code, reason = "the library's binding is deprecated")]
// SAFETY: declared as in mach/mach_init.h.
unsafe extern "C" {
    safe fn mach_host_self() -> libc::mach_port_t;
}

/// Asking for it counts a right to it each time.
static HOST: OnceLock<libc::mach_port_t> = OnceLock::new();

/// Mach's statistics of one kind, as words; words that the kernel did not write stay zero.
#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
fn statistics(kind: i32, call: &'static str) -> Result<[i32; 64], HostError> {
    let mut words = [0; 64];
    let mut count = words.len() as u32;
    let host = *HOST.get_or_init(|| mach_host_self());
    // SAFETY: the call writes at most `count` words, which is what it is given.
    let result = unsafe { libc::host_statistics64(host, kind, words.as_mut_ptr(), &raw mut count) };
    done(call, result)?;
    Ok(words)
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
pub(crate) fn system_memory() -> Result<SystemMemory, HostError> {
    let mut total = [0; 8];
    sysctl(c"hw.memsize", &mut total)?;
    let words = statistics(libc::HOST_VM_INFO64, "host_statistics64")?;
    // free_count, active_count and inactive_count begin vm_statistics64; those that are free or
    // not in use can be had.
    let pages = u64::from(words[0] as u32) + u64::from(words[2] as u32);
    // SAFETY: the call takes and gives a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let total = Bytes(u64::from_ne_bytes(total));
    Ok(SystemMemory {
        total,
        machine: total,
        available: Bytes(pages * page.unsigned_abs()),
    })
}

pub(crate) fn resident() -> Result<Resident, HostError> {
    unread(names::RESIDENT, "macOS does not tell apart what files back")
}

#[derive(Debug)]
pub(crate) struct MemoryFile;

impl MemoryFile {
    pub(crate) fn open() -> Result<Self, HostError> {
        system_memory().map(|_| Self)
    }

    pub(crate) fn read(&mut self) -> Result<SystemMemory, HostError> {
        system_memory()
    }
}

#[derive(Debug)]
pub(crate) struct IdleClock;

impl IdleClock {
    /// Mach counts the idleness of all cores together.
    pub(crate) fn open(cores: &CoreSet) -> Result<Self, HostError> {
        if *cores != allowed_cores()? {
            return unread(names::LOAD, "macOS counts all cores together");
        }
        Ok(Self)
    }

    pub(crate) fn idle(&mut self) -> Result<Duration, HostError> {
        /// `CPU_STATE_IDLE` of mach/machine.h, and ticks of 10 ms.
        const IDLE: usize = 2;
        const TICK_MS: u64 = 10;
        let words = statistics(libc::HOST_CPU_LOAD_INFO, "host_statistics64")?;
        Ok(Duration::from_millis(
            u64::from(words[IDLE] as u32) * TICK_MS,
        ))
    }
}

#[derive(Debug)]
pub(crate) enum PressureFiles {}

impl PressureFiles {
    pub(crate) fn open() -> Result<Self, HostError> {
        unread(names::PRESSURE, "macOS does not count how long tasks wait")
    }

    pub(crate) fn read(&mut self) -> Result<Pressure, HostError> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Thermometers {}

impl Thermometers {
    pub(crate) fn open() -> Result<Self, HostError> {
        unread(names::TEMPERATURE, "macOS documents no way to read it")
    }

    pub(crate) fn hottest_c(&self) -> Result<f64, HostError> {
        match *self {}
    }
}

/// The battery's.
#[derive(Debug)]
pub(crate) struct PowerMeter;

impl PowerMeter {
    pub(crate) fn open() -> Result<Self, HostError> {
        battery().map(|_| Self)
    }

    pub(crate) fn watts(&mut self) -> Result<f64, HostError> {
        let unread = || HostError::Unread {
            what: names::POWER,
            reason: "the battery does not tell".to_owned(),
        };
        battery()?.power_w.ok_or_else(unread)
    }
}

#[derive(Debug)]
pub(crate) enum Gpus {}

impl Gpus {
    pub(crate) fn open() -> Result<Self, HostError> {
        Err(HostError::NoGpu {
            reasons: "not built in for macOS".to_owned(),
        })
    }

    pub(crate) fn sample(&mut self) -> Vec<GpuSample> {
        match *self {}
    }
}
