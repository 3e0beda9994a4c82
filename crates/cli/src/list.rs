//! `gogrid list` and `gogrid rm`: the models that are here.

use gogrid_hub::{Cache, Entry, catalogue, find};
use gogrid_units::Bytes;
use serde::Serialize;

use crate::args::{ListArgs, RemoveArgs};
use crate::bar::Bar;
use crate::exit::BadInput;
use crate::interrupt::Interrupt;
use crate::out;

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    bytes: u64,
    licence: &'a str,
    /// Where it is, if it is here.
    path: Option<String>,
}

pub(crate) fn run(args: &ListArgs) -> anyhow::Result<()> {
    let cache = Cache::of_user()?;
    let path = |entry: &Entry| Some(cache.find(entry)?.display().to_string());
    let rows = catalogue().iter().map(|entry| Row {
        name: entry.name,
        bytes: entry.bytes.0,
        licence: entry.licence,
        path: path(entry),
    });
    let rows: Vec<_> = rows.collect();
    if args.json.json {
        return out::json(&rows);
    }
    for Row {
        name,
        bytes,
        licence,
        path,
    } in &rows
    {
        let size = Bytes(*bytes).to_string();
        let place = path
            .as_deref()
            .unwrap_or("not here: gogrid pull fetches it");
        out::line(&format!("{name:<14} {size:>10}  {licence:<12} {place}"))?;
    }
    Ok(())
}

pub(crate) fn remove(args: &RemoveArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let (cache, watch) = (Cache::of_user()?, interrupt.watch());
    for name in &args.names {
        let entry = find(name)?;
        match cache.remove(entry, &mut Bar::new(&watch))? {
            Some(path) => out::note(format!("removed {}: {} free", path.display(), entry.bytes)),
            None => {
                let problem = format!(
                    "{name} is not in {}; `gogrid list` shows what is",
                    cache.folder().display()
                );
                return Err(BadInput(problem).into());
            }
        }
    }
    Ok(())
}
