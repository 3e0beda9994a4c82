//! Runs a real model under a mode, and prints each limit as asked, held and measured:
//! `cargo run --example test_resource_limiting -- --mode conservative`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use corpgrid_scheduler::status::ThreadStatus;
use corpgrid_scheduler::{
    Event, Figures, GenerateRequest, Generation, HeterogeneousPipeline, Mode, Options, Prompt,
    ResourceConfig, Ruling, Sampling, Settings, Status, Verdict, devices,
};
use futures_channel::oneshot;
use futures_executor::block_on;
use futures_util::future::{Either, select, try_join_all};
use futures_util::{FutureExt, StreamExt};
use gogrid_host::{Clock, IoPriority, process_cpu_time, resident, thread_cpu_time};

const USAGE: &str = "usage: test_resource_limiting [--mode conservative|default|aggressive] \
                     [--model FILE]";

/// How long each part may take: others' load, or anything else that stops the pipeline, is not
/// waited out for longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long compute is measured for.
const MEASURED_S: f64 = 5.0;
/// Tokens at its begin that do not count.
const WARM_UP: usize = 8;
/// Pauses measured.
const PAUSES: u32 = 25;
/// Between two looks at the clock of a pause; what is found is late by as much.
const LOOK_EVERY: Duration = Duration::from_micros(20);
/// Work that is not seen for so long has ended.
const QUIET_MS: f64 = 5.0;
/// Two clocks are read one after the other, and a thread that wakes looks at a flag: less CPU time
/// than this is no work.
const ADVANCE: Duration = Duration::from_micros(10);

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run_mode() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_mode() -> Fallible<()> {
    let (mode, model) = arguments()?;
    let path = model.map_or_else(cached, Ok)?;
    let Settings {
        limits,
        away,
        policy,
    } = Settings::of(mode);
    let options = Options {
        limits,
        away: Some(away),
        policy,
        ..Options::default()
    };
    let pipeline = HeterogeneousPipeline::open(&devices(), &path, options)?;
    let table = block_on(measure(&pipeline, mode))?;
    table.print();
    Ok(())
}

/// The mode, and the model's file if one is named.
fn arguments() -> Fallible<(Mode, Option<PathBuf>)> {
    let (mut mode, mut model) = (Mode::Default, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match (word.as_str(), value.as_str()) {
            ("--mode", "conservative") => mode = Mode::Conservative,
            ("--mode", "default") => mode = Mode::Default,
            ("--mode", "aggressive") => mode = Mode::Aggressive,
            ("--mode", other) => return Err(format!("unknown mode {other:?}; {USAGE}").into()),
            ("--model", file) => model = Some(PathBuf::from(file)),
            _ => return Err(USAGE.into()),
        }
    }
    Ok((mode, model))
}

async fn measure(pipeline: &HeterogeneousPipeline, mode: Mode) -> Fallible<Table> {
    let clock = Clock::start();
    within("waiting to begin", until_open(pipeline, clock), pipeline).await?;
    let crowd = within("requests at once", crowd(pipeline, clock), pipeline).await?;
    let compute = within("one request", compute(pipeline, clock), pipeline).await?;
    let pauses = within("pauses", pauses(pipeline, clock), pipeline).await?;
    let status = pipeline.status().await;
    let mut table = Table::new(mode);
    memory_rows(
        &mut table,
        &crowd,
        refused_over_the_cap(pipeline, &crowd).await?,
    )?;
    compute_rows(&mut table, &compute, &status.limits);
    priority_rows(&mut table, &status)?;
    start_rows(&mut table, &crowd, &status);
    pause_row(&mut table, pauses)?;
    state_rows(&mut table, &status);
    Ok(table)
}

/// What work comes to, unless it takes longer than [`PATIENCE`].
async fn within<T>(
    what: &str,
    work: impl Future<Output = Fallible<T>>,
    pipeline: &HeterogeneousPipeline,
) -> Fallible<T> {
    let (done, waits) = mpsc::channel::<()>();
    let (ring, bell) = oneshot::channel();
    thread::spawn(move || {
        if waits.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Work that ended meanwhile does not listen.
            let _ = ring.send(());
        }
    });
    let outcome = match select(pin!(work), bell).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => {
            let (time, ruling) = (PATIENCE.as_secs(), said(&pipeline.ruling()));
            Err(format!("{what}: not done within {time} s; the policy says: {ruling}").into())
        }
    };
    drop(done);
    outcome
}

/// Waits while the policy lets nothing run, and says why.
async fn until_open(pipeline: &HeterogeneousPipeline, clock: Clock) -> Fallible<()> {
    let mut told = String::new();
    loop {
        let ruling = pipeline.ruling();
        if !matches!(ruling.verdict, Verdict::Shut(_)) {
            return Ok(());
        }
        let why = said(&ruling);
        if now_s(clock) > PATIENCE.as_secs_f64() {
            return Err(format!("nothing may run: {why}").into());
        }
        if why != told {
            eprintln!("waiting up to {} s: {why}", PATIENCE.as_secs());
            told = why;
        }
        thread::park_timeout(Duration::from_millis(250));
    }
}

