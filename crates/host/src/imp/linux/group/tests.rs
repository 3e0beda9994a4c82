use std::fs;

use super::*;

const MIB: u64 = 1 << 20;

const TWO: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n22 27 0:21 / /proc rw - proc proc rw\n";

const ONE: &str = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n\
                   35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                   40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";

/// A machine of 16 GiB with these files.
struct Machine(tempfile::TempDir);

impl Machine {
    fn with(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(root)
    }

    /// Of version 2, where the process is in the group `/shop/app`.
    fn of_two(files: &[(&str, &str)]) -> Self {
        let fixed = [
            ("proc/self/mountinfo", TWO),
            ("proc/self/cgroup", "0::/shop/app\n"),
        ];
        Self::with(&[&fixed, files].concat())
    }

    fn quota(&self) -> Option<f64> {
        Groups::under(self.0.path()).cpu_quota()
    }

    /// MiB in all and available.
    fn memory(&self) -> [u64; 2] {
        let machine = SystemMemory {
            total: Bytes(16 << 30),
            available: Bytes(12 << 30),
            machine: Bytes(16 << 30),
        };
        let limited = Groups::under(self.0.path()).limit(machine);
        assert_eq!(limited.machine, machine.machine);
        [limited.total.0 / MIB, limited.available.0 / MIB]
    }
}

const UNLIMITED: [u64; 2] = [16 << 10, 12 << 10];

#[test]
fn the_tightest_quota_of_all_levels_counts() {
    let check = |files: &[(&str, &str)], expected: Option<f64>| {
        assert_eq!(Machine::of_two(files).quota(), expected, "{files:?}");
    };
    let own = "sys/fs/cgroup/shop/app/cpu.max";
    let outer = "sys/fs/cgroup/shop/cpu.max";
    check(&[], None);
    check(&[(own, "max 100000\n")], None);
    check(&[(own, "150000 100000\n")], Some(1.5));
    check(
        &[(own, "max 100000\n"), (outer, "50000 100000\n")],
        Some(0.5),
    );
    check(
        &[(own, "20000 100000\n"), (outer, "50000 100000\n")],
        Some(0.2),
    );
    check(&[("sys/fs/cgroup/cpu.max", "400000 100000\n")], Some(4.0));
    let beside = "sys/fs/cgroup/shop/other/cpu.max";
    check(&[(beside, "10000 100000\n")], None);
}

#[test]
fn text_that_is_no_quota_voids_itself_and_no_other() {
    let (own, outer) = (
        "sys/fs/cgroup/shop/app/cpu.max",
        "sys/fs/cgroup/shop/cpu.max",
    );
    for bad in [
        "",
        "\n",
        "max",
        "0 100000",
        "100000 0",
        "-1 100000",
        "100000",
        "99999999999999999999999 100000",
        "1e9 1e5",
        "nan nan",
        "\u{0} 1",
    ] {
        let machine = Machine::of_two(&[(own, bad), (outer, "200000 100000\n")]);
        assert_eq!(machine.quota(), Some(2.0), "{bad:?}");
    }
}

#[test]
fn version_one_has_a_hierarchy_for_each_controller() {
    let groups = "9:name=systemd:/else\n4:memory:/jobs/7\n1:cpu,cpuacct:/jobs/7\n0::/\n";
    let fixed = [("proc/self/mountinfo", ONE), ("proc/self/cgroup", groups)];
    let check = |files: &[(&str, &str)], quota, memory| {
        let machine = Machine::with(&[&fixed, files].concat());
        assert_eq!(
            (machine.quota(), machine.memory()),
            (quota, memory),
            "{files:?}"
        );
    };
    let cpu = "sys/fs/cgroup/cpu,cpuacct/jobs/7/cpu.cfs_quota_us";
    let period = "sys/fs/cgroup/cpu,cpuacct/jobs/7/cpu.cfs_period_us";
    check(&[(cpu, "-1\n"), (period, "100000\n")], None, UNLIMITED);
    check(
        &[(cpu, "250000\n"), (period, "100000\n")],
        Some(2.5),
        UNLIMITED,
    );
    check(&[(cpu, "250000\n"), (period, "0\n")], None, UNLIMITED);
    let limit = "sys/fs/cgroup/memory/jobs/memory.limit_in_bytes";
    let used = "sys/fs/cgroup/memory/jobs/memory.usage_in_bytes";
    let stat = "sys/fs/cgroup/memory/jobs/memory.stat";
    check(&[(limit, "9223372036854771712\n")], None, UNLIMITED);
    let files = "total_inactive_file 104857600\ntotal_active_file 104857600\ninactive_file 1\n";
    let limited = [(limit, "1073741824\n"), (used, "734003200\n")];
    check(&limited, None, [1024, 324]);
    check(
        &[&limited[..], &[(stat, files)]].concat(),
        None,
        [1024, 524],
    );
}

