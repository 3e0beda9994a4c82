//! A status as Prometheus text.

use gogrid_governor::{Profile, Verdict};
use metrics::{Label, counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::status::{
    DeviceStatus, MachineStatus, MemoryStatus, ModelStatus, Ruling, Status, ThreadStatus,
};

impl MachineStatus {
    /// The same as Prometheus text, as [`Status::prometheus`] has it, with the figures of all models
    /// together. Requests refused for memory are counted by each pipeline and are none here.
    pub fn prometheus(self) -> String {
        let together = self
            .models
            .iter()
            .fold(ModelStatus::default(), |sum, one| ModelStatus {
                stats: sum.stats.and(&one.stats),
                queued: sum.queued + one.queued,
                running: sum.running + one.running,
                degraded: sum.degraded.or_else(|| one.degraded.clone()),
                ..sum
            });
        Status::of(self, together, 0).prometheus()
    }
}

impl Status {
    /// The same as Prometheus text, every figure of it. Reads nothing but `self`. Seconds are
    /// gauges, though they only grow, since a counter here holds whole numbers; `rate` takes them.
    pub fn prometheus(&self) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, || {
            requests(self);
            ruling(&self.ruling);
            limits(self);
            for device in &self.devices {
                memory(device);
                time(device);
            }
            self.memories.iter().for_each(peers);
            self.threads.iter().for_each(thread);
        });
        recorder.handle().render()
    }
}

fn requests(status: &Status) {
    let stats = &status.stats;
    count(
        "inference_requests_total",
        "Requests that started",
        stats.total_requests,
    );
    count(
        "inference_requests_throttled",
        "Requests that the interval or the duty cycle made wait",
        stats.throttled_requests,
    );
    let rate = "Throttled requests over all that started";
    set("inference_throttle_rate", rate, stats.throttle_rate, &[]);
    count(
        "inference_requests_refused_memory_total",
        "Requests refused for memory",
        status.refused_memory,
    );
    let (queued, running) = (status.queued as f64, status.running as f64);
    set(
        "inference_requests_queued",
        "Requests that wait",
        queued,
        &[],
    );
    let help = "Sequences that advance";
    set("inference_sequences_running", help, running, &[]);
    let help = "1 from the failure of a stage until a step passes again";
    set(
        "inference_degraded",
        help,
        flag(status.degraded.is_some()),
        &[],
    );
}

fn ruling(ruling: &Ruling) {
    let (state, reasons) = match &ruling.verdict {
        Verdict::Open => ("open", &[][..]),
        Verdict::Limited { why, .. } => ("limited", &why[..]),
        Verdict::Shut(why) => ("shut", std::slice::from_ref(why)),
    };
    let help = "1 for what the policy says of guests' requests at this moment, 0 for the others";
    for one in ["open", "limited", "shut"] {
        set(
            "inference_verdict",
            help,
            flag(one == state),
            &[("state", one)],
        );
    }
    let help = "1 for each reason why guests' requests may take less, or nothing";
    for reason in reasons {
        set(
            "inference_verdict_reason",
            help,
            1.0,
            &[("reason", reason.name())],
        );
    }
    let help = "1 for whose limits hold, 0 for the others";
    for (name, one) in [("present", Profile::Present), ("away", Profile::Away)] {
        let is_it = flag(one == ruling.profile);
        set("inference_profile", help, is_it, &[("profile", name)]);
    }
    let help = "Share of the machine's compute that guests' requests may take now";
    set(
        "inference_compute_share_allowed",
        help,
        ruling.compute_share,
        &[],
    );
    let help = "Share of the machine's compute that the owner's own requests may take now";
    let share = ruling.owner.compute_share;
    set("inference_owner_compute_share_allowed", help, share, &[]);
    let help = "1 while requests are accepted";
    set("inference_admits", help, flag(ruling.admits), &[]);
}

fn limits(status: &Status) {
    let asked = &status.limits;
    let help = "Share of the machine's compute that the limits in force allow at most";
    let share = asked.max_compute_usage_percent;
    set("inference_compute_share_limit", help, share, &[]);
    let help = "Sequences that may advance in one step";
    set(
        "inference_batch_limit",
        help,
        asked.max_batch_size as f64,
        &[],
    );
    let help = "Limits that are not held; the status names each with its reason";
    let count = status.not_enforced.len() as f64;
    set("inference_limits_not_enforced", help, count, &[]);
    let help = "What the policy asks for and this machine does not tell";
    set(
        "inference_not_seen",
        help,
        status.not_seen.len() as f64,
        &[],
    );
    let help = "Threads that ended by a panic";
    let failures = status.failures.len() as f64;
    set("inference_thread_failures", help, failures, &[]);
}

fn peers(status: &MemoryStatus) {
    let memory = [("memory", status.memory.as_str())];
    let help = "Bytes of a memory that other processes hold under the same cap";
    let bytes = status.peers_bytes as f64;
    set("inference_peers_memory_bytes", help, bytes, &memory);
}

