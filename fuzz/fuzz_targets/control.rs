//! Any bytes as a line to a running gogrid, and as a file of limits: what is taken is valid, and can be
//! written and read again.
#![no_main]

#[path = "../../crates/control/tests/fake/mod.rs"]
mod fake;

use std::sync::Arc;

use corpgrid_scheduler::{Changes, Mode, Settings};
use gogrid_control::{Control, Controlled, Request, View};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;

use crate::fake::Fake;

/// A line as the socket takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(rename = "version")]
    _version: u32,
    request: Request,
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Asked { request, .. }) = serde_json::from_slice(bytes) {
        ask(request);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let changed = Changes::from_toml(text)
        .and_then(|changes| changes.onto(&Settings::of(Mode::Conservative)));
    match changed {
        Ok(settings) => check(&settings),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

fn ask(request: Request) {
    let fake = Arc::new(Fake::new());
    let control = Control::new(Arc::clone(&fake) as Arc<dyn Controlled>);
    match control.answer(request) {
        Ok(view) => {
            let line = serde_json::to_vec(&view).expect("a view is JSON");
            assert_eq!(serde_json::from_slice::<View>(&line).expect("a view"), view);
        }
        Err(refused) => assert!(!refused.message.is_empty()),
    }
    check(&fake.settings());
}

fn check(settings: &Settings) {
    settings
        .validate()
        .expect("settings that were taken are valid");
    let file = settings.to_toml().expect("settings are TOML");
    let again = Settings::from_toml(&file).unwrap_or_else(|error| panic!("{error}: {file}"));
    assert_eq!(again, *settings, "{file}");
}
