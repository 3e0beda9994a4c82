//! The figures of a soak, and whether they are clean.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::books::Tally;
use super::checks::Extremes;
use super::limits::{LEFT_MIB_MAX, SLOPE_MAX, WARM_UP_PART, WARM_UP_S};
use super::rest::{Held, Rest};

/// The course of a soak so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    pub(super) seed: u64,
    pub(super) seconds: f64,
    /// Before anything was open.
    pub(super) first: Held,
    /// With no model open, after each round.
    pub(super) rests: Vec<Rest>,
    /// After all was closed.
    pub(super) closed: Option<Held>,
    /// Whether bytes in use are those that were not freed, and no others.
    pub(super) heap_is_exact: bool,
}

/// The figures of a soak.
#[derive(Clone, Debug)]
pub struct SoakReport {
    course: Course,
    tally: Tally,
    extremes: Extremes,
    slope: Option<Slope>,
    /// Of what the allocator has in use.
    heap_slope: Option<Slope>,
}

/// What the slope says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Growth {
    /// Below the greatest slope, by twice its error.
    Flat,
    /// Above it, by twice its error.
    Leak,
    /// Too little is known.
    Inconclusive,
}

/// A line through the looks at rest after the warm-up, by least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slope {
    mib_per_h: f64,
    /// Its standard error.
    error: f64,
}

impl Course {
    /// One line after a round.
    pub(super) fn line(&self, tally: &Tally) -> String {
        let requests: u64 = tally.requests.values().sum();
        let held = self.rests.last().map(|rest| rest.held).unwrap_or_default();
        format!(
            "round {}: {requests} requests, {} as meant, {} stuck, {} faults; at rest {held}",
            self.rests.len(),
            tally.ended,
            tally.stuck,
            tally.faults,
        )
    }

    pub(super) fn report(self, mut tally: Tally, extremes: Extremes) -> SoakReport {
        let slope = self.slope(|held| held.resident_mib);
        let heap_slope = self.slope(|held| held.heap_mib);
        let mut leaks = self.leaks();
        leaks.extend(grows("resident bytes", slope));
        leaks.extend(grows(
            "bytes in use",
            heap_slope.filter(|_| self.heap_is_exact),
        ));
        leaks.into_iter().for_each(|leak| tally.fault(leak));
        SoakReport {
            course: self,
            tally,
            extremes,
            slope,
            heap_slope,
        }
    }

    /// Resident MiB at the last rest, or before anything was open.
    pub(super) fn floor_mib(&self) -> f64 {
        let last = self.rests.last().map_or(self.first, |rest| rest.held);
        last.resident_mib.unwrap_or(0.0)
    }

    fn after_warm_up(&self) -> &[Rest] {
        let all_s = self.rests.last().map_or(0.0, |rest| rest.at_s);
        let warm_s = WARM_UP_S.min(all_s * WARM_UP_PART);
        let from = self.rests.partition_point(|rest| rest.at_s < warm_s);
        &self.rests[from..]
    }

    fn slope(&self, of: fn(&Held) -> Option<f64>) -> Option<Slope> {
        let points = self.after_warm_up().iter();
        let points = points.filter_map(|rest| Some((rest.at_s / 3600.0, of(&rest.held)?)));
        Slope::through(&points.collect::<Vec<_>>())
    }

    /// What beside memory grew, and what was left, in words.
    fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        let rests = self.after_warm_up();
        let grown = |of: fn(&Held) -> Option<usize>| {
            let (front, back) = rests.split_at(rests.len() / 2);
            let least = |part: &[Rest]| part.iter().filter_map(|rest| of(&rest.held)).min();
            Some((least(front)?, least(back)?)).filter(|(before, after)| after > before)
        };
        if let Some((before, after)) = grown(|held| held.descriptors) {
            leaks.push(format!("leak: {before} descriptors at rest, then {after}"));
        }
        if let Some((before, after)) = grown(|held| held.threads) {
            leaks.push(format!("leak: {before} threads at rest, then {after}"));
        }
        if let Some(closed) = &self.closed {
            leaks.extend(self.left(closed));
        }
        leaks
    }

    /// What is left after all was closed.
    fn left(&self, closed: &Held) -> Vec<String> {
        let mut left = Vec::new();
        if let (Some(before), Some(after)) = (self.first.resident_mib, closed.resident_mib)
            && after - before > LEFT_MIB_MAX
        {
            left.push(format!(
                "leak: {after:.1} MiB resident with all closed, {before:.1} at first"
            ));
        }
        if closed.descriptors > self.first.descriptors {
            left.push(format!(
                "leak: {} descriptors with all closed, {} at first",
                shown(closed.descriptors),
                shown(self.first.descriptors)
            ));
        }
        if closed.threads > self.first.threads {
            left.push(format!(
                "leak: {} threads with all closed, {} at first",
                shown(closed.threads),
                shown(self.first.threads)
            ));
        }
        left
    }
}

