use corpgrid_scheduler::{Reason, Settings};
use gogrid_control::View;
use serde_json::{Value, json};

use super::*;

/// A process with one model, as its control socket tells of it.
pub(crate) fn status() -> Value {
    let limits = serde_json::to_value(Settings::of(corpgrid_scheduler::Mode::Aggressive).limits);
    json!({
        "limits": limits.unwrap(),
        "ruling": {"profile": "present", "verdict": "open", "compute_share": 0.95, "admits": true},
        "memories": [{
            "memory": "system", "total_bytes": 16_u64 << 30, "cap_bytes": 8_u64 << 30,
            "used_bytes": 4_u64 << 30, "peers_bytes": 1_u64 << 30,
        }],
        "at_s": 10.0,
        "devices": [{
            "device": "cpu", "hardware": "a processor", "memory_total_bytes": 16_u64 << 30,
            "memory_cap_bytes": 8_u64 << 30, "memory_used_bytes": 4_u64 << 30,
            "weights_bytes": 2_u64 << 30, "kv_bytes": 1_u64 << 30, "scratch_bytes": 512 << 20,
            "prefix_bytes": 256 << 20, "lost": null, "busy_s": 3.0, "rest_s": 1.0, "yield_s": 0.5,
        }],
        "threads": [{"name": "engine", "nice": 0, "io": null, "excepted": null,
            "problems": ["its nice value is 0 and not 15"]}],
        "failures": [],
        "not_enforced": [],
        "not_seen": ["battery: this machine has none"],
        "peers": [{"pid": 9, "memory_bytes": [["system", 1_u64 << 30]], "cpu_share": 0.1,
            "cpu_s": 1.0, "is_busy": true}],
        "models": [{
            "model": "Some Model", "context": 8192,
            "stages": [{"device": "cpu", "first_piece": 0, "end_piece": 62,
                "pieces": "embedding, layers 0-29, head", "weights_bytes": 2_u64 << 30,
                "scratch_bytes": 0, "kv_bytes_per_token": 1}],
            "stats": {"total_requests": 12, "throttled_requests": 3, "throttle_rate": 0.25},
            "queued": 2, "running": 1, "degraded": null,
        }],
    })
}

fn view(status: Value) -> View {
    View {
        settings: Settings::of(corpgrid_scheduler::Mode::Aggressive),
        settings_file: None,
        status,
    }
}

pub(crate) fn seen() -> Seen {
    let mut seen = Seen::new(7);
    seen.take(view(status()), 0.0).unwrap();
    seen
}

fn texts(seen: &Seen, width: usize) -> Vec<String> {
    lines(seen, width)
        .into_iter()
        .map(|line| line.text)
        .collect()
}

#[test]
fn a_process_is_shown_with_what_it_holds_and_why() {
    let mut seen = seen();
    let mut later = status();
    later["at_s"] = json!(12.0);
    later["devices"][0]["busy_s"] = json!(3.0 + 1e9);
    seen.take(view(later), 0.0).unwrap();
    let expected = [
        "gogrid 7: Some Model",
        "open, up to 95 % of compute",
        "somebody is there, or may be",
        "",
        "compute: 100 % used, 95 % allowed now, limit 95 %",
        &format!("{:>78}", '█'),
        "cpu: worked 1000000003 s, rested 1 s, gave way 0 s",
        "",
        "memory system: 4.0 GiB of 8.0 GiB allowed",
        &format!(
            "[{}{}{}{}]",
            "#".repeat(19),
            "+".repeat(5),
            ".".repeat(19),
            "x".repeat(33)
        ),
        "weights 2.0 GiB, keys and values 1.0 GiB, prefix cache 256.0 MiB, buffers",
        "  512.0 MiB, being opened 256.0 MiB, other gogrids 1.0 GiB",
        "",
        "Some Model, 8192 tokens",
        "1 running, 2 queued, 12 started, 3 of them held back",
        "cpu: embedding, layers 0-29, head, weights 2.0 GiB",
        "",
        "thread engine: its nice value is 0 and not 15",
        "gogrid 9 beside it: has requests",
        "not seen: battery: this machine has none",
    ];
    assert_eq!(texts(&seen, 78), expected);
}

