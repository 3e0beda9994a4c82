//! Limits of control groups, which a container's quotas are: cgroups(7), and in the kernel's documentation
//! `admin-guide/cgroup-v2.rst`, `admin-guide/cgroup-v1/memory.rst` and `scheduler/sched-bwc.rst`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use gogrid_units::Bytes;

use crate::cores::CoreSet;
use crate::memory::SystemMemory;

/// Groups are not nested deeper than this; further out ones are not looked at.
const LEVELS_MAX: usize = 64;
/// No file read here is longer, but for lists of mounts.
const TEXT_MAX: u64 = 64 << 10;
const MOUNTS_MAX: u64 = 4 << 20;

/// The groups that this process is in, as folders: from its own out to the outermost that it can see.
/// Every one of them limits it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    cpu: Vec<Group>,
    memory: Vec<Group>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A mounted hierarchy of groups.
struct Mount {
    /// The group that is mounted: `/` but in a container.
    root: String,
    point: PathBuf,
    version: Version,
    /// Controllers of a hierarchy of version 1.
    options: Vec<String>,
}

impl Groups {
    pub(super) fn of_this_process() -> Self {
        Self::under(Path::new("/"))
    }

    /// By the files of a machine whose root folder is `root`.
    pub(super) fn under(root: &Path) -> Self {
        let text = |name: &str, length_max| text(&root.join(name), length_max);
        let groups = text("proc/self/cgroup", TEXT_MAX);
        let mounts = text("proc/self/mountinfo", MOUNTS_MAX);
        let mounts: Vec<_> = match mounts {
            Some(mounts) => mounts.lines().filter_map(mount).collect(),
            None => usual_mounts().into(),
        };
        let groups = groups.unwrap_or_default();
        let of = |controller: &str| {
            let of_one = mounts.iter().filter(|mount| mount.has(controller));
            let folders = of_one.flat_map(|mount| mount.levels(root, path(&groups, mount)));
            folders.collect()
        };
        Self {
            cpu: of("cpu"),
            memory: of("memory"),
        }
    }

    /// How many cores' time this process may use, where a quota says; the tightest counts.
    pub(super) fn cpu_quota(&self) -> Option<f64> {
        let quotas = self.cpu.iter().filter_map(Group::cpu_quota);
        quotas.reduce(f64::min)
    }

    /// Cores of the group, for a process that may not ask for its own.
    pub(super) fn cores(&self) -> Option<CoreSet> {
        let mut sets = self.cpu.iter().filter_map(|group| {
            let text = group.text("cpuset.cpus.effective")?;
            text.parse().ok()
        });
        sets.next()
    }

    /// What the groups leave of the machine's memory; the tightest counts.
    pub(super) fn limit(&self, machine: SystemMemory) -> SystemMemory {
        let limits = self.memory.iter().filter_map(Group::memory);
        let limited = limits.fold(machine, |so_far, (limit, available)| SystemMemory {
            total: so_far.total.min(limit),
            available: so_far.available.min(available),
            ..so_far
        });
        SystemMemory {
            available: limited.available.min(limited.total),
            ..limited
        }
    }
}

