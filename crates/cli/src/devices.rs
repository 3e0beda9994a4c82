use corpgrid_scheduler::{Device, devices};
use gogrid_units::Bytes;
use serde::Serialize;

use crate::args::DevicesArgs;
use crate::out;

#[derive(Serialize)]
struct Row<'a> {
    /// What `--device` takes.
    id: String,
    #[serde(flatten)]
    device: &'a Device,
}

pub(crate) fn run(args: &DevicesArgs) -> anyhow::Result<()> {
    let devices = devices();
    if args.json.json {
        let rows: Vec<_> = devices
            .iter()
            .map(|device| Row {
                id: device.to_string(),
                device,
            })
            .collect();
        return out::json(&rows);
    }
    for device in &devices {
        out::line(&format!(
            "{device}: {}, {} cores, {} memory, {} free",
            device.name,
            device.cores.len(),
            Bytes(device.memory_total_bytes),
            Bytes(device.memory_free_bytes)
        ))?;
    }
    Ok(())
}
