//! Other processes under the same caps.

use futures_executor::block_on;
use gogrid_lease::Kind;
use gogrid_testkit::fakes::Faults;
use gogrid_units::Bytes;

use super::tests::{collect, fake_cpu, request};
use super::*;
use crate::fixture::{TestMachine, free, model};
use crate::machine::{PeerUse, Peers, Process, SeenPeers};

/// Processes of which a test tells.
struct ToldPeers(SeenPeers);

impl Peers for ToldPeers {
    fn look(&mut self, _is_busy: bool) -> SeenPeers {
        self.0.clone()
    }
}

fn peer(pid: u32, bytes: u64, is_busy: bool) -> PeerUse {
    PeerUse {
        pid,
        memory_bytes: vec![("system".to_owned(), bytes)],
        is_busy,
        ..PeerUse::default()
    }
}

fn machine_beside(peers: Vec<PeerUse>) -> Arc<Machine> {
    let seen = SeenPeers {
        peers,
        unknown: vec!["process 9 does not tell".to_owned()],
    };
    let machine = TestMachine {
        peers: Some(Box::new(ToldPeers(seen))),
        ..TestMachine::of(vec![fake_cpu(0, Faults::default())])
    };
    machine.open(&free())
}

#[test]
fn memory_and_time_are_shared_with_other_processes() {
    let machine = machine_beside(vec![peer(7, 1000, true), peer(8, 24, false)]);
    let check = |limits: &ResourceConfig| {
        let status = block_on(machine.status());
        let cap = Bytes::gib(1).share(limits.max_vram_usage_percent).0 - 1024;
        assert_eq!(status.memories[0].cap_bytes, cap);
        assert_eq!(status.memories[0].peers_bytes, 1024);
        // Of two that have requests, each has half.
        let share = limits.max_compute_usage_percent / 2.0;
        assert_eq!(status.ruling.compute_share, share);
        assert_eq!(status.peers.len(), 2);
        assert!(
            status
                .not_seen
                .contains(&"process 9 does not tell".to_owned())
        );
    };
    check(&free().limits);
    let limits = ResourceConfig {
        max_vram_usage_percent: 0.5,
        max_compute_usage_percent: 0.5,
        ..free().limits
    };
    block_on(machine.set_limits(limits.clone())).expect("in range");
    check(&limits);
}

#[test]
fn a_model_does_not_fit_where_others_hold_the_cap() {
    let machine = machine_beside(vec![peer(7, Bytes::gib(1).0 - 100, false)]);
    let refused = HeterogeneousPipeline::under(&machine, model(), &free());
    assert!(
        matches!(refused, Err(OpenError::DoesNotFit(_))),
        "{refused:?}"
    );
    // Numbers that cannot be leave nothing, and overflow nothing.
    let machine = machine_beside(vec![peer(7, u64::MAX, true), peer(8, u64::MAX, true)]);
    let status = block_on(machine.status());
    assert_eq!(status.memories[0].cap_bytes, 0);
}

#[test]
fn this_process_tells_what_it_holds_and_whether_it_needs_time() {
    let machine = machine_beside(Vec::new());
    assert!(!machine.usage().is_busy);
    let pipeline = HeterogeneousPipeline::under(&machine, model(), &free()).expect("it opens");
    let held = block_on(machine.status()).memories[0].used_bytes;
    assert!(held > 0);
    let usage = machine.usage();
    assert_eq!(usage.memory_bytes, [("system".to_owned(), held)]);
    assert_eq!(usage.pid, std::process::id());
    assert!(usage.cpu_s > Some(0.0), "{usage:?}");
    block_on(async {
        pipeline.pause().await.expect("it holds");
        let generation = pipeline.generate(request(vec![1, 2], 4)).await.unwrap();
        assert!(!machine.usage().is_busy, "it waits, and needs no time");
        pipeline.resume().await.expect("it holds");
        assert_eq!(collect(generation).await.expect("it ends").0.len(), 4);
    });
}

/// Tells once, and panics from then on.
struct Panics(bool);

impl Peers for Panics {
    fn look(&mut self, _is_busy: bool) -> SeenPeers {
        assert!(!std::mem::replace(&mut self.0, true), "as a test asked");
        SeenPeers {
            peers: vec![peer(1, Bytes::mib(100).0, false)],
            unknown: Vec::new(),
        }
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped, as a test asked");
    }
}

#[test]
fn peers_that_panic_are_asked_no_more_and_what_they_told_last_counts() {
    for has_told in [false, true] {
        let machine = TestMachine {
            peers: Some(Box::new(Panics(!has_told))),
            ..TestMachine::of(vec![fake_cpu(0, Faults::default())])
        };
        let machine = machine.open(&free());
        // Other settings have it look anew.
        for _ in 0..2 {
            block_on(machine.set_settings(machine.settings())).expect("it holds");
        }
        let status = block_on(machine.status());
        let said = &status.not_seen[0];
        assert!(
            said.ends_with("is not asked again: as a test asked"),
            "{said}"
        );
        assert_eq!(status.failures, []);
        let theirs = if has_told { Bytes::mib(100).0 } else { 0 };
        assert_eq!(status.memories[0].peers_bytes, theirs);
    }
}