fn said(ruling: &Ruling) -> String {
    match &ruling.verdict {
        Verdict::Open => format!("open, up to {:.3}", ruling.compute_share),
        Verdict::Limited { why, .. } => {
            let why: Vec<_> = why.iter().map(ToString::to_string).collect();
            format!("limited to {:.3}: {}", ruling.compute_share, why.join("; "))
        }
        Verdict::Shut(why) => format!("stopped: {why}"),
    }
}

fn now_s(clock: Clock) -> f64 {
    clock.now().0 as f64 * 1e-9
}

/// One more request at once than may advance together.
struct Crowd {
    /// Seconds at which they started, in order.
    starts: Vec<f64>,
    /// What was seen at their tokens.
    seen: Vec<Status>,
}

async fn crowd(pipeline: &HeterogeneousPipeline, clock: Clock) -> Fallible<Crowd> {
    let streams = pipeline.status().await.limits.max_batch_size + 1;
    let requests = (0..streams).map(|number| short(pipeline, clock, number));
    let mut crowd = Crowd {
        starts: Vec::new(),
        seen: Vec::new(),
    };
    for (start, seen) in try_join_all(requests).await? {
        crowd.starts.push(start);
        crowd.seen.extend(seen);
    }
    crowd.starts.sort_by(f64::total_cmp);
    Ok(crowd)
}

/// A short request: when it started, and what was seen at its tokens.
async fn short(
    pipeline: &HeterogeneousPipeline,
    clock: Clock,
    number: usize,
) -> Fallible<(f64, Vec<Status>)> {
    let prompt = Prompt::Text(format!("{number} things to know about mountains:"));
    let asked = now_s(clock);
    let mut generation = pipeline.generate(GenerateRequest::new(prompt, 16)).await?;
    let mut seen = Vec::new();
    while let Some(event) = generation.next().await {
        match event? {
            Event::Delta { .. } => seen.push(pipeline.status().await),
            Event::Finished { figures, .. } => {
                let Figures { queue_s, .. } = figures;
                return Ok((asked + queue_s, seen));
            }
        }
    }
    Err("the stream ended early".into())
}

/// A request that goes on until it is dropped.
async fn long(pipeline: &HeterogeneousPipeline) -> Fallible<Generation> {
    let prompt = Prompt::Text("Everything about mountains:".to_owned());
    let sampling = Sampling {
        ignore_eos: true,
        ..Sampling::default()
    };
    let request = GenerateRequest {
        sampling,
        ..GenerateRequest::new(prompt, 4000)
    };
    Ok(pipeline.generate(request).await?)
}

async fn token(generation: &mut Generation) -> Fallible<()> {
    match generation.next().await.ok_or("the stream ended early")?? {
        Event::Delta { .. } => Ok(()),
        Event::Finished { reason, .. } => Err(format!("it ended: {reason:?}").into()),
    }
}

/// What the process had used by some moment, and might then.
#[derive(Clone, Copy)]
struct Used {
    wall_s: f64,
    cpu_s: f64,
    allowed: f64,
}

/// One request with the machine to itself.
struct Compute {
    /// At each token.
    used: Vec<Used>,
    before: Status,
    after: Status,
}

/// The CPU time that the process takes while one request generates, from the system's account of
/// it, not our own.
async fn compute(pipeline: &HeterogeneousPipeline, clock: Clock) -> Fallible<Compute> {
    let mut generation = long(pipeline).await?;
    for _ in 0..WARM_UP {
        token(&mut generation).await?;
    }
    let (before, mut used) = (pipeline.status().await, Vec::<Used>::new());
    let began = now_s(clock);
    while now_s(clock) - began < MEASURED_S {
        token(&mut generation).await?;
        used.push(Used {
            wall_s: now_s(clock),
            cpu_s: process_cpu_time()?.as_secs_f64(),
            allowed: pipeline.ruling().compute_share,
        });
    }
    let after = pipeline.status().await;
    Ok(Compute {
        used,
        before,
        after,
    })
}

/// Milliseconds from asking for a pause to the last advance of the process's CPU clock.
async fn pauses(pipeline: &HeterogeneousPipeline, clock: Clock) -> Fallible<Vec<f64>> {
    let mut generation = long(pipeline).await?;
    let mut took_ms = Vec::new();
    for number in 0..PAUSES {
        // Those that wait are of before the last pause.
        while let Some(event) = generation.next().now_or_never() {
            event.ok_or("the stream ended early")??;
        }
        token(&mut generation).await?;
        // Somewhere else in a step each time.
        thread::park_timeout(Duration::from_micros(370) * (number % 16));
        took_ms.push(pause(pipeline, clock).await?);
        pipeline.resume().await;
    }
    Ok(took_ms)
}

