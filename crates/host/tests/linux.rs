//! Restraints asked of Linux, read back from it.

#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::{fs, thread};

use gogrid_host::{
    AbilityState, ChildProcess, Clock, CoreSet, CoreSiblings, CpuProbe, HostError, IoPriority,
    MemoryProbe, Pressure, PressureProbe, Priority, ScratchNote, ThreadId, abilities,
    allowed_cores, current_thread, open_own, open_regular, pin_thread, process_cpu_time, processor,
    resident, restrain, restrain_thread, system_memory, thread_cpu_time, tidy_up,
};
use gogrid_units::Bytes;

const QUIET: Priority = Priority {
    nice: 15,
    io: IoPriority { class: 3, level: 7 },
};

/// The nice value that this test began with, as whoever started it chose.
fn begun_at() -> i32 {
    nice_by_proc(current_thread())
}

/// `QUIET`, if an ordinary user may ask for it from here: nice values only rise.
fn quiet() -> Priority {
    Priority {
        nice: QUIET.nice.max(begun_at()),
        ..QUIET
    }
}

/// Runs on a thread of its own as a user without privilege. Linux keeps a thread's ids apart, so
/// as root only that thread changes; elsewhere it is unprivileged already.
fn as_ordinary_user(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        scope.spawn(|| {
            give_up_root();
            test();
        });
    });
}

fn give_up_root() {
    const NOBODY: libc::c_long = 65534;
    // SAFETY: both calls take integers and touch no memory of ours.
    unsafe {
        if libc::geteuid() == 0 {
            assert_eq!(
                libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY),
                0
            );
        }
        assert_ne!(libc::geteuid(), 0);
    }
}

#[test]
fn a_core_is_its_own_sibling_where_the_cores_are_real() {
    let flags = processor().expect("cpuinfo").flags;
    let is_virtual = flags.iter().any(|flag| flag == "hypervisor");
    let cores = allowed_cores().expect("the system tells");
    let siblings = CoreSiblings::read(&cores);
    for &core in cores.cores() {
        let known = siblings.are_siblings([core, core]);
        assert_eq!(known, (!is_virtual).then_some(true), "core {core}");
    }
}

#[test]
fn a_priority_is_set_on_the_calling_thread_alone_and_read_back() {
    let quiet = quiet();
    as_ordinary_user(|| {
        let done = restrain_thread(quiet);
        assert!(done.nice.holds() && done.io.holds(), "{done:?}");
        assert_eq!(done.nice.in_effect, Some(quiet.nice));
        assert_eq!(done.io.in_effect.map(|io| io.class), Some(3));
        // A thread started from here begins the same.
        let child = thread::spawn(move || restrain_thread(quiet))
            .join()
            .unwrap();
        assert!(child.nice.holds());
    });
    // This thread was left alone: asking for what it had needs no privilege.
    let here = restrain_thread(Priority {
        nice: begun_at(),
        io: IoPriority { class: 0, level: 0 },
    });
    assert!(here.nice.holds() && here.io.holds(), "{here:?}");
}

#[test]
fn what_an_ordinary_user_may_not_do_is_reported_with_what_is_so() {
    let quiet = quiet();
    as_ordinary_user(|| {
        assert!(restrain_thread(quiet).nice.holds());
        // Below 15, and so below whatever is in effect.
        let back = restrain_thread(Priority {
            nice: -20,
            io: IoPriority { class: 1, level: 0 },
        });
        assert_eq!(
            (back.nice.asked, back.nice.in_effect),
            (-20, Some(quiet.nice))
        );
        let problem = back
            .nice
            .problem
            .expect("a nice value never falls without privilege");
        assert!(problem.starts_with("setpriority: "), "{problem}");
        assert_eq!(back.io.in_effect.map(|io| io.class), Some(3));
        assert!(
            back.io
                .problem
                .expect("real time needs privilege")
                .starts_with("ioprio_set: ")
        );
    });
}

#[test]
fn a_restrained_thread_lets_others_go_first_and_its_creator_does_not() {
    let quiet = quiet();
    thread::spawn(move || {
        let done = restrain_thread(quiet);
        let [policy] = &done.system[..] else {
            panic!("{done:?}");
        };
        assert_eq!(policy.name, "scheduling policy");
        assert!(policy.restraint.holds(), "{policy:?}");
        let says = policy.restraint.in_effect.expect("it was read back");
        assert!(says.starts_with("batch"), "{says}");
        assert_eq!(policy_by_proc(current_thread()), libc::SCHED_BATCH);
        assert_eq!(nice_by_proc(current_thread()), quiet.nice);
        let ability = abilities()
            .into_iter()
            .find(|a| a.name == "batch scheduling");
        let in_effect = AbilityState::InEffect(says.to_owned());
        assert_eq!(ability.unwrap().state, in_effect);
    })
    .join()
    .unwrap();
    assert_eq!(policy_by_proc(current_thread()), libc::SCHED_OTHER);
}

