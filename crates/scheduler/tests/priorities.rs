//! Priorities that change while a generation runs, with the machine's own CPU and threads.
#![allow(clippy::print_stderr, reason = "a test says that it is skipped")]
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use corpgrid_scheduler::{
    Event, GenerateRequest, HeterogeneousPipeline, Options, Policy, Prompt, ResourceConfig,
    Sampling, devices,
};
use futures_executor::block_on;
use futures_util::StreamExt;
use gogrid_host::{IoPriority, Priority, restrain_thread};
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::WeightType;

const NOBODY: u32 = 65534;
const TOKENS: usize = 240;
const TASKS: &str = "/proc/self/task";
/// Set in the process that a test starts: this same program, with one test and no other's threads.
const IS_ALONE: &str = "GOGRID_TEST_IS_ALONE";

fn limits(nice: i32) -> ResourceConfig {
    ResourceConfig {
        max_compute_usage_percent: 1.0,
        process_priority: nice,
        io_priority_class: 2,
        io_priority_level: 4,
        min_request_interval_ms: 0,
        ..ResourceConfig::default()
    }
}

/// A pipeline of a tiny model on this machine's CPU, with a worker beside the driver where there is
/// a core for it.
fn pipeline(nice: i32) -> HeterogeneousPipeline {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    let spec = Spec {
        family: Family::Gemma3,
        weights: WeightType::Q4_0,
        seed: 1,
    };
    RandomModel::new(spec)
        .write_gguf(&path)
        .expect("it is written");
    let devices = devices();
    let options = Options {
        limits: limits(nice),
        threads: Some(devices[0].cores().len().min(3)),
        // Other tests run beside it.
        policy: Policy::server(),
        ..Options::default()
    };
    HeterogeneousPipeline::open(&devices, &path, options).expect("it opens")
}

/// The tokens of one request; each nice value is asked for when so many tokens have come.
async fn generate(pipeline: &HeterogeneousPipeline, changes: &[(usize, i32)]) -> Vec<u32> {
    let request = GenerateRequest {
        sampling: Sampling {
            ignore_eos: true,
            ..Sampling::default()
        },
        ..GenerateRequest::new(Prompt::Ids(vec![5, 17, 3]), TOKENS)
    };
    let mut generation = pipeline.generate(request).await.expect("admitted");
    let (mut tokens, mut changes) = (Vec::new(), changes.iter().peekable());
    while let Some(event) = generation.next().await {
        if let Event::Delta { ids, .. } = event.expect("it goes well") {
            tokens.extend(ids);
        }
        if let Some((_, nice)) = changes.next_if(|(after, _)| tokens.len() >= *after) {
            let set = pipeline.set_limits(limits(*nice)).await;
            set.expect("they are valid");
            let status = pipeline.status().await;
            assert_eq!(status.not_enforced, [""; 0]);
            for thread in status.threads {
                let its = thread.nice.filter(|_| thread.excepted.is_none());
                assert!(its.is_none_or(|its| its == *nice), "{thread:?}");
            }
        }
    }
    assert_eq!(changes.next(), None, "it ended too early");
    assert_eq!(tokens.len(), TOKENS);
    tokens
}

/// Name and nice value of each thread of this process, from the kernel.
fn threads() -> Vec<(String, i32)> {
    let tasks = fs::read_dir(TASKS).into_iter().flatten();
    let stat = |task: std::io::Result<fs::DirEntry>| {
        // A thread may end meanwhile.
        let text = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        let (before, after) = text.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        // The state comes first; nice is the 17th field from there.
        let nice = after.split_whitespace().nth(16)?.parse().ok()?;
        Some((name, nice))
    };
    tasks.filter_map(stat).collect()
}

/// The nice values of the pipeline's threads but the one that starts the others.
fn held() -> Vec<(String, i32)> {
    let ours = |(name, _): &(String, i32)| name.starts_with("gogrid-") && name != "gogrid-spawner";
    threads().into_iter().filter(ours).collect()
}

#[test]
fn tokens_are_the_same_whatever_priorities_change_meanwhile() {
    // Whatever value this process was started with: an ordinary user may ask for no lower one.
    let first = threads().first().map_or(0, |(_, nice)| *nice);
    let [low, high] = [5, 15].map(|nice| first.max(nice));
    block_on(async {
        let pipeline = pipeline(high);
        let expected = generate(&pipeline, &[]).await;
        let changes = [(10, low), (30, high), (31, low), (100, high)];
        assert_eq!(generate(&pipeline, &changes).await, expected);
    });
}

