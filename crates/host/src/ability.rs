use std::fmt;

use crate::imp;

/// Something a system may or may not let this process do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ability {
    /// What it is: `priority of each thread`.
    pub name: &'static str,
    /// Why it cannot be had here; `None` where it can.
    pub absent: Option<&'static str>,
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.absent {
            None => write!(f, "{}: available", self.name),
            Some(why) => write!(f, "{}: absent, {why}", self.name),
        }
    }
}

/// Every ability this crate knows of, as it stands on this system.
pub fn abilities() -> Vec<Ability> {
    imp::ABILITIES.to_vec()
}
