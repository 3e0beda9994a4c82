use std::collections::BTreeMap;
use std::io;
use std::process;

use corpgrid_scheduler::{PeerUse, SeenPeers};
use gogrid_host::{Clock, HostError, SocketName, Stream, allowed_cores};
use gogrid_units::Moment;

use crate::exchange::{LineError, read_line, write_line};
use crate::limits::{PEERS_MAX, REASON_MAX, ROUND_MAX, USAGE_BYTES_MAX, USAGE_MAX};
use crate::protocol::{Answer, Cause, Refused, Request, parse_answer, request_line};

/// Asks each other process, and remembers what it told.
pub(super) struct Asker {
    program: String,
    clock: Clock,
    cores: usize,
    /// By process id; only of processes that are there.
    known: BTreeMap<u32, Known>,
}

/// One process.
#[derive(Default)]
struct Known {
    /// Its last answer, and when it came.
    told: Option<(Moment, PeerUse)>,
    /// A conversation in which the answer has not come yet. A process that hangs has one of ours at
    /// most, however often it should have been asked.
    waiting: Option<Stream>,
    /// Whether it has answered once only.
    is_new: bool,
}

/// Why a process told nothing.
enum Silence {
    /// It has ended.
    Gone,
    /// Too many call it at this moment.
    Busy,
    /// For this reason.
    Unknown(String),
}

impl Asker {
    pub(super) fn new(program: &str) -> Result<Self, HostError> {
        // For the check of the name.
        SocketName::own(program)?;
        Ok(Self {
            program: program.to_owned(),
            clock: Clock::start(),
            cores: allowed_cores()?.cores().len(),
            known: BTreeMap::new(),
        })
    }

    /// Whether a process has answered once only.
    pub(super) fn has_new(&self) -> bool {
        self.known.values().any(|known| known.is_new)
    }

    /// Asks all of them, one after another, until `is_over` or the time for it is up.
    pub(super) fn round(&mut self, is_over: &dyn Fn() -> bool) -> SeenPeers {
        let mut seen = SeenPeers::default();
        let mut names = match SocketName::listed(&self.program) {
            Ok(names) => names,
            Err(error) => {
                seen.unknown.push(format!("other gogrids: {error}"));
                return seen;
            }
        };
        names.retain(|name| name.pid() != process::id());
        self.known
            .retain(|pid, _| names.iter().any(|name| name.pid() == *pid));
        let end = self.clock.now().after(ROUND_MAX);
        let (mut asked, mut more) = (0, 0);
        for name in &names {
            let late = is_over() || self.clock.now() >= end;
            match asked {
                PEERS_MAX => more += usize::from(!late && name.is_alive()),
                _ => asked += usize::from(self.take(name, late, &mut seen)),
            }
        }
        if more > 0 {
            let problem = format!("{more} gogrids more than the {PEERS_MAX} that are asked");
            seen.unknown.push(problem);
        }
        seen
    }

    /// Asks one process; false where it has ended. What one that does not answer held before, it is
    /// taken to hold still.
    fn take(&mut self, name: &SocketName, late: bool, seen: &mut SeenPeers) -> bool {
        let (pid, clock) = (name.pid(), self.clock);
        let known = self.known.entry(pid).or_default();
        let answer = match late {
            true => Err(Silence::Unknown("it was not asked in time".to_owned())),
            false => known.ask(name),
        };
        match answer {
            Ok(told) => seen.peers.push(known.hear(clock.now(), told, self.cores)),
            Err(Silence::Gone) => {
                self.known.remove(&pid);
                // What is left of it is removed.
                return name.is_alive();
            }
            Err(Silence::Busy) if known.told.is_some() => {
                seen.peers.extend(known.last().cloned());
            }
            Err(Silence::Busy) => seen.unknown.push(unknown(pid, "it has too many callers")),
            Err(Silence::Unknown(problem)) => {
                seen.unknown.push(unknown(pid, &problem));
                known.is_new = false;
                seen.peers.extend(known.last().map(|last| PeerUse {
                    cpu_share: 0.0,
                    is_busy: false,
                    ..last.clone()
                }));
            }
        }
        true
    }
}

