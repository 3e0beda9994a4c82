use crate::device::{Device, DeviceKind};

/// All cores of this machine that this process may use.
pub(crate) fn whole_cpu() -> Device {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |key: &str| {
        let line = meminfo.lines().find(|line| line.starts_with(key));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.unwrap_or(0) << 10
    };
    Device {
        kind: DeviceKind::Cpu,
        cores: (0..cores).collect(),
        whole: true,
        name: "CPU".to_owned(),
        memory_total_bytes: bytes("MemTotal:"),
        memory_free_bytes: bytes("MemAvailable:"),
    }
}
