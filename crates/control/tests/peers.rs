//! What is known of other processes, with sockets that stand for them.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use corpgrid_scheduler::{Peers, SeenPeers};
use gogrid_control::PeerWatch;
use gogrid_host::{Listener, SocketName};

/// A living process that listens to nobody, whose id a socket of ours can have.
struct Other(Child);

impl Other {
    fn start() -> Self {
        let sleeps = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn();
        Self(sleeps.unwrap())
    }

    fn name(&self, program: &str) -> SocketName {
        SocketName::of(program, self.0.id()).unwrap()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A process that says `answer` to the first line of each of `calls` callers.
fn answers(name: &SocketName, calls: usize, answer: String) -> JoinHandle<Vec<String>> {
    let listener = Listener::bind(name).unwrap();
    thread::spawn(move || {
        let answer_one = |_| {
            let mut stream = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&mut stream).read_line(&mut line).unwrap();
            // The caller may have gone.
            let _ = stream.write_all(answer.as_bytes());
            line
        };
        (0..calls).map(answer_one).collect()
    })
}

fn usage(pid: u32, bytes: u64) -> String {
    format!(
        "{{\"version\":1,\"answer\":{{\"usage\":{{\"pid\":{pid},\"memory_bytes\":\
         [[\"system\",{bytes}]],\"cpu_share\":0.9,\"cpu_s\":1.5,\"is_busy\":true}}}}}}\n"
    )
}

fn look(program: &str) -> SeenPeers {
    PeerWatch::start(program).unwrap().look(false)
}

/// That it names the process, and why it is unknown.
fn check_unknown(seen: &SeenPeers, pid: u32, evidence: &str) {
    let [unknown] = &seen.unknown[..] else {
        panic!("{seen:?}");
    };
    assert!(unknown.contains(&pid.to_string()), "{unknown}");
    assert!(unknown.contains(evidence), "{unknown}");
    assert!(seen.peers.is_empty(), "{seen:?}");
}

#[test]
fn a_process_that_tells_is_seen_before_the_start_returns() {
    let (program, other) = ("peers-tells", Other::start());
    let pid = other.0.id();
    let told = answers(&other.name(program), 1, usage(pid, 4096));
    let seen = look(program);
    assert!(seen.unknown.is_empty(), "{seen:?}");
    let [peer] = &seen.peers[..] else {
        panic!("{seen:?}");
    };
    assert_eq!(peer.pid, pid);
    assert_eq!(peer.memory_bytes, [("system".to_owned(), 4096)]);
    assert!(peer.is_busy);
    assert_eq!(peer.cpu_share, 0.0, "one answer tells no share");
    let asked = told.join().unwrap();
    assert_eq!(asked, ["{\"version\":1,\"request\":\"usage\"}\n"]);
}

#[test]
fn this_process_is_no_other() {
    let program = "peers-self";
    let _listener = Listener::bind(&SocketName::own(program).unwrap()).unwrap();
    assert_eq!(look(program), SeenPeers::default());
}

#[test]
fn a_process_that_says_what_cannot_be_is_unknown() {
    let cases = [
        ("hello\n", "its answer is none"),
        ("{\"version\":1}\n", "its answer is none"),
        (
            "{\"version\":2,\"answer\":{}}\n",
            "version 2, and only 1 is spoken",
        ),
        ("half a line", "it ended within a line"),
        ("", "it ended within a line"),
        (&usage(1, 4096), "it says that it is 1"),
        (
            "{\"version\":1,\"answer\":{\"refused\":{\"cause\":\"request\",\"message\":\"no \
             request: unknown variant `usage`\"}}}\n",
            "older version",
        ),
        (
            "{\"version\":1,\"answer\":{\"refused\":{\"cause\":\"busy\",\"message\":\"4 \
             callers\"}}}\n",
            "too many callers",
        ),
        (&"x".repeat(1 << 20), "more than 65536 bytes"),
        (&format!("{{\"{}\":1}}\n", "y".repeat(9000)), "its answer"),
    ];
    for (answer, evidence) in cases {
        let (program, other) = ("peers-odd", Other::start());
        let _told = answers(&other.name(program), 1, answer.to_owned());
        let seen = look(program);
        check_unknown(&seen, other.0.id(), evidence);
        assert!(seen.unknown[0].len() < 300, "{}", seen.unknown[0]);
    }
}

#[test]
fn a_process_that_hangs_is_unknown_and_has_one_call_waiting_at_most() {
    let (program, other) = ("peers-hangs", Other::start());
    let listener = Listener::bind(&other.name(program)).unwrap();
    let mut watch = PeerWatch::start(program).unwrap();
    check_unknown(&watch.look(false), other.0.id(), "longer than");
    // The same call is answered later.
    let mut stream = listener.accept().unwrap();
    stream.write_all(usage(other.0.id(), 7).as_bytes()).unwrap();
    let mut is_busy = false;
    let peers = loop {
        // Each turn to being busy asks for a round.
        is_busy = !is_busy;
        let seen = watch.look(is_busy);
        if !seen.peers.is_empty() {
            break seen.peers;
        }
        thread::yield_now();
    };
    assert_eq!(peers[0].memory_bytes[0].1, 7);
    // Later calls hang again: what it held before, it holds still.
    let seen = loop {
        is_busy = !is_busy;
        let seen = watch.look(is_busy);
        if !seen.unknown.is_empty() {
            break seen;
        }
        thread::yield_now();
    };
    assert_eq!(seen.peers[0].memory_bytes[0].1, 7);
    assert!(!seen.peers[0].is_busy);
}

#[test]
fn a_socket_that_a_dead_process_left_is_no_process() {
    let (program, other) = ("peers-stale", Other::start());
    let name = other.name(program);
    let path = path(&name);
    // The standard library's listener leaves its file behind. The process id is another's now.
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(look(program), SeenPeers::default());
    drop(other);
    assert_eq!(look(program), SeenPeers::default());
    assert!(!path.exists());
}

#[test]
fn more_processes_than_are_asked_are_counted() {
    let program = "peers-many";
    let others: Vec<_> = (0..19).map(|_| Other::start()).collect();
    let mut told = Vec::new();
    let mut names: Vec<_> = others.iter().map(|other| other.name(program)).collect();
    names.sort_unstable();
    let unasked: Vec<_> = names.split_off(16).iter().map(Listener::bind).collect();
    for name in &names {
        told.push(answers(name, 1, usage(name.pid(), 10)));
    }
    let seen = look(program);
    assert_eq!(seen.peers.len(), 16, "{seen:?}");
    let expected = "3 gogrids more than the 16 that are asked";
    assert_eq!(seen.unknown, [expected]);
    drop(unasked);
}

#[test]
fn many_that_hang_are_given_a_second_together() {
    let program = "peers-hang";
    let others: Vec<_> = (0..8).map(|_| Other::start()).collect();
    let names = others.iter().map(|other| other.name(program));
    let listeners: Vec<_> = names.map(|name| Listener::bind(&name).unwrap()).collect();
    let seen = look(program);
    assert_eq!(seen.unknown.len(), 8, "{seen:?}");
    let unasked = seen.unknown.iter().filter(|u| u.contains("not asked"));
    assert!(unasked.count() >= 2, "{seen:?}");
    drop(listeners);
}

/// Where the socket of this name is.
fn path(name: &SocketName) -> PathBuf {
    let own = SocketName::of(&format!("{}-at", "peers"), process::id()).unwrap();
    let _listener = Listener::bind(&own).unwrap();
    let variables = ["XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "HOME", "TMPDIR"];
    let mut bases: Vec<PathBuf> = variables
        .iter()
        .filter_map(std::env::var_os)
        .map(PathBuf::from)
        .collect();
    bases.push("/tmp".into());
    bases.push("/run/user".into());
    let file = format!("{own}.sock");
    let found = bases.iter().find_map(|base| find(base, &file, 3));
    found
        .expect("a socket that is bound is somewhere")
        .with_file_name(format!("{name}.sock"))
}

fn find(folder: &std::path::Path, file: &str, deep: usize) -> Option<PathBuf> {
    let path = folder.join(file);
    if path.exists() {
        return Some(path);
    }
    if deep == 0 {
        return None;
    }
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| find(&entry.path(), file, deep - 1))
}
