use std::env;
use std::mem::size_of;
use std::time::Duration;

use gogrid_units::Bytes;
use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};
use windows_sys::Win32::System::Threading::GetSystemTimes;

use super::done;
use super::thread::{allowed_cores, duration};
use crate::ability::names;
use crate::cores::{CoreSet, Processor};
use crate::error::HostError;
use crate::gpu::GpuSample;
use crate::imp::battery::battery;
use crate::imp::nvidia::Nvidia;
use crate::load::Pressure;
use crate::memory::{Resident, SystemMemory};

fn unread<T>(what: &'static str, reason: &str) -> Result<T, HostError> {
    Err(HostError::Unread {
        what,
        reason: reason.to_owned(),
    })
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
pub(crate) fn system_memory() -> Result<SystemMemory, HostError> {
    let mut status = MEMORYSTATUSEX {
        dwLength: size_of::<MEMORYSTATUSEX>() as u32,
        ..MEMORYSTATUSEX::default()
    };
    // SAFETY: the call writes as many bytes as the length says, which is the struct's own.
    done("GlobalMemoryStatusEx", unsafe {
        GlobalMemoryStatusEx(&raw mut status)
    })?;
    Ok(SystemMemory {
        total: Bytes(status.ullTotalPhys),
        machine: Bytes(status.ullTotalPhys),
        available: Bytes(status.ullAvailPhys),
    })
}

pub(crate) fn resident() -> Result<Resident, HostError> {
    unread(
        names::RESIDENT,
        "Windows does not tell apart what files back",
    )
}

pub(crate) fn processor() -> Result<Processor, HostError> {
    let name = env::var("PROCESSOR_IDENTIFIER").unwrap_or_else(|_| env::consts::ARCH.to_owned());
    Ok(Processor {
        name,
        flags: Vec::new(),
    })
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
    /// Windows counts the idleness of all cores together.
    pub(crate) fn open(cores: &CoreSet) -> Result<Self, HostError> {
        if *cores != allowed_cores()? {
            return unread(names::LOAD, "Windows counts all cores together");
        }
        Ok(Self)
    }

    #[expect(unsafe_code, reason = "the system call has no safe wrapper")]
    pub(crate) fn idle(&mut self) -> Result<Duration, HostError> {
        let [mut idle, mut kernel, mut user] = [FILETIME::default(); 3];
        // SAFETY: the call writes three times, and is given three.
        done("GetSystemTimes", unsafe {
            GetSystemTimes(&raw mut idle, &raw mut kernel, &raw mut user)
        })?;
        Ok(duration(idle))
    }
}

#[derive(Debug)]
pub(crate) enum PressureFiles {}

impl PressureFiles {
    pub(crate) fn open() -> Result<Self, HostError> {
        unread(
            names::PRESSURE,
            "Windows does not count how long tasks wait",
        )
    }

    pub(crate) fn read(&mut self) -> Result<Pressure, HostError> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum Thermometers {}

impl Thermometers {
    pub(crate) fn open() -> Result<Self, HostError> {
        unread(
            names::TEMPERATURE,
            "Windows shows it to administrators only",
        )
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
pub(crate) struct Gpus(Nvidia);

impl Gpus {
    pub(crate) fn open() -> Result<Self, HostError> {
        let nvidia = Nvidia::open("nvml.dll").map_err(|reason| HostError::NoGpu {
            reasons: format!("NVIDIA: {reason}; other makers: not built in for Windows"),
        });
        nvidia.map(Self)
    }

    pub(crate) fn sample(&mut self) -> Vec<GpuSample> {
        self.0.sample()
    }
}
