use std::ffi::{CStr, c_char, c_void};
use std::ptr::null;
use std::time::Duration;

use crate::presence::{Presence, PresenceSource};

/// The window server; a process outside of a session has none.
pub(crate) struct PresenceSources {
    problem: Option<String>,
}

type Reference = *const c_void;

#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
#[link(name = "CoreGraphics", kind = "framework")]
// SAFETY: declared as in CGEventSource.h and CGSession.h.
unsafe extern "C" {
    safe fn CGEventSourceSecondsSinceLastEventType(state: i32, kind: u32) -> f64;
    safe fn CGSessionCopyCurrentDictionary() -> Reference;
}

#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
#[link(name = "CoreFoundation", kind = "framework")]
// SAFETY: declared as in CFBase.h, CFString.h, CFDictionary.h and CFNumber.h.
unsafe extern "C" {
    fn CFStringCreateWithCString(
        allocator: Reference,
        text: *const c_char,
        encoding: u32,
    ) -> Reference;
    fn CFDictionaryGetValue(dictionary: Reference, key: Reference) -> Reference;
    fn CFBooleanGetValue(boolean: Reference) -> u8;
    fn CFRelease(object: Reference);
}

/// `kCGEventSourceStateHIDSystemState` and `kCGAnyInputEventType`.
const HARDWARE: i32 = 1;
const ANY_INPUT: u32 = u32::MAX;

impl PresenceSources {
    pub(crate) fn may_exist() -> Result<(), Vec<PresenceSource>> {
        Ok(())
    }

    pub(crate) fn open() -> Self {
        Self { problem: None }
    }

    pub(crate) fn ask(&mut self) -> Option<Presence> {
        let locked = is_locked();
        self.problem = match locked {
            Some(_) => None,
            None => Some("this process is in no session".to_owned()),
        };
        let seconds = CGEventSourceSecondsSinceLastEventType(HARDWARE, ANY_INPUT);
        Some(Presence {
            idle: Duration::try_from_secs_f64(seconds).ok(),
            locked: Some(locked?),
            full_screen: None,
        })
    }

    pub(crate) fn states(&self) -> Vec<PresenceSource> {
        vec![PresenceSource {
            name: "the window server",
            problem: self.problem.clone(),
        }]
    }
}

#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
fn is_locked() -> Option<bool> {
    const KEY: &CStr = c"CGSSessionScreenIsLocked";
    /// `kCFStringEncodingUTF8`.
    const UTF8: u32 = 0x0800_0100;
    let session = CGSessionCopyCurrentDictionary();
    if session.is_null() {
        return None;
    }
    // SAFETY: the session's dictionary and the key are ours to release, once each; the value is
    // the dictionary's and is looked at before that.
    unsafe {
        let key = CFStringCreateWithCString(null(), KEY.as_ptr(), UTF8);
        let value = match key.is_null() {
            true => null(),
            false => CFDictionaryGetValue(session, key),
        };
        let locked = !value.is_null() && CFBooleanGetValue(value) != 0;
        if !key.is_null() {
            CFRelease(key);
        }
        CFRelease(session);
        Some(locked)
    }
}
