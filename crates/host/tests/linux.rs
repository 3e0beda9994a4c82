//! What Linux is asked to do, read back from it.

#![cfg(target_os = "linux")]

use std::hint::black_box;
use std::thread;

use gogrid_host::{
    AbilityState, Clock, CoreSet, HostError, IoPriority, Priority, abilities, allowed_cores,
    pin_thread, process_cpu_time, processor, resident, restrain_thread, system_memory,
    thread_cpu_time,
};
use gogrid_units::Bytes;

const QUIET: Priority = Priority {
    nice: 15,
    io: IoPriority { class: 3, level: 7 },
};

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
fn a_priority_is_set_on_the_calling_thread_alone_and_read_back() {
    as_ordinary_user(|| {
        let done = restrain_thread(QUIET);
        assert!(done.nice.holds() && done.io.holds(), "{done:?}");
        assert_eq!(done.nice.in_effect, Some(15));
        assert_eq!(done.io.in_effect.map(|io| io.class), Some(3));
        // A thread started from here begins the same.
        let child = thread::spawn(|| restrain_thread(QUIET)).join().unwrap();
        assert!(child.nice.holds());
    });
    // This thread was left alone: asking for what it had needs no privilege.
    let here = restrain_thread(Priority {
        nice: 0,
        io: IoPriority { class: 0, level: 0 },
    });
    assert!(here.nice.holds() && here.io.holds(), "{here:?}");
}

#[test]
fn what_an_ordinary_user_may_not_do_is_reported_with_what_is_so() {
    as_ordinary_user(|| {
        assert!(restrain_thread(QUIET).nice.holds());
        let back = restrain_thread(Priority {
            nice: 0,
            io: IoPriority { class: 1, level: 0 },
        });
        assert_eq!((back.nice.asked, back.nice.in_effect), (0, Some(15)));
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
fn levels_of_best_effort_are_kept() {
    thread::spawn(|| {
        let io = IoPriority { class: 2, level: 4 };
        let done = restrain_thread(Priority { nice: 0, io });
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
fn a_clock_moves_on_and_its_copies_agree() {
    let clock = Clock::start();
    let copy = clock;
    let moments = [clock.now(), copy.now(), clock.now()];
    assert!(moments.is_sorted(), "{moments:?}");
    assert!(moments[2].0 < 3_600_000_000_000, "it began just now");
}

#[test]
fn every_ability_has_a_name_of_its_own_and_the_processor_a_name() {
    let mut names: Vec<_> = abilities()
        .into_iter()
        .map(|ability| ability.name)
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 7);
    assert!(!processor().unwrap().name.is_empty());
    let absent = HostError::Absent {
        ability: "thread nice values",
    };
    assert_eq!(absent.to_string(), "thread nice values is absent on linux");
}
