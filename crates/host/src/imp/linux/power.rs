use std::fs;
use std::path::{Path, PathBuf};

use gogrid_units::Moment;

use super::supply::battery;
use crate::ability::names;
use crate::clock::Clock;
use crate::error::HostError;

/// Files with the processor's temperatures, in thousandths of a degree.
#[derive(Debug)]
pub(crate) struct Thermometers {
    files: Vec<PathBuf>,
}

/// Drivers of processors' own thermometers, in hwmon.
const CHIPS: [&str; 4] = ["coretemp", "k10temp", "zenpower", "cpu_thermal"];

impl Thermometers {
    pub(crate) fn open() -> Result<Self, HostError> {
        Self::open_under(Path::new("/sys/class"))
    }

    fn open_under(root: &Path) -> Result<Self, HostError> {
        let chips = children(&root.join("hwmon"));
        let chips = chips.filter(|chip| CHIPS.contains(&&*text(&chip.join("name"))));
        let mut files: Vec<_> = chips.flat_map(|chip| inputs(&chip)).collect();
        if files.is_empty() {
            let zones = children(&root.join("thermal"));
            let of_processor = zones.filter(|zone| is_processors(&text(&zone.join("type"))));
            files.extend(of_processor.map(|zone| zone.join("temp")));
        }
        let thermometers = Self { files };
        thermometers.hottest_c()?;
        Ok(thermometers)
    }

    pub(crate) fn hottest_c(&self) -> Result<f64, HostError> {
        let degrees = self.files.iter().filter_map(|file| {
            let thousandths: i32 = text(file).parse().ok()?;
            // A sensor that is asleep or broken says something outside of this.
            (-40_000..150_000)
                .contains(&thousandths)
                .then_some(thousandths)
        });
        let hottest = degrees.max().ok_or(HostError::Unread {
            what: names::TEMPERATURE,
            reason: "no thermometer of the processor's in /sys/class/hwmon or thermal".to_owned(),
        });
        hottest.map(|thousandths| f64::from(thousandths) / 1000.0)
    }
}

/// A chip's temperatures. AMD's `Tctl` may be 27 degrees above the real temperature; `Tdie` is not.
fn inputs(chip: &Path) -> Vec<PathBuf> {
    let inputs = children(chip).filter(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("temp") && name.ends_with("_input")
    });
    let label = |input: &PathBuf| {
        let input = input.to_string_lossy();
        text(Path::new(&input.replace("_input", "_label")))
    };
    let labelled: Vec<_> = inputs.map(|input| (label(&input), input)).collect();
    let has_die = labelled.iter().any(|(label, _)| label == "Tdie");
    let counts = labelled
        .into_iter()
        .filter(|(label, _)| !has_die || label != "Tctl");
    counts.map(|(_, input)| input).collect()
}

fn is_processors(zone: &str) -> bool {
    zone == "x86_pkg_temp" || zone.starts_with("cpu") || zone.starts_with("soc")
}

/// Energy counters of the processor's packages, or the battery.
#[derive(Debug)]
pub(crate) struct PowerMeter {
    packages: Vec<Package>,
    clock: Clock,
    before: Moment,
}

#[derive(Debug)]
struct Package {
    energy: PathBuf,
    /// Where the counter begins again at zero, in microjoules.
    range: u64,
    before: u64,
}

impl PowerMeter {
    pub(crate) fn open() -> Result<Self, HostError> {
        let packages = packages_under(Path::new("/sys/class/powercap"));
        if packages.is_empty() {
            battery().map_err(|error| HostError::Unread {
                what: names::POWER,
                reason: format!("no energy counter can be read, which only root may; {error}"),
            })?;
        }
        let clock = Clock::start();
        Ok(Self {
            packages,
            clock,
            before: clock.now(),
        })
    }