/// A fault, in words, where such bytes grow for certain.
fn grows(what: &str, slope: Option<Slope>) -> Option<String> {
    let slope = slope.filter(|slope| slope.growth() == Growth::Leak)?;
    Some(format!("leak: {what} at rest grow: {slope}"))
}

impl Slope {
    fn growth(&self) -> Growth {
        let Self { mib_per_h, error } = self;
        match (mib_per_h + 2.0 * error, mib_per_h - 2.0 * error) {
            (most, _) if most <= SLOPE_MAX => Growth::Flat,
            (_, least) if least > SLOPE_MAX => Growth::Leak,
            _ => Growth::Inconclusive,
        }
    }

    /// `None` for fewer than three points, which say nothing of an error.
    fn through(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < 3 {
            return None;
        }
        let n = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x_mean, y_mean) = (mean(|p| p.0), mean(|p| p.1));
        let xx: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
        let xy: f64 = points
            .iter()
            .map(|(x, y)| (x - x_mean) * (y - y_mean))
            .sum();
        let slope = xy / xx;
        let off = |(x, y): &(f64, f64)| (y - y_mean - slope * (x - x_mean)).powi(2);
        let squares: f64 = points.iter().map(off).sum();
        Some(Self {
            mib_per_h: slope,
            error: (squares / (n - 2.0) / xx).sqrt(),
        })
    }
}

impl std::fmt::Display for Slope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mib_per_h, error } = self;
        write!(
            f,
            "{mib_per_h:+.2} MiB an hour, give or take {:.2}",
            2.0 * error
        )
    }
}

impl SoakReport {
    /// Whether nothing was stuck, every limit held, and it is known that nothing grew.
    pub fn is_clean(&self) -> bool {
        self.tally.faults == 0 && self.growth() == Growth::Flat
    }

    fn growth(&self) -> Growth {
        self.slope
            .map_or(Growth::Inconclusive, |slope| slope.growth())
    }

    /// Faults found.
    pub fn faults(&self) -> u64 {
        self.tally.faults
    }

    /// One JSON value.
    pub fn json(&self) -> Value {
        let Self {
            course,
            tally,
            extremes,
            slope,
            heap_slope,
        } = self;
        json!({
            "seed": course.seed,
            "seconds": course.seconds,
            "rounds": course.rests.len(),
            "clean": self.is_clean(),
            "requests": tally.requests,
            "requests_ended_as_meant": tally.ended,
            "changes": tally.changes,
            "stuck": tally.stuck,
            "faults": tally.faults,
            "faults_shown": tally.shown,
            "looks": extremes.looks,
            "share_over_max": finite(extremes.share_over),
            "share_stretches": extremes.share_stretches,
            "cpu_share_over_max": finite(extremes.cpu_over),
            "cpu_stretches": extremes.cpu_stretches,
            "resident_mib_max": extremes.resident_mib,
            "unleased_mib_max": finite(extremes.unleased_mib),
            "before": course.first,
            "first_rest": course.rests.first().map(|rest| rest.held),
            "last_rest": course.rests.last().map(|rest| rest.held),
            "closed": course.closed,
            "resident_slope_mib_per_h": slope.map(|slope| slope.mib_per_h),
            "resident_slope_error": slope.map(|slope| slope.error),
            "resident_growth": self.growth(),
            "heap_is_exact": course.heap_is_exact,
            "heap_slope_mib_per_h": heap_slope.map(|slope| slope.mib_per_h),
            "heap_slope_error": heap_slope.map(|slope| slope.error),
        })
    }

