use crate::Moment;

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

/// How fast the arithmetic of one device may go. The holder of the limits gives the answers. All
/// methods may be called from several threads at once.
pub trait Pace: Send + Sync {
    /// The pause point: asked before each piece of `work`, at least every 0.5 ms of it, by the thread
    /// that does the work or that hands it to its device. Must be cheap (tens of nanoseconds), and
    /// must not block.
    fn point(&self, work: Work) -> Go;

    /// Sleeps the calling thread until `until`; may return early.
    fn rest(&self, until: Moment);

    /// Whether the next pause point would abandon. A thread that waits for something else asks this,
    /// to stop waiting.
    fn is_over(&self) -> bool;

    /// Counts busy time that a device reports itself, such as the time between two of a GPU's
    /// timestamps; called once for each piece of that time, soon after it has passed. A team of
    /// threads never calls it: its threads' CPU time is read from their clocks at pause points.
    fn charge(&self, busy_nanos: u64);
}

/// The pace of a device that computes with a team of threads.
pub trait TeamPace: Pace {
    /// Threads the next region may use, at least one; asked once a region.
    fn width(&self) -> usize;

    /// Whether work is to go on, by turns, beside programs that never rest: asked at the beginning of each
    /// step. Otherwise they get every core that they want.
    fn insists(&self) -> bool {
        false
    }

    /// Called at the end of each step, with the nanoseconds for which the team's threads gave their
    /// cores to other programs since the end of the step before, summed over the threads.
    fn gave_way(&self, nanos: u64);
}

/// The pace without limits: never rests, and uses every thread there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct FullSpeed;

impl Pace for FullSpeed {
    fn point(&self, _work: Work) -> Go {
        Go::Go
    }

    fn rest(&self, _until: Moment) {}

    fn is_over(&self) -> bool {
        false
    }

    fn charge(&self, _busy_nanos: u64) {}
}

impl TeamPace for FullSpeed {
    fn width(&self) -> usize {
        usize::MAX
    }

    fn gave_way(&self, _nanos: u64) {}
}
