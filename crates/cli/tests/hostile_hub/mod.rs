//! A Hugging Face hub on the loopback that does what hubs, caches and networks do on their worst days, as a seed
//! decides.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use gogrid_testkit::Rng;
use sha2::{Digest, Sha256};

/// A file of the hub's one repository.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: &'static str,
    pub(crate) content: Vec<u8>,
}

impl File {
    /// In lower-case hexadecimal.
    pub(crate) fn sha256(&self) -> String {
        let hash = Sha256::digest(&self.content);
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What the hub was seen to do.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The bytes of files that it sent.
    pub(crate) sent: u64,
    /// The bytes that were not asked for, since they had come before.
    pub(crate) resumed: u64,
    /// Faults that it made.
    pub(crate) faults: u64,
    /// Processes that were killed while it sent to them.
    pub(crate) killed: u64,
}

struct Shared {
    files: Vec<File>,
    /// Whether it still makes faults.
    is_hostile: AtomicBool,
    /// A lock, held for a draw.
    chance: Mutex<Rng>,
    /// A lock, held for a change.
    seen: Mutex<Seen>,
    /// The process that is to be killed when the hub has sent so many more bytes.
    victim: Mutex<Option<(Arc<Process>, usize)>>,
}

/// See the module. It listens until the test's process ends.
#[derive(Clone)]
pub(crate) struct Hub {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

/// What is done with one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The connection ends in the middle.
    Cut,
    /// It ends before a word.
    Silence,
    /// A server that is busy.
    Busy,
    /// A byte is another.
    Damage,
    /// The answer says that it is shorter than the file.
    ShortLength,
    /// The whole file comes where a part was asked for.
    Whole,
    /// A part comes that was not asked for.
    OtherPart,
    /// The part that was asked for cannot be had.
    NoPart,
    /// More comes than there is.
    Longer,
    /// It is somewhere else.
    Moved,
}

const FAULTS: [Fault; 10] = [
    Fault::Cut,
    Fault::Silence,
    Fault::Busy,
    Fault::Damage,
    Fault::ShortLength,
    Fault::Whole,
    Fault::OtherPart,
    Fault::NoPart,
    Fault::Longer,
    Fault::Moved,
];

impl Hub {
    pub(crate) fn new(seed: u64, files: Vec<File>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            files,
            is_hostile: AtomicBool::new(true),
            chance: Mutex::new(Rng::new(seed)),
            seen: Mutex::default(),
            victim: Mutex::default(),
        });
        let serves = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever asked may have been killed: nothing of that is a fault of the hub's.
                let _ = serves.answer(&stream);
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Self { url, shared }
    }

    pub(crate) fn be_honest(&self) {
        self.shared.is_hostile.store(false, Ordering::Relaxed);
    }

    /// Kills this process when so many more bytes of files were sent.
    pub(crate) fn kill_after(&self, process: &Arc<Process>, bytes: usize) {
        *self.shared.victim.lock().unwrap() = Some((Arc::clone(process), bytes));
    }

    pub(crate) fn take_seen(&self) -> Seen {
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }
}

impl Shared {
    fn answer(&self, stream: &TcpStream) -> std::io::Result<()> {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        let request: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        let Some(target) = request.first().and_then(|line| line.split(' ').nth(1)) else {
            return Ok(());
        };
        if target.starts_with("/api/models/some/Model/revision/main") {
            return self.listing(stream);
        }
        let file = self.files.iter().find(|file| {
            let path = target.strip_prefix("/some/Model/resolve/c0ffee/");
            path == Some(file.path) || target.strip_prefix("/elsewhere/") == Some(file.path)
        });
        let Some(file) = file else {
            return say(stream, "404 Not Found", "content-length: 0\r\n", b"");
        };
        let from = request.iter().find_map(|line| {
            let range = line.to_ascii_lowercase();
            let range = range
                .strip_prefix("range: bytes=")?
                .strip_suffix('-')?
                .to_owned();
            range.parse::<usize>().ok()
        });
        self.send(stream, file, from)
    }

