//! Random files of limits and random control messages: mostly well-formed in some way, and wrong in
//! another.

use crate::rng::Rng;

const SECTIONS: [&str; 13] = [
    "limits",
    "away",
    "policy",
    "policy.presence",
    "policy.battery",
    "policy.memory",
    "policy.temperature",
    "policy.others_cpu",
    "policy.others_gpu",
    "policy.schedule",
    "nothing",
    "limits.deeper",
    "\"quoted key\"",
];

const KEYS: [&str; 26] = [
    "mode",
    "max_compute_usage_percent",
    "max_vram_usage_percent",
    "max_batch_size",
    "min_request_interval_ms",
    "process_priority",
    "io_priority_class",
    "io_priority_level",
    "enable_auto_throttle",
    "away_after_s",
    "away_when_locked",
    "full_screen_share_max",
    "charge_min",
    "resume_charge",
    "available_min",
    "pressure_max",
    "limit_above_c",
    "stop_above_c",
    "resume_after_s",
    "yield_above",
    "share_min",
    "allowed",
    "exclusive",
    "days",
    "from",
    "unknown_key",
];

const VALUES: [&str; 32] = [
    "0",
    "1",
    "-1",
    "64",
    "65",
    "0.3",
    "1.0",
    "1e308",
    "-0.0",
    "nan",
    "inf",
    "-inf",
    "9223372036854775807",
    "9223372036854775808",
    "0x7fffffffffffffff",
    "true",
    "false",
    "\"default\"",
    "\"aggressive\"",
    "\"\"",
    "\"\\u0000\\u001b[2J\"",
    "'literal'",
    "\"\"\"\nlines\n\"\"\"",
    "1979-05-27T07:32:00Z",
    "99:99:99",
    "[]",
    "[1, 2.0, \"x\"]",
    "[[[[[[[[[[[[]]]]]]]]]]]]",
    "{}",
    "{ a = 1, b = { c = 2 } }",
    "\"unclosed",
    "",
];

/// The bytes of a file of limits, which may be none.
pub fn limits_file(rng: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..rng.below(12) {
        match rng.below(8) {
            0 => text += &format!("[{}]\n", one_of(&SECTIONS, rng)),
            1 => text += &format!("[[{}]]\n", one_of(&SECTIONS, rng)),
            2 => text += &format!("{}.{} = ", one_of(&SECTIONS, rng), one_of(&KEYS, rng)),
            3 => text += &deep(rng),
            _ => text += &format!("{} = ", one_of(&KEYS, rng)),
        }
        text += one_of(&VALUES, rng);
        text.push('\n');
    }
    damaged(text.into_bytes(), rng)
}

/// The bytes of a line that a caller sends to a running program, without its end.
pub fn control_message(rng: &mut Rng) -> Vec<u8> {
    let request = match rng.below(12) {
        0 => "\"get\"".to_owned(),
        1 => format!(
            "\"{}\"",
            one_of(&["pause", "resume", "finish", "usage", "explode"], rng)
        ),
        2 => format!("{{\"snooze\":{{\"seconds\":{}}}}}", json_value(rng)),
        3 => format!("{{\"move\":[{}]}}", stages(rng)),
        4 => json_value(rng),
        5 => nested(rng),
        _ => format!("{{\"set\":{{{}}}}}", assignments(rng)),
    };
    let version = one_of(
        &["1", "1", "1", "1", "1", "2", "-1", "1.0", "null", "\"1\""],
        rng,
    );
    let more = one_of(&["", "", "", "", ",\"more\":1", ",\"version\":1"], rng);
    let line = format!("{{\"version\":{version},\"request\":{request}{more}}}");
    let mut bytes = damaged(line.into_bytes(), rng);
    bytes.retain(|&byte| byte != b'\n');
    bytes
}

fn one_of<'a>(list: &[&'a str], rng: &mut Rng) -> &'a str {
    list[rng.below(list.len())]
}

/// A key or a list that is deeper than any settings.
fn deep(rng: &mut Rng) -> String {
    let depth = 1 << rng.below(14);
    match rng.below(4) {
        0 => format!("{} = 1\n", vec!["a"; depth].join(".")),
        1 => format!("a = {}{}\n", "[".repeat(depth), "]".repeat(depth)),
        2 => format!("a = {}1{}\n", "{a=".repeat(depth), "}".repeat(depth)),
        _ => format!("[{}]\n", vec!["a"; depth].join(".")),
    }
}

fn nested(rng: &mut Rng) -> String {
    let depth = 1 << rng.below(14);
    match rng.below(2) {
        0 => format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
        _ => format!("{}1{}", "{\"set\":".repeat(depth), "}".repeat(depth)),
    }
}

fn json_value(rng: &mut Rng) -> String {
    const VALUES: [&str; 14] = [
        "0",
        "1",
        "-1",
        "604800",
        "604801",
        "18446744073709551616",
        "1e999",
        "0.3",
        "true",
        "null",
        "\"text\"",
        "\"\\u001b\\ud800\"",
        "[]",
        "{}",
    ];
    match rng.below(12) {
        0 => format!("\"{}\"", "x".repeat(1 << rng.below(17))),
        _ => one_of(&VALUES, rng).to_owned(),
    }
}

fn assignments(rng: &mut Rng) -> String {
    let sections: Vec<_> = (0..rng.below(3))
        .map(|_| {
            let section = one_of(&SECTIONS[..3], rng);
            let pairs: Vec<_> = (0..rng.below(6))
                .map(|_| format!("\"{}\":{}", one_of(&KEYS, rng), json_value(rng)))
                .collect();
            format!("\"{section}\":{{{}}}", pairs.join(","))
        })
        .collect();
    sections.join(",")
}

fn stages(rng: &mut Rng) -> String {
    let stages: Vec<_> = (0..rng.below(4) * rng.below(400))
        .map(|_| {
            let (first, end) = (json_value(rng), rng.below(9));
            format!("{{\"device\":\"cpu\",\"first_piece\":{first},\"end_piece\":{end}}}")
        })
        .collect();
    stages.join(",")
}

/// The same, cut, with bytes that are others, or long, now and then.
fn damaged(mut bytes: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    match rng.below(10) {
        0 if !bytes.is_empty() => bytes.truncate(rng.below(bytes.len())),
        1 | 2 if !bytes.is_empty() => {
            for _ in 0..=rng.below(4) {
                let at = rng.below(bytes.len());
                bytes[at] = rng.bits().to_le_bytes()[0];
            }
        }
        3 if rng.below(8) == 0 => bytes.extend(vec![b' '; 1 << 17]),
        _ => {}
    }
    bytes
}
