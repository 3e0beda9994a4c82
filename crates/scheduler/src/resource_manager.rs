//! What a pipeline may take, and what its starts came to.

use serde::{Deserialize, Serialize};

use crate::limits::SEQUENCES_IN_STEP_MAX;

// The bound is in the words of the field and of its error.
const _: () = assert!(SEQUENCES_IN_STEP_MAX == 64);

const SHARE: &str = "0..=1";
const PRIORITY: &str = "-20..=19";
const IO_CLASS: &str = "0..=3";
const IO_LEVEL: &str = "0..=7";
const BATCH: &str = "1..=64";

/// What the whole-numbered field of this name may be, for values that do not fit its type.
pub(crate) fn range(field: &str) -> Option<&'static str> {
    match field {
        "process_priority" => Some(PRIORITY),
        "io_priority_class" => Some(IO_CLASS),
        "io_priority_level" => Some(IO_LEVEL),
        "max_batch_size" => Some(BATCH),
        // TOML's whole numbers have a sign.
        "min_request_interval_ms" => Some("0..=9223372036854775807"),
        _ => None,
    }
}

/// What a pipeline may take of the machine it runs on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceConfig {
    /// Share of a device's total memory that our own bytes may reach, 0..=1.
    pub max_vram_usage_percent: f64,
    /// Share of a device's time that our work may take, 0..=1.
    pub max_compute_usage_percent: f64,
    /// Nice value of every thread of the pipeline, -20..=19.
    pub process_priority: i32,
    /// I/O priority class of every thread of the pipeline: 0 none, 1 real time, 2 best effort,
    /// 3 idle.
    pub io_priority_class: u8,
    /// I/O priority within the class, 0 (first) ..= 7 (last).
    pub io_priority_level: u8,
    /// Whether starts are kept apart and others' load counts. The caps hold either way.
    pub enable_auto_throttle: bool,
    /// Request starts are at least this far apart.
    pub min_request_interval_ms: u64,
    /// Sequences that advance in one step, 1..=64.
    pub max_batch_size: usize,
}

impl ResourceConfig {
    /// For a desktop that somebody works on.
    pub fn conservative() -> Self {
        Self {
            max_vram_usage_percent: 0.50,
            max_compute_usage_percent: 0.60,
            process_priority: 15,
            io_priority_class: 3,
            io_priority_level: 7,
            enable_auto_throttle: true,
            min_request_interval_ms: 100,
            max_batch_size: 2,
        }
    }

    /// For a machine that serves and does nothing else.
    pub fn aggressive() -> Self {
        Self {
            max_vram_usage_percent: 0.95,
            max_compute_usage_percent: 0.95,
            process_priority: 0,
            io_priority_class: 2,
            io_priority_level: 4,
            enable_auto_throttle: false,
            min_request_interval_ms: 0,
            max_batch_size: 16,
        }
    }

    /// Whether every field is in its range; the error names the first that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let share = |field, value: f64| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(ConfigError {
                field,
                value: value.to_string(),
                range: SHARE,
            }),
        };
        let whole = |field, value: i64, least: i64, most: i64, range| match value {
            v if (least..=most).contains(&v) => Ok(()),
            v => Err(ConfigError {
                field,
                value: v.to_string(),
                range,
            }),
        };
        share("max_vram_usage_percent", self.max_vram_usage_percent)?;
        share("max_compute_usage_percent", self.max_compute_usage_percent)?;
        whole(
            "process_priority",
            self.process_priority.into(),
            -20,
            19,
            PRIORITY,
        )?;
        whole(
            "io_priority_class",
            self.io_priority_class.into(),
            0,
            3,
            IO_CLASS,
        )?;
        whole(
            "io_priority_level",
            self.io_priority_level.into(),
            0,
            7,
            IO_LEVEL,
        )?;
        if !(1..=SEQUENCES_IN_STEP_MAX).contains(&self.max_batch_size) {
            let value = self.max_batch_size.to_string();
            return Err(ConfigError {
                field: "max_batch_size",
                value,
                range: BATCH,
            });
        }
        Ok(())
    }
}

/// A share of compute of 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("max_compute_usage_percent: 0 leaves nothing to compute with")]
pub struct NoCompute;

impl ResourceConfig {
    /// Refuses a share of compute with which no step would ever end.
    pub(crate) fn check_compute(&self) -> Result<(), NoCompute> {
        match self.max_compute_usage_percent > 0.0 {
            true => Ok(()),
            false => Err(NoCompute),
        }
    }
}

impl Default for ResourceConfig {
    /// For a machine with mixed use.
    fn default() -> Self {
        Self {
            max_vram_usage_percent: 0.70,
            max_compute_usage_percent: 0.80,
            process_priority: 10,
            io_priority_class: 3,
            io_priority_level: 7,
            enable_auto_throttle: true,
            min_request_interval_ms: 50,
            max_batch_size: 4,
        }
    }
}

/// A field of a [`ResourceConfig`] out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, must be in {range}")]
pub struct ConfigError {
    /// The field's name.
    pub field: &'static str,
    /// What it was.
    pub value: String,
    /// What it may be.
    pub range: &'static str,
}

/// What the starts of a pipeline came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceStats {
    /// Requests that started: `inference.requests.total`.
    pub total_requests: u64,
    /// Those of them that the interval or the duty cycle made wait.
    pub throttled_requests: u64,
    /// `throttled_requests / total_requests`, 0 before the first.
    pub throttle_rate: f64,
}

impl ResourceStats {
    /// Those of both together.
    pub fn and(&self, other: &Self) -> Self {
        let total_requests = self.total_requests + other.total_requests;
        let throttled_requests = self.throttled_requests + other.throttled_requests;
        Self {
            total_requests,
            throttled_requests,
            throttle_rate: match total_requests {
                0 => 0.0,
                total => throttled_requests as f64 / total as f64,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_of_two_models_add_up_and_their_rate_is_of_all() {
        let of = |total_requests, throttled_requests, throttle_rate| ResourceStats {
            total_requests,
            throttled_requests,
            throttle_rate,
        };
        let none = of(0, 0, 0.0);
        assert_eq!(none.and(&none), none);
        assert_eq!(of(3, 3, 1.0).and(&of(1, 0, 0.0)), of(4, 3, 0.75));
    }

    #[test]
    fn a_batch_that_no_step_can_hold_is_refused_with_the_bound() {
        let of = |max_batch_size| ResourceConfig {
            max_batch_size,
            ..ResourceConfig::default()
        };
        assert_eq!(of(64).validate(), Ok(()));
        let error = of(65).validate().expect_err("no step has as many");
        assert_eq!(error.to_string(), "max_batch_size is 65, must be in 1..=64");
        assert!(of(0).validate().is_err());
    }
}