    /// The same in words.
    pub fn table(&self) -> String {
        let (course, tally) = (&self.course, &self.tally);
        let mut text = format!(
            "seed {}, {:.0} s, {} rounds\n",
            course.seed,
            course.seconds,
            course.rests.len()
        );
        for (what, counts) in [("requests", &tally.requests), ("changes", &tally.changes)] {
            let sum: u64 = counts.values().sum();
            let each = counts.iter().map(|(name, count)| format!("{name} {count}"));
            let each = each.collect::<Vec<_>>().join(", ");
            line(&mut text, &format!("{what}: {sum} ({each})"));
        }
        line(
            &mut text,
            &format!("requests that ended as meant: {}", tally.ended),
        );
        line(&mut text, &format!("stuck: {}", tally.stuck));
        line(&mut text, &self.extremes.to_string());
        for (when, held) in course.moments() {
            line(&mut text, &format!("{when}: {held}"));
        }
        let told =
            |slope: Option<Slope>| slope.map_or("too few rests".to_owned(), |s| s.to_string());
        let growth = match self.growth() {
            Growth::Flat => "flat",
            Growth::Leak => "it grows",
            Growth::Inconclusive => "inconclusive, soak for longer",
        };
        let (slope, heap) = (told(self.slope), told(self.heap_slope));
        line(&mut text, &format!("resident at rest: {slope}: {growth}"));
        let kept = match course.heap_is_exact {
            true => "",
            false => ", with freed blocks that threads keep",
        };
        line(&mut text, &format!("in use at rest: {heap}{kept}"));
        line(&mut text, &format!("faults: {}", tally.faults));
        for (fault, times) in &tally.shown {
            line(&mut text, &format!("  {times} x {fault}"));
        }
        text
    }
}

impl Course {
    fn moments(&self) -> impl Iterator<Item = (&'static str, Held)> {
        let moments = [
            ("before", Some(self.first)),
            ("first rest", self.rests.first().map(|rest| rest.held)),
            ("last rest", self.rests.last().map(|rest| rest.held)),
            ("closed", self.closed),
        ];
        moments
            .into_iter()
            .filter_map(|(when, held)| Some((when, held?)))
    }
}

impl std::fmt::Display for Extremes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            share_over,
            share_stretches,
            cpu_over,
            cpu_stretches,
            unleased_mib,
            resident_mib,
            looks,
        } = self;
        write!(
            f,
            "{looks} looks: share of time at most {share_over:+.3} over the one in force by the \
             machine's account in {share_stretches} stretches, {cpu_over:+.3} by the system's in \
             {cpu_stretches}; \
             {resident_mib:.1} MiB resident at most, {unleased_mib:.1} beside the last rest and what \
             is leased"
        )
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |mib: Option<f64>| shown(mib.map(|mib| format!("{mib:.2}")));
        let (mib, heap) = (mib(self.resident_mib), mib(self.heap_mib));
        let (descriptors, threads) = (shown(self.descriptors), shown(self.threads));
        write!(
            f,
            "{mib} MiB resident, {heap} in use, {descriptors} descriptors, {threads} threads"
        )
    }
}

/// What no look has seen yet is no number.
fn finite(figure: f64) -> Option<f64> {
    figure.is_finite().then_some(figure)
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes all");
}