/// A user who starts a process in the idle class wants it there.
#[test]
fn a_policy_that_somebody_chose_is_left() {
    thread::spawn(|| {
        enter_the_idle_class();
        let done = restrain_thread(QUIET);
        assert!(done.system.is_empty(), "{done:?}");
        assert_eq!(policy_by_proc(current_thread()), libc::SCHED_IDLE);
    })
    .join()
    .unwrap();
}

/// A thread that runs until the returned sender is dropped, and its id.
fn waiting_thread() -> (ThreadId, mpsc::Sender<()>, thread::JoinHandle<()>) {
    let (say, heard) = mpsc::channel();
    let (hold, held) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        say.send(current_thread()).unwrap();
        let _ = held.recv();
    });
    (heard.recv().unwrap(), hold, thread)
}

#[test]
fn a_thread_is_restrained_by_its_id_and_no_other_with_it() {
    let (begun_at, quiet) = (begun_at(), quiet());
    let (other, hold, thread) = waiting_thread();
    let done = restrain(other, quiet);
    assert!(done.nice.holds() && done.io.holds(), "{done:?}");
    assert_eq!(nice_by_proc(other), quiet.nice);
    assert_eq!(nice_by_proc(current_thread()), begun_at);
    drop(hold);
    thread.join().unwrap();
}

