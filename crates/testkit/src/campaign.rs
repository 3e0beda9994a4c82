//! What campaigns of many seeded cases share.

use std::env;
use std::fmt::Display;
use std::time::Duration;

/// The time that a case of a campaign may take.
const CASE_TIME_MAX: Duration = Duration::from_secs(10);

/// How many cases a campaign tries: what the variable `GOGRID_CASES` says, or 10,000.
///
/// # Panics
/// When it says no number.
pub fn cases() -> u64 {
    match env::var("GOGRID_CASES") {
        Ok(count) => count.parse().expect("GOGRID_CASES is a number"),
        Err(_) => 10_000,
    }
}

/// Runs the case with this name or number.
///
/// # Panics
/// When it takes more than ten seconds.
pub fn in_time<T>(name: impl Display, case: impl FnOnce() -> T) -> T {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's bound on a case that hangs"
    )]
    let begun = std::time::Instant::now();
    let result = case();
    let took = begun.elapsed();
    assert!(
        took < CASE_TIME_MAX,
        "case {name} took {took:?}, more than {CASE_TIME_MAX:?}"
    );
    result
}
