//! `gogrid pull`: models into the cache, several at once.

use std::sync::Mutex;
use std::thread;

use gogrid_hub::{Cache, Name, Pulled};
use gogrid_units::Bytes;
use serde::Serialize;

use crate::args::PullArgs;
use crate::bar::Bars;
use crate::interrupt::Interrupt;
use crate::{failure, model_file, out};

/// Models that are fetched at the same time: more would only share the line.
const AT_ONCE: usize = 3;

#[derive(Serialize)]
struct Report {
    name: String,
    /// The file to open: the only one, or the first part.
    path: String,
    bytes: u64,
    sha256: String,
    licence: Option<String>,
    /// Further parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    path: String,
    bytes: u64,
    sha256: String,
}

pub(crate) fn run(args: &PullArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    let names = args.names.iter().map(|name| Name::parse(name));
    let names: Vec<_> = names.collect::<Result<_, _>>()?;
    let cache = Cache::of_user()?;
    let bars = Bars::new();
    let outcomes = pull_all(&cache, &names, &bars, interrupt);
    drop(bars);
    let (mut reports, mut failed) = (Vec::new(), None);
    for (name, outcome) in names.iter().zip(outcomes) {
        match outcome {
            Ok(pulled) => reports.extend(report(name, pulled)),
            // The last one is told as the command's own failure is.
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    out::note(format!("error: {}", failure::message(&earlier)));
                }
            }
        }
    }
    match (args.json.json, reports.as_slice()) {
        (true, [only]) if names.len() == 1 => out::json(only)?,
        (true, _) if failed.is_none() || names.len() > 1 => out::json(&reports)?,
        (true, _) => {}
        (false, reports) => {
            for report in reports {
                out::line(&report.path)?;
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// What came of each, in the order of the names.
fn pull_all(
    cache: &Cache,
    names: &[Name],
    bars: &Bars,
    interrupt: &Interrupt,
) -> Vec<anyhow::Result<Pulled>> {
    let fetch = |name: &Name| model_file::fetch(cache, name, bars, interrupt);
    // A lock, held to take the next name: threads share one list.
    let waiting = Mutex::new(names.iter().enumerate());
    let work = || {
        let mut done = Vec::new();
        loop {
            let next = waiting.lock().expect("no thread panics with it").next();
            let Some((index, name)) = next else {
                return done;
            };
            done.push((index, fetch(name)));
        }
    };
    let mut outcomes: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (1..names.len().min(AT_ONCE))
            .map(|_| scope.spawn(work))
            .collect();
        let mut outcomes = work();
        for thread in threads {
            outcomes.extend(thread.join().expect("a fetch has an error for each fault"));
        }
        outcomes
    });
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn report(name: &Name, pulled: Pulled) -> Option<Report> {
    let bytes: Bytes = pulled.files.iter().map(|file| file.bytes).sum();
    let mut parts = pulled.files.into_iter().map(|file| Part {
        path: file.path.display().to_string(),
        bytes: file.bytes.0,
        sha256: file.sha256,
    });
    let first = parts.next()?;
    let licence = match name {
        Name::Entry(entry) => Some(entry.licence.to_owned()),
        Name::Hub(_) => pulled.licence,
    };
    Some(Report {
        name: name.to_string(),
        path: first.path,
        bytes: bytes.0,
        sha256: first.sha256,
        licence,
        parts: parts.collect(),
    })
}