    pub(crate) fn watts(&mut self) -> Result<f64, HostError> {
        if self.packages.is_empty() {
            let unread = || HostError::Unread {
                what: names::POWER,
                reason: "the battery does not tell".to_owned(),
            };
            return battery()?.power_w.ok_or_else(unread);
        }
        let now = self.clock.now();
        let seconds = (now.0 - self.before.0).max(1) as f64 / 1e9;
        self.before = now;
        let used = self.packages.iter_mut().filter_map(Package::used);
        let used = used.fold(0, u64::saturating_add);
        Ok(used as f64 / 1e6 / seconds)
    }
}

impl Package {
    /// Microjoules since the last time.
    fn used(&mut self) -> Option<u64> {
        let now: u64 = text(&self.energy).parse().ok()?;
        let used = match now.checked_sub(self.before) {
            Some(used) => used,
            None => self.range.saturating_sub(self.before).saturating_add(now),
        };
        self.before = now;
        Some(used)
    }
}

/// Packages are `intel-rapl:0`; a part of one is `intel-rapl:0:1`. AMD's have the same names.
fn packages_under(root: &Path) -> Vec<Package> {
    let zones = children(root).filter(|zone| {
        let name = zone.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix("intel-rapl:")
            .is_some_and(|number| !number.contains(':'))
    });
    let package = |zone: PathBuf| {
        let energy = zone.join("energy_uj");
        let before = text(&energy).parse().ok()?;
        let range = text(&zone.join("max_energy_range_uj")).parse().ok()?;
        Some(Package {
            energy,
            range,
            before,
        })
    };
    zones.filter_map(package).collect()
}

fn children(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// A file's one line, or nothing where it cannot be read.
pub(super) fn text(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        root
    }

    #[test]
    fn the_hottest_of_the_processor_counts_and_no_disk() {
        let check = |files: &[(&str, &str)], expected: Option<f64>| {
            let root = tree(files);
            let found = Thermometers::open_under(root.path());
            let degrees = found.and_then(|thermometers| thermometers.hottest_c());
            assert_eq!(degrees.ok(), expected, "{files:?}");
        };
        let disk = [
            ("hwmon/hwmon0/name", "nvme"),
            ("hwmon/hwmon0/temp1_input", "88000"),
        ];
        check(&disk, None);
        let zone = [
            ("thermal/thermal_zone0/type", "x86_pkg_temp"),
            ("thermal/thermal_zone0/temp", "61000"),
        ];
        check(&[disk, zone].concat(), Some(61.0));
        let intel = [
            ("hwmon/hwmon1/name", "coretemp"),
            ("hwmon/hwmon1/temp1_input", "55000"),
            ("hwmon/hwmon1/temp2_input", "57500"),
            ("hwmon/hwmon1/temp3_input", "-128000"),
        ];
        check(&[&disk[..], &zone, &intel].concat(), Some(57.5));
        let amd = [
            ("hwmon/hwmon2/name", "k10temp"),
            ("hwmon/hwmon2/temp1_input", "92000"),
            ("hwmon/hwmon2/temp1_label", "Tctl"),
            ("hwmon/hwmon2/temp2_input", "65000"),
            ("hwmon/hwmon2/temp2_label", "Tdie"),
        ];
        check(&amd, Some(65.0));
        check(&amd[..3], Some(92.0));
    }

    #[test]
    fn energy_counters_of_packages_are_added_up_over_their_end() {
        let root = tree(&[
            ("intel-rapl:0/energy_uj", "900"),
            ("intel-rapl:0/max_energy_range_uj", "1000"),
            ("intel-rapl:0:0/energy_uj", "500"),
            ("intel-rapl:0:0/max_energy_range_uj", "1000"),
            ("intel-rapl/enabled", "1"),
        ]);
        let mut packages = packages_under(root.path());
        assert_eq!(packages.len(), 1);
        fs::write(&packages[0].energy, "950\n").unwrap();
        assert_eq!(packages[0].used(), Some(50));
        fs::write(&packages[0].energy, "20\n").unwrap();
        assert_eq!(packages[0].used(), Some(70));
    }
}
