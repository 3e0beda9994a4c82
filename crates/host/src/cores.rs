use std::fmt;
use std::str::FromStr;

use crate::error::HostError;
use crate::imp;
use crate::priority::Restraint;

/// Logical cores, by the system's numbers: at least one, in rising order. Its text is what
/// `FromStr` takes: `0`, `2-5`, `0,2-3`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CoreSet {
    cores: Vec<usize>,
}

/// The most cores a system may number.
const CORES_MAX: usize = 1024;

const EXPECTED: &str = "numbers below 1024 and rising ranges, such as 0 or 2-5 or 0,2-3";

impl CoreSet {
    /// These cores in order, or `None` if there are none.
    pub fn new(cores: impl IntoIterator<Item = usize>) -> Option<Self> {
        let mut cores: Vec<_> = cores.into_iter().collect();
        cores.sort_unstable();
        cores.dedup();
        (!cores.is_empty()).then_some(Self { cores })
    }

    /// The cores of a device's name: `cpu` for all of `allowed`, `cpu:0`, `cpu:2-5`, `cpu:0,2-3`.
    pub fn of_device(name: &str, allowed: &Self) -> Result<Self, HostError> {
        if name == "cpu" {
            return Ok(allowed.clone());
        }
        let bad = || HostError::BadCores {
            text: name.to_owned(),
            expected: "cpu, cpu:N, cpu:N-M or a list such as cpu:0,2-3",
        };
        let cores: Self = name
            .strip_prefix("cpu:")
            .ok_or_else(bad)?
            .parse()
            .map_err(|_| bad())?;
        match cores.cores.iter().find(|core| !allowed.contains(**core)) {
            Some(&core) => Err(HostError::NoSuchCore {
                core,
                allowed: allowed.to_string(),
            }),
            None => Ok(cores),
        }
    }

    /// The numbers, rising.
    pub fn cores(&self) -> &[usize] {
        &self.cores
    }

    /// Whether it has this core.
    pub fn contains(&self, core: usize) -> bool {
        self.cores.binary_search(&core).is_ok()
    }
}

impl FromStr for CoreSet {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let bad = || HostError::BadCores {
            text: text.to_owned(),
            expected: EXPECTED,
        };
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (
                number(first).ok_or_else(bad)?,
                number(last).ok_or_else(bad)?,
            );
            if first > last || cores.last().is_some_and(|before| *before >= first) {
                return Err(bad());
            }
            cores.extend(first..=last);
        }
        Self::new(cores).ok_or_else(bad)
    }
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&core| digits && core < CORES_MAX)
}

impl fmt::Display for CoreSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self
            .cores
            .chunk_by(|a, b| a + 1 == *b)
            .map(|run| match run {
                [first, .., last] => format!("{first}-{last}"),
                [one] => one.to_string(),
                [] => String::new(),
            });
        f.pad(&runs.collect::<Vec<_>>().join(","))
    }
}

/// An error if two of the sets have a core in common.
pub fn check_disjoint(sets: &[CoreSet]) -> Result<(), HostError> {
    for (index, one) in sets.iter().enumerate() {
        for other in &sets[index + 1..] {
            if let Some(&core) = one.cores.iter().find(|core| other.contains(**core)) {
                let (one, other) = (one.to_string(), other.to_string());
                return Err(HostError::Overlap { one, other, core });
            }
        }
    }
    Ok(())
}

/// The cores the calling thread may run on: at a process's start, those it was given. Where the system
/// refuses to say, those that its files list, or the one core that there must be.
pub fn allowed_cores() -> Result<CoreSet, HostError> {
    imp::allowed_cores()
}

/// How many cores' time this process may use, where a container's quota says: 1.5 for instance, on any
/// number of cores. `None` without a quota.
pub fn cpu_quota() -> Option<f64> {
    imp::cpu_quota()
}

/// The core that the calling thread runs on at this moment, where the system tells; some tens of
/// nanoseconds.
pub fn current_core() -> Option<usize> {
    imp::current_core()
}

