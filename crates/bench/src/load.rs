//! A load beside the foreground: it generates tokens from one order to the next.

use serde::Serialize;

use crate::error::BenchError;

/// A stream is this long at most, and then begins again from an empty context.
pub(crate) const STREAM_TOKENS_MAX: usize = 512;

/// Generates between `start` and `stop`, and rests otherwise, with its model loaded. `mark` is
/// called twice in between; the yield is of the time between the two.
pub(crate) trait Load {
    /// Waits until nothing that ran before keeps it from generating.
    fn wait_until_free(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    fn start(&mut self) -> Result<(), BenchError>;
    fn mark(&mut self) -> Result<(), BenchError>;
    fn stop(&mut self) -> Result<Yield, BenchError>;
}

/// The tokens made between two marks, and the time they took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Yield {
    pub(crate) wall_s: f64,
    pub(crate) tokens: f64,
    /// CPU time of all its threads.
    pub(crate) cpu_s: f64,
    /// CPU time on its devices, by its own account.
    pub(crate) busy_s: Option<f64>,
    /// Rest to hold the limits, added up over threads, by its own account.
    pub(crate) rest_s: Option<f64>,
}

impl Yield {
    pub(crate) fn tokens_s(&self) -> f64 {
        self.tokens / self.wall_s
    }
}

/// Tokens between `from` and `to`, of tokens that came at `times`, in order. One that was under
/// way at either end counts in part.
pub(crate) fn tokens_between(times: &[f64], from: f64, to: f64) -> f64 {
    passed(times, to) - passed(times, from)
}

fn passed(times: &[f64], at: f64) -> f64 {
    let done = times.partition_point(|&time| time <= at);
    if done == 0 || done == times.len() {
        return done as f64;
    }
    let (last, next) = (times[done - 1], times[done]);
    let together = times[done..].partition_point(|&time| time <= next);
    done as f64 + together as f64 * (at - last) / (next - last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_under_way_counts_in_part() {
        let check = |from, to, expected| {
            let times = [1.0, 2.0, 4.0, 4.0, 6.0];
            assert_eq!(tokens_between(&times, from, to), expected, "{from}..{to}");
        };
        check(1.0, 2.0, 1.0);
        check(1.5, 2.0, 0.5);
        check(2.0, 3.0, 1.0);
        check(2.0, 4.0, 2.0);
        check(2.5, 5.0, 2.0);
        // Nothing is known before the first and after the last.
        check(0.0, 9.0, 5.0);
        check(7.0, 9.0, 0.0);
        assert_eq!(tokens_between(&[], 0.0, 1.0), 0.0);
    }
}
