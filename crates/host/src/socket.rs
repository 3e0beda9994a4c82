use std::fmt;
use std::io::{self, Read, Write};
use std::process;
use std::time::Duration;

use crate::error::HostError;
use crate::imp;

/// The name of a local socket: a program's, and the id of the process that listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketName {
    program: String,
    pid: u32,
}

/// A socket's path may have 104 bytes on macOS and 108 on Linux.
const PROGRAM_MAX: usize = 24;

impl SocketName {
    /// The name this process would listen on. A program's name has lower-case letters, digits and `-`.
    pub fn own(program: &str) -> Result<Self, HostError> {
        Self::of(program, process::id())
    }

    /// The name that process would listen on.
    pub fn of(program: &str, pid: u32) -> Result<Self, HostError> {
        let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let short = (1..=PROGRAM_MAX).contains(&program.len());
        if short && program.bytes().all(fine) {
            let program = program.to_owned();
            return Ok(Self { program, pid });
        }
        Err(HostError::BadSocketName {
            name: program.to_owned(),
        })
    }

    /// Every process of this user's that listens under the program's name, by rising id. Each is
    /// called to find out. Names that dead processes left are removed; a name that a living process
    /// has by its number alone does not count.
    pub fn running(program: &str) -> Result<Vec<Self>, HostError> {
        let mut names = Self::listed(program)?;
        names.retain(imp::socket_is_alive);
        Ok(names)
    }

    /// Every name under the program's that is there, whether anybody listens or not.
    pub fn listed(program: &str) -> Result<Vec<Self>, HostError> {
        // For its check.
        Self::own(program)?;
        let mut names: Vec<_> = imp::socket_files(program)
            .iter()
            .filter_map(|file| Self::parse(file))
            .filter(|name| name.program == program)
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Whether anybody takes a call of this name. A name that a dead process left is removed.
    pub fn is_alive(&self) -> bool {
        imp::socket_is_alive(self)
    }

    /// The process that listens.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// As it is written: `gogrid-123`.
    fn parse(text: &str) -> Option<Self> {
        let (program, pid) = text.rsplit_once('-')?;
        let name = Self::of(program, pid.parse().ok()?).ok()?;
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.program, self.pid)
    }
}

/// A local socket that only this process's user can reach: a Unix socket in a folder of the
/// user's, or a named pipe. Its name is free again when it is dropped.
#[derive(Debug)]
pub struct Listener {
    inner: imp::Listener,
    name: SocketName,
}

impl Listener {
    /// Listens under this name, which no living listener may have.
    pub fn bind(name: &SocketName) -> Result<Self, HostError> {
        Ok(Self {
            inner: imp::Listener::bind(name)?,
            name: name.clone(),
        })
    }

    /// Waits for the next caller. An error concerns one caller, such as one of another user's,
    /// unless it comes again and again.
    pub fn accept(&self) -> Result<Stream, HostError> {
        self.inner.accept().map(Stream)
    }

    /// Its name.
    pub fn name(&self) -> &SocketName {
        &self.name
    }
}

/// One conversation over a local socket; reads and writes wait until something moves.
#[derive(Debug)]
pub struct Stream(imp::Stream);

impl Stream {
    /// Calls a listener. One that takes no calls is waited for a moment.
    pub fn connect(name: &SocketName) -> Result<Self, HostError> {
        imp::Stream::connect(name).map(Self)
    }

    /// How long one read or write may wait from here on; then it fails as timed out.
    pub fn set_timeout(&mut self, each: Duration) -> Result<(), HostError> {
        // Zero would mean without end.
        self.0.set_timeout(each.max(Duration::from_millis(1)))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(timed_out)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Unix says that a socket with a timeout would block.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_text_and_nothing_else_is_one() {
        let name = SocketName::of("gogrid-test", 7).unwrap();
        assert_eq!(SocketName::parse("gogrid-test-7"), Some(name));
        for bad in [
            "gogrid",
            "-7",
            "gogrid-07",
            "gogrid-+7",
            "../x-7",
            "Gogrid-7",
            "gogrid-7/",
        ] {
            assert_eq!(SocketName::parse(bad), None, "{bad}");
        }
        let long = "a".repeat(PROGRAM_MAX + 1);
        let error = SocketName::own(&long).unwrap_err().to_string();
        assert!(error.contains(&long), "{error}");
    }
}
