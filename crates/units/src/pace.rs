/// A moment on a pace's own clock, in nanoseconds since that clock began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

/// A piece of arithmetic about to be done, by what bounds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes of weights or KV cache that will be read.
    pub bytes: u64,
    /// Multiply-adds that will be done.
    pub multiply_adds: u64,
}

/// What a pause point answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// Do the work.
    Go,
    /// Call [`Pace::rest`] with this moment, then ask again.
    Rest(Moment),
    /// Leave the step. What it wrote so far counts for nothing, and it can be run again.
    Abandon,
}

/// How fast arithmetic may go. A thread that computes asks before every piece of work, at least
/// every 0.5 ms; the answer comes from whoever holds the limits. Implementations must be cheap
/// (tens of nanoseconds) and must not block in [`point`](Pace::point).
pub trait Pace: Send + Sync {
    /// Asked before `work` is done, on the thread that will do it.
    fn point(&self, work: Work) -> Go;

    /// Sleeps the calling thread until `until`; may return early.
    fn rest(&self, until: Moment);

    /// Threads the next region may use, at least one; asked once a region.
    fn width(&self) -> usize;

    /// Whether the next pause point would abandon, for who sleeps before it and need not go on.
    fn is_over(&self) -> bool {
        false
    }

    /// Told after each step: for how many nanoseconds threads gave their cores to other programs
    /// since the step before, added up.
    fn gave_way(&self, _nanos: u64) {}
}

/// The pace without limits: never rests, and uses every thread there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct FullSpeed;

impl Pace for FullSpeed {
    fn point(&self, _work: Work) -> Go {
        Go::Go
    }

    fn rest(&self, _until: Moment) {}

    fn width(&self) -> usize {
        usize::MAX
    }
}