impl Group {
    /// Untrusted: anything but two numbers that make sense is no quota.
    fn cpu_quota(&self) -> Option<f64> {
        let (quota, period) = match self.version {
            Version::Two => {
                let text = self.text("cpu.max")?;
                let (quota, period) = text.split_once(' ')?;
                (quota.parse().ok(), period.parse().ok())
            }
            Version::One => (
                self.number("cpu.cfs_quota_us"),
                self.number("cpu.cfs_period_us"),
            ),
        };
        let (quota, period): (u64, u64) = (quota?, period?);
        (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
    }

    /// The most that the group's processes may hold, and what is left of that.
    fn memory(&self) -> Option<(Bytes, Bytes)> {
        let [limits, used, cached] = match self.version {
            Version::Two => [
                &["memory.max", "memory.high"][..],
                &["memory.current"],
                &["inactive_file ", "active_file "],
            ],
            Version::One => [
                &["memory.limit_in_bytes"][..],
                &["memory.usage_in_bytes"],
                &["total_inactive_file ", "total_active_file "],
            ],
        };
        let limits = limits.iter().filter_map(|name| self.number(name));
        let limit = limits.filter(|limit| *limit > 0).min()?;
        let used = self.number(used[0]).unwrap_or(0);
        // Pages of files can be dropped when somebody needs the room.
        let stat = self.text("memory.stat").unwrap_or_default();
        let of_files = stat.lines().filter_map(|line| {
            let number = cached.iter().find_map(|name| line.strip_prefix(name));
            number?.parse::<u64>().ok()
        });
        let of_files = of_files.fold(0, u64::saturating_add);
        let held = used.saturating_sub(of_files);
        Some((Bytes(limit), Bytes(limit.saturating_sub(held))))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    fn text(&self, name: &str) -> Option<String> {
        let text = text(&self.folder.join(name), TEXT_MAX)?;
        Some(text.trim().to_owned())
    }
}

impl Mount {
    fn has(&self, controller: &str) -> bool {
        self.version == Version::Two || self.options.iter().any(|option| option == controller)
    }

    /// The folders from the group at `path` out to the one that is mounted.
    fn levels(&self, root: &Path, path: Option<&str>) -> Vec<Group> {
        let point = self.point.strip_prefix("/").unwrap_or(&self.point);
        let point = root.join(point);
        let inside = path.and_then(|path| self.inside(path));
        let own = match inside {
            Some(inside) => point.join(inside),
            // The process is outside of what is mounted here, or nobody says: the mounted group is what it sees.
            None => point.clone(),
        };
        let levels = own
            .ancestors()
            .take_while(|folder| folder.starts_with(&point));
        let group = |folder: &Path| Group {
            folder: folder.to_owned(),
            version: self.version,
        };
        levels.take(LEVELS_MAX).map(group).collect()
    }

    /// A group's path from the mounted one on.
    fn inside<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.root.trim_end_matches('/'))?;
        let is_below = rest.is_empty() || rest.starts_with('/');
        let climbs = rest.split('/').any(|part| part == "..");
        (is_below && !climbs).then(|| rest.trim_start_matches('/'))
    }
}

/// The process's group in a mounted hierarchy, from lines `4:cpu,cpuacct:/path` and `0::/path`.
fn path<'t>(groups: &'t str, mount: &Mount) -> Option<&'t str> {
    let mut lines = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let is_meant = match mount.version {
            Version::Two => controllers.is_empty(),
            Version::One => controllers.split(',').any(|name| mount.has(name)),
        };
        is_meant.then_some(path)
    });
    lines.next()
}

/// Of a line of `mountinfo`: `31 23 0:28 /root /point options - type source options`.
fn mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (unescaped(place.next()?), unescaped(place.next()?));
    let mut kind = kind.split(' ');
    let version = match kind.next()? {
        "cgroup" => Version::One,
        "cgroup2" => Version::Two,
        _ => return None,
    };
    let options = kind.nth(1).unwrap_or("").split(',').map(str::to_owned);
    Some(Mount {
        root,
        point: point.into(),
        version,
        options: options.collect(),
    })
}

/// Spaces and the like are octal numbers there, such as `\040`.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let number = part
            .get(..3)
            .and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match number {
            Some(byte) => {
                plain.push(byte.into());
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// Where groups are mounted on any usual system, for a process that may not list mounts.
fn usual_mounts() -> [Mount; 3] {
    let mount = |point: &str, version, controller: &str| Mount {
        root: "/".to_owned(),
        point: point.into(),
        version,
        options: vec![controller.to_owned()],
    };
    [
        mount("/sys/fs/cgroup", Version::Two, ""),
        mount("/sys/fs/cgroup/cpu", Version::One, "cpu"),
        mount("/sys/fs/cgroup/memory", Version::One, "memory"),
    ]
}

fn text(file: &Path, length_max: u64) -> Option<String> {
    let mut text = String::new();
    let file = File::open(file).ok()?;
    file.take(length_max).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests;
