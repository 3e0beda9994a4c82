//! The table: each limit as asked, held and measured.

use std::collections::BTreeMap;
use std::fs;

use corpgrid_scheduler::process::resident;
use corpgrid_scheduler::status::ThreadStatus;
use corpgrid_scheduler::{Mode, ResourceConfig, Status};

use crate::measured::{Compute, Crowd, Used};
use crate::{Fallible, said};

pub(crate) fn memory_rows(table: &mut Table, crowd: &Crowd, refused: String) -> Fallible<()> {
    let held = |status: &&Status| {
        let devices = status.devices.iter();
        devices.map(|device| device.memory_used_bytes).sum::<u64>()
    };
    let fullest = crowd.seen.iter().max_by_key(held).ok_or("no token came")?;
    let share = fullest.limits.max_vram_usage_percent;
    for device in &fullest.devices {
        table.row([
            format!("memory of {}", device.device),
            format!("{share:.2} of {}", mib(device.memory_total_bytes)),
            format!(
                "{} of {}",
                mib(device.memory_used_bytes),
                mib(device.memory_cap_bytes)
            ),
            match has_its_own(fullest, &device.device) {
                true => "the GPU's own account, which no process's resident bytes show".to_owned(),
                false => format!("process resident at most {}", mib(resident()?.peak.0)),
            },
        ]);
        let (weights, kv) = (mib(device.weights_bytes), mib(device.kv_bytes));
        let kinds = format!(
            "weights {weights}, kv {kv}, scratch {}",
            mib(device.scratch_bytes)
        );
        table.row(["  by kind".to_owned(), String::new(), kinds, String::new()]);
    }
    let what = "  a byte over the cap".to_owned();
    table.row([what, "refused".to_owned(), refused, String::new()]);
    Ok(())
}

/// Whether a device has a memory of its own, which no process's resident bytes show.
fn has_its_own(status: &Status, device: &str) -> bool {
    status.memories.iter().any(|memory| memory.memory == device)
}

fn is_gpu(device: &str) -> bool {
    device.starts_with("gpu")
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

pub(crate) fn compute_rows(
    table: &mut Table,
    compute: &Compute,
    (limits, cores): (&ResourceConfig, usize),
) {
    let [first, .., last] = &compute.used[..] else {
        return table.row(["compute", "", "", "too few tokens"].map(str::to_owned));
    };
    let spans = compute.used.windows(2);
    let spans = spans.map(|pair| pair[1].allowed * (pair[1].wall_s - pair[0].wall_s));
    let allowed = spans.sum::<f64>() / (last.wall_s - first.wall_s);
    let held = [
        format!("{:.3}", limits.max_compute_usage_percent),
        format!("{allowed:.3} allowed by the policy, on average"),
    ];
    if cores > 0 {
        cpu_row(table, &compute.used, (cores, held.clone()));
    }
    let devices = compute.before.devices.iter().zip(&compute.after.devices);
    for (before, after) in devices {
        let busy = after.busy_s - before.busy_s;
        let (rest, away) = (after.rest_s - before.rest_s, after.yield_s - before.yield_s);
        if is_gpu(&after.device) {
            let [asked, allowed] = held.clone();
            let share = busy / compute.between_s;
            table.row([
                format!("compute of {}", after.device),
                asked,
                allowed,
                format!(
                    "{share:.3} over {:.1} s, by its own clock",
                    compute.between_s
                ),
            ]);
        }
        let times = format!("worked {busy:.2} s, rested {rest:.2} s, gave way {away:.2} s");
        let what = match is_gpu(&after.device) {
            true => format!("  work on {}", after.device),
            false => format!("  threads on {}", after.device),
        };
        table.row([what, String::new(), times, String::new()]);
    }
}

/// The CPU time of the process, over that of so many cores.
fn cpu_row(table: &mut Table, used: &[Used], (cores, held): (usize, [String; 2])) {
    let [first, .., last] = used else { return };
    let share =
        |from: &Used, to: &Used| (to.cpu_s - from.cpu_s) / (to.wall_s - from.wall_s) / cores as f64;
    // From each token to the first that is a tenth of a second later, or a little more.
    let windows = used.iter().enumerate().filter_map(|(at, from)| {
        let to = used[at..]
            .iter()
            .find(|to| to.wall_s - from.wall_s >= 0.1)?;
        Some(share(from, to))
    });
    let (least, most) = windows.fold((f64::INFINITY, 0.0), |(least, most), share| {
        (share.min(least), share.max(most))
    });
    let stretch = last.wall_s - first.wall_s;
    let [asked, allowed] = held;
    table.row([
        format!("compute of {cores} cores"),
        asked,
        allowed,
        format!(
            "{:.3} over {stretch:.1} s; {least:.3} to {most:.3} in any 0.1 s",
            share(first, last)
        ),
    ]);
}

/// What each thread has, as the system gave it back, and what the kernel lists.
pub(crate) fn priority_rows(table: &mut Table, status: &Status) -> Fallible<()> {
    let limits = &status.limits;
    let nice = limits.process_priority;
    let io = shown_io((limits.io_priority_class, limits.io_priority_level));
    let listed = listed_by_nice(nice)?;
    let asked = format!("nice {nice}, i/o {io}");
    table.row([
        "priorities".to_owned(),
        asked.clone(),
        String::new(),
        listed,
    ]);
    for thread in &status.threads {
        let asked = match &thread.excepted {
            Some(why) => format!("excepted: {why}"),
            None => asked.clone(),
        };
        let what = format!("  {}", thread.name);
        table.row([what, asked, held(thread), String::new()]);
    }
    // The thread that submits to a GPU is among them.
    if !status.devices.iter().any(|device| is_gpu(&device.device)) {
        let none = [
            "  GPU submission",
            "excepted",
            "no GPU is used, so no such thread",
            "",
        ];
        table.row(none.map(str::to_owned));
    }
    Ok(())
}

fn held(thread: &ThreadStatus) -> String {
    if thread.excepted.is_some() {
        return "untouched".to_owned();
    }
    let nice = thread
        .nice
        .map_or("unknown".to_owned(), |nice| nice.to_string());
    let io = thread.io.map_or("unknown".to_owned(), shown_io);
    let problems: String = thread
        .problems
        .iter()
        .map(|problem| format!("; {problem}"))
        .collect();
    format!("nice {nice}, i/o {io}{problems}")
}

fn shown_io((class, level): (u8, u8)) -> String {
    match class {
        0 => "from nice".to_owned(),
        1 => format!("real time {level}"),
        2 => format!("best effort {level}"),
        3 => "idle".to_owned(),
        _ => format!("unknown class {class}"),
    }
}

/// Every thread of the process as the kernel lists it, where it has such a list: how many have the
/// nice value asked for, and the names of the others.
fn listed_by_nice(asked: i32) -> Fallible<String> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return Ok("this system has no list of threads to read".to_owned());
    };
    let mut by_nice = BTreeMap::<i32, Vec<String>>::new();
    for task in tasks {
        let task = task?.path().join("stat");
        // A thread may end meanwhile.
        let Ok(stat) = fs::read_to_string(task) else {
            continue;
        };
        let (name, fields) = stat.rsplit_once(')').ok_or("no name of a thread")?;
        let name = name.split_once('(').map_or(name, |(_, name)| name);
        // The nineteenth field of all; the state, after the name, is the third.
        let nice = fields.split_whitespace().nth(16).ok_or("no nice value")?;
        by_nice
            .entry(nice.parse()?)
            .or_default()
            .push(name.to_owned());
    }
    let lists = by_nice.iter().map(|(nice, names)| match *nice == asked {
        true => format!("{} threads at {nice}", names.len()),
        false => format!("{} at {nice}", names.join(", ")),
    });
    Ok(lists.collect::<Vec<_>>().join("; "))
}