async fn pause(pipeline: &HeterogeneousPipeline, clock: Clock) -> Fallible<f64> {
    let asked = now_s(clock);
    let mut pausing = pin!(pipeline.pause());
    // Asks, without waiting for the answer: what goes on meanwhile counts.
    let answered = pausing.as_mut().now_or_never();
    let (mut last, mut used) = (asked, others_cpu()?);
    while (now_s(clock) - last) * 1e3 < QUIET_MS {
        thread::park_timeout(LOOK_EVERY);
        let more = others_cpu()?;
        if more.saturating_sub(used) > ADVANCE {
            (last, used) = (now_s(clock), more);
        }
        if now_s(clock) - asked > 2.0 {
            return Err("still at work 2 s after a pause".into());
        }
    }
    if answered.is_none() {
        pausing.await;
    }
    Ok((last - asked) * 1e3)
}

/// CPU time of all threads but this one.
fn others_cpu() -> Fallible<Duration> {
    let own = thread_cpu_time()?;
    Ok(process_cpu_time()?.saturating_sub(own))
}

/// Why a byte more than the largest cap is refused.
async fn refused_over_the_cap(pipeline: &HeterogeneousPipeline, crowd: &Crowd) -> Fallible<String> {
    let devices = crowd.seen.iter().flat_map(|status| &status.devices);
    let cap = devices.map(|device| device.memory_cap_bytes).max();
    let over = cap.ok_or("no token came")? + 1;
    match pipeline.check_resource_limits(over).await {
        Ok(()) => Err("a byte more than the cap was let through".into()),
        Err(refusal) => Ok(refusal.to_string()),
    }
}

fn memory_rows(table: &mut Table, crowd: &Crowd, refused: String) -> Fallible<()> {
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
            format!("process resident at most {}", mib(resident()?.peak.0)),
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

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn compute_rows(table: &mut Table, compute: &Compute, limits: &ResourceConfig) {
    let Compute {
        used,
        before,
        after,
    } = compute;
    let [first, .., last] = &used[..] else {
        return table.row(["compute", "", "", "too few tokens"].map(str::to_owned));
    };
    let cores: usize = devices().iter().map(|device| device.cores.len()).sum();
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
    let spans = used
        .windows(2)
        .map(|pair| pair[1].allowed * (pair[1].wall_s - pair[0].wall_s));
    let stretch = last.wall_s - first.wall_s;
    table.row([
        format!("compute of {cores} cores"),
        format!("{:.3}", limits.max_compute_usage_percent),
        format!(
            "{:.3} allowed by the policy, on average",
            spans.sum::<f64>() / stretch
        ),
        format!(
            "{:.3} over {stretch:.1} s; {least:.3} to {most:.3} in any 0.1 s",
            share(first, last)
        ),
    ]);
    for (before, after) in before.devices.iter().zip(&after.devices) {
        let busy = after.busy_s - before.busy_s;
        let (rest, away) = (after.rest_s - before.rest_s, after.yield_s - before.yield_s);
        let times = format!("worked {busy:.2} s, rested {rest:.2} s, gave way {away:.2} s");
        let what = format!("  threads on {}", after.device);
        table.row([what, String::new(), times, String::new()]);
    }
}

/// What each thread has, as the system gave it back, and what the kernel lists.
fn priority_rows(table: &mut Table, status: &Status) -> Fallible<()> {
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
    if status
        .threads
        .iter()
        .filter(|thread| thread.excepted.is_some())
        .count()
        == 1
    {
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
    IoPriority { class, level }.to_string()
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

fn start_rows(table: &mut Table, crowd: &Crowd, status: &Status) {
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

fn pause_row(table: &mut Table, mut took_ms: Vec<f64>) -> Fallible<()> {
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

fn state_rows(table: &mut Table, status: &Status) {
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
struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    /// The head of it.
    fn new(mode: Mode) -> Self {
        let head = [mode.name(), "asked", "held", "measured"];
        Self {
            rows: vec![head.map(str::to_owned)],
        }
    }

    fn row(&mut self, cells: [String; 4]) {
        self.rows.push(cells);
    }

    fn print(&self) {
        for [what, asked, held, measured] in &self.rows {
            let row = format!("{what:<22} | {asked:<28} | {held:<44} | {measured}");
            println!("{}", row.trim_end());
        }
    }
}

/// The default model where `gogrid pull` puts it.
fn cached() -> Fallible<PathBuf> {
    let own = std::env::var_os("GOGRID_CACHE").map(PathBuf::from);
    let base = || {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let base = std::env::var_os("XDG_CACHE_HOME").or_else(|| std::env::var_os("LOCALAPPDATA"));
        let base = base.map(PathBuf::from).or_else(home)?;
        Some(base.join("gogrid").join("models"))
    };
    let folder = own
        .or_else(base)
        .ok_or("no cache folder: set GOGRID_CACHE")?;
    let file = folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    match file.is_file() {
        true => Ok(file),
        false => {
            let file = file.display();
            Err(format!("{file} is not there; `gogrid pull smollm2-135m` fetches it").into())
        }
    }
}