#[test]
fn everyone_is_listed_when_a_pipeline_is_handed_out() {
    let pipeline = pipeline(15);
    let status = block_on(pipeline.status());
    let workers = devices()[0].cores().len().min(3) - 1;
    let names: Vec<_> = status.threads.iter().map(|t| t.name.as_str()).collect();
    // The one that starts them, the workers, the driver, the engine; the loader is gone.
    let mut expected = vec!["spawner".to_owned()];
    expected.extend((1..=workers).map(|worker| format!("cpu worker {worker}")));
    expected.extend(["cpu driver", "observer", "engine"].map(str::to_owned));
    assert_eq!(names, expected);
    assert!(status.threads[0].excepted.is_some());
    for thread in &status.threads[1..] {
        let known = thread.nice == Some(15) || !thread.problems.is_empty();
        assert!(known, "{thread:?}");
    }
}

#[test]
fn an_ordinary_user_loosens_priorities_while_a_generation_runs() {
    if fs::metadata(TASKS).is_err() {
        return eprintln!("skipped: this system does not show a process's threads");
    }
    if std::env::var_os(IS_ALONE).is_some() {
        return loosens_from_each_first_value();
    }
    let test = "an_ordinary_user_loosens_priorities_while_a_generation_runs";
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program);
    child.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    child.env(IS_ALONE, "1");
    if is_root() {
        child.uid(NOBODY).gid(NOBODY);
    }
    match child.output() {
        Err(error) => eprintln!("skipped: no process as an ordinary user: {error}"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{text}{why}");
            assert!(text.contains("1 passed"), "{text}{why}");
        }
    }
}

/// From the value this process was started with, and from higher ones: below, between and above the
/// values asked for, and equal to them. A pipeline's threads begin with the value of the thread that
/// opens it, so a thread that was given a value stands for a program that was started with it.
fn loosens_from_each_first_value() {
    // What the system gave this process, on whose main thread nothing was changed.
    let own = threads()[0].1;
    let higher = [8, 10, 14, 15, 19].into_iter().filter(|nice| *nice > own);
    for first in std::iter::once(own).chain(higher) {
        let opener = thread::spawn(move || {
            let io = IoPriority { class: 2, level: 4 };
            let begins = restrain_thread(Priority { nice: first, io });
            assert!(begins.nice.holds(), "{begins:?}");
            block_on(loosens_to(first));
        });
        assert!(opener.join().is_ok(), "from nice {first}");
    }
}

/// From nice 15 to the first value, as somebody who may not lower it.
async fn loosens_to(first: i32) {
    let high = first.max(15);
    let between = first.midpoint(high);
    let pipeline = pipeline(high);
    all_come_to(high, &pipeline).await;
    let expected = generate(&pipeline, &[]).await;
    let loosened = generate(&pipeline, &[(50, first)]).await;
    assert_eq!(loosened, expected);
    all_come_to(first, &pipeline).await;
    // And back, and loosened again, by the same way.
    let again = [
        (20, high),
        (40, first),
        (41, high),
        (42, between),
        (200, first),
    ];
    assert_eq!(generate(&pipeline, &again).await, expected);
    let set = pipeline.set_limits(limits(high)).await;
    set.expect("they are valid");
    loosens_as_far_as_it_may(first, &pipeline).await;
}

/// Waits until every thread has this value. Those that were followed have been told to end, and may
/// not have; the system may still list those of a pipeline that was closed before.
async fn all_come_to(nice: i32, pipeline: &HeterogeneousPipeline) {
    // One starts the others, and is not held.
    let count = pipeline.status().await.threads.len() - 1;
    assert!(count > 0);
    let mut looks = 0;
    loop {
        let held = held();
        if held.len() == count && held.iter().all(|(_, its)| *its == nice) {
            return;
        }
        looks += 1;
        assert!(looks < 100_000, "{count} at {nice} expected: {held:?}");
        thread::yield_now();
    }
}

/// Asked for a value below the first, threads have the first, and each is named with the reason.
async fn loosens_as_far_as_it_may(first: i32, pipeline: &HeterogeneousPipeline) {
    let asked = (first - 1).max(-20);
    let set = pipeline.set_limits(limits(asked)).await;
    set.expect("they are valid");
    let status = pipeline.status().await;
    for thread in status.threads.iter().filter(|t| t.excepted.is_none()) {
        // A system may let this user lower it.
        if thread.nice == Some(asked) {
            assert!(thread.problems.is_empty(), "{thread:?}");
            continue;
        }
        assert_eq!(thread.nice, Some(first), "{thread:?}");
        let [problem] = &thread.problems[..] else {
            panic!("{thread:?}");
        };
        assert!(problem.starts_with("setpriority: "), "{thread:?}");
        let named = format!("priorities: {}: {problem}", thread.name);
        assert!(status.not_enforced.contains(&named), "{status:?}");
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of_process| of_process.uid() == 0)
}