/// Bytes are whole in an `f64` up to 8 PiB.
fn memory(status: &DeviceStatus) {
    let device = ("device", status.device.as_str());
    let help = "Bytes held of a device's memory";
    let used = status.memory_used_bytes as f64;
    set("inference_vram_usage_bytes", help, used, &[device]);
    let help = "Bytes that may be held of a device's memory";
    let cap = status.memory_cap_bytes as f64;
    set("inference_vram_limit_bytes", help, cap, &[device]);
    let help = "Bytes of a device's memory in all";
    let total = status.memory_total_bytes as f64;
    set("inference_vram_total_bytes", help, total, &[device]);
    let help = "Bytes held of a device's memory, by what they hold";
    let kinds = [
        ("weights", status.weights_bytes),
        ("kv", status.kv_bytes),
        ("scratch", status.scratch_bytes),
        ("prefix_cache", status.prefix_bytes),
    ];
    for (kind, bytes) in kinds {
        let labels = [device, ("kind", kind)];
        set("inference_memory_bytes", help, bytes as f64, &labels);
    }
}

fn time(status: &DeviceStatus) {
    let device = [("device", status.device.as_str())];
    let lost = "1 while a device is lost";
    set(
        "inference_device_lost",
        lost,
        flag(status.lost.is_some()),
        &device,
    );
    let help = "CPU seconds used on a device since the weights were loaded";
    set("inference_busy_seconds", help, status.busy_s, &device);
    let help = "Seconds that threads have rested to hold the limit on compute";
    set("inference_rest_seconds", help, status.rest_s, &device);
    let help = "Seconds that threads have given their cores to other programs";
    set("inference_yield_seconds", help, status.yield_s, &device);
}

fn thread(status: &ThreadStatus) {
    // Where a system has no nice value there is none to tell.
    if let Some(nice) = status.nice {
        let excepted = if status.excepted.is_some() {
            "yes"
        } else {
            "no"
        };
        let labels = [("thread", status.name.as_str()), ("excepted", excepted)];
        let help = "Nice value of a thread, as the system gave it back";
        set("inference_thread_nice", help, nice.into(), &labels);
    }
}

fn count(name: &'static str, help: &'static str, value: u64) {
    describe_counter!(name, help);
    counter!(name).absolute(value);
}

