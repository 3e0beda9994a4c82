//! `gogrid list` and `gogrid rm`: the models that are here, and those that can be.

use corpgrid_scheduler::{Mode, Settings};
use gogrid_hub::{Cache, Name, catalogue, elsewhere};
use gogrid_units::Bytes;
use serde::Serialize;

use crate::args::{ListArgs, RemoveArgs};
use crate::bar::Bars;
use crate::exit::BadInput;
use crate::interrupt::Interrupt;
use crate::out;

/// A conversation of so many tokens is counted into the memory that a model needs.
pub(crate) const TOKENS: u64 = 4096;

#[derive(Serialize)]
struct Row {
    name: String,
    bytes: u64,
    /// About what it takes with a conversation of 4,096 tokens, where the catalogue says.
    memory_bytes: Option<u64>,
    /// The mildest mode whose memory limit that is under on this machine.
    mode: Option<&'static str>,
    licence: Option<&'static str>,
    good_for: Option<&'static str>,
    /// The program whose it is, if it is another's.
    program: Option<&'static str>,
    /// Where it is, if it is here.
    path: Option<String>,
}

pub(crate) fn run(args: &ListArgs) -> anyhow::Result<()> {
    let rows = rows(&Cache::of_user()?);
    if args.json.json {
        return out::json(&rows);
    }
    let (here, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.path.is_some());
    let width = rows.iter().map(|row| row.name.chars().count()).max();
    let width = width.unwrap_or_default();
    for row in here {
        let place = row.path.as_deref().unwrap_or_default();
        let whose = row.program.map(|program| format!("{program}'s, "));
        let whose = whose.unwrap_or_default();
        let size = Bytes(row.bytes).to_string();
        out::line(&format!("{:<width$} {size:>9}  {whose}{place}", row.name))?;
    }
    out::line("")?;
    out::line("`gogrid pull NAME` fetches these, or OWNER/NAME[:QUANTISATION] of the hub:")?;
    out::line(&format!(
        "{:<width$} {:>9} {:>9}  good for (licence)",
        "", "size", "memory"
    ))?;
    for row in others {
        out::line(&format!("{:<width$} {}", row.name, offer(row)))?;
    }
    Ok(())
}

/// What is said of a model that can be fetched.
fn offer(row: &Row) -> String {
    let size = Bytes(row.bytes).to_string();
    let memory = row.memory_bytes.map(|bytes| Bytes(bytes).to_string());
    let memory = memory.unwrap_or_default();
    let (good_for, licence) = (
        row.good_for.unwrap_or_default(),
        row.licence.unwrap_or_default(),
    );
    let fits = match row.mode {
        Some("conservative") => String::new(),
        Some(mode) => format!("; needs --mode {mode} here"),
        None => "; too large here".to_owned(),
    };
    format!("{size:>9} {memory:>9}  {good_for} ({licence}){fits}")
}

/// The catalogue, the hub's models that are here, and other programs'.
fn rows(cache: &Cache) -> Vec<Row> {
    let total = total_memory();
    let entries = catalogue().iter().map(|entry| {
        let memory = entry.memory(TOKENS);
        Row {
            name: entry.name.to_owned(),
            bytes: entry.bytes.0,
            memory_bytes: Some(memory.0),
            mode: mildest_mode(memory, total).map(Mode::name),
            licence: Some(entry.licence),
            good_for: Some(entry.good_for),
            program: None,
            path: cache
                .find(&Name::of(entry))
                .map(|path| path.display().to_string()),
        }
    });
    let mut rows: Vec<_> = entries.collect();
    let own = cache.hub_models().into_iter().map(|held| (None, held));
    let others = elsewhere().into_iter();
    let others = others.map(|(program, held)| (Some(program.name()), held));
    for (program, held) in own.chain(others) {
        let path = held.path.display().to_string();
        if rows.iter().any(|row| row.path.as_ref() == Some(&path)) {
            continue;
        }
        rows.push(Row {
            name: held.name,
            bytes: held.bytes.0,
            memory_bytes: None,
            mode: None,
            licence: None,
            good_for: None,
            program,
            path: Some(path),
        });
    }
    rows
}

/// The memory of this machine, where the system says.
pub(crate) fn total_memory() -> Option<Bytes> {
    let memory = gogrid_host::system_memory().ok()?;
    Some(memory.total)
}

/// The mode that takes least of a machine with so much memory, and still has room for so many bytes.
pub(crate) fn mildest_mode(needed: Bytes, total: Option<Bytes>) -> Option<Mode> {
    let total = total?;
    Mode::ALL.into_iter().find(|mode| {
        let share = Settings::of(*mode).limits.max_vram_usage_percent;
        needed <= total.share(share)
    })
}

pub(crate) fn remove(args: &RemoveArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let (cache, watch) = (Cache::of_user()?, interrupt.watch());
    for text in &args.names {
        let others = elsewhere();
        let freed = match Name::parse(text) {
            Ok(name) => cache.remove(&name, &mut Bars::new().bar(&watch))?,
            Err(_) => None,
        };
        match (freed, gogrid_hub::named(&others, text)) {
            (Some(freed), _) => out::note(format!("removed {text}: {freed} free")),
            (None, Some((program, held))) => {
                let problem = format!(
                    "{text} is {}'s, in {}: remove it there",
                    program.name(),
                    held.path.display()
                );
                return Err(BadInput(problem).into());
            }
            (None, None) => {
                // A name that nobody knows is told as such.
                Name::parse(text)?;
                let problem = format!(
                    "{text} is not in {}; `gogrid list` shows what is",
                    cache.folder().display()
                );
                return Err(BadInput(problem).into());
            }
        }
    }
    Ok(())
}