#[test]
fn the_reason_is_told_where_less_or_nothing_may_be_taken() {
    let told = |verdict: Verdict, owner: f64| {
        let mut seen = seen();
        let ruling = &mut seen.machine.as_mut().unwrap().ruling;
        (ruling.verdict, ruling.compute_share, ruling.admits) = (verdict, 0.3, false);
        ruling.owner.compute_share = owner;
        let lines = lines(&seen, 80);
        (lines[1].tone, lines[1].text.clone(), lines[2].text.clone())
    };
    let why = vec![Reason::OthersCpu { others: 0.5 }, Reason::FullScreen];
    let (tone, text, there) = told(Verdict::Limited { share: 0.3, why }, 0.3);
    assert_eq!(tone, Tone::Limited);
    assert_eq!(
        text,
        "limited to 30 %: others use 50 % of the processor; an application is full screen"
    );
    assert_eq!(there, "somebody is there, or may be; accepts nothing more");
    let (tone, text, _) = told(Verdict::Shut(Reason::Snoozed { left_s: 90 }), 0.0);
    assert_eq!(tone, Tone::Problem);
    assert_eq!(text, "stopped: snoozed for another 90 s");
    let others = Verdict::Shut(Reason::OthersCpu { others: 1.0 });
    let (_, _, next) = told(others, 0.4);
    assert_eq!(next, "the owner's own requests may take 40 %");
}

#[test]
fn a_status_of_one_model_is_shown_as_a_machine_with_one() {
    let mut one = status();
    let fields = one.as_object_mut().unwrap();
    let model = fields.remove("models").unwrap()[0].clone();
    fields.remove("at_s");
    fields.extend(model.as_object().unwrap().clone());
    fields.insert("refused_memory".to_owned(), json!(0));
    let mut seen_one = Seen::new(7);
    seen_one.take(view(one), 3.0).unwrap();
    assert_eq!(texts(&seen_one, 80), texts(&seen(), 80));
}

#[test]
fn a_status_of_another_shape_is_an_error_and_what_was_seen_stays() {
    let mut seen = seen();
    let before = texts(&seen, 80);
    for other in [json!(null), json!({}), json!({"models": 3})] {
        let error = seen.take(view(other), 0.0).unwrap_err();
        assert!(error.to_string().contains("another shape"), "{error}");
    }
    assert_eq!(texts(&seen, 80), before);
}

#[test]
fn the_curve_shows_the_latest_shares_and_forgets_the_oldest() {
    let mut seen = seen();
    for at in 1..1000 {
        let mut later = status();
        later["at_s"] = json!(10.0 + f64::from(at));
        seen.take(view(later), 0.0).unwrap();
    }
    assert_eq!(seen.shares.len(), 240);
    seen.shares = [0.0, 0.001, 0.5, 1.0].into();
    assert_eq!(
        texts(&seen, 8)[..]
            .iter()
            .filter(|text| **text == "     ▁▄█")
            .count(),
        1
    );
    assert_eq!(
        texts(&seen, 40)
            .iter()
            .filter(|text| text.ends_with(" ▁▄█"))
            .count(),
        1
    );
}

#[test]
fn names_from_others_do_not_steer_the_terminal() {
    let mut hostile = status();
    hostile["models"][0]["model"] = json!("\u{1b}[2Jevil\nname\u{202e}");
    hostile["memories"][0]["memory"] = json!("\u{9b}31m");
    hostile["threads"][0]["problems"] = json!(["a\u{7}b\rc\td"]);
    let mut seen = Seen::new(7);
    seen.take(view(hostile), 0.0).unwrap();
    seen.problem = Some("\u{1b}]0;title\u{7}".to_owned());
    for text in texts(&seen, 80) {
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(!text.contains('\u{202e}'), "{text:?}");
    }
}

#[test]
fn no_line_is_wider_than_the_terminal_and_none_is_lost() {
    let mut seen = seen();
    seen.problem =
        Some("a problem of several words, and oneverylongwordthatfitsinnoline".repeat(3));
    let words = |lines: &[String]| lines.concat().replace([' ', '\n'], "");
    for width in 1..=120 {
        let lines = texts(&seen, width);
        assert!(
            lines.iter().all(|line| line.chars().count() <= width),
            "{width}: {lines:?}"
        );
        let problem = seen.problem.as_ref().unwrap().replace(' ', "");
        assert!(words(&lines).contains(&problem), "{width}: {lines:?}");
    }
}

#[test]
fn a_bar_fills_its_width_whatever_the_figures_are() {
    let figures = [0, 1, 1 << 20, 5 << 30, 16 << 30, u64::MAX];
    for total_bytes in figures {
        for cap_bytes in figures {
            for used_bytes in figures {
                for peers_bytes in figures {
                    let memory = MemoryStatus {
                        memory: "system".to_owned(),
                        total_bytes,
                        cap_bytes,
                        used_bytes,
                        peers_bytes,
                    };
                    assert_eq!(bar(&memory, 40).len(), 40, "{memory:?}");
                }
            }
        }
    }
}
