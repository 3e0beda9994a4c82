//! `gogrid ps`: the gogrids that run.

use corpgrid_scheduler::{MemoryStatus, Reason, Verdict};
use gogrid_control::{Request, ask, running};
use gogrid_units::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::args::PsArgs;
use crate::live::PROGRAM;
use crate::out;

#[derive(Serialize)]
struct Row {
    pid: u32,
    models: Vec<String>,
    held_bytes: u64,
    /// Requests that wait, and that run.
    queued: u64,
    running: u64,
    state: String,
}

pub(crate) fn run(args: &PsArgs) -> anyhow::Result<()> {
    let pids = running(PROGRAM)?;
    // One that has ended since is no news.
    let rows = pids.iter().filter_map(|&pid| {
        let view = ask(PROGRAM, pid, &Request::Get).ok()?;
        Some(row(pid, &view.status))
    });
    let rows: Vec<Row> = rows.collect();
    if args.json.json {
        return out::json(&rows);
    }
    if rows.is_empty() {
        out::note("no gogrid is running under your name");
    }
    for Row {
        pid,
        models,
        held_bytes,
        queued,
        running,
        state,
    } in &rows
    {
        let (models, held) = (models.join(", "), Bytes(*held_bytes).to_string());
        out::line(&format!(
            "{pid:>8} {held:>10}  {running} running, {queued} waiting  {state}  {models}"
        ))?;
    }
    Ok(())
}

/// What a status says, of one model or of a machine with several.
fn row(pid: u32, status: &Value) -> Row {
    let several = status["models"].as_array();
    let models: Vec<&Value> = match several {
        Some(models) => models.iter().collect(),
        None => vec![status],
    };
    let sum = |name: &str| models.iter().filter_map(|model| model[name].as_u64()).sum();
    let memories = serde_json::from_value::<Vec<MemoryStatus>>(status["memories"].clone());
    let held = memories.iter().flatten().map(|memory| memory.used_bytes);
    let names = models.iter().filter_map(|model| model["model"].as_str());
    Row {
        pid,
        models: names.map(str::to_owned).collect(),
        held_bytes: held.sum(),
        queued: sum("queued"),
        running: sum("running"),
        state: state(&status["ruling"]),
    }
}

fn state(ruling: &Value) -> String {
    match serde_json::from_value::<Verdict>(ruling.clone()) {
        Ok(Verdict::Open) => "open".to_owned(),
        Ok(Verdict::Limited { why, .. }) => {
            let why: Vec<_> = why.iter().map(Reason::to_string).collect();
            format!("limited: {}", why.join("; "))
        }
        Ok(Verdict::Shut(why)) => format!("guests stopped: {why}"),
        Err(_) => "of another version".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_of_one_model_and_of_several_make_a_row_and_nonsense_makes_none_up() {
        let ruling = json!({"verdict": "shut", "reason": "paused", "compute_share": 0.0});
        let one =
            json!({"model": "a", "queued": 2, "running": 1, "ruling": ruling, "memories": []});
        let Row {
            models,
            queued,
            running,
            state,
            ..
        } = row(7, &one);
        assert_eq!((models, queued, running), (vec!["a".to_owned()], 2, 1));
        assert_eq!(state, "guests stopped: paused by hand");
        let several = json!({"models": [{"model": "a", "queued": 1}, {"model": "b", "queued": 2}],
            "ruling": {"verdict": "open"}});
        let several = row(7, &several);
        assert_eq!(several.models, ["a", "b"]);
        assert_eq!((several.queued, &*several.state), (3, "open"));
        let none = row(7, &json!(3));
        assert_eq!((none.models.len(), &*none.state), (0, "of another version"));
    }
}
