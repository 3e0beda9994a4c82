//! What others use of the GPUs that a machine works on: what their drivers tell of everybody's use, less ours.

use std::sync::Arc;

use gogrid_host::{Clock, GpuSample};
use gogrid_units::Moment;

use crate::machine::hardware::Hardware;
use crate::machine::pace::DutyPace;

/// Looks of which our own use is remembered: a driver's figures are of about the last second, and come late.
const LOOKS: usize = 3;

/// The GPUs that a machine works on.
pub(super) struct OwnGpus {
    gpus: Vec<OwnGpu>,
    clock: Clock,
}

struct OwnGpu {
    name: String,
    pace: Arc<DutyPace>,
    used: OwnUse,
}

/// Our own use of a GPU, by what its stages charged.
#[derive(Default)]
struct OwnUse {
    /// When it was looked at last, and for how long the GPU had worked for us.
    before: Option<(Moment, u64)>,
    /// The share of time that it worked for us, between the last looks.
    shares: [f64; LOOKS],
}

/// The most that we used of a GPU in the last looks.
#[derive(Clone, Debug, PartialEq)]
struct OwnShare {
    name: String,
    share: f64,
}

impl OwnGpus {
    pub(super) fn of(hardware: &Hardware) -> Self {
        let gpus = hardware.devices.iter().filter_map(|device| {
            Some(OwnGpu {
                name: device.gpu_name.clone()?,
                pace: Arc::clone(&device.pace),
                used: OwnUse::default(),
            })
        });
        Self {
            gpus: gpus.collect(),
            clock: hardware.clock,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gpus.is_empty()
    }

    /// Others' share of the busiest of them, by what drivers tell.
    pub(super) fn others(&mut self, samples: &[GpuSample]) -> Result<f64, String> {
        let now = self.clock.now();
        let own = self.gpus.iter_mut().map(|gpu| OwnShare {
            name: gpu.name.clone(),
            share: gpu.used.look(now, gpu.pace.busy_nanos()),
        });
        others(samples, &own.collect::<Vec<_>>())
    }
}

impl OwnUse {
    /// The most that was used in the last looks, this one among them.
    fn look(&mut self, now: Moment, busy_nanos: u64) -> f64 {
        let (then, busy_then) = self
            .before
            .replace((now, busy_nanos))
            .unwrap_or((now, busy_nanos));
        let wall = now.0.saturating_sub(then.0).max(1) as f64;
        self.shares.rotate_right(1);
        self.shares[0] = busy_nanos.saturating_sub(busy_then) as f64 / wall;
        self.shares.into_iter().fold(0.0, f64::max)
    }
}

/// Ours is the larger of what the driver and what our own account says of it: a driver may know our process by
/// another number, and an account does not count what the driver does for us beside the work. GPUs that no
/// sample tells apart are taken together.
fn others(samples: &[GpuSample], own: &[OwnShare]) -> Result<f64, String> {
    let of_others = own.iter().filter_map(|one| {
        let twins = own.iter().filter(|gpu| are_alike(&gpu.name, &one.name));
        let its: Vec<_> = samples
            .iter()
            .filter(|sample| twins.clone().any(|twin| may_be(sample, &twin.name)))
            .collect();
        let ours: f64 = twins.clone().map(|gpu| gpu.share).sum();
        let told: f64 = its.iter().map(|sample| sample.ours).sum();
        let total: f64 = its.iter().map(|sample| sample.total).sum();
        (!its.is_empty()).then(|| (total - told.max(ours)).clamp(0.0, 1.0))
    });
    of_others.reduce(f64::max).ok_or_else(|| {
        let names: Vec<_> = own.iter().map(|gpu| &*gpu.name).collect();
        format!("no driver tells how busy {} is", names.join(" or "))
    })
}

fn is_of_amd(name: &str) -> bool {
    ["AMD", "Radeon"].iter().any(|word| name.contains(word))
}

/// Whether samples of GPUs of these names are not told apart.
fn are_alike(name: &str, other: &str) -> bool {
    name == other || is_of_amd(name) && is_of_amd(other)
}

/// Whether a sample may be of the GPU of this name. AMD's driver tells a place on the bus instead of a name.
fn may_be(sample: &GpuSample, name: &str) -> bool {
    sample.name == name || is_of_amd(name) && sample.name.starts_with("AMD ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, total: f64, ours: f64) -> GpuSample {
        GpuSample {
            name: name.to_owned(),
            total,
            ours,
            others: (total - ours).max(0.0),
            temperature_c: None,
            power_w: None,
        }
    }

    fn own(name: &str, share: f64) -> OwnShare {
        OwnShare {
            name: name.to_owned(),
            share,
        }
    }

    #[test]
    fn others_use_is_everybodys_less_ours_by_the_better_account() {
        let check = |samples: &[GpuSample], gpus: &[OwnShare], expected: Option<f64>| {
            let found = others(samples, gpus).ok();
            let is_near = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
                (found, expected) => found == expected,
            };
            assert!(is_near, "{samples:?} {gpus:?}: {found:?}");
        };
        let card = "NVIDIA GeForce RTX 4070";
        check(&[sample(card, 0.9, 0.6)], &[own(card, 0.5)], Some(0.3));
        // A driver that does not know our process.
        check(&[sample(card, 0.9, 0.0)], &[own(card, 0.8)], Some(0.1));
        check(&[sample(card, 0.2, 0.0)], &[own(card, 0.8)], Some(0.0));
        // The busiest of those we use, and not one we do not use.
        let other = "NVIDIA H200";
        let two = [sample(card, 0.4, 0.1), sample(other, 0.7, 0.2)];
        check(&two, &[own(card, 0.1), own(other, 0.2)], Some(0.5));
        check(&two, &[own(card, 0.1)], Some(0.3));
        // Two of one name: neither is told apart, and our work on one is no load of others on the other.
        let twins = [sample(card, 0.9, 0.0), sample(card, 0.0, 0.0)];
        check(&twins, &[own(card, 0.0), own(card, 0.9)], Some(0.0));
        // Nor hides our work on one that of others on the other.
        let twins = [sample(card, 0.5, 0.0), sample(card, 0.5, 0.0)];
        check(&twins, &[own(card, 0.0), own(card, 0.5)], Some(0.5));
        // No more than one whole GPU.
        let twins = [sample(card, 0.9, 0.0), sample(card, 0.9, 0.0)];
        check(&twins, &[own(card, 0.1), own(card, 0.1)], Some(1.0));
        let radeon = "AMD Radeon RX 7900 XTX (RADV NAVI31)";
        let bus = [sample("AMD 0000:03:00.0", 0.8, 0.3)];
        check(&bus, &[own(radeon, 0.2)], Some(0.5));
        check(&bus, &[own("Intel(R) Arc(TM) A770", 0.2)], None);
        check(&[], &[own(card, 0.2)], None);
    }

    #[test]
    fn our_own_use_is_remembered_as_long_as_a_drivers_figures_may_be_late() {
        let mut used = OwnUse::default();
        let second = |number: u64| Moment(number * 1_000_000_000);
        assert_eq!(
            used.look(second(1), 5_000),
            0.0,
            "what was before is not known"
        );
        assert_eq!(used.look(second(2), 600_005_000), 0.6);
        for number in 3..5 {
            assert_eq!(used.look(second(number), 600_005_000), 0.6);
        }
        assert_eq!(used.look(second(5), 600_005_000), 0.0);
    }
}
