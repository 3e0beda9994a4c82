use gogrid_hub::{Cache, find};
use serde::Serialize;

use crate::args::PullArgs;
use crate::interrupt::Interrupt;
use crate::{model_file, out};

#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    path: String,
    bytes: u64,
    sha256: &'a str,
    licence: &'a str,
}

pub(crate) fn run(args: &PullArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let entry = find(&args.name)?;
    let path = model_file::fetch(&Cache::of_user()?, entry, interrupt)?;
    let path = path.display().to_string();
    if args.json.json {
        let (name, bytes) = (entry.name, entry.bytes.0);
        let (sha256, licence) = (entry.sha256, entry.licence);
        return out::json(&Report {
            name,
            path,
            bytes,
            sha256,
            licence,
        });
    }
    Ok(out::line(&path)?)
}
