//! Random files of limits and random control messages, each of which is taken or refused: no panic, no
//! hang, no memory beyond a bound. GOGRID_CASES says how many, 10,000 if it is not set; each case is
//! the one of its number on every machine.

mod fake;

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corpgrid_scheduler::{Changes, Mode, Settings};
use gogrid_control::{Control, Controlled, Server};
use gogrid_host::{Clock, SocketName, Stream};
use gogrid_testkit::{Rng, cases, control_message, limits_file};
use peak_alloc::PeakAlloc;
use serde_json::Value;

use crate::fake::Fake;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Memory is the whole process's, so one campaign runs at a time.
static TURN: Mutex<()> = Mutex::new(());

const CASE_MIB_MAX: f32 = 16.0;
const CASE_TIME_MAX: Duration = Duration::from_secs(10);

/// Runs one case, and expects it to stay within its memory and its time.
fn bounded<T>(case: u64, run: impl FnOnce() -> T) -> T {
    let before = ALLOCATED.current_usage_as_mb();
    ALLOCATED.reset_peak_usage();
    let clock = Clock::start();
    let result = run();
    let took = Duration::from_nanos(clock.now().0);
    let peak = ALLOCATED.peak_usage_as_mb() - before;
    assert!(peak < CASE_MIB_MAX, "case {case}: {peak} MiB");
    assert!(took < CASE_TIME_MAX, "case {case}: {took:?}");
    result
}

#[test]
fn every_file_of_limits_is_taken_or_refused_within_its_bounds() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut taken, mut refused) = (0_u64, 0_u64);
    for case in 0..cases() {
        let bytes = limits_file(&mut Rng::new(case));
        let Ok(text) = String::from_utf8(bytes) else {
            refused += 1;
            continue;
        };
        let settings = bounded(case, || {
            let changes = Changes::from_toml(&text)?;
            changes.onto(&Settings::of(Mode::Conservative))
        });
        match settings {
            Ok(settings) => {
                let again = settings.validate();
                assert!(
                    again.is_ok(),
                    "case {case}: taken, and not valid: {again:?}"
                );
                taken += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty(), "case {case}");
                refused += 1;
            }
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
    println!("{taken} taken, {refused} refused");
}

#[test]
fn every_control_message_has_an_answer_within_its_bounds() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let fake = Arc::new(Fake::new());
    let control = Control::new(Arc::clone(&fake) as Arc<dyn Controlled>);
    let _server = Server::start("campaign", Arc::new(control)).unwrap();
    let name = SocketName::own("campaign").unwrap();
    let (mut done, mut refused) = (0_u64, 0_u64);
    for case in 0..cases() {
        let message = control_message(&mut Rng::new(case));
        let answer = bounded(case, || {
            let mut stream = Stream::connect(&name).unwrap();
            stream.set_timeout(CASE_TIME_MAX).unwrap();
            // It may be refused before it is all written.
            let _ = stream.write_all(&[&message[..], b"\n"].concat());
            let mut answer = Vec::new();
            // What is left unread of a request may be told as an error after the answer.
            let _ = stream.read_to_end(&mut answer);
            answer
        });
        if answer.is_empty() {
            // The answer to a message that is too long may be lost with the rest of it.
            assert!(message.len() > 1 << 16, "case {case}: no answer");
            refused += 1;
            continue;
        }
        let answer: Value =
            serde_json::from_slice(&answer).unwrap_or_else(|error| panic!("case {case}: {error}"));
        match answer["answer"]["refused"] {
            Value::Null => done += 1,
            _ => refused += 1,
        }
    }
    assert_eq!(fake.failures(), [""; 0], "no thread failed");
    assert!(done > 0 && refused > 0, "{done} done, {refused} refused");
    println!("{done} done, {refused} refused");
}