pub(crate) fn start_rows(table: &mut Table, crowd: &Crowd, status: &Status) {
    let limits = &status.limits;
    let gaps = crowd.starts.windows(2).map(|pair| pair[1] - pair[0]);
    let least_ms = gaps.fold(f64::INFINITY, f64::min) * 1e3;
    let interval = limits.min_request_interval_ms;
    let held = match limits.enable_auto_throttle {
        true => format!("{interval} ms"),
        false => "ignored: automatic throttling is off".to_owned(),
    };
    let starts = crowd.starts.len();
    table.row([
        "interval of starts".to_owned(),
        format!("{interval} ms"),
        held,
        format!("{least_ms:.1} ms at least between {starts}"),
    ]);
    let running = crowd.seen.iter().map(|status| status.running).max();
    table.row([
        "batch".to_owned(),
        limits.max_batch_size.to_string(),
        limits.max_batch_size.to_string(),
        format!("{} of {starts} ran at most", running.unwrap_or(0)),
    ]);
    let stats = &status.stats;
    table.row([
        "requests".to_owned(),
        String::new(),
        String::new(),
        format!(
            "{}, {} throttled, rate {:.2}",
            stats.total_requests, stats.throttled_requests, stats.throttle_rate
        ),
    ]);
}

pub(crate) fn pause_row(table: &mut Table, mut took_ms: Vec<f64>) -> Fallible<()> {
    took_ms.sort_by(f64::total_cmp);
    let most = took_ms.last().ok_or("no pause was measured")?;
    let median = took_ms[took_ms.len() / 2];
    table.row([
        "pause".to_owned(),
        "stop at the next pause point".to_owned(),
        String::new(),
        format!("p50 {median:.2} ms, max {most:.2} ms of {}", took_ms.len()),
    ]);
    Ok(())
}

pub(crate) fn state_rows(table: &mut Table, status: &Status) {
    let ruling = &status.ruling;
    let whose = format!("limits of {:?}", ruling.profile).to_lowercase();
    table.row(["verdict".to_owned(), whose, said(ruling), String::new()]);
    let lists = [
        ("not held", &status.not_enforced),
        ("not seen", &status.not_seen),
    ];
    for (what, list) in lists {
        if list.is_empty() {
            table.row([
                what.to_owned(),
                String::new(),
                "nothing".to_owned(),
                String::new(),
            ]);
        }
        for one in list {
            table.row([what.to_owned(), String::new(), one.clone(), String::new()]);
        }
    }
}

/// Cells that are wider than their column push the rest of their row along.
pub(crate) struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    /// The head of it.
    pub(crate) fn new(mode: Mode) -> Self {
        let head = [mode.name(), "asked", "held", "measured"];
        Self {
            rows: vec![head.map(str::to_owned)],
        }
    }

    fn row(&mut self, cells: [String; 4]) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self) {
        for [what, asked, held, measured] in &self.rows {
            let row = format!("{what:<22} | {asked:<28} | {held:<44} | {measured}");
            println!("{}", row.trim_end());
        }
    }
}