/// Pipelines that are each opened alone, with a machine of its own.
#[test]
fn machines_of_one_process_share_the_caps() {
    let process: Arc<Process> = Arc::default();
    let open = || {
        let machine = TestMachine {
            process: Arc::clone(&process),
            ..TestMachine::of(vec![fake_cpu(0, Faults::default())])
        };
        machine.open(&free())
    };
    let (first, second) = (open(), open());
    let cap = second.hardware.memories[0].ledger.cap();
    let its = &first.hardware.memories[0].ledger;
    let lease = its.reserve(Kind::Kv, Bytes::mib(100)).expect("it fits");
    // From that moment on, whether anything has looked since or not.
    let theirs = &second.hardware.memories[0].ledger;
    let refused = theirs.reserve(Kind::Kv, cap).expect_err("100 MiB too many");
    assert_eq!((refused.used, refused.cap), (Bytes::mib(100), cap));
    let look = |machine: &Machine| {
        block_on(machine.set_settings(machine.settings())).expect("it holds");
        let memory = block_on(machine.status()).memories[0].clone();
        (memory.peers_bytes, memory.cap_bytes)
    };
    let hundred = Bytes::mib(100).0;
    assert_eq!(look(&second), (hundred, cap.0 - hundred));
    assert_eq!(look(&first), (0, cap.0), "what it holds itself counts once");
    // A third that is opened finds what is left.
    let third = open();
    let room = third.hardware.memories[0].ledger.room();
    assert_eq!(room.0, cap.0 - hundred);
    drop(third);
    // Time is divided among those that have work, such as a request that waits for its start.
    let mut limits = free().limits;
    limits.min_request_interval_ms = 3_600_000;
    let pipeline = HeterogeneousPipeline::under(&first, model(), &free()).expect("it opens");
    let waiting = block_on(async {
        pipeline.set_limits(limits).await.expect("it holds");
        pipeline.throttle_if_needed().await;
        let started = pipeline.generate(request(vec![1; 3], 1)).await;
        collect(started.expect("admitted")).await.expect("it ends");
        pipeline.generate(request(vec![1; 3], 1)).await
    });
    while block_on(pipeline.status()).queued == 0 {}
    assert!(first.usage().is_busy);
    look(&second);
    let whole = free().limits.max_compute_usage_percent;
    assert_eq!(second.ruling().compute_share, whole / 2.0);
    drop((waiting, pipeline, lease, first));
    assert_eq!(look(&second), (0, cap.0));
}

/// Whatever the machines do at once, their sum stays under the cap.
#[test]
fn machines_that_lease_at_the_same_time_never_pass_the_cap_together() {
    let process: Arc<Process> = Arc::default();
    let open = |_| {
        let machine = TestMachine {
            process: Arc::clone(&process),
            ..TestMachine::of(vec![fake_cpu(0, Faults::default())])
        };
        machine.open(&free())
    };
    let machines: Vec<_> = (0..4).map(open).collect();
    let cap = machines[0].hardware.memories[0].ledger.cap();
    let third = Bytes(cap.0 / 3);
    for _ in 0..50 {
        let leases = std::thread::scope(|scope| {
            let threads = machines.iter().map(|machine| {
                let ledger = &machine.hardware.memories[0].ledger;
                scope.spawn(move || ledger.reserve(Kind::Weights, third).ok())
            });
            let threads: Vec<_> = threads.collect();
            let leases = threads.into_iter().map(|thread| thread.join());
            leases
                .filter_map(|lease| lease.expect("it does not panic"))
                .collect::<Vec<_>>()
        });
        assert_eq!(leases.len(), 3, "a fourth would pass the cap");
    }
}

/// A request that waits for memory which another machine holds gets it when that has gone.
#[test]
fn what_one_machine_gives_back_another_takes() {
    let process: Arc<Process> = Arc::default();
    let open = || {
        let machine = TestMachine {
            process: Arc::clone(&process),
            ..TestMachine::of(vec![fake_cpu(0, Faults::default())])
        };
        machine.open(&free())
    };
    let (first, second) = (open(), open());
    let pipeline = HeterogeneousPipeline::under(&second, model(), &free()).expect("it opens");
    let its = &first.hardware.memories[0].ledger;
    let all = its.reserve(Kind::Kv, its.room()).expect("it is free");
    let waiting = block_on(pipeline.generate(request(vec![1; 3], 4))).expect("it may wait");
    while block_on(pipeline.status()).queued == 0 {}
    drop(all);
    let (ids, ..) = block_on(collect(waiting)).expect("it ends");
    assert_eq!(ids.len(), 4);
}
