//! The server over a real local socket.

mod fake;

use std::io::{Read, Write};
use std::process;
use std::sync::Arc;

use corpgrid_scheduler::{Changes, Mode, Settings};
use gogrid_control::{
    Cause, ClientError, Control, Refused, Request, Server, StageAt, View, ask, running,
};
use gogrid_host::{SocketName, Stream};
use serde_json::{Value, json};

use crate::fake::Fake;

/// A server that listens under a name of its own.
struct Rig {
    program: &'static str,
    _server: Server,
}

impl Rig {
    fn start(program: &'static str) -> Self {
        let control = Control::new(Arc::new(Fake::new()));
        let server = Server::start(program, Arc::new(control)).unwrap();
        Self {
            program,
            _server: server,
        }
    }

    fn ask(&self, request: &Request) -> Result<View, ClientError> {
        ask(self.program, process::id(), request)
    }

    fn call(&self) -> Stream {
        Stream::connect(&SocketName::own(self.program).unwrap()).unwrap()
    }
}

fn changes(text: &str) -> Request {
    Request::Set(Changes::from_toml(text).unwrap())
}

fn refused(answer: Result<View, ClientError>) -> Refused {
    match answer {
        Err(ClientError::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

/// What the server says to these bytes, which may be no request.
fn reply(mut stream: Stream, bytes: &[u8]) -> Value {
    // It may be refused before it is all written.
    let _ = stream.write_all(bytes);
    rest(stream)
}

fn rest(mut stream: Stream) -> Value {
    let mut line = String::new();
    stream.read_to_string(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn what_is_asked_is_done_and_shown() {
    let rig = Rig::start("test-done");
    let view = rig.ask(&Request::Get).unwrap();
    assert_eq!(view.settings, Settings::of(Mode::Conservative));
    assert_eq!(
        (view.settings_file, view.status),
        (None, json!({"commands": []}))
    );

    let view = rig.ask(&changes("limits.max_batch_size = 3")).unwrap();
    assert_eq!(view.settings.limits.max_batch_size, 3);
    let view = rig.ask(&changes("away.max_batch_size = 9")).unwrap();
    assert_eq!(
        view.settings.limits.max_batch_size, 3,
        "the first change still holds"
    );
    let view = rig.ask(&changes("mode = \"aggressive\"")).unwrap();
    assert_eq!(view.settings, Settings::of(Mode::Aggressive));

    for request in [Request::Pause, Request::Resume, Request::Finish] {
        rig.ask(&request).unwrap();
    }
    let view = rig.ask(&Request::Snooze { seconds: 90 }).unwrap();
    let commands = ["Pause", "Resume", "Finish", "Snooze(90s)"];
    assert_eq!(view.status, json!({ "commands": commands }));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let rig = Rig::start("test-refused");
    let settings = |request: &Request| refused(rig.ask(request));
    let cases = [
        (
            changes("limits.max_batch = 3"),
            Cause::Settings,
            "limits.max_batch is no key",
        ),
        (
            changes("limits.max_batch_size = 0"),
            Cause::Settings,
            "must be in 1..=64",
        ),
        (
            changes("limits.max_batch_size = 64"),
            Cause::Pipeline,
            "too large for me",
        ),
        (
            Request::Snooze { seconds: 0 },
            Cause::Settings,
            "1..=604800",
        ),
        (
            Request::Snooze { seconds: u64::MAX },
            Cause::Settings,
            "1..=604800",
        ),
    ];
    for (request, cause, part) in cases {
        let refused = settings(&request);
        assert_eq!(refused.cause, cause, "{refused}");
        assert!(refused.message.contains(part), "{refused}");
    }
    let view = rig.ask(&Request::Get).unwrap();
    assert_eq!(view.settings, Settings::of(Mode::Conservative));
    assert_eq!(view.status, json!({"commands": []}));
}

#[test]
fn a_move_and_a_question_of_use_reach_what_is_controlled() {
    let rig = Rig::start("test-move");
    let on = |device: &str| {
        Request::Move(vec![StageAt {
            device: device.to_owned(),
            first_piece: 0,
            end_piece: 4,
        }])
    };
    assert!(rig.ask(&on("cpu")).is_ok());
    let refused = refused(rig.ask(&on("tpu")));
    assert_eq!(
        (refused.cause, &*refused.message),
        (Cause::Stages, "no device tpu")
    );
    let line = b"{\"version\":1,\"request\":\"usage\"}\n";
    let usage = reply(rig.call(), line)["answer"]["usage"].clone();
    assert_eq!(usage["pid"], process::id());
    assert_eq!(usage["memory_bytes"], json!([["system", 4096]]));
}

#[test]
fn garbage_is_answered_with_what_is_wrong() {
    let rig = Rig::start("test-garbage");
    let deep = "[".repeat(60_000);
    let cases: [&[u8]; 6] = [
        b"\n",
        b"hello\n",
        b"\xff\xfe\x00\n",
        deep.as_bytes(),
        b"{\"version\":7,\"request\":\"get\"}\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for case in cases {
        let line = [case, b"\n"].concat();
        let reply = reply(rig.call(), &line);
        assert_eq!(reply["answer"]["refused"]["cause"], "request", "{reply}");
    }
    assert!(rig.ask(&Request::Get).is_ok());
}

#[test]
fn a_request_without_end_is_cut_off() {
    let rig = Rig::start("test-long");
    let reply = reply(rig.call(), &vec![b'x'; 1 << 20]);
    let message = reply["answer"]["refused"]["message"].as_str().unwrap();
    assert!(message.contains("more than 65536 bytes"), "{message}");
    assert!(rig.ask(&Request::Get).is_ok());
}

#[test]
fn a_caller_who_dawdles_holds_nobody_up_and_is_sent_away() {
    let rig = Rig::start("test-slow");
    let mut slow = rig.call();
    slow.write_all(b"{\"version\":1,").unwrap();
    assert!(rig.ask(&Request::Pause).is_ok());
    let reply = rest(slow);
    let message = reply["answer"]["refused"]["message"].as_str().unwrap();
    assert!(message.contains("longer than 2 s"), "{message}");
}

#[test]
fn two_callers_at_once_are_both_answered() {
    let rig = Rig::start("test-two");
    let (mut first, mut second) = (rig.call(), rig.call());
    let line = b"{\"version\":1,\"request\":\"get\"}\n";
    let (head, tail) = line.split_at(10);
    for part in [head, tail] {
        second.write_all(part).unwrap();
        first.write_all(part).unwrap();
    }
    for caller in [first, second] {
        assert!(rest(caller)["answer"]["done"].is_object());
    }
}

#[test]
fn more_callers_than_there_is_room_for_are_told_so() {
    let rig = Rig::start("test-busy");
    let waiting: Vec<_> = (0..4).map(|_| rig.call()).collect();
    assert_eq!(refused(rig.ask(&Request::Get)).cause, Cause::Busy);
    drop(waiting);
    // Their threads end when they have seen that nobody is there.
    let answered = (0..100_000).any(|_| rig.ask(&Request::Get).is_ok());
    assert!(answered);
}

#[test]
fn nobody_is_found_once_the_server_is_gone() {
    let rig = Rig::start("test-gone");
    let pid = process::id();
    assert_eq!(running("test-gone").unwrap(), [pid]);
    let silent = rig.call();
    drop(rig);
    assert!(running("test-gone").unwrap().is_empty());
    let error = ask("test-gone", pid, &Request::Get).unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    drop(silent);
}