fn set(name: &'static str, help: &'static str, value: f64, labels: &[(&'static str, &str)]) {
    describe_gauge!(name, help);
    let labels = labels
        .iter()
        .map(|&(key, value)| Label::new(key, value.to_owned()));
    gauge!(name, labels.collect::<Vec<_>>()).set(value);
}

fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use gogrid_governor::Reason;

    use super::*;
    use crate::resource_manager::{ResourceConfig, ResourceStats};
    use crate::status::OwnerRuling;

    fn status() -> Status {
        let device = DeviceStatus {
            device: "cpu".to_owned(),
            hardware: "a processor".to_owned(),
            memory_total_bytes: 1000,
            memory_cap_bytes: 500,
            memory_used_bytes: 60,
            weights_bytes: 30,
            kv_bytes: 20,
            scratch_bytes: 10,
            prefix_bytes: 5,
            lost: None,
            busy_s: 1.5,
            rest_s: 2.5,
            yield_s: 0.25,
        };
        let thread = |name: &str, nice, excepted: Option<&str>| ThreadStatus {
            name: name.to_owned(),
            nice,
            io: None,
            problems: Vec::new(),
            excepted: excepted.map(str::to_owned),
        };
        Status {
            model: "tiny".to_owned(),
            context: 64,
            limits: ResourceConfig::conservative(),
            ruling: Ruling {
                profile: Profile::Away,
                verdict: Verdict::Limited {
                    share: 0.3,
                    why: vec![Reason::OthersCpu { others: 0.5 }, Reason::FullScreen],
                },
                compute_share: 0.3,
                owner: OwnerRuling {
                    verdict: Verdict::Open,
                    compute_share: 0.5,
                },
                admits: true,
            },
            stages: Vec::new(),
            devices: vec![device],
            left_out: Vec::new(),
            threads: vec![
                thread("spawner", Some(0), Some("sleeps")),
                thread("engine \"a\"", Some(15), None),
                thread("unknown", None, None),
            ],
            stats: ResourceStats {
                total_requests: 8,
                throttled_requests: 2,
                throttle_rate: 0.25,
            },
            queued: 3,
            running: 2,
            refused_memory: 4,
            not_enforced: vec!["priorities: one".to_owned()],
            not_seen: vec!["battery".to_owned(), "temperature".to_owned()],
            degraded: None,
            memories: vec![MemoryStatus {
                memory: "system".to_owned(),
                total_bytes: 1000,
                cap_bytes: 500,
                used_bytes: 60,
                peers_bytes: 7,
            }],
            failures: Vec::new(),
            peers: Vec::new(),
        }
    }

    /// Each sample's value by its name and labels. Every line has to be a comment about a metric or
    /// a sample of one that a comment has named, once.
    fn parse(text: &str) -> BTreeMap<String, f64> {
        let (mut types, mut samples) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (name, kind) = declared.split_once(' ').expect("a name and a kind");
                assert!(["counter", "gauge"].contains(&kind), "{line}");
                assert_eq!(types.insert(name, kind), None, "{line}");
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let name = series.split('{').next().unwrap_or(series);
                assert!(types.contains_key(name), "{line}");
                let value = value.parse().expect("a number");
                assert_eq!(samples.insert(series.to_owned(), value), None, "{line}");
            }
        }
        samples
    }

    fn check(status: &Status, expected: &[(&str, f64)]) {
        let text = status.prometheus();
        let samples = parse(&text);
        for (series, value) in expected {
            assert_eq!(samples.get(*series), Some(value), "{series} in\n{text}");
        }
    }

    #[test]
    fn operators_find_the_names_they_alert_on() {
        let expected = [
            ("inference_requests_total", 8.0),
            ("inference_requests_throttled", 2.0),
            ("inference_throttle_rate", 0.25),
            ("inference_vram_usage_bytes{device=\"cpu\"}", 60.0),
            ("inference_requests_refused_memory_total", 4.0),
            ("inference_yield_seconds{device=\"cpu\"}", 0.25),
        ];
        check(&status(), &expected);
    }

    #[test]
    fn every_figure_of_a_status_is_told_once() {
        let expected = [
            ("inference_requests_queued", 3.0),
            ("inference_sequences_running", 2.0),
            ("inference_degraded", 0.0),
            ("inference_profile{profile=\"present\"}", 0.0),
            ("inference_profile{profile=\"away\"}", 1.0),
            ("inference_compute_share_allowed", 0.3),
            ("inference_owner_compute_share_allowed", 0.5),
            ("inference_compute_share_limit", 0.6),
            ("inference_admits", 1.0),
            ("inference_batch_limit", 2.0),
            ("inference_limits_not_enforced", 1.0),
            ("inference_not_seen", 2.0),
            ("inference_vram_limit_bytes{device=\"cpu\"}", 500.0),
            ("inference_vram_total_bytes{device=\"cpu\"}", 1000.0),
            (
                "inference_memory_bytes{device=\"cpu\",kind=\"weights\"}",
                30.0,
            ),
            ("inference_memory_bytes{device=\"cpu\",kind=\"kv\"}", 20.0),
            (
                "inference_memory_bytes{device=\"cpu\",kind=\"prefix_cache\"}",
                5.0,
            ),
            (
                "inference_memory_bytes{device=\"cpu\",kind=\"scratch\"}",
                10.0,
            ),
            ("inference_thread_failures", 0.0),
            ("inference_peers_memory_bytes{memory=\"system\"}", 7.0),
            ("inference_device_lost{device=\"cpu\"}", 0.0),
            ("inference_busy_seconds{device=\"cpu\"}", 1.5),
            ("inference_rest_seconds{device=\"cpu\"}", 2.5),
            (
                "inference_thread_nice{thread=\"spawner\",excepted=\"yes\"}",
                0.0,
            ),
            (
                "inference_thread_nice{thread=\"engine \\\"a\\\"\",excepted=\"no\"}",
                15.0,
            ),
        ];
        check(&status(), &expected);
        // With the six of the other test and the verdict's: three states, two reasons.
        assert_eq!(parse(&status().prometheus()).len(), expected.len() + 6 + 5);
    }

    #[test]
    fn a_verdict_is_one_state_with_its_reasons() {
        let states = |open, limited, shut| {
            [
                ("inference_verdict{state=\"open\"}", open),
                ("inference_verdict{state=\"limited\"}", limited),
                ("inference_verdict{state=\"shut\"}", shut),
            ]
        };
        let reason = |name: &str| format!("inference_verdict_reason{{reason=\"{name}\"}}");
        let mut status = status();
        check(&status, &states(0.0, 1.0, 0.0));
        check(
            &status,
            &[(&reason("others_cpu"), 1.0), (&reason("full_screen"), 1.0)],
        );
        status.ruling.verdict = Verdict::Shut(Reason::Paused);
        check(&status, &states(0.0, 0.0, 1.0));
        check(&status, &[(&reason("paused"), 1.0)]);
        status.ruling.verdict = Verdict::Open;
        check(&status, &states(1.0, 0.0, 0.0));
        assert!(!status.prometheus().contains("inference_verdict_reason"));
    }

    #[test]
    fn a_status_that_crossed_a_socket_tells_the_same() {
        let status = status();
        let text = serde_json::to_string(&status).expect("plain data");
        assert_eq!(serde_json::from_str::<Status>(&text).ok(), Some(status));
    }
}
