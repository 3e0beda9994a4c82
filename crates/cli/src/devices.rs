use corpgrid_scheduler::{Device, devices};
use gogrid_units::Bytes;
use serde::Serialize;

use crate::args::DevicesArgs;
use crate::bandwidth::read_bytes_per_second;
use crate::out;

#[derive(Serialize)]
struct Row<'a> {
    /// What `--device` takes.
    id: String,
    #[serde(flatten)]
    device: &'a Device,
    /// Measured, with as many threads as it has cores.
    read_bytes_per_second: f64,
}

pub(crate) fn run(args: &DevicesArgs) -> anyhow::Result<()> {
    let devices = devices();
    let rows: Vec<_> = devices.iter().map(row).collect();
    if args.json.json {
        return out::json(&rows);
    }
    for Row {
        id,
        device,
        read_bytes_per_second,
    } in rows
    {
        out::line(&format!(
            "{id}: {}, {} cores, {} memory, {} free, reads {:.1} GB/s",
            device.name,
            device.cores.len(),
            Bytes(device.memory_total_bytes),
            Bytes(device.memory_free_bytes),
            read_bytes_per_second / 1e9
        ))?;
    }
    Ok(())
}

fn row(device: &Device) -> Row<'_> {
    let read_bytes_per_second = read_bytes_per_second(device.cores.len());
    Row {
        id: device.to_string(),
        device,
        read_bytes_per_second,
    }
}
