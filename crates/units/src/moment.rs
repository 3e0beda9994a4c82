use std::time::Duration;

/// A moment on some clock, in nanoseconds since that clock began. The last moment there is comes
/// after 584 years: arithmetic stops there, and at the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `time` later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// The time that has passed since `earlier`; none if that is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stops_at_both_ends() {
        let moment = Moment(5);
        assert_eq!(moment.after(Duration::from_micros(2)), Moment(2005));
        assert_eq!(Moment(2005).since(moment), Duration::from_micros(2));
        assert_eq!(moment.since(Moment(6)), Duration::ZERO);
        assert_eq!(moment.after(Duration::MAX), Moment(u64::MAX));
        assert_eq!(
            Moment(u64::MAX).after(Duration::from_nanos(1)),
            Moment(u64::MAX)
        );
    }
}
