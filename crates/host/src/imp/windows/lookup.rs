//! Functions that not every Windows has. A program whose import table names one that is missing does not start, or, under Wine, is
//! ended by its first call.

use std::ffi::{CStr, c_void};
use std::mem::transmute;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};
use windows_sys::Win32::System::Threading::THREAD_INFORMATION_CLASS;
use windows_sys::core::BOOL;

use crate::error::HostError;

type Found = unsafe extern "system" fn() -> isize;
type Set = unsafe extern "system" fn(HANDLE, THREAD_INFORMATION_CLASS, *const c_void, u32) -> BOOL;
type Get = unsafe extern "system" fn(HANDLE, THREAD_INFORMATION_CLASS, *mut c_void, u32) -> BOOL;

/// Both ways of a thread's information, from Windows 8 on; Wine 8 has only the way in.
pub(super) struct ThreadInformation {
    pub(super) set: Set,
    pub(super) get: Get,
}

impl ThreadInformation {
    /// Without the way back nothing is set either: what cannot be read back is not said to hold.
    #[expect(unsafe_code, reason = "the system gives functions without their types")]
    pub(super) fn find() -> Result<Self, HostError> {
        let set = kernel_function(c"SetThreadInformation")?;
        let get = kernel_function(c"GetThreadInformation")?;
        // SAFETY: the types are those that the system's documentation gives for these two names.
        unsafe {
            Ok(Self {
                set: transmute::<Found, Set>(set),
                get: transmute::<Found, Get>(get),
            })
        }
    }
}

/// A function of `kernel32.dll`, which every process has loaded.
#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
fn kernel_function(name: &'static CStr) -> Result<Found, HostError> {
    let library: Vec<u16> = "kernel32.dll\0".encode_utf16().collect();
    // SAFETY: both names end with zero and outlive the calls; the library is never unloaded. A module that is null is
    // answered by an error.
    let found = unsafe {
        let library = GetModuleHandleW(library.as_ptr());
        GetProcAddress(library, name.as_ptr().cast())
    };
    found.ok_or_else(|| HostError::Unread {
        what: name.to_str().expect("functions have names in ASCII"),
        reason: "this Windows does not have it".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_is_missing_is_an_error_by_its_name() {
        assert!(kernel_function(c"GetTickCount").is_ok());
        let error = kernel_function(c"GetNoSuchThing").unwrap_err();
        assert_eq!(
            error.to_string(),
            "GetNoSuchThing: this Windows does not have it"
        );
    }
}
