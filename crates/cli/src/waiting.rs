//! The one line that tells, at a terminal, why an answer has not begun: where it stands in the queue, what
//! has stopped it and what to do about it, what slows it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use corpgrid_scheduler::{Event, Machine, Reason, Verdict, Whose};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::escape::escaped;
use crate::out;

/// How often it is drawn again.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Nothing is said of less than that: most answers begin by then.
const SAYS_AFTER: Duration = Duration::from_millis(700);

/// How a request stands.
#[derive(Clone, Debug, PartialEq)]
enum Standing {
    Runs,
    Queued(usize),
    Paused(Reason, Option<Instant>),
}

/// Drawn until it is dropped.
pub(crate) struct WaitingLine {
    bar: ProgressBar,
    standing: Arc<Mutex<(Standing, Instant)>>,
}

impl WaitingLine {
    /// For a request of this class on this machine. Where standard error is no terminal it shows nothing.
    #[expect(
        clippy::disallowed_methods,
        reason = "it tells a person how long they have waited"
    )]
    pub(crate) fn begin(machine: &Arc<Machine>, whose: Whose) -> Self {
        let began = Instant::now();
        let standing = Arc::new(Mutex::new((Standing::Runs, began)));
        let (seen, machine) = (Arc::clone(&standing), Arc::clone(machine));
        let text = move |_: &ProgressState, line: &mut dyn std::fmt::Write| {
            let (standing, since) = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let ruling = machine.ruling();
            let (verdict, share) = (ruling.verdict_of(whose), ruling.share_of(whose));
            let now = Instant::now();
            if now.duration_since(began) >= SAYS_AFTER {
                let said = says(&standing, (verdict, share), since, now);
                // Nobody could be told that it failed.
                let _ = line.write_str(&escaped(&said));
            }
        };
        let style = ProgressStyle::with_template("{spinner} {why}").expect("it is well-formed");
        let bar = match out::is_quiet() {
            true => ProgressBar::hidden(),
            false => ProgressBar::new_spinner(),
        };
        let bar = bar.with_style(style.with_key("why", text));
        bar.enable_steady_tick(DRAW_EVERY);
        out::draws(Some(bar.clone()));
        Self { bar, standing }
    }

    /// Notes what an event says of how the request stands.
    #[expect(
        clippy::disallowed_methods,
        reason = "it tells a person how long they have waited"
    )]
    pub(crate) fn hear(&self, event: &Event) {
        let now = Instant::now();
        let standing = match event {
            Event::Queued { position } => Standing::Queued(*position),
            Event::Paused { reason, left } => {
                Standing::Paused(reason.clone(), left.map(|left| now + left))
            }
            Event::Started { .. } | Event::Resumed => Standing::Runs,
            _ => return,
        };
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = (standing, now);
    }
}

impl Drop for WaitingLine {
    fn drop(&mut self) {
        out::draws(None);
        self.bar.finish_and_clear();
    }
}

fn says(
    standing: &Standing,
    (verdict, share): (&Verdict, f64),
    since: Instant,
    now: Instant,
) -> String {
    let waited = now.saturating_duration_since(since).as_secs();
    match standing {
        Standing::Queued(0) | Standing::Runs => match verdict {
            Verdict::Limited { why, .. } => {
                let why: Vec<_> = why.iter().map(ToString::to_string).collect();
                format!(
                    "slowly, {:.0} % of the machine: {}",
                    share * 100.0,
                    why.join("; ")
                )
            }
            Verdict::Open | Verdict::Shut(_) => String::new(),
        },
        Standing::Queued(ahead) => format!("{ahead} before it"),
        Standing::Paused(reason, until) => {
            let until = until.map_or_else(String::new, |until| {
                let left = until.saturating_duration_since(now).as_secs();
                format!(", goes on in {left} s")
            });
            let does = what_to_do(reason).map_or_else(String::new, |does| format!(" ({does})"));
            let reason = match reason {
                // How long for is told by what is left now.
                Reason::Snoozed { .. } => "snoozed".to_owned(),
                reason => reason.to_string(),
            };
            format!("waits, {waited} s: {reason}{until}{does}")
        }
    }
}

/// What whoever sits there can do about a stop.
fn what_to_do(reason: &Reason) -> Option<&'static str> {
    match reason {
        Reason::Paused | Reason::Snoozed { .. } => Some("`gogrid limits resume` goes on"),
        Reason::Schedule => Some("the schedule is in the file of --limits"),
        Reason::Exclusive { .. } => Some("close it, or take it off the exclusive applications"),
        Reason::Battery | Reason::Charge { .. } => Some("plug the machine in"),
        Reason::OthersCpu { .. }
        | Reason::OthersGpu { .. }
        | Reason::MemoryAvailable { .. }
        | Reason::MemoryPressure { .. }
        | Reason::FullScreen => Some("--as owner does not wait for it"),
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use super::*;

    #[test]
    fn it_says_why_since_when_and_until_when() {
        let began = Instant::now();
        let now = began + Duration::from_secs(12);
        let others = || Reason::OthersCpu { others: 0.98 };
        let says =
            |standing: Standing, verdict: Verdict| says(&standing, (&verdict, 0.1), began, now);
        let limited = Verdict::Limited {
            share: 0.1,
            why: vec![others()],
        };
        assert_eq!(says(Standing::Runs, Verdict::Open), "");
        assert_eq!(
            says(Standing::Runs, limited.clone()),
            "slowly, 10 % of the machine: others use 98 % of the processor"
        );
        assert_eq!(says(Standing::Queued(3), limited), "3 before it");
        let shut = || Verdict::Shut(others());
        assert_eq!(
            says(Standing::Paused(others(), None), shut()),
            "waits, 12 s: others use 98 % of the processor (--as owner does not wait for it)"
        );
        let until = Some(now + Duration::from_secs(30));
        assert_eq!(
            says(
                Standing::Paused(Reason::Snoozed { left_s: 99 }, until),
                shut()
            ),
            "waits, 12 s: snoozed, goes on in 30 s (`gogrid limits resume` goes on)"
        );
    }
}