/// Which of some cores are hardware threads of one physical core, as the system knew it when this
/// was read.
#[derive(Clone, Debug, Default)]
pub struct CoreSiblings {
    /// Each core with all the hardware threads of its physical core, itself included. Empty where
    /// the system does not know.
    groups: Vec<(usize, CoreSet)>,
}

impl CoreSiblings {
    /// Reads what the system knows of `cores`. It knows nothing of an x86 virtual machine's: there
    /// the host decides what a core is, and what the guest is told need not be so.
    pub fn read(cores: &CoreSet) -> Self {
        Self {
            groups: imp::core_siblings(cores),
        }
    }

    /// Whether two cores are threads of one physical core, or the same core; `None` where that is
    /// not known.
    pub fn are_siblings(&self, [a, b]: [usize; 2]) -> Option<bool> {
        let group = |core| self.groups.iter().find(|(of, _)| *of == core);
        let ((_, of_a), _) = (group(a)?, group(b)?);
        Some(of_a.contains(b))
    }
}

/// Keeps the calling thread on these cores, and reads back where it may run.
pub fn pin_thread(cores: &CoreSet) -> Restraint<CoreSet> {
    Restraint::made(cores.clone(), imp::pin(cores), imp::allowed_cores())
}

/// The processor's own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processor {
    /// Its name as its maker gives it.
    pub name: String,
    /// Its instruction sets and other traits, as the system names them.
    pub flags: Vec<String>,
}

/// The first processor's name and flags.
pub fn processor() -> Result<Processor, HostError> {
    imp::processor()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_sets_are_the_same_both_ways() {
        for (text, cores) in [
            ("0", vec![0]),
            ("2-5", vec![2, 3, 4, 5]),
            ("0,2-3,9", vec![0, 2, 3, 9]),
        ] {
            let set: CoreSet = text.parse().unwrap();
            assert_eq!(
                (set.cores(), set.to_string()),
                (&cores[..], text.to_owned())
            );
        }
        for bad in [
            "",
            "-",
            "1-",
            "-1",
            "5-2",
            "a",
            "+1",
            "1,,2",
            "2,1",
            "1-3,3",
            "1024",
            "0-99999999999",
        ] {
            assert!(bad.parse::<CoreSet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_name_takes_only_cores_that_are_allowed() {
        let allowed = CoreSet::new([0, 1, 4]).unwrap();
        let check = |name: &str, expected: &str| {
            let got = CoreSet::of_device(name, &allowed);
            assert_eq!(
                got.map_or_else(|error| error.to_string(), |set| set.to_string()),
                expected
            );
        };
        check("cpu", "0-1,4");
        check("cpu:4", "4");
        check("cpu:1-2", "no core 2 here; this process may use 0-1,4");
        let names = "cpu, cpu:N, cpu:N-M or a list such as cpu:0,2-3 expected";
        check("gpu:0", &format!("\"gpu:0\" names no cores: {names}"));
        check("cpu:", &format!("\"cpu:\" names no cores: {names}"));
    }

    #[test]
    fn siblings_are_known_of_cores_that_the_system_told_of() {
        let group = |text: &str| text.parse::<CoreSet>().unwrap();
        let groups = [(0, "0,4"), (1, "1"), (4, "0,4")];
        let known = CoreSiblings {
            groups: groups.map(|(core, text)| (core, group(text))).to_vec(),
        };
        for (cores, expected) in [
            ([0, 4], Some(true)),
            ([4, 0], Some(true)),
            ([1, 1], Some(true)),
            ([0, 1], Some(false)),
            ([0, 5], None),
            ([5, 5], None),
        ] {
            assert_eq!(known.are_siblings(cores), expected, "{cores:?}");
        }
    }

    #[test]
    fn overlap_is_an_error_that_names_the_core() {
        let sets: Vec<CoreSet> = ["0-1", "3", "1-2"]
            .iter()
            .map(|s| s.parse().unwrap())
            .collect();
        assert!(check_disjoint(&sets[..2]).is_ok());
        let error = check_disjoint(&sets).unwrap_err();
        assert_eq!(error.to_string(), "core sets 0-1 and 1-2 both have core 1");
    }
}
