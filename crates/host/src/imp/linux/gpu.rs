use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use gogrid_units::Moment;

use crate::clock::Clock;
use crate::error::HostError;
use crate::gpu::GpuSample;
use crate::imp::nvidia::{Nvidia, shared};

#[derive(Debug)]
pub(crate) struct Gpus {
    nvidia: Option<Nvidia>,
    amd: Vec<Amd>,
    clock: Clock,
}

/// A GPU of AMD's, by the files of its driver in `/sys`.
#[derive(Debug)]
struct Amd {
    name: String,
    /// Its place on the bus, by which our own open files name it.
    slot: String,
    busy: PathBuf,
    /// When we looked last, and for how long it had worked for us.
    before: (Moment, u64),
}

/// The nodes that drivers of GPUs make: NVIDIA's, AMD's for computing, Windows' in its Linux, and one for each that
/// renders.
pub(crate) fn may_have_gpu() -> bool {
    let nodes = ["/dev/nvidiactl", "/dev/kfd", "/dev/dxg"];
    let renders = || {
        let entries = std::fs::read_dir("/dev/dri")
            .into_iter()
            .flatten()
            .flatten();
        let mut names = entries.map(|entry| entry.file_name());
        names.any(|name| name.to_string_lossy().starts_with("renderD"))
    };
    nodes.iter().any(|node| Path::new(node).exists()) || renders()
}

impl Gpus {
    pub(crate) fn open() -> Result<Self, HostError> {
        let clock = Clock::start();
        let nvidia = Nvidia::open("libnvidia-ml.so.1");
        let amd = amd_under(Path::new("/sys/class/drm"), clock.now());
        match (nvidia, amd.is_empty()) {
            (Err(reason), true) => Err(HostError::NoGpu {
                reasons: format!(
                    "NVIDIA: {reason}; AMD: no gpu_busy_percent in /sys/class/drm; Intel: its \
                     drivers do not show how busy it is"
                ),
            }),
            (nvidia, _) => Ok(Self {
                nvidia: nvidia.ok(),
                amd,
                clock,
            }),
        }
    }

    pub(crate) fn sample(&mut self) -> Vec<GpuSample> {
        let mut samples = self.nvidia.as_mut().map_or_else(Vec::new, Nvidia::sample);
        if !self.amd.is_empty() {
            let (now, worked) = (self.clock.now(), worked_for_us());
            samples.extend(
                self.amd
                    .iter_mut()
                    .filter_map(|gpu| gpu.sample(now, &worked)),
            );
        }
        samples
    }
}

impl Amd {
    fn sample(&mut self, now: Moment, worked: &HashMap<String, u64>) -> Option<GpuSample> {
        let percent: f64 = fs::read_to_string(&self.busy).ok()?.trim().parse().ok()?;
        let worked = worked.get(&self.slot).copied().unwrap_or(0);
        let (then, before) = self.before;
        self.before = (now, worked);
        let nanos = now.0.saturating_sub(then.0).max(1);
        let ours = worked.saturating_sub(before) as f64 / nanos as f64;
        Some(shared(self.name.clone(), percent / 100.0, ours))
    }
}

fn amd_under(root: &Path, now: Moment) -> Vec<Amd> {
    let cards = fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<_> = cards
        .filter_map(|card| {
            let name = card.file_name().into_string().ok()?;
            // Not card0-HDMI-A-1, which is a socket of card0's.
            let is_card = name
                .strip_prefix("card")?
                .bytes()
                .all(|byte| byte.is_ascii_digit());
            let device = card.path().join("device");
            let busy = device.join("gpu_busy_percent");
            let place = fs::canonicalize(&device).ok()?;
            let slot = place.file_name()?.to_str()?.to_owned();
            (is_card && busy.exists()).then_some(Amd {
                name: format!("AMD {slot}"),
                slot,
                busy,
                before: (now, 0),
            })
        })
        .collect();
    found.sort_by(|one, other| one.slot.cmp(&other.slot));
    found
}

/// Nanoseconds of work that each GPU did for this process, by its place on the bus. Several files
/// of one client show the same work.
fn worked_for_us() -> HashMap<String, u64> {
    let files = fs::read_dir("/proc/self/fdinfo")
        .into_iter()
        .flatten()
        .flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    let clients: HashMap<_, _> = texts.filter_map(|text| client(&text)).collect();
    let mut worked = HashMap::new();
    for ((slot, _), nanos) in clients {
        *worked.entry(slot).or_insert(0) += nanos;
    }
    worked
}

/// The GPU's place and the client's number, and the work of its graphics and compute engines, from
/// the kernel's `drm-usage-stats`.
fn client(text: &str) -> Option<((String, u64), u64)> {
    let field = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.trim());
        values.next()
    };
    let nanos = |engine| -> Option<u64> { field(engine)?.strip_suffix(" ns")?.parse().ok() };
    let client = field("drm-client-id")?.parse().ok()?;
    let engines = ["drm-engine-gfx", "drm-engine-compute"].map(nanos);
    let worked = engines.into_iter().flatten().sum();
    Some(((field("drm-pdev")?.to_owned(), client), worked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_a_client_is_read_from_its_file() {
        let text = "pos:\t0\nflags:\t02100002\ndrm-driver:\tamdgpu\ndrm-client-id:\t14\n\
                    drm-pdev:\t0000:03:00.0\ndrm-engine-gfx:\t5000 ns\ndrm-engine-compute:\t700 ns\n\
                    drm-engine-dec:\t9 ns\n";
        let expected = Some((("0000:03:00.0".to_owned(), 14), 5700));
        assert_eq!(client(text), expected);
        assert_eq!(client("pos:\t0\nflags:\t02\n"), None);
    }

    #[test]
    fn use_by_others_is_what_is_left_of_all() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("0000:03:00.0");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("gpu_busy_percent"), "80\n").unwrap();
        let cards = root.path().join("drm");
        for card in ["card0", "card0-DP-1", "renderD128"] {
            fs::create_dir_all(cards.join(card)).unwrap();
            std::os::unix::fs::symlink(&place, cards.join(card).join("device")).unwrap();
        }
        let mut found = amd_under(&cards, Moment(0));
        assert_eq!(found.len(), 1);
        let worked = HashMap::from([("0000:03:00.0".to_owned(), 300_000_000)]);
        let sample = found[0].sample(Moment(1_000_000_000), &worked).unwrap();
        assert_eq!((sample.total, sample.ours), (0.8, 0.3));
        assert!((sample.others - 0.5).abs() < 1e-9);
    }
}
