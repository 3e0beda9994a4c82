use corpgrid_scheduler::{Device, devices};
use gogrid_host::{Ability, AbilityState, BandwidthProbe, CoreSet, abilities, stream_bandwidth};
use gogrid_units::Bytes;
use serde::Serialize;

use crate::args::DevicesArgs;
use crate::out;

#[derive(Serialize)]
struct Row<'a> {
    /// Its name for `--device`.
    id: String,
    #[serde(flatten)]
    device: &'a Device,
    /// Measured, with as many threads as it has cores; none where that could not be.
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
    let mut devices = devices();
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
        out::line(&format!(
            "{id}: {}, {} cores{}, {} memory{}, {} free, {}",
            device.name,
            device.cores().len(),
            quota(device),
            Bytes(device.memory_total_bytes),
            built_in(device),
            Bytes(device.memory_free_bytes),
            reads(row.read_bytes_per_second)
        ))?;
        for ability in &row.abilities {
            out::line(&ability.line())?;
        }
    }
    Ok(())
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
    Row {
        id: device.to_string(),
        device,
        read_bytes_per_second: measured.ok(),
        abilities: abilities().into_iter().map(AbilityRow::new).collect(),
    }
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
