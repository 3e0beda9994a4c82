//! Every interleaving of a few threads.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p gogrid-lease --release --test loom`

#![cfg(loom)]

use gogrid_lease::{Kind, Ledger, Permits};
use gogrid_units::Bytes;
use loom::thread;

fn kinds(ledger: &Ledger) -> Bytes {
    Kind::ALL.into_iter().map(|kind| ledger.used_by(kind)).sum()
}

#[test]
fn loom_two_reservations_never_pass_the_cap() {
    loom::model(|| {
        let ledger = Ledger::new(Bytes(10));
        let other = ledger.clone();
        let thread = thread::spawn(move || other.reserve(Kind::Kv, Bytes(6)));
        let mine = ledger.reserve(Kind::Weights, Bytes(6));
        assert!(ledger.used() <= Bytes(10));
        let theirs = thread.join().unwrap();
        assert!(mine.is_ok() != theirs.is_ok(), "exactly one of them fits");
        assert_eq!(ledger.used(), Bytes(6));
        assert_eq!(kinds(&ledger), Bytes(6));
        drop((mine, theirs));
        assert_eq!((ledger.used(), kinds(&ledger)), (Bytes::ZERO, Bytes::ZERO));
    });
}

#[test]
fn loom_use_never_rises_after_the_cap_has_fallen_below_it() {
    loom::model(|| {
        let ledger = Ledger::new(Bytes(10));
        let held = ledger.reserve(Kind::Weights, Bytes(4)).unwrap();
        let other = ledger.clone();
        let thread = thread::spawn(move || other.reserve(Kind::Kv, Bytes(2)));
        ledger.set_cap(Bytes(3));
        let after = ledger.used();
        let theirs = thread.join().unwrap();
        assert!(ledger.used() <= after, "granted under a cap that was gone");
        drop((held, theirs));
    });
}

#[test]
fn loom_accounts_beside_one_another_never_pass_the_cap_together() {
    loom::model(|| {
        let ledger = Ledger::new(Bytes(10));
        let other = ledger.beside(Bytes(8));
        let thread = thread::spawn(move || {
            let theirs = other.reserve(Kind::Kv, Bytes(6));
            assert!(other.own() <= Bytes(6));
            theirs
        });
        let mine = ledger.reserve(Kind::Weights, Bytes(6));
        assert!(ledger.used() <= Bytes(10));
        let theirs = thread.join().unwrap();
        assert!(mine.is_ok() != theirs.is_ok(), "exactly one of them fits");
        drop((mine, theirs));
        assert_eq!((ledger.used(), kinds(&ledger)), (Bytes::ZERO, Bytes::ZERO));
    });
}

#[test]
fn loom_a_lowered_cap_holds_whatever_the_account_beside_it_leases() {
    loom::model(|| {
        let ledger = Ledger::new(Bytes(10));
        let other = ledger.beside(Bytes(4));
        let thread = thread::spawn(move || other.reserve(Kind::Kv, Bytes(3)));
        ledger.set_cap(Bytes(5));
        let mine = ledger.reserve(Kind::Weights, Bytes(4));
        let theirs = thread.join().unwrap();
        assert!(mine.is_ok() != theirs.is_ok(), "both caps are below seven");
    });
}

#[test]
fn loom_two_cap_changes_leave_one_of_the_caps_in_force() {
    loom::model(|| {
        let ledger = Ledger::new(Bytes(10));
        let other = ledger.clone();
        let thread = thread::spawn(move || other.set_cap(Bytes(2)));
        ledger.set_cap(Bytes(1));
        let lease = ledger.reserve(Kind::Kv, Bytes(3));
        assert!(lease.is_err(), "both caps are below three");
        thread.join().unwrap();
    });
}

#[test]
fn loom_a_release_and_a_reservation_keep_the_sum() {
    loom::model(|| {
        let ledger = Ledger::new(Bytes(10));
        let mut held = ledger.reserve(Kind::Kv, Bytes(8)).unwrap();
        let other = ledger.clone();
        let thread = thread::spawn(move || other.reserve(Kind::Kv, Bytes(5)));
        held.shrink_to(Bytes(3));
        let theirs = thread.join().unwrap();
        let expected = Bytes(3) + theirs.as_ref().map_or(Bytes::ZERO, |lease| lease.bytes());
        assert_eq!((ledger.used(), kinds(&ledger)), (expected, expected));
        drop((held, theirs));
    });
}

#[test]
fn loom_a_place_is_given_once() {
    loom::model(|| {
        let permits = Permits::new(1);
        let other = permits.clone();
        let thread = thread::spawn(move || other.take());
        let mine = permits.take();
        let theirs = thread.join().unwrap();
        assert!(mine.is_some() != theirs.is_some());
        drop((mine, theirs));
        assert_eq!(permits.available(), 1);
    });
}

#[test]
fn loom_a_lowered_limit_holds_at_once() {
    loom::model(|| {
        let permits = Permits::new(1);
        let other = permits.clone();
        let thread = thread::spawn(move || other.take());
        permits.set_limit(0);
        let taken = permits.take();
        assert!(taken.is_none());
        drop(thread.join().unwrap());
        assert_eq!(permits.available(), 0);
    });
}
