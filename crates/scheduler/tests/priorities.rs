//! Priorities that change while a generation runs, with the machine's own CPU and threads.
#![allow(clippy::print_stderr, reason = "a test says that it is skipped")]
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use corpgrid_scheduler::{
    Event, GenerateRequest, HeterogeneousPipeline, Options, Policy, Prompt, ResourceConfig,
    Sampling, devices,
};
use futures_executor::block_on;
use futures_util::StreamExt;
use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::WeightType;

const NOBODY: u32 = 65534;
const TOKENS: usize = 240;
const TASKS: &str = "/proc/self/task";

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
    if !is_root() {
        return loosens_them_all();
    }
    let test = "an_ordinary_user_loosens_priorities_while_a_generation_runs";
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program);
    child.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    child.uid(NOBODY).gid(NOBODY);
    match child.output() {
        Err(error) => eprintln!("skipped: no process as another user: {error}"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{text}{why}");
            assert!(text.contains("1 passed"), "{text}{why}");
        }
    }
}

/// From nice 15 to the first value, as somebody who may not lower it.
fn loosens_them_all() {
    // What the system gave this process, on whose main thread nothing was changed.
    let first = threads()[0].1;
    if first >= 15 {
        return eprintln!("skipped: this process begins at nice {first}, and none is above 15");
    }
    block_on(async {
        let pipeline = pipeline(15);
        assert!(!held().is_empty());
        assert!(held().iter().all(|(_, nice)| *nice == 15), "{:?}", held());
        let expected = generate(&pipeline, &[]).await;
        let loosened = generate(&pipeline, &[(50, first)]).await;
        assert_eq!(loosened, expected);
        // Those that were followed have been told to end, and may not have.
        let mut looks = 0;
        while held().iter().any(|(_, nice)| *nice != first) {
            looks += 1;
            assert!(looks < 100_000, "{:?}", held());
            std::thread::yield_now();
        }
        assert_eq!(held().len(), pipeline.status().await.threads.len() - 1);
        // And back, and loosened again, by the same way.
        let again = [(20, 15), (40, first), (41, 15), (42, 7), (200, first)];
        assert_eq!(generate(&pipeline, &again).await, expected);
    });
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of_process| of_process.uid() == 0)
}