#[test]
fn memory_is_what_the_tightest_level_leaves_beside_what_others_hold() {
    let check = |files: &[(&str, &str)], expected: [u64; 2]| {
        assert_eq!(Machine::of_two(files).memory(), expected, "{files:?}");
    };
    let own = |name: &str| format!("sys/fs/cgroup/shop/app/{name}");
    let (max, current, stat) = (own("memory.max"), own("memory.current"), own("memory.stat"));
    let high = own("memory.high");
    let outer = "sys/fs/cgroup/shop/memory.max";
    check(&[], UNLIMITED);
    check(&[(&max, "max\n")], UNLIMITED);
    check(&[(&max, "2147483648\n")], [2048, 2048]);
    check(
        &[(&max, "2147483648\n"), (&current, "1073741824\n")],
        [2048, 1024],
    );
    let cache = "anon 5\nfile 900000000\ninactive_file 524288000\nactive_file 104857600\nshmem 7\n";
    let used = [(&*max, "2147483648\n"), (&current, "1073741824\n")];
    check(&[&used[..], &[(&*stat, cache)]].concat(), [2048, 1624]);
    check(
        &[(&max, "2147483648\n"), (outer, "1073741824\n")],
        [1024, 1024],
    );
    check(&[(&max, "max\n"), (&high, "1073741824\n")], [1024, 1024]);
    // More in use than allowed, and more cached than in use.
    check(&[(&max, "1048576\n"), (&current, "99999999\n")], [1, 0]);
    check(
        &[(&max, "1073741824\n"), (&current, "5\n"), (&stat, cache)],
        [1024, 1024],
    );
    // Numbers that mean nothing.
    for bad in [
        "0\n",
        "-5\n",
        "",
        "99999999999999999999\n",
        "12 34\n",
        "x\n",
    ] {
        check(&[(&max, bad), (outer, "1073741824\n")], [1024, 1024]);
    }
    let overflow = "inactive_file 18446744073709551615\nactive_file 18446744073709551615\n";
    check(
        &[
            (&max, "1073741824\n"),
            (&current, "1073741824\n"),
            (&stat, overflow),
        ],
        [1024, 1024],
    );
}

#[test]
fn a_container_sees_its_own_group_as_the_mounted_one() {
    let quota = ("sys/fs/cgroup/cpu.max", "100000 100000\n");
    let check = |mounts: &str, groups: &str, files: &[(&str, &str)], expected| {
        let fixed = [
            ("proc/self/mountinfo", mounts),
            ("proc/self/cgroup", groups),
        ];
        let machine = Machine::with(&[&fixed, files].concat());
        assert_eq!(machine.quota(), expected, "{mounts} {groups}");
    };
    // With a namespace of its own, with the host's path, and with one outside of what it sees.
    check(TWO, "0::/\n", &[quota], Some(1.0));
    let bound = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
    check(bound, "0::/docker/abc\n", &[quota], Some(1.0));
    let below = ("sys/fs/cgroup/inner/cpu.max", "30000 100000\n");
    check(bound, "0::/docker/abc/inner\n", &[quota, below], Some(0.3));
    check(bound, "0::/docker/abcd\n", &[quota], Some(1.0));
    check(TWO, "0::/../../other\n", &[quota], Some(1.0));
    // Without `/proc`, and with rubbish in it.
    let bare = Machine::with(&[quota, ("sys/fs/cgroup/memory.max", "1073741824\n")]);
    assert_eq!((bare.quota(), bare.memory()), (Some(1.0), [1024, 1024]));
    check("x\n - \n1 2 3 - cgroup2\n", ":::\n\n0\n", &[quota], None);
    let spaced = "30 23 0:26 / /sys/fs/my\\040groups rw - cgroup2 cgroup rw\n";
    let file = ("sys/fs/my groups/cpu.max", "70000 100000\n");
    check(spaced, "0::/\n", &[file], Some(0.7));
}

#[test]
fn groups_without_end_are_looked_at_no_further_than_a_bound() {
    let deep = format!("0::{}\n", "/a".repeat(2000));
    let machine = Machine::with(&[("proc/self/mountinfo", TWO), ("proc/self/cgroup", &deep)]);
    let groups = Groups::under(machine.0.path());
    assert_eq!(groups.cpu.len(), LEVELS_MAX);
    assert_eq!(machine.memory(), UNLIMITED);
}
