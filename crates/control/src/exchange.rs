//! Lines over a stream, bounded in bytes and in time.

use std::io::{self, Read, Write};
use std::time::Duration;

use gogrid_host::{Clock, Stream};

/// Why a line did not come, or did not go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("it took longer than {} s", .0.as_secs())]
    TooSlow(Duration),
    #[error("a line of more than {0} bytes")]
    TooLong(usize),
    #[error("it ended within a line")]
    Ended,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A stretch of time that one transfer may take, however many reads or writes it is.
struct Deadline {
    clock: Clock,
    all: Duration,
}

impl Deadline {
    fn new(all: Duration) -> Self {
        let clock = Clock::start();
        Self { clock, all }
    }

    /// Lets the next read or write wait for the time that is left.
    fn arm(&self, stream: &mut Stream) -> Result<(), LineError> {
        let gone = Duration::from_nanos(self.clock.now().0);
        let left = self.all.saturating_sub(gone);
        if left.is_zero() {
            return Err(LineError::TooSlow(self.all));
        }
        let armed = stream.set_timeout(left);
        armed.map_err(|error| LineError::Io(io::Error::other(error)))
    }

    fn told(&self, error: io::Error) -> LineError {
        match error.kind() {
            io::ErrorKind::TimedOut => LineError::TooSlow(self.all),
            _ => LineError::Io(error),
        }
    }
}

/// The bytes before the first line end.
pub(crate) fn read_line(
    stream: &mut Stream,
    bytes_max: usize,
    time_max: Duration,
) -> Result<Vec<u8>, LineError> {
    let deadline = Deadline::new(time_max);
    let (mut line, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        deadline.arm(stream)?;
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Err(LineError::Ended),
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(deadline.told(error)),
        };
        let end = read.iter().position(|&byte| byte == b'\n');
        line.extend_from_slice(&read[..end.unwrap_or(read.len())]);
        if line.len() > bytes_max {
            return Err(LineError::TooLong(bytes_max));
        }
        if end.is_some() {
            return Ok(line);
        }
    }
}

/// Writes all of `line`, which has its line end.
pub(crate) fn write_line(
    stream: &mut Stream,
    line: &[u8],
    time_max: Duration,
) -> Result<(), LineError> {
    let deadline = Deadline::new(time_max);
    let mut left = line;
    while !left.is_empty() {
        deadline.arm(stream)?;
        match stream.write(left) {
            Ok(0) => return Err(LineError::Ended),
            Ok(count) => left = &left[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(deadline.told(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use gogrid_host::{Listener, SocketName};

    use super::*;

    /// The two ends of a conversation.
    fn ends(program: &str) -> (Stream, Stream) {
        let name = SocketName::own(program).unwrap();
        let listener = Listener::bind(&name).unwrap();
        let caller = Stream::connect(&name).unwrap();
        (listener.accept().unwrap(), caller)
    }

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_line_comes_whole_however_it_was_cut() {
        let (mut ours, mut theirs) = ends("line-whole");
        theirs.write_all(b"{\"a\"").unwrap();
        theirs.write_all(b":1}\nmore").unwrap();
        let line = read_line(&mut ours, 100, LONG).unwrap();
        assert_eq!(line, b"{\"a\":1}");
    }

    #[test]
    fn a_line_that_never_ends_is_cut_off_by_its_bytes() {
        let (mut ours, mut theirs) = ends("line-long");
        theirs.write_all(&[b'x'; 101]).unwrap();
        let error = read_line(&mut ours, 100, LONG).unwrap_err();
        assert_eq!(error.to_string(), "a line of more than 100 bytes");
    }

    #[test]
    fn a_caller_who_says_nothing_is_not_waited_for() {
        let (mut ours, _theirs) = ends("line-silent");
        let error = read_line(&mut ours, 100, SHORT).unwrap_err();
        assert!(matches!(error, LineError::TooSlow(_)), "{error}");
    }

    #[test]
    fn a_caller_who_never_comes_to_an_end_is_cut_off_by_time() {
        let (mut ours, mut theirs) = ends("line-endless");
        let talking = thread::spawn(move || while theirs.write(b"x").is_ok() {});
        let error = read_line(&mut ours, usize::MAX, SHORT).unwrap_err();
        assert!(matches!(error, LineError::TooSlow(_)), "{error}");
        drop(ours);
        talking.join().unwrap();
    }

    #[test]
    fn a_caller_who_does_not_read_is_not_waited_for() {
        let (mut ours, _theirs) = ends("line-unread");
        let line = vec![b'x'; 64 << 20];
        let error = write_line(&mut ours, &line, SHORT).unwrap_err();
        assert!(matches!(error, LineError::TooSlow(_)), "{error}");
    }

    #[test]
    fn a_caller_who_goes_within_a_line_is_told_apart() {
        let (mut ours, mut theirs) = ends("line-ended");
        theirs.write_all(b"half").unwrap();
        drop(theirs);
        let error = read_line(&mut ours, 100, LONG).unwrap_err();
        assert!(matches!(error, LineError::Ended), "{error}");
    }
}