fn enter_the_idle_class() {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: it reads one parameter, and is given one.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// By proc(5).
fn nice_by_proc(thread: ThreadId) -> i32 {
    stat_field(thread, 19)
}

/// By proc(5).
fn policy_by_proc(thread: ThreadId) -> i32 {
    stat_field(thread, 41)
}

/// The field of this number of its stat, from 3 on.
fn stat_field(thread: ThreadId, field: usize) -> i32 {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    after_name
        .split_whitespace()
        .nth(field - 3)
        .unwrap()
        .parse()
        .unwrap()
}

/// Whoever joins a thread goes on as soon as the thread has no more to say; the system takes it off its list
/// a moment later.
fn wait_until_the_system_forgets(thread: ThreadId) {
    while fs::exists(format!("/proc/self/task/{thread}")).unwrap() {
        thread::yield_now();
    }
}

#[test]
fn a_thread_that_has_ended_is_not_restrained() {
    let (other, hold, thread) = waiting_thread();
    drop(hold);
    thread.join().unwrap();
    wait_until_the_system_forgets(other);
    let done = restrain(other, QUIET);
    let says = format!("no thread {other} runs in this process");
    assert_eq!(done.nice.problem.as_deref(), Some(&*says));
}

#[test]
fn levels_of_best_effort_are_kept() {
    thread::spawn(|| {
        let io = IoPriority { class: 2, level: 4 };
        let done = restrain_thread(Priority {
            nice: begun_at(),
            io,
        });
        assert_eq!((done.io.in_effect, done.io.problem), (Some(io), None));
        let state = abilities()
            .into_iter()
            .find(|a| a.name == "thread I/O priorities")
            .unwrap()
            .state;
        let says = match state {
            AbilityState::InEffect(how) => how == "best effort 4",
            AbilityState::Absent(why) => why.starts_with("no disk's scheduler honours it"),
            AbilityState::Available => false,
        };
        assert!(says);
    })
    .join()
    .unwrap();
}

#[test]
fn a_pinned_thread_runs_where_it_was_put() {
    let allowed = allowed_cores().unwrap();
    let last = CoreSet::new(allowed.cores().last().copied()).unwrap();
    thread::spawn(move || {
        let pinned = pin_thread(&last);
        assert!(pinned.holds(), "{pinned:?}");
        assert_eq!(allowed_cores().unwrap(), last);
        let nowhere = pin_thread(&CoreSet::new([1023]).unwrap());
        assert_eq!(nowhere.in_effect, Some(last));
        assert!(nowhere.problem.unwrap().starts_with("sched_setaffinity: "));
    })
    .join()
    .unwrap();
    assert_eq!(allowed_cores().unwrap(), allowed);
}

#[test]
fn memory_that_is_touched_shows() {
    let machine = system_memory().unwrap();
    assert!(machine.available <= machine.total && machine.total > Bytes::mib(64));
    let before = resident().unwrap();
    let held = black_box(vec![1_u8; 64 << 20]);
    let after = resident().unwrap();
    assert!(
        after.anonymous >= before.anonymous + Bytes::mib(60),
        "{before:?} {after:?}"
    );
    assert!(after.peak >= after.anonymous && after.total >= after.file);
    drop(held);
}

#[test]
fn cpu_time_is_the_work_of_a_thread_and_of_all() {
    let spin = || {
        let start = thread_cpu_time().unwrap();
        let mut rounds = 0_u64;
        while (thread_cpu_time().unwrap() - start).as_millis() < 20 {
            rounds = black_box(rounds + 1);
        }
    };
    let (before, own) = (process_cpu_time().unwrap(), thread_cpu_time().unwrap());
    thread::spawn(spin).join().unwrap();
    let all = process_cpu_time().unwrap() - before;
    assert!(all.as_millis() >= 20, "{all:?}");
    assert!(thread_cpu_time().unwrap() - own < all);
}

#[test]
fn our_own_work_is_not_others() {
    let spin = |nanos: u128| {
        let start = thread_cpu_time().unwrap();
        let mut rounds = 0_u64;
        while (thread_cpu_time().unwrap() - start).as_nanos() < nanos {
            rounds = black_box(rounds + 1);
        }
    };
    let mut probe = CpuProbe::start().unwrap();
    assert_eq!(
        probe.sample().unwrap(),
        None,
        "so soon there is nothing to say"
    );
    spin(100_000_000);
    let sample = probe.sample().unwrap().expect("100 ms are enough");
    assert_eq!(sample.cores, allowed_cores().unwrap().cores().len());
    assert!(sample.ours > 0.0 && sample.total <= 1.0, "{sample:?}");
    assert!(
        (0.0..=1.0 - sample.ours).contains(&sample.others),
        "{sample:?}"
    );
    assert_eq!(
        probe.sample().unwrap(),
        Some(sample),
        "repeated so soon after"
    );
}

#[test]
fn memory_and_pressure_can_be_read_again() {
    let mut memory = MemoryProbe::open().unwrap();
    let (first, again) = (memory.sample().unwrap(), memory.sample().unwrap());
    assert_eq!(first.total, again.total);
    assert_eq!(first.total, system_memory().unwrap().total);
    // Not every kernel has it; one that does gives shares.
    if let Ok(mut pressure) = PressureProbe::open() {
        let Pressure {
            cpu_some,
            memory_some,
            memory_full,
            io_some,
        } = pressure.sample().unwrap();
        let told = [cpu_some, memory_some, memory_full, io_some].map(|share| {
            assert!(
                share.is_none_or(|share| (0.0..=1.0).contains(&share)),
                "{share:?}"
            );
            share.is_some()
        });
        assert!(
            told.contains(&true),
            "a probe that tells nothing does not open"
        );
    }
}

#[test]
fn a_clock_moves_on_and_its_copies_agree() {
    let clock = Clock::start();
    let copy = clock;
    let moments = [clock.now(), copy.now(), clock.now()];
    assert!(moments.is_sorted(), "{moments:?}");
    assert!(moments[2].0 < 3_600_000_000_000, "it began just now");
}

#[test]
fn every_ability_has_a_name_of_its_own_and_the_processor_a_name() {
    let names: Vec<_> = abilities()
        .into_iter()
        .map(|ability| ability.name)
        .collect();
    let different: BTreeSet<_> = names.iter().collect();
    assert_eq!(different.len(), names.len());
    assert!(names.len() >= 8, "{names:?}");
    assert!(!processor().unwrap().name.is_empty());
    let absent = HostError::Absent {
        ability: "thread nice values",
    };
    assert_eq!(absent.to_string(), "thread nice values is absent on linux");
}

/// Whether a process of this number runs and is no zombie.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Whether it has ended at last: the system takes a moment.
fn ends(pid: &str) -> bool {
    (0..300_000).any(|_| !runs(pid))
}

/// The numbers of a program that sleeps and of one that it started, once both are written to this file.
fn sleeper(file: &Path) -> (Command, impl Fn() -> Vec<String> + use<>) {
    let mut command = Command::new("sh");
    let script = "sleep 1000 & echo $$ $! > \"$0\"; wait";
    command.args(["-c", script]).arg(file);
    let file = file.to_owned();
    let read = move || loop {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let pids: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        if text.ends_with('\n') && pids.len() == 2 {
            return pids;
        }
        thread::yield_now();
    };
    (command, read)
}

#[test]
fn a_child_that_is_dropped_ends_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let (command, pids) = sleeper(&folder.path().join("pids"));
    let mut child = ChildProcess::spawn(command).unwrap();
    let pids = pids();
    assert!(child.ended().unwrap().is_none());
    assert!(pids.iter().all(|pid| runs(pid)), "{pids:?}");
    drop(child);
    assert!(pids.iter().all(|pid| ends(pid)), "{pids:?}");
}

