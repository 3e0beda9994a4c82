use std::path::{Path, PathBuf};

use super::{Folder, Starter};
use crate::service::{Activity, Call, ServiceError, ServiceSpec};

/// There is none.
pub(crate) enum Absent {}

impl Starter for Absent {
    fn name(&self) -> &'static str {
        match *self {}
    }

    fn path(&self, _name: &str, _folder: Folder<'_>) -> Result<PathBuf, ServiceError> {
        match *self {}
    }

    fn bytes(&self, _spec: &ServiceSpec) -> Result<Vec<u8>, ServiceError> {
        match *self {}
    }

    fn command(&self, _bytes: &[u8]) -> Option<String> {
        match *self {}
    }

    fn probe(&self) -> Call {
        match *self {}
    }

    fn remedy(&self) -> &'static str {
        match *self {}
    }

    fn load(&self, _name: &str, _path: &Path) -> Vec<Call> {
        match *self {}
    }

    fn unload(&self, _name: &str) -> Vec<Call> {
        match *self {}
    }

    fn forget(&self) -> Vec<Call> {
        match *self {}
    }

    fn ask(&self, _name: &str) -> Call {
        match *self {}
    }

    fn activity(&self, _said: &str) -> Activity {
        match *self {}
    }

    fn means_unloaded(&self, _said: &str) -> bool {
        match *self {}
    }
}
