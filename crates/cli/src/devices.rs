use corpgrid_scheduler::{Device, DeviceKind, every_device};
use gogrid_host::{Ability, AbilityState, BandwidthProbe, CoreSet, abilities, stream_bandwidth};
use gogrid_units::Bytes;
use serde::Serialize;

use crate::args::DevicesArgs;
use crate::out;

/// The host's name for the ability to tell others' use of GPUs.
const GPU_LOAD: &str = "GPU load of others";

#[derive(Serialize)]
struct Row<'a> {
    /// Its name for `--device`.
    id: String,
    #[serde(flatten)]
    device: &'a Device,
    /// Measured, with as many threads as it has cores; none where that could not be, and for a GPU.
    read_bytes_per_second: Option<f64>,
    /// Everything that can be measured and held back there, or cannot.
    abilities: Vec<AbilityRow>,
}

#[derive(Serialize)]
struct AbilityRow {
    name: &'static str,
    available: bool,
    /// How it is in effect, or why it is absent.
    note: Option<String>,
}

pub(crate) fn run(args: &DevicesArgs) -> anyhow::Result<()> {
    let mut devices = every_device();
    if devices.is_empty() {
        // Asked for by its name it says why it is not there.
        devices.push(Device::named("cpu")?);
    }
    let rows: Vec<_> = devices.iter().map(row).collect();
    if args.json.json {
        return out::json(&rows);
    }
    for row in &rows {
        let Row { id, device, .. } = row;
        let reads = reads(row.read_bytes_per_second);
        out::line(&format!(
            "{id}: {}, {}, {reads}",
            device.name,
            in_words(device)
        ))?;
        for ability in &row.abilities {
            out::line(&ability.line())?;
        }
    }
    Ok(())
}

/// What it computes with, and its memory: `8 cores, 32.0 GiB memory, 20.0 GiB free`.
fn in_words(device: &Device) -> String {
    let memory = Bytes(device.memory_total_bytes);
    let free = device.memory_free_bytes.map(Bytes);
    let free = free.map_or("free not told".to_owned(), |free| format!("{free} free"));
    let limited = built_in(device);
    match &device.kind {
        DeviceKind::Gpu {
            api,
            driver,
            adapter,
            shares_system_memory,
            ..
        } => {
            let whose = match shares_system_memory {
                true => "memory, which is the system's",
                false => "memory of its own",
            };
            format!("{adapter} GPU by {api} ({driver}), {memory} {whose}{limited}, {free}")
        }
        _ => format!(
            "{} cores{}, {memory} memory{limited}, {free}",
            device.cores().len(),
            quota(device)
        ),
    }
}

/// What a container's quota leaves of the cores.
fn quota(device: &Device) -> String {
    let text = |quota| {
        format!(
            " with the time of {:.2} by a quota",
            f64::from(quota) / 1000.0
        )
    };
    device.quota_millicores.map_or_else(String::new, text)
}

/// The machine's memory, where a container may use less.
fn built_in(device: &Device) -> String {
    let is_limited = device.memory_total_bytes < device.memory_built_in_bytes;
    let text = || format!(" of the machine's {}", Bytes(device.memory_built_in_bytes));
    is_limited.then(text).unwrap_or_default()
}

fn reads(bytes_per_second: Option<f64>) -> String {
    match bytes_per_second {
        Some(bytes) => format!("reads {:.1} GB/s", bytes / 1e9),
        None => "reading not measured".to_owned(),
    }
}

fn row(device: &Device) -> Row<'_> {
    let is_gpu = matches!(device.kind, DeviceKind::Gpu { .. });
    Row {
        id: device.to_string(),
        device,
        read_bytes_per_second: if is_gpu { None } else { bandwidth(device) },
        abilities: match is_gpu {
            true => of_gpu(device),
            false => abilities().into_iter().map(AbilityRow::new).collect(),
        },
    }
}

/// Bytes that its cores read of memory in a second.
fn bandwidth(device: &Device) -> Option<f64> {
    let probe = BandwidthProbe {
        cores: CoreSet::new(device.cores().iter().copied()),
        ..BandwidthProbe::new(device.cores().len())
    };
    let measured = stream_bandwidth(&probe);
    if let Err(error) = &measured {
        out::note(format!(
            "warning: reading from memory was not measured: {error}"
        ));
    }
    measured.ok()
}

/// What can be measured and held back on a GPU, and what cannot.
fn of_gpu(device: &Device) -> Vec<AbilityRow> {
    let shares_system_memory = matches!(
        device.kind,
        DeviceKind::Gpu {
            shares_system_memory: true,
            ..
        }
    );
    let held_with = match shares_system_memory {
        true => "in one account with the CPU's",
        false => {
            "in an account of its own; a part is always left to its driver and to other programs"
        }
    };
    let untold = device.memory_free_bytes.is_none();
    let row = |name, available, note: &str| AbilityRow {
        name,
        available,
        note: Some(note.to_owned()),
    };
    let mut rows = vec![
        row("memory cap", true, held_with),
        row(
            "compute share",
            true,
            "by the busy time that it reports of its own clock",
        ),
        row(
            "queue priority",
            false,
            "not supported through this interface",
        ),
        row(
            "priority of the submitting thread",
            false,
            "it keeps the process's: a GPU whose next work comes late stands idle",
        ),
    ];
    if untold {
        let why = "its driver does not tell through this interface";
        rows.push(row("memory that others use", false, why));
    }
    let of_others = abilities().into_iter().filter(|one| one.name == GPU_LOAD);
    rows.extend(of_others.map(AbilityRow::new));
    rows
}

impl AbilityRow {
    fn new(Ability { name, state }: Ability) -> Self {
        let (available, note) = match state {
            AbilityState::Available => (true, None),
            AbilityState::InEffect(how) => (true, Some(format!("now {how}"))),
            AbilityState::Absent(why) => (false, Some(why)),
        };
        Self {
            name,
            available,
            note,
        }
    }

    fn line(&self) -> String {
        let state = if self.available { "yes" } else { "no" };
        let note = self.note.as_ref().map(|note| format!(", {note}"));
        format!("  {}: {state}{}", self.name, note.unwrap_or_default())
    }
}
