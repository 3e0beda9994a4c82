use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::error::HostError;
use crate::imp;

/// Signs of somebody at the machine; `None` is a sign that it does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// Time since the last input, at least.
    pub idle: Option<Duration>,
    /// The screen is locked, or nobody has logged in.
    pub locked: Option<bool>,
    /// An application fills the screen.
    pub full_screen: Option<bool>,
}

/// Where signs of somebody come from, and whether they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceSource {
    /// Its name: `logind`.
    pub name: &'static str,
    /// Why it tells nothing, if so.
    pub problem: Option<String>,
}

impl fmt::Display for PresenceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = self.problem.as_deref().unwrap_or("tells");
        write!(f, "{}: {problem}", self.name)
    }
}

/// Finds out whether somebody is at the machine.
///
/// A desktop session that hangs keeps its callers waiting, so a thread of the probe's own,
/// `gogrid-presence`, does that and sleeps otherwise.
#[derive(Debug)]
pub struct PresenceProbe {
    ask: SyncSender<()>,
    answers: Receiver<Answer>,
    last: Option<Presence>,
    sources: Vec<PresenceSource>,
    unanswered: u32,
    /// Until it was found to have ended.
    thread: Option<JoinHandle<()>>,
    ended: Option<String>,
}

#[derive(Debug)]
struct Answer {
    presence: Option<Presence>,
    sources: Vec<PresenceSource>,
}

const THREAD: &str = "gogrid-presence";
/// How long a sample waits for its answer; a later one counts for the next sample.
const WAIT_MAX: Duration = Duration::from_millis(4);
/// How long the probe's beginning waits for its sources.
const OPENING_MAX: Duration = Duration::from_millis(250);
/// After so many samples without an answer the last one no longer counts.
const UNANSWERED_MAX: u32 = 10;

impl PresenceProbe {
    /// Finds the machine's sources; an error names each, and says why it cannot be used. `begin` is the first
    /// thing the probe's thread does, so that it can be restrained and listed.
    pub fn open(begin: impl FnOnce() + Send + 'static) -> Result<Self, HostError> {
        imp::PresenceSources::may_exist().map_err(|reasons| absent(&reasons))?;
        Self::over(begin, || {
            let mut sources = imp::PresenceSources::open();
            move || Answer {
                presence: sources.ask(),
                sources: sources.states(),
            }
        })
    }

