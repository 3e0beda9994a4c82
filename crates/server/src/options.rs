use std::net::SocketAddr;
use std::time::Duration;

use corpgrid_scheduler::Whose;

use crate::keys::Keys;

/// How to serve.
#[derive(Debug)]
pub struct ServeOptions {
    /// Where to listen. Other addresses than this machine's own need keys.
    pub address: SocketAddr,
    /// Who may ask; `None` lets every program of this machine.
    pub keys: Option<Keys>,
    /// Whose requests are where no key is asked.
    pub without_key: Whose,
    /// The model of a request that names none, or one of OpenAI's.
    pub default_model: String,
    /// How long a model stays open after its last request; `None` for ever.
    pub keep_alive: Option<Duration>,
    /// How long a request may wait for its first token where it names no time.
    pub deadline: Duration,
    /// How long a server that is told to end lets its requests run.
    pub drain: Duration,
    /// Web pages of these origins may ask (`http://localhost:3000`), besides those of this machine.
    pub origins: Vec<String>,
}

impl ServeOptions {
    /// No keys and for guests, one model, five minutes of idleness.
    pub fn new(address: SocketAddr, default_model: impl Into<String>) -> Self {
        Self {
            address,
            keys: None,
            without_key: Whose::Guest,
            default_model: default_model.into(),
            keep_alive: Some(Duration::from_secs(5 * 60)),
            deadline: Duration::from_secs(120),
            drain: Duration::from_secs(30),
            origins: Vec::new(),
        }
    }
}
