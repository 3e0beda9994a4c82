//! What a mode stands for: limits while somebody is there and while nobody is, and the policy that
//! tells when to take less or nothing. A file or a command says what differs from a mode.

mod changes;
mod error;

use gogrid_governor::{Policy, PolicyError};
use serde::{Deserialize, Serialize};

pub use changes::Changes;
pub use error::SettingsError;

use crate::resource_manager::{ConfigError, ResourceConfig};

/// How much of the machine may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A desktop that somebody works on.
    Conservative,
    /// A machine with mixed use.
    Default,
    /// A machine that serves and does nothing else.
    Aggressive,
}

impl Mode {
    /// Every mode, the most careful first.
    pub const ALL: [Self; 3] = [Self::Conservative, Self::Default, Self::Aggressive];

    /// Its name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conservative => "conservative",
            Self::Default => "default",
            Self::Aggressive => "aggressive",
        }
    }
}

/// What a pipeline may take, and when.
///
/// ```
/// use corpgrid_scheduler::{Mode, Settings};
///
/// let settings = Settings::from_toml("mode = \"default\"\n[away]\nmax_batch_size = 16\n")?;
/// assert_eq!(settings.limits, Settings::of(Mode::Default).limits);
/// assert_eq!(settings.away.max_batch_size, 16);
///
/// let error = Settings::from_toml("[limits]\nmax_batch_size = 0\n").unwrap_err();
/// let message = "line 2, column 1: limits.max_batch_size is 0, must be in 1..=64";
/// assert_eq!(error.to_string(), message);
/// # Ok::<(), corpgrid_scheduler::SettingsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What holds while somebody is there, or where nobody can tell.
    pub limits: ResourceConfig,
    /// What holds while nobody is there.
    pub away: ResourceConfig,
    /// When less than that is taken, or nothing.
    pub policy: Policy,
}

impl Settings {
    /// What a mode stands for.
    pub fn of(mode: Mode) -> Self {
        let limits = match mode {
            Mode::Conservative => ResourceConfig::conservative(),
            Mode::Default => ResourceConfig::default(),
            Mode::Aggressive => ResourceConfig::aggressive(),
        };
        let policy = match mode {
            Mode::Conservative => Policy::desktop(),
            Mode::Default => Policy::mixed(),
            Mode::Aggressive => Policy::server(),
        };
        Self {
            away: away(mode, &limits),
            limits,
            policy,
        }
    }

    /// The settings that a file stands for: a mode, `conservative` where it names none, and what
    /// differs from it.
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        Changes::from_toml(text)?.onto(&Self::of(Mode::Conservative))
    }

    /// A file that stands for these settings, with every key written out.
    pub fn to_toml(&self) -> Result<String, SettingsError> {
        toml::to_string(self).map_err(|error| SettingsError::unwritable(&error))
    }

    /// Whether every value is in its range; the error names the first that is not.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let limits = |section, limits: &ResourceConfig| {
            let checked = limits.validate();
            checked.map_err(
                |ConfigError {
                     field,
                     value,
                     range,
                 }| {
                    SettingsError::value(
                        format!("{section}.{field}"),
                        &value,
                        &format!("in {range}"),
                    )
                },
            )
        };
        limits("limits", &self.limits)?;
        limits("away", &self.away)?;
        let policy = self.policy.validate();
        policy.map_err(
            |PolicyError {
                 key,
                 value,
                 allowed,
             }| { SettingsError::value(format!("policy.{key}"), &value, &allowed) },
        )
    }
}

impl From<ResourceConfig> for Settings {
    /// The same limits whether somebody is there or not, and a desktop's policy: never more than
    /// the caller's caps.
    fn from(limits: ResourceConfig) -> Self {
        Self {
            away: limits.clone(),
            limits,
            policy: Policy::desktop(),
        }
    }
}

/// What a mode may take while nobody is there.
fn away(mode: Mode, limits: &ResourceConfig) -> ResourceConfig {
    let limits = limits.clone();
    match mode {
        Mode::Conservative => ResourceConfig {
            max_vram_usage_percent: 0.70,
            max_compute_usage_percent: 0.80,
            min_request_interval_ms: 50,
            max_batch_size: 4,
            ..limits
        },
        Mode::Default => ResourceConfig {
            max_vram_usage_percent: 0.90,
            max_compute_usage_percent: 0.95,
            min_request_interval_ms: 0,
            max_batch_size: 8,
            ..limits
        },
        Mode::Aggressive => limits,
    }
}

#[cfg(test)]
mod tests;
