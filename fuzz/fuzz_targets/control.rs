//! Any bytes as a request to a running gogrid, and as a file of limits: what is taken is valid.
#![no_main]

use corpgrid_scheduler::{Changes, Mode, Settings};
use gogrid_control::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<Request>(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(changes) = Changes::from_toml(text) else {
        return;
    };
    if let Ok(settings) = changes.onto(&Settings::of(Mode::Conservative)) {
        assert!(settings.validate().is_ok());
    }
});
