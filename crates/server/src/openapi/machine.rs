//! The schemas of the machine's limits and of how it stands.

use super::schemas::{
    Field, SchemaRef, answer, answer_with, anything, count, flag, integer, list, maybe, named,
    number, object, text, within, words,
};
use crate::limits::SNOOZE_MAX;

pub(super) fn schemas() -> Vec<Field> {
    vec![
        ("Health", answer([("status", text())])),
        ("Version", answer([("version", text())])),
        ("Status", status()),
        ("History", history()),
        ("Sample", sample()),
        ("Ruling", ruling()),
        ("Limits", limits()),
        ("Settings", settings()),
        ("SettingsRequest", settings_request()),
        ("OrderRequest", order_request()),
    ]
}

fn order_request() -> SchemaRef {
    // A week fits.
    let seconds = integer(1, SNOOZE_MAX.as_secs() as isize);
    object([("seconds", maybe(seconds))], &[])
}

/// Limits, of which a request names those that it changes.
fn limits() -> SchemaRef {
    let fields = [
        ("max_vram_usage_percent", within(0.0, 1.0)),
        ("max_compute_usage_percent", within(0.0, 1.0)),
        ("process_priority", integer(-20, 19)),
        ("io_priority_class", integer(0, 3)),
        ("io_priority_level", integer(0, 7)),
        ("enable_auto_throttle", flag()),
        ("min_request_interval_ms", integer(0, isize::MAX)),
        ("max_batch_size", integer(1, 64)),
    ];
    object(fields, &[])
}

fn settings() -> SchemaRef {
    answer([
        ("limits", named("Limits")),
        ("away", named("Limits")),
        ("policy", object([], &[])),
    ])
}

/// What differs from the settings in force.
fn settings_request() -> SchemaRef {
    let fields = [
        ("mode", words(["conservative", "default", "aggressive"])),
        ("limits", named("Limits")),
        ("away", named("Limits")),
        ("policy", object([], &[])),
    ];
    object(fields, &[])
}

fn ruling() -> SchemaRef {
    let verdict = || words(["open", "limited", "shut"]);
    let owner = answer_with(
        [("verdict", verdict()), ("compute_share", number())],
        [("reason", text())],
    );
    answer_with(
        [
            ("profile", text()),
            ("verdict", verdict()),
            ("compute_share", number()),
            ("owner", owner),
            ("admits", flag()),
        ],
        [("reason", text())],
    )
}

fn sample() -> SchemaRef {
    answer([
        ("at", count()),
        ("tokens_s", number()),
        ("compute_share", number()),
        ("verdict", words(["open", "limited", "shut"])),
        ("reason", maybe(text())),
        ("used_bytes", count()),
        ("running", count()),
        ("queued", count()),
    ])
}

fn history() -> SchemaRef {
    answer([("every_s", number()), ("samples", list(named("Sample")))])
}

fn status() -> SchemaRef {
    let counts = answer([
        ("requests", count()),
        ("failed", count()),
        ("prompt_tokens", count()),
        ("cached_tokens", count()),
        ("tokens", count()),
    ]);
    let model = answer([
        ("name", text()),
        ("bytes", count()),
        ("here", flag()),
        ("loaded", flag()),
        ("requests", maybe(count())),
        ("closes_in_s", maybe(count())),
    ]);
    let machine = answer([
        ("limits", named("Limits")),
        ("ruling", named("Ruling")),
        ("memories", list(anything())),
        ("devices", list(anything())),
        ("models", list(anything())),
    ]);
    answer([
        ("version", text()),
        ("at", count()),
        ("default_model", text()),
        ("draining", flag()),
        ("why", list(text())),
        ("latest", maybe(named("Sample"))),
        ("counts", counts),
        ("models", list(model)),
        ("settings", named("Settings")),
        ("status", machine),
    ])
}