    fn listing(&self, stream: &TcpStream) -> std::io::Result<()> {
        let fault = self.fault();
        let files = self.files.iter().map(|file| {
            let mut hash = file.sha256();
            let (path, mut size) = (file.path, file.content.len());
            match fault {
                Some(Fault::Damage) => hash.replace_range(..1, if hash.starts_with('0') { "1" } else { "0" }),
                Some(Fault::ShortLength) => size -= 1,
                Some(Fault::Longer) => size += 1,
                _ => {}
            }
            format!(r#"{{"rfilename": "{path}", "size": {size}, "lfs": {{"sha256": "{hash}", "size": {size}}}}}"#)
        });
        let files: Vec<_> = files.collect();
        let body = format!(
            r#"{{"sha": "c0ffee", "tags": ["license:mit"], "siblings": [{}]}}"#,
            files.join(", ")
        );
        let length = format!("content-length: {}\r\n", body.len());
        let sent = match fault {
            Some(Fault::Silence) => return Ok(()),
            Some(Fault::Cut) => self.below(body.len()),
            _ => body.len(),
        };
        say(stream, "200 OK", &length, &body.as_bytes()[..sent])
    }

    /// Half of all answers are as they should be.
    fn fault(&self) -> Option<Fault> {
        if !self.is_hostile.load(Ordering::Relaxed) {
            return None;
        }
        let drawn = self.below(2 * FAULTS.len());
        let fault = FAULTS.get(drawn).copied();
        self.seen.lock().unwrap().faults += u64::from(fault.is_some());
        fault
    }

    fn below(&self, end: usize) -> usize {
        self.chance.lock().unwrap().below(end)
    }

    fn send(&self, stream: &TcpStream, file: &File, from: Option<usize>) -> std::io::Result<()> {
        let (content, size) = (&file.content, file.content.len());
        let from = from.filter(|from| *from < size);
        self.seen.lock().unwrap().resumed += from.unwrap_or(0) as u64;
        let part = |from: usize| format!("content-range: bytes {from}-{}/{size}\r\n", size - 1);
        let (status, mut headers, mut body) = match from {
            Some(from) => ("206 Partial Content", part(from), content[from..].to_vec()),
            None => ("200 OK", String::new(), content.clone()),
        };
        let mut length = body.len();
        let mut sent = length;
        match self.fault() {
            None => {}
            Some(Fault::Cut) => sent = self.below(length),
            Some(Fault::Silence) => return Ok(()),
            Some(Fault::Busy) => {
                let headers = "retry-after: 0\r\ncontent-length: 0\r\n";
                return say(stream, "503 Service Unavailable", headers, b"");
            }
            Some(Fault::Damage) => body[self.below(length)] ^= 1,
            Some(Fault::ShortLength) => {
                length = self.below(length);
                sent = length;
            }
            Some(Fault::Whole) => {
                let headers = format!("content-length: {size}\r\n");
                return self.say_counted(stream, "200 OK", (&headers, content));
            }
            Some(Fault::OtherPart) => headers = part(self.below(size)),
            Some(Fault::NoPart) => {
                let headers = format!("content-range: bytes */{size}\r\ncontent-length: 0\r\n");
                return say(stream, "416 Range Not Satisfiable", &headers, b"");
            }
            Some(Fault::Longer) => {
                body.extend_from_slice(b"and more");
                return self.say_counted(stream, status, (&headers, &body));
            }
            Some(Fault::Moved) => {
                let headers = format!(
                    "location: /elsewhere/{}\r\ncontent-length: 0\r\n",
                    file.path
                );
                return say(stream, "302 Found", &headers, b"");
            }
        }
        headers += &format!("content-length: {length}\r\n");
        self.say_counted(stream, status, (&headers, &body[..sent]))
    }

    /// Sends an answer in pieces, and kills who is to be killed when its bytes are out.
    fn say_counted(
        &self,
        mut stream: &TcpStream,
        status: &str,
        (headers, body): (&str, &[u8]),
    ) -> std::io::Result<()> {
        say(stream, status, headers, b"")?;
        for piece in body.chunks(4096) {
            stream.write_all(piece)?;
            self.seen.lock().unwrap().sent += piece.len() as u64;
            let mut victim = self.victim.lock().unwrap();
            let Some((process, left)) = &mut *victim else {
                continue;
            };
            if *left > piece.len() {
                *left -= piece.len();
                continue;
            }
            self.seen.lock().unwrap().killed += u64::from(process.kill());
            *victim = None;
            return Ok(());
        }
        Ok(())
    }
}

fn say(mut stream: &TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// A program that is pulling. A lock, held for a call: the hub kills what the test waits for.
pub(crate) struct Process(Mutex<Child>);

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Arc<Self> {
        Arc::new(Self(Mutex::new(command.spawn().unwrap())))
    }

    /// Whether it was still there.
    fn kill(&self) -> bool {
        let mut child = self.0.lock().unwrap();
        matches!(child.try_wait(), Ok(None)) && child.kill().is_ok()
    }

    /// Its exit code, if it was not killed, and what it said.
    pub(crate) fn end(&self) -> (Option<i32>, String) {
        let said = self.0.lock().unwrap().stderr.take();
        let mut text = String::new();
        said.expect("it is asked once")
            .read_to_string(&mut text)
            .unwrap();
        (self.0.lock().unwrap().wait().unwrap().code(), text)
    }
}
