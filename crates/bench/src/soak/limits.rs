//! The figures that a soak holds the machine to, in one place.

use std::time::Duration;

/// A round of disorder, before a look at what is left when all is at rest.
pub(super) const ROUND: Duration = Duration::from_secs(15);
/// Callers that ask at the same time.
pub(super) const CALLERS: usize = 6;
/// Between two looks at what is held.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Two looks further apart than this say nothing of what was in between.
pub(super) const LOOKS_APART_MAX: Duration = Duration::from_millis(250);
/// The least time for which a change of limits stands.
pub(super) const CHANGE_STANDS: Duration = Duration::from_millis(400);

/// Seconds of the whole machine after which a request that has not ended is stuck: time counts by
/// the share that may be taken, and not at all while all work is stopped.
pub(super) const STUCK_AFTER_S: f64 = 60.0;
/// How long everything may take to come to rest.
pub(super) const REST_MAX: Duration = Duration::from_secs(240);
/// How long a limit may be named as not held before it is a fault: threads that take over do so
/// between two steps.
pub(super) const NOT_HELD_MAX: Duration = Duration::from_secs(10);

/// The stretch over which the share of time is held against what was asked.
pub(super) const SHARE_OVER: Duration = Duration::from_secs(1);
/// How far over the share it may be: credit of 2.5 ms a core, what threads have not settled yet, and
/// the lateness of a look.
pub(super) const SHARE_TOLERANCE: f64 = 0.05;

/// Resident bytes beside the ledger's: the program, and a tokenizer and buffers for each open model.
pub(super) const UNLEASED_MIB: f64 = 48.0;
pub(super) const UNLEASED_MIB_PER_MODEL: f64 = 96.0;
/// What is leased counts for so long after it was given back: its memory goes a moment later.
pub(super) const LEASE_LASTS: Duration = Duration::from_secs(3);
/// Resident MiB after all is closed beside those before anything was open.
pub(super) const LEFT_MIB_MAX: f64 = 10.0;
/// The greatest slope of resident MiB an hour, over what its own uncertainty explains.
pub(super) const SLOPE_MAX: f64 = 1.0;
/// Of the looks at rest, the first part that is warm-up: one in so many.
pub(super) const WARM_UP_PART: usize = 3;

/// Faults that are written out; others are counted.
pub(super) const FAULTS_SHOWN: usize = 20;

const _: () = assert!(CHANGE_STANDS.as_millis() > LOOKS_APART_MAX.as_millis());
