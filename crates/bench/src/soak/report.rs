//! The figures of a soak, and whether they are clean.

use std::fmt::Write;

use serde_json::{Value, json};

use super::checks::Extremes;
use super::limits::{LEFT_MIB_MAX, SLOPE_MAX, WARM_UP_PART};
use super::rest::{Held, Rest};
use super::world::Tally;

/// The course of a soak so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    pub(super) seed: u64,
    pub(super) seconds: f64,
    /// Before anything was open.
    pub(super) first: Held,
    /// With one model open and nothing asked, after each round.
    pub(super) rests: Vec<Rest>,
    /// After all was closed.
    pub(super) closed: Option<Held>,
}

/// The figures of a soak.
#[derive(Clone, Debug)]
pub struct SoakReport {
    course: Course,
    tally: Tally,
    extremes: Extremes,
    slope: Option<Slope>,
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
            "round {}: {requests} requests, {} stuck, {} faults; {} MiB resident, {} descriptors, {} threads at rest",
            self.rests.len(),
            tally.stuck,
            tally.faults,
            shown(held.resident_mib.map(|mib| format!("{mib:.1}"))),
            shown(held.descriptors),
            shown(held.threads),
        )
    }

    pub(super) fn report(self, mut tally: Tally, extremes: Extremes) -> SoakReport {
        let slope = self.slope();
        let leaks = self.leaks(slope).into_iter();
        leaks.for_each(|leak| tally.fault(leak));
        SoakReport {
            course: self,
            tally,
            extremes,
            slope,
        }
    }

    fn after_warm_up(&self) -> &[Rest] {
        &self.rests[self.rests.len() / WARM_UP_PART..]
    }

    fn slope(&self) -> Option<Slope> {
        let points = self.after_warm_up().iter();
        let points = points.filter_map(|rest| Some((rest.at_s / 3600.0, rest.held.resident_mib?)));
        Slope::through(&points.collect::<Vec<_>>())
    }

    /// What grew, in words.
    fn leaks(&self, slope: Option<Slope>) -> Vec<String> {
        let mut leaks = Vec::new();
        if let Some(slope) = slope.filter(|slope| slope.mib_per_h - 2.0 * slope.error > SLOPE_MAX) {
            leaks.push(format!("leak: resident bytes at rest grow: {slope}"));
        }
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

impl Slope {
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
    /// Whether nothing was stuck, nothing grew, and every limit held.
    pub fn is_clean(&self) -> bool {
        self.tally.faults == 0
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
        } = self;
        json!({
            "seed": course.seed,
            "seconds": course.seconds,
            "rounds": course.rests.len(),
            "requests": tally.requests,
            "changes": tally.changes,
            "stuck": tally.stuck,
            "faults": tally.faults,
            "faults_shown": tally.shown,
            "looks": extremes.looks,
            "share_over_max": extremes.share_over,
            "resident_mib_max": extremes.resident_mib,
            "unleased_mib_max": extremes.unleased_mib,
            "before": course.first,
            "first_rest": course.rests.first().map(|rest| rest.held),
            "last_rest": course.rests.last().map(|rest| rest.held),
            "closed": course.closed,
            "resident_slope_mib_per_h": slope.map(|slope| slope.mib_per_h),
            "resident_slope_error": slope.map(|slope| slope.error),
        })
    }

    /// The same in words.
    pub fn table(&self) -> String {
        let Self {
            course,
            tally,
            extremes,
            slope,
        } = self;
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
        line(&mut text, &format!("stuck: {}", tally.stuck));
        let Extremes {
            share_over,
            unleased_mib,
            resident_mib,
            looks,
        } = extremes;
        line(
            &mut text,
            &format!(
                "{looks} looks: share of time at most {share_over:+.3} over the one in force, {resident_mib:.1} MiB resident at most, {unleased_mib:.1} beside what is leased"
            ),
        );
        let rests = [
            ("before", Some(course.first)),
            ("first rest", course.rests.first().map(|rest| rest.held)),
            ("last rest", course.rests.last().map(|rest| rest.held)),
            ("closed", course.closed),
        ];
        for (when, held) in rests {
            let Some(held) = held else { continue };
            let mib = shown(held.resident_mib.map(|mib| format!("{mib:.1}")));
            let (descriptors, threads) = (shown(held.descriptors), shown(held.threads));
            line(
                &mut text,
                &format!(
                    "{when}: {mib} MiB resident, {descriptors} descriptors, {threads} threads"
                ),
            );
        }
        let slope = slope.map_or("too few rests".to_owned(), |slope| slope.to_string());
        line(&mut text, &format!("resident at rest: {slope}"));
        line(&mut text, &format!("faults: {}", tally.faults));
        for (fault, times) in &tally.shown {
            line(&mut text, &format!("  {times} x {fault}"));
        }
        text
    }
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