    /// Over the sources that `open` makes on the thread.
    fn over<F: FnMut() -> Answer>(
        begin: impl FnOnce() + Send + 'static,
        open: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Self, HostError> {
        let (ask, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let run = move || {
            begin();
            let mut source = open();
            // Until the probe is dropped. The first answer comes unasked.
            while answer.send(source()).is_ok() && asked.recv().is_ok() {}
        };
        let spawned = Builder::new().name(THREAD.to_owned()).spawn(run);
        let thread = spawned.map_err(|source| HostError::Call {
            call: "starting a thread",
            source,
        })?;
        let mut probe = Self {
            ask,
            answers,
            last: None,
            sources: Vec::new(),
            unanswered: 0,
            thread: Some(thread),
            ended: None,
        };
        probe.wait(OPENING_MAX);
        let silent = |source: &PresenceSource| source.problem.is_some();
        if !probe.sources.is_empty() && probe.sources.iter().all(silent) {
            return Err(absent(&probe.sources));
        }
        Ok(probe)
    }

    /// The signs now, or at the last sample where the desktop is slow to answer; `None` where it
    /// has not answered for ten samples. Returns within 5 ms.
    pub fn sample(&mut self) -> Option<Presence> {
        // One that came late is outdated by the one asked for here.
        if let Ok(late) = self.answers.try_recv() {
            self.take(late);
        }
        match self.ask.try_send(()) {
            Err(TrySendError::Disconnected(())) => self.note_end(),
            Ok(()) | Err(TrySendError::Full(())) => self.wait(WAIT_MAX),
        }
        if self.unanswered >= UNANSWERED_MAX {
            self.last = None;
        }
        self.last
    }

    /// Where the signs come from, as of the last answer.
    pub fn sources(&self) -> &[PresenceSource] {
        &self.sources
    }

    /// Why the probe tells nothing any more, once its thread has ended: a library that asks a source
    /// panicked. Another probe may do better.
    pub fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    fn wait(&mut self, longest: Duration) {
        match self.answers.recv_timeout(longest) {
            Ok(answer) => self.take(answer),
            Err(RecvTimeoutError::Disconnected) => self.note_end(),
            Err(RecvTimeoutError::Timeout) => self.unanswered = self.unanswered.saturating_add(1),
        }
    }

    /// What it said last counts no more: somebody may have come since.
    fn note_end(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let panic = thread.join().err();
        let said = panic.as_deref().and_then(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            text.or_else(|| panic.downcast_ref::<String>().cloned())
        });
        let problem = format!(
            "its thread ended by a panic: {}",
            said.as_deref().unwrap_or("no message")
        );
        self.last = None;
        self.sources = vec![PresenceSource {
            name: THREAD,
            problem: Some(problem.clone()),
        }];
        self.ended = Some(problem);
    }

    fn take(&mut self, answer: Answer) {
        self.last = answer.presence;
        self.sources = answer.sources;
        self.unanswered = 0;
    }
}

fn absent(sources: &[PresenceSource]) -> HostError {
    let reasons: Vec<_> = sources.iter().map(ToString::to_string).collect();
    HostError::NoPresence {
        reasons: reasons.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn answer(seconds: u64) -> Answer {
        let presence = Presence {
            idle: Some(Duration::from_secs(seconds)),
            ..Presence::default()
        };
        let source = PresenceSource {
            name: "fake",
            problem: None,
        };
        Answer {
            presence: Some(presence),
            sources: vec![source],
        }
    }

    fn idle(probe: &mut PresenceProbe) -> Option<u64> {
        Some(probe.sample()?.idle?.as_secs())
    }

    #[test]
    fn a_sample_is_what_the_source_says_then() {
        let (begun, began) = channel();
        let begin = move || {
            begun
                .send(std::thread::current().name().map(str::to_owned))
                .unwrap()
        };
        let mut seconds = 0;
        let mut probe = PresenceProbe::over(begin, move || {
            move || {
                seconds += 1;
                answer(seconds)
            }
        })
        .unwrap();
        assert_eq!(began.recv().unwrap().as_deref(), Some("gogrid-presence"));
        let first = (0..UNANSWERED_MAX).find_map(|_| idle(&mut probe)).unwrap();
        let later = idle(&mut probe).unwrap();
        assert!(later >= first, "{later} after {first}");
        assert_eq!(probe.sources()[0].to_string(), "fake: tells");
    }

    #[test]
    fn a_desktop_that_hangs_is_unknown_after_a_while_and_heard_again() {
        let (release, held) = channel();
        let mut seconds = 0;
        let mut probe = PresenceProbe::over(
            || {},
            move || {
                move || {
                    seconds += 1;
                    if seconds > 1 {
                        held.recv().unwrap();
                    }
                    answer(seconds)
                }
            },
        )
        .unwrap();
        assert_eq!(idle(&mut probe), Some(1), "the last one counts at first");
        let samples: Vec<_> = (0..=UNANSWERED_MAX).map(|_| idle(&mut probe)).collect();
        assert_eq!(samples.last(), Some(&None), "{samples:?}");
        for _ in 0..1000 {
            release.send(()).unwrap();
        }
        assert!((0..1000).any(|_| idle(&mut probe).is_some()));
    }

    /// What a probe says of its thread's end, which takes as long as a panic's message takes.
    fn end_of(probe: &mut PresenceProbe) -> String {
        let mut ends = (0..10_000).filter_map(|_| {
            probe.sample();
            probe.ended().map(str::to_owned)
        });
        ends.next().expect("it ends")
    }

    #[test]
    fn a_thread_that_dies_is_said_and_its_last_word_counts_no_more() {
        let mut asked = 0;
        let mut probe = PresenceProbe::over(
            || {},
            move || {
                move || {
                    asked += 1;
                    assert!(asked < 3, "the library's own fault");
                    answer(asked)
                }
            },
        )
        .unwrap();
        assert_eq!(probe.ended(), None);
        let said = end_of(&mut probe);
        assert_eq!(idle(&mut probe), None);
        assert!(said.ends_with("the library's own fault"), "{said}");
        assert_eq!(probe.sources()[0].problem, Some(said));
    }

    #[test]
    fn a_thread_that_dies_at_once_is_an_error() {
        let dies = || {
            let dies: fn() -> Answer = || panic!("at once");
            dies
        };
        // It may take longer to end than the probe's beginning waits.
        let said = match PresenceProbe::over(|| {}, dies) {
            Ok(mut probe) => end_of(&mut probe),
            Err(error) => error.to_string(),
        };
        assert!(said.ends_with("by a panic: at once"), "{said}");
    }

    #[test]
    fn no_source_at_all_is_an_error_that_says_why() {
        let mute = || {
            || Answer {
                presence: None,
                sources: vec![PresenceSource {
                    name: "fake",
                    problem: Some("is not there".to_owned()),
                }],
            }
        };
        let error = PresenceProbe::over(|| {}, mute).unwrap_err().to_string();
        assert!(error.ends_with("fake: is not there"), "{error}");
    }
}
