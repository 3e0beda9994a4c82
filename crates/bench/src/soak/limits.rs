//! The figures that a soak holds the machine to, in one place.

use std::time::Duration;

/// A round of disorder, before a look at what is left when all is at rest.
pub(super) const ROUND: Duration = Duration::from_secs(15);
/// Callers that ask at the same time.
pub(super) const CALLERS: usize = 6;
/// Between two looks at what is held.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Two looks further apart than this say nothing of what was in between.
pub(super) const LOOKS_APART_MAX_S: f64 = 0.35;
/// The least time for which a change of limits stands.
pub(super) const CHANGE_STANDS: Duration = Duration::from_millis(400);
/// Between two looks of the wall clock at what is under way.
pub(super) const CLOCK_LOOKS: Duration = Duration::from_millis(200);
/// Lines of progress that wait to be told.
pub(super) const LINES_MAX: usize = 16;

/// How long a request may take, by the wall clock: a round at a quarter of the time, with pauses and
/// all other callers before it, and what is left of it at rest, on a computer whose cores other
/// programs want as well.
pub(super) const REQUEST_MAX: Duration = Duration::from_secs(400);
/// The same for a chat with a hostile template, on a machine that does other things.
pub(super) const TEMPLATE_MAX: Duration = Duration::from_secs(60);
/// How long limits, pauses and their like may take to hold: threads take over between two steps.
pub(super) const CHANGE_MAX: Duration = Duration::from_secs(60);
/// Outcomes of changes to the watched file that wait to be heard.
pub(super) const NEWS_MAX: usize = 16;
/// How long a model may take to open, or to move.
pub(super) const LOAD_MAX: Duration = Duration::from_secs(180);
/// How long a model may take to close.
pub(super) const CLOSE_MAX: Duration = Duration::from_secs(120);
/// How long the machine may take to say what it holds.
pub(super) const STATUS_MAX: Duration = Duration::from_secs(60);
/// How long everything may take to come to rest.
pub(super) const REST_MAX: Duration = Duration::from_secs(480);
/// How long a limit may be named as not held before it is a fault: threads that take over do so
/// between two steps.
pub(super) const NOT_HELD_MAX_S: f64 = 10.0;

/// The stretch over which the machine's own account of a device is held against the share of time.
pub(super) const SHARE_OVER_S: f64 = 1.0;
/// How far over the share it may be: credit of 2.5 ms a core, what threads have not settled yet, and
/// the lateness of a look.
pub(super) const SHARE_TOLERANCE: f64 = 0.05;
/// The stretch over which the system's account of the process is held against it.
pub(super) const CPU_OVER_S: f64 = 3.0;
/// How far over the shares in force that may be, as a part of them.
pub(super) const CPU_TOLERANCE: f64 = 0.1;
/// The part of all cores that the machine's threads which run no kernels may take beside: engine,
/// observer and text workers.
pub(super) const CPU_UNPACED: f64 = 0.05;

/// Resident bytes beside the ledger's, above those of the last rest: buffers and stacks, and a
/// tokenizer for each model that is open.
pub(super) const UNLEASED_MIB: f64 = 32.0;
pub(super) const UNLEASED_MIB_PER_MODEL: f64 = 48.0;
/// What is leased counts for so long after it was given back: its memory goes a moment later.
pub(super) const LEASE_LASTS_S: f64 = 3.0;
/// Resident MiB after all is closed beside those before anything was open.
pub(super) const LEFT_MIB_MAX: f64 = 10.0;
/// The greatest slope of resident MiB an hour.
pub(super) const SLOPE_MAX: f64 = 1.0;
/// Rests of the first minutes are warm-up, in which the few blocks that stay come to lie scattered over
/// pages of the allocator's arenas, which they hold; in a short soak, those of the first third.
pub(super) const WARM_UP_S: f64 = 600.0;
pub(super) const WARM_UP_PART: f64 = 1.0 / 3.0;

/// Faults that are written out; others are counted.
pub(super) const FAULTS_SHOWN: usize = 20;

const _: () = assert!(CHANGE_STANDS.as_millis() > (LOOKS_APART_MAX_S * 1e3) as u128);
const _: () = assert!(REST_MAX.as_secs() > REQUEST_MAX.as_secs());