/// The program in between, which a test starts and kills: this same test, told where to write.
const OWNER: &str = "GOGRID_TEST_OWNER_OF";

#[test]
fn a_child_ends_when_its_owner_is_killed() {
    if let Some(file) = std::env::var_os(OWNER) {
        let (command, pids) = sleeper(Path::new(&file));
        let _child = ChildProcess::spawn(command).unwrap();
        pids();
        loop {
            thread::park();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let mut owner = Command::new(std::env::current_exe().unwrap());
    owner.args(["a_child_ends_when_its_owner_is_killed", "--exact"]);
    let mut owner = owner.env(OWNER, &file).spawn().unwrap();
    let pids = sleeper(&file).1();
    assert!(runs(&pids[0]));
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(ends(&pids[0]), "{pids:?}");
    // A signal reaches the child alone; what it started is the child's to end.
    let killed = Command::new("kill").arg(&pids[1]).status();
    assert!(killed.unwrap().success());
}

#[test]
fn a_child_that_ended_says_how_and_leaves_nobody() {
    let mut command = Command::new("sh");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    command.args(["-c", "sleep 1000 & echo $! > \"$0\"; exit 3"]);
    command.arg(&file);
    let mut child = ChildProcess::spawn(command).unwrap();
    let status = loop {
        if let Some(status) = child.ended().unwrap() {
            break status;
        }
    };
    assert_eq!(status.code(), Some(3));
    let left = fs::read_to_string(&file).unwrap();
    assert!(ends(left.trim()), "{left}");
    assert!(ChildProcess::spawn(Command::new("no-such-program-at-all")).is_err());
}

#[test]
fn a_process_that_ends_at_once_leaves_no_child_and_no_scratch_folder() {
    if let Some(file) = std::env::var_os(OWNER) {
        let (command, pids) = sleeper(Path::new(&file));
        let _child = ChildProcess::spawn(command).unwrap();
        let scratch = Path::new(&file).with_extension("scratch");
        fs::create_dir(&scratch).unwrap();
        fs::write(scratch.join("part"), "much").unwrap();
        let _note = ScratchNote::new(&scratch);
        drop(ScratchNote::new(&scratch.with_extension("kept")));
        pids();
        tidy_up();
        // Without a drop.
        std::process::exit(0);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    fs::create_dir(file.with_extension("kept")).unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap());
    let name = "a_process_that_ends_at_once_leaves_no_child_and_no_scratch_folder";
    owner.args([name, "--exact"]).env(OWNER, &file);
    assert!(owner.status().unwrap().success());
    let pids = sleeper(&file).1();
    assert!(pids.iter().all(|pid| ends(pid)), "{pids:?}");
    assert!(!file.with_extension("scratch").exists());
    assert!(file.with_extension("kept").exists());
}

#[test]
fn where_the_system_tells_no_ends_nothing_is_ended_by_its_number() {
    if std::env::var_os(OWNER).is_some() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 3"]);
        let mut child = ChildProcess::spawn(command).unwrap();
        let error = loop {
            match child.ended() {
                Ok(None) => thread::yield_now(),
                Ok(Some(status)) => panic!("the system told: {status}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
        assert!(child.ended().is_err());
        return;
    }
    let mut owner = Command::new("env");
    owner.arg("--ignore-signal=CHLD");
    owner.arg(std::env::current_exe().unwrap());
    let name = "where_the_system_tells_no_ends_nothing_is_ended_by_its_number";
    owner.args([name, "--exact"]).env(OWNER, "");
    let output = owner.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if said.contains("unrecognized option") {
        return println!("skipped: no env here that ignores a signal");
    }
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn only_regular_files_are_opened_and_nothing_waits_or_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let made = Command::new("mkfifo").arg(path("pipe")).status();
    assert!(made.unwrap().success());
    fs::write(path("file"), "kept").unwrap();
    std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
    for odd in [
        path("pipe"),
        path(""),
        "/dev/null".into(),
        "/dev/zero".into(),
    ] {
        assert!(open_regular(&odd).is_err(), "{odd:?}");
        assert!(open_own(&odd).is_err(), "{odd:?}");
    }
    open_regular(&path("link")).unwrap();
    assert!(open_own(&path("link")).is_err());
    open_own(&path("file")).unwrap();
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "kept");
    open_own(&path("made")).unwrap();
    assert_eq!(fs::read_to_string(path("made")).unwrap(), "");
    assert!(open_regular(&path("none")).is_err());
}
