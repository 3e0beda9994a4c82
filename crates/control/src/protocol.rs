//! One request, one answer, each a line of JSON:
//!
//! ```text
//! {"version":1,"request":"get"}
//! {"version":1,"request":{"set":{"mode":"default","away":{"max_batch_size":8}}}}
//! {"version":1,"answer":{"done":{"settings":{...},"settings_file":null,"status":{...}}}}
//! {"version":1,"answer":{"refused":{"cause":"settings","message":"..."}}}
//! {"version":1,"request":"usage"}
//! {"version":1,"answer":{"usage":{"pid":7,"memory_bytes":[["system",4096]],...}}}
//! ```

use std::path::PathBuf;

use corpgrid_scheduler::{Changes, PeerUse, Settings};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version both sides speak. Another is refused by name.
pub(crate) const VERSION: u32 = 1;

/// A request to a running gogrid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Settings and status, nothing changed.
    Get,
    /// The settings in force with these changes, or those of a mode.
    Set(Changes),
    /// Stop until told otherwise.
    Pause,
    /// Go on; ends a pause, a snooze and a finish.
    Resume,
    /// Stop for a time.
    Snooze {
        /// How long, up to a week.
        seconds: u64,
    },
    /// Accept nothing more; requests that were accepted run to their end.
    Finish,
    /// Have the stages of its model stand elsewhere.
    Move(Vec<StageAt>),
    /// What the process takes of the machine, for another one under the same caps. Changes nothing
    /// and waits for nothing.
    Usage,
}

/// A stage and the device it is to stand on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageAt {
    /// The device's name.
    pub device: String,
    /// The first piece it runs.
    pub first_piece: usize,
    /// One past the last piece it runs.
    pub end_piece: usize,
}

/// A running gogrid, after it did as asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The settings in force, as they were asked for.
    pub settings: Settings,
    /// The file they are watched in, if there is one.
    pub settings_file: Option<FileStatus>,
    /// The status of the pipeline.
    pub status: Value,
}

/// A watched file of settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatus {
    /// Where it is.
    pub path: PathBuf,
    /// Why its settings are not in force; older ones are.
    pub problem: Option<String>,
}

/// A request that was not done. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The kind.
    pub cause: Cause,
    /// The fault in words, for people.
    pub message: String,
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It is no request: garbage, too long, too slow, or of another version.
    Request,
    /// Settings that cannot be: an unknown key, a wrong type, a value out of its range.
    Settings,
    /// Stages that cannot stand like that: an unknown device, pieces that are missing or twice.
    Stages,
    /// The pipeline did not take it.
    Pipeline,
    /// Too many callers at once.
    Busy,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Done(Box<View>),
    Usage(PeerUse),
    Refused(Refused),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked<T> {
    version: u32,
    request: T,
}

#[derive(Serialize, Deserialize)]
struct Answered<T> {
    version: u32,
    answer: T,
}

/// All that is looked at before the version is known.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

pub(crate) fn request_line(request: &Request) -> Vec<u8> {
    line(&Asked {
        version: VERSION,
        request,
    })
}

pub(crate) fn answer_line(answer: &Answer) -> Vec<u8> {
    line(&Answered {
        version: VERSION,
        answer,
    })
}

pub(crate) fn parse_request(line: &[u8]) -> Result<Request, String> {
    parse(line).map(|Asked { request, .. }| request)
}

pub(crate) fn parse_answer(line: &[u8]) -> Result<Answer, String> {
    parse(line).map(|Answered { answer, .. }| answer)
}

/// Whether a gogrid says this, of whatever version.
pub(crate) fn is_answer(line: &[u8]) -> bool {
    serde_json::from_slice::<Versioned>(line).is_ok()
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("no map in it has keys other than text");
    line.push(b'\n');
    line
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    let garbled = |error: serde_json::Error| error.to_string();
    let Versioned { version } = serde_json::from_slice(line).map_err(garbled)?;
    if version != VERSION {
        return Err(format!("version {version}, and only {VERSION} is spoken"));
    }
    serde_json::from_slice(line).map_err(garbled)
}

#[cfg(test)]
mod tests {
    use corpgrid_scheduler::Mode;

    use super::*;

    #[test]
    fn requests_cross_the_wire_as_they_are_written_down() {
        let mode = Request::Set(Changes::of_mode(Mode::Default));
        let cases = [
            (Request::Get, r#""get""#),
            (Request::Pause, r#""pause""#),
            (Request::Resume, r#""resume""#),
            (Request::Finish, r#""finish""#),
            (
                Request::Snooze { seconds: 60 },
                r#"{"snooze":{"seconds":60}}"#,
            ),
            (mode, r#"{"set":{"mode":"default"}}"#),
            (Request::Usage, r#""usage""#),
            (
                Request::Move(vec![StageAt {
                    device: "cpu:0".to_owned(),
                    first_piece: 0,
                    end_piece: 10,
                }]),
                r#"{"move":[{"device":"cpu:0","first_piece":0,"end_piece":10}]}"#,
            ),
        ];
        for (request, text) in cases {
            let line = request_line(&request);
            let expected = format!("{{\"version\":1,\"request\":{text}}}\n");
            assert_eq!(String::from_utf8_lossy(&line), expected);
            assert_eq!(parse_request(&line), Ok(request));
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_reason() {
        let cases = [
            ("", "EOF"),
            ("{", "EOF"),
            ("get", "expected"),
            ("\u{0}\u{1}", "expected"),
            (r#"{"request":"get"}"#, "version"),
            (r#"{"version":2,"request":"get"}"#, "version 2, and only 1"),
            (r#"{"version":1,"request":"explode"}"#, "explode"),
            (r#"{"version":1,"request":"get","and":1}"#, "and"),
            (r#"{"version":1,"request":{"snooze":{}}}"#, "seconds"),
            (r#"{"version":1,"request":{"snooze":{"seconds":-1}}}"#, "-1"),
            (r#"{"version":1,"request":{"set":{"mode":"wild"}}}"#, "wild"),
            (r#"{"version":1,"request":{"set":{"limits":null}}}"#, "null"),
        ];
        for (line, part) in cases {
            let error = parse_request(line.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