impl Known {
    fn last(&self) -> Option<&PeerUse> {
        self.told.as_ref().map(|(_, told)| told)
    }

    /// Takes in an answer, with the share of all cores' time since the one before.
    fn hear(&mut self, now: Moment, mut told: PeerUse, cores: usize) -> PeerUse {
        let before = self.told.as_ref();
        self.is_new = before.is_none();
        let share = before.and_then(|(then, before)| {
            let wall = now.0.saturating_sub(then.0) as f64 / 1e9 * cores as f64;
            let used = told.cpu_s? - before.cpu_s?;
            (wall > 0.0).then(|| (used / wall).clamp(0.0, 1.0))
        });
        told.cpu_share = share.filter(|share| share.is_finite()).unwrap_or(0.0);
        self.told = Some((now, told.clone()));
        told
    }

    fn ask(&mut self, name: &SocketName) -> Result<PeerUse, Silence> {
        let mut stream = match self.waiting.take() {
            Some(stream) => stream,
            None => call(name)?,
        };
        let line = match read_line(&mut stream, USAGE_BYTES_MAX, USAGE_MAX) {
            Ok(line) => line,
            Err(error @ LineError::TooSlow(_)) => {
                self.waiting = Some(stream);
                let problem = format!("it does not answer: {error}");
                return Err(Silence::Unknown(problem));
            }
            Err(error) => return Err(Silence::Unknown(format!("it does not answer: {error}"))),
        };
        told(name.pid(), &line)
    }
}

fn call(name: &SocketName) -> Result<Stream, Silence> {
    let mut stream = Stream::connect(name).map_err(|error| match error {
        HostError::Socket { source, .. } if has_ended(&source) => Silence::Gone,
        error => Silence::Unknown(error.to_string()),
    })?;
    let asked = write_line(&mut stream, &request_line(&Request::Usage), USAGE_MAX);
    match asked {
        // The reason may be there to read.
        Ok(()) | Err(LineError::Io(_)) => Ok(stream),
        Err(error) => Err(Silence::Unknown(format!("it does not listen: {error}"))),
    }
}

/// Whether nobody listens any more: what is left is the socket's name.
fn has_ended(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
    )
}

fn told(pid: u32, line: &[u8]) -> Result<PeerUse, Silence> {
    let unknown = |problem: &str| Err(Silence::Unknown(problem.to_owned()));
    match parse_answer(line) {
        Ok(Answer::Usage(told)) if told.pid == pid => Ok(told),
        Ok(Answer::Usage(told)) => unknown(&format!("it says that it is {}", told.pid)),
        Ok(Answer::Done(_)) => unknown("it told something else"),
        Ok(Answer::Refused(Refused {
            cause: Cause::Busy, ..
        })) => Err(Silence::Busy),
        Ok(Answer::Refused(Refused {
            cause: Cause::Request,
            ..
        })) => unknown("it is of an older version, which does not tell"),
        Ok(Answer::Refused(refused)) => unknown(&refused.message),
        Err(problem) => unknown(&format!("its answer is none: {problem}")),
    }
}

fn unknown(pid: u32, problem: &str) -> String {
    let problem: String = problem.chars().take(REASON_MAX).collect();
    format!("what gogrid {pid} takes: {problem}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_all_cores_and_between_two_answers() {
        let told = |cpu_s| PeerUse {
            cpu_s,
            cpu_share: 7.0,
            ..PeerUse::default()
        };
        let mut known = Known::default();
        let second = |seconds: u64| Moment(seconds * 1_000_000_000);
        let mut check = |seconds, cpu_s, expected| {
            let heard = known.hear(second(seconds), told(cpu_s), 4);
            assert_eq!(heard.cpu_share, expected, "after {seconds} s: {cpu_s:?}");
        };
        check(10, Some(3.0), 0.0);
        check(12, Some(5.0), 0.25);
        check(13, Some(99.0), 1.0);
        check(14, Some(2.0), 0.0);
        check(15, None, 0.0);
        check(16, Some(f64::NAN), 0.0);
        check(16, Some(4.0), 0.0);
    }
}
