//! The ledger and permits against plain models, and under a hundred threads at once.

#![cfg(not(loom))]

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use gogrid_lease::{Kind, Lease, Ledger, Permits, reserve_all};
use gogrid_units::Bytes;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Event {
    Reserve(Kind, u64),
    Drop(usize),
    Shrink(usize, u64),
    Turn(usize, Kind),
    Cap(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop::sample::select(&Kind::ALL[..]);
    let turned = (any::<usize>(), kind.clone());
    let bytes = prop_oneof![8 => 0..400_u64, 1 => Just(u64::MAX), 1 => (1_u64 << 47)..1 << 49];
    prop_oneof![
        4 => (kind, bytes).prop_map(|(kind, bytes)| Event::Reserve(kind, bytes)),
        2 => any::<usize>().prop_map(Event::Drop),
        1 => (any::<usize>(), 0..400_u64).prop_map(|(i, to)| Event::Shrink(i, to)),
        1 => turned.prop_map(|(i, kind)| Event::Turn(i, kind)),
        1 => (0..1500_u64).prop_map(Event::Cap),
    ]
}

/// What the ledger must agree with: a list of what is held, added up anew each time.
fn check_ledger(events: &[Event]) {
    let mut cap = 1000;
    let ledger = Ledger::new(Bytes(cap));
    let mut held: Vec<Lease> = Vec::new();
    for event in events {
        let before: u64 = held.iter().map(|lease| lease.bytes().0).sum();
        match *event {
            Event::Reserve(kind, asked) => {
                let granted = ledger.reserve(kind, Bytes(asked));
                let fits = u128::from(before) + u128::from(asked) <= u128::from(cap);
                assert_eq!(
                    granted.is_ok(),
                    fits || asked == 0,
                    "{asked} on {before} of {cap}"
                );
                match granted {
                    Ok(lease) => held.push(lease),
                    Err(no) => assert_eq!(
                        (no.used, no.cap, no.kind),
                        (Bytes(before), Bytes(cap), kind)
                    ),
                }
            }
            Event::Drop(i) if !held.is_empty() => drop(held.swap_remove(i % held.len())),
            Event::Shrink(i, to) if !held.is_empty() => {
                let index = i % held.len();
                let was = held[index].bytes();
                held[index].shrink_to(Bytes(to));
                assert_eq!(held[index].bytes(), was.min(Bytes(to)));
            }
            Event::Turn(i, kind) if !held.is_empty() => {
                let index = i % held.len();
                held[index].turn_into(kind);
                assert_eq!(held[index].kind(), kind);
            }
            Event::Cap(to) => {
                cap = to;
                ledger.set_cap(Bytes(to));
            }
            Event::Drop(_) | Event::Shrink(..) | Event::Turn(..) => {}
        }
        agree(&ledger, &held, cap);
    }
    drop(held);
    assert_eq!(ledger.used(), Bytes::ZERO);
}

fn agree(ledger: &Ledger, held: &[Lease], cap: u64) {
    let sum = |kind| -> Bytes {
        held.iter()
            .filter(|lease| lease.kind() == kind)
            .map(Lease::bytes)
            .sum()
    };
    for kind in Kind::ALL {
        assert_eq!(ledger.used_by(kind), sum(kind));
    }
    let used: Bytes = held.iter().map(Lease::bytes).sum();
    assert_eq!((ledger.used(), ledger.cap()), (used, Bytes(cap)));
    assert_eq!(ledger.room(), Bytes(cap).saturating_sub(used));
}

proptest! {
    #[test]
    fn the_ledger_equals_its_model(events in prop::collection::vec(event(), 0..200)) {
        check_ledger(&events);
    }

    #[test]
    fn a_group_is_leased_whole_or_not_at_all(
        caps in prop::collection::vec(0..100_u64, 1..5),
        asked in prop::collection::vec((any::<usize>(), 0..60_u64), 0..8),
    ) {
        let ledgers: Vec<Ledger> = caps.iter().map(|&cap| Ledger::new(Bytes(cap))).collect();
        let group: Vec<_> = asked
            .iter()
            .map(|&(i, bytes)| (&ledgers[i % caps.len()], Kind::Kv, Bytes(bytes)))
            .collect();
        let sums: Vec<u64> = (0..caps.len())
            .map(|i| asked.iter().filter(|a| a.0 % caps.len() == i).map(|a| a.1).sum())
            .collect();
        let fits = sums.iter().zip(&caps).all(|(sum, cap)| sum <= cap);
        let used = || -> Vec<u64> { ledgers.iter().map(|l| l.used().0).collect() };
        match reserve_all(&group) {
            Ok(leases) => {
                prop_assert!(fits);
                prop_assert_eq!(leases.len(), asked.len());
                prop_assert_eq!(used(), sums);
            }
            Err((index, refusal)) => {
                prop_assert!(!fits);
                prop_assert_eq!(refusal.asked, group[index].2);
                prop_assert_eq!(used(), vec![0; caps.len()]);
            }
        }
    }
}

#[test]
fn a_hundred_threads_never_pass_the_cap() {
    const CAP: u64 = 1000;
    let ledger = Ledger::new(Bytes(CAP));
    let granted = AtomicU64::new(0);
    let begin = Barrier::new(100);
    thread::scope(|scope| {
        for thread in 0..100_u64 {
            let (ledger, granted, begin) = (&ledger, &granted, &begin);
            scope.spawn(move || {
                begin.wait();
                for round in 0..300 {
                    let asked = 1 + (thread * 31 + round * 17) % 90;
                    let kind = Kind::ALL[round as usize % Kind::ALL.len()];
                    let Ok(lease) = ledger.reserve(kind, Bytes(asked)) else {
                        continue;
                    };
                    // Counted apart from the ledger: what is granted at once is under the cap.
                    let now = granted.fetch_add(asked, Ordering::SeqCst) + asked;
                    assert!(now <= CAP, "{now} granted of {CAP}");
                    thread::yield_now();
                    granted.fetch_sub(asked, Ordering::SeqCst);
                    drop(lease);
                }
            });
        }
    });
    assert_eq!(ledger.used(), Bytes::ZERO);
    assert!(
        Kind::ALL
            .iter()
            .all(|&kind| ledger.used_by(kind) == Bytes::ZERO)
    );
}

#[test]
fn a_hundred_callers_at_once_are_admitted_up_to_the_cap_exactly() {
    let ledger = Ledger::new(Bytes(37));
    let begin = Barrier::new(100);
    let leases: Vec<_> = thread::scope(|scope| {
        let callers: Vec<_> = (0..100)
            .map(|_| {
                scope.spawn(|| {
                    begin.wait();
                    ledger.reserve(Kind::Kv, Bytes(1))
                })
            })
            .collect();
        callers
            .into_iter()
            .filter_map(|caller| caller.join().unwrap().ok())
            .collect()
    });
    assert_eq!((leases.len(), ledger.room()), (37, Bytes::ZERO));
}

#[test]
fn use_above_a_lowered_cap_only_falls() {
    let ledger = Ledger::new(Bytes(100));
    let (a, b) = (
        ledger.reserve(Kind::Kv, Bytes(50)),
        ledger.reserve(Kind::Kv, Bytes(40)),
    );
    ledger.set_cap(Bytes(60));
    assert_eq!((ledger.used(), ledger.room()), (Bytes(90), Bytes::ZERO));
    assert!(ledger.reserve(Kind::Kv, Bytes(1)).is_err());
    drop(b);
    assert!(ledger.reserve(Kind::Kv, Bytes(11)).is_err());
    assert!(ledger.reserve(Kind::Kv, Bytes(10)).is_ok());
    drop(a);
}

#[test]
fn a_refusal_says_what_was_asked_and_what_is_held() {
    let ledger = Ledger::new(Bytes::mib(100));
    let _weights = ledger.reserve(Kind::Weights, Bytes::mib(80)).unwrap();
    let refusal = ledger.reserve(Kind::Kv, Bytes::mib(30)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "30.0 MiB more for kv cache would pass the memory cap: 80.0 MiB of 100.0 MiB in use"
    );
}

#[test]
fn a_hundred_threads_take_no_more_places_than_there_are() {
    let permits = Permits::new(7);
    let inside = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                for _ in 0..300 {
                    let Some(_permit) = permits.take() else {
                        continue;
                    };
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < 7);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(permits.available(), 7);
}

#[test]
fn a_lowered_limit_gives_no_place_until_enough_are_free() {
    let permits = Permits::new(3);
    let mut held: Vec<_> = (0..3).map_while(|_| permits.take()).collect();
    permits.set_limit(1);
    held.truncate(1);
    assert!(permits.take().is_none());
    held.clear();
    assert!(permits.take().is_some());
    permits.set_limit(2);
    assert_eq!(permits.available(), 2);
}

#[test]
fn accounts_beside_one_another_share_their_caps_and_tell_apart_what_is_whose() {
    let first = Ledger::new(Bytes(10));
    let second = first.beside(Bytes(8));
    let its = first.reserve(Kind::Weights, Bytes(6)).expect("it fits");
    let refused = second.reserve(Kind::Kv, Bytes(3)).expect_err("9 of 8");
    assert_eq!((refused.used, refused.cap), (Bytes(6), Bytes(8)));
    let theirs = second.reserve(Kind::Kv, Bytes(2)).expect("8 of 8");
    assert_eq!((first.own(), second.own()), (Bytes(6), Bytes(2)));
    assert_eq!((first.used(), second.used()), (Bytes(8), Bytes(8)));
    let weights = [first.used_by(Kind::Weights), second.used_by(Kind::Weights)];
    assert_eq!(weights, [Bytes(6), Bytes::ZERO]);
    assert_eq!(second.used_by_all(Kind::Weights), Bytes(6));
    assert_eq!((first.room(), second.room()), (Bytes(2), Bytes::ZERO));
    drop(its);
    assert_eq!((first.used(), second.room()), (Bytes(2), Bytes(6)));
    drop(theirs);
    assert_eq!(first.used(), Bytes::ZERO);
}