fn shown<T: ToString>(figure: Option<T>) -> String {
    figure.map_or("unknown".to_owned(), |figure| figure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(rests: impl Iterator<Item = (f64, f64, usize)>) -> Course {
        let rest = |(at_s, mib, count)| Rest {
            at_s,
            held: Held {
                resident_mib: Some(mib),
                heap_mib: Some(mib / 2.0),
                descriptors: Some(count),
                threads: Some(10),
            },
        };
        Course {
            rests: rests.map(rest).collect(),
            ..Course::default()
        }
    }

    #[test]
    fn a_leak_shows_over_the_scatter_and_scatter_is_no_leak() {
        let noise = |i: usize| [0.0, 0.3, -0.2, 0.1][i % 4];
        let still = course((0..60).map(|i| (i as f64 * 20.0, 100.0 + noise(i), 9)));
        let report = still.report(Tally::default(), Extremes::default());
        assert!(report.is_clean(), "{}", report.table());

        let leaking = (0..60).map(|i| (i as f64 * 20.0, 100.0 + i as f64 * 0.03 + noise(i), 9));
        let report = course(leaking).report(Tally::default(), Extremes::default());
        let slope = report.slope.expect("there are enough rests");
        assert!((slope.mib_per_h - 5.4).abs() < 1.0, "{slope}");
        assert!(
            report.table().contains("leak: resident bytes"),
            "{}",
            report.table()
        );
    }

    #[test]
    fn bytes_in_use_that_grow_are_a_leak_where_they_are_exact() {
        let faults = |heap_is_exact| {
            let mut grows = course((0..60).map(|i| (i as f64 * 20.0, 100.0, 9)));
            grows.heap_is_exact = heap_is_exact;
            for (number, rest) in grows.rests.iter_mut().enumerate() {
                rest.held.heap_mib = Some(0.7 + number as f64 * 0.02);
            }
            let report = grows.report(Tally::default(), Extremes::default());
            (report.faults(), report.table())
        };
        let (exact, table) = faults(true);
        assert!(
            exact == 1 && table.contains("leak: bytes in use"),
            "{table}"
        );
        // Blocks that threads keep are freed.
        assert_eq!(faults(false).0, 0);
    }

    #[test]
    fn a_slope_that_scatter_hides_is_inconclusive_and_not_clean() {
        let report = |rests: usize, noise: f64| {
            let scatter = move |i: usize| noise * [1.0, -1.0, -1.0, 1.0, 0.0][i % 5];
            let course = course((0..rests).map(|i| (i as f64 * 20.0, 100.0 + scatter(i), 9)));
            course.report(Tally::default(), Extremes::default())
        };
        for unknown in [report(0, 0.0), report(3, 5.0), report(60, 5.0)] {
            assert_eq!(unknown.growth(), Growth::Inconclusive);
            assert!(!unknown.is_clean() && unknown.faults() == 0);
            assert!(
                unknown.table().contains("inconclusive"),
                "{}",
                unknown.table()
            );
            assert_eq!(unknown.json()["resident_growth"], "inconclusive");
        }
        assert!(report(60, 0.0).is_clean());
    }

    #[test]
    fn rests_of_the_first_minutes_say_nothing() {
        let warming = |i: usize| 100.0 - 50.0 * (-(i as f64) / 2.0).exp();
        let rests = (0..90).map(|i| (i as f64 * 20.0, warming(i), 9));
        assert!(
            course(rests)
                .report(Tally::default(), Extremes::default())
                .is_clean()
        );
    }

    #[test]
    fn threads_that_stay_are_a_leak() {
        let mut more = course((0..30).map(|i| (i as f64 * 20.0, 100.0, 9)));
        for (number, rest) in more.rests.iter_mut().enumerate() {
            rest.held.threads = Some(10 + number / 10);
        }
        let report = more.report(Tally::default(), Extremes::default());
        assert_eq!(report.faults(), 1);
        assert!(
            report.table().contains("leak: 11 threads"),
            "{}",
            report.table()
        );
    }

    #[test]
    fn descriptors_that_stay_open_are_a_leak() {
        let more = course((0..30).map(|i| (i as f64 * 20.0, 100.0, 9 + i / 10)));
        let report = more.report(Tally::default(), Extremes::default());
        assert_eq!(report.faults(), 1);
        assert!(
            report.table().contains("leak: 10 descriptors"),
            "{}",
            report.table()
        );
    }

    #[test]
    fn what_is_left_after_closing_is_a_leak() {
        let mut course = course((0..3).map(|i| (i as f64, 100.0, 9)));
        course.first.resident_mib = Some(5.0);
        course.closed = Some(Held {
            resident_mib: Some(17.0),
            ..Held::default()
        });
        assert_eq!(
            course
                .report(Tally::default(), Extremes::default())
                .faults(),
            1
        );
    }
}
