use std::mem::size_of;
use std::ptr::null_mut;
use std::time::Duration;

use windows_sys::Win32::System::RemoteDesktop::{
    WTS_CURRENT_SERVER_HANDLE, WTS_CURRENT_SESSION, WTSFreeMemory, WTSINFOEXW,
    WTSQuerySessionInformationW, WTSSessionInfoEx,
};
use windows_sys::Win32::System::SystemInformation::GetTickCount;
use windows_sys::Win32::UI::Input::KeyboardAndMouse::{GetLastInputInfo, LASTINPUTINFO};
use windows_sys::Win32::UI::Shell::{
    QUNS_BUSY, QUNS_PRESENTATION_MODE, QUNS_RUNNING_D3D_FULL_SCREEN, SHQueryUserNotificationState,
};

use super::{done, last_error};
use crate::error::HostError;
use crate::presence::{Presence, PresenceSource};

/// The session that this process runs in; a service's has no desk.
pub(crate) struct PresenceSources {
    problem: Option<String>,
}

impl PresenceSources {
    pub(crate) fn may_exist() -> Result<(), Vec<PresenceSource>> {
        Ok(())
    }

    pub(crate) fn open() -> Self {
        Self { problem: None }
    }

    pub(crate) fn ask(&mut self) -> Option<Presence> {
        let idle = idle();
        self.problem = idle.as_ref().err().map(ToString::to_string);
        Some(Presence {
            idle: Some(idle.ok()?),
            locked: is_locked().ok(),
            full_screen: is_full_screen(),
        })
    }

    pub(crate) fn states(&self) -> Vec<PresenceSource> {
        vec![PresenceSource {
            name: "the Windows session",
            problem: self.problem.clone(),
        }]
    }
}

#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
pub(super) fn idle() -> Result<Duration, HostError> {
    let mut last = LASTINPUTINFO {
        cbSize: size_of::<LASTINPUTINFO>() as u32,
        dwTime: 0,
    };
    // SAFETY: the call writes as many bytes as the size says, which is the struct's own.
    done("GetLastInputInfo", unsafe {
        GetLastInputInfo(&raw mut last)
    })?;
    // SAFETY: it takes nothing and gives a number. Both begin again at zero after 49 days.
    let now = unsafe { GetTickCount() };
    Ok(Duration::from_millis(now.wrapping_sub(last.dwTime).into()))
}

#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
fn is_locked() -> Result<bool, HostError> {
    /// `WTS_SESSIONSTATE_LOCK` of wtsapi32.h.
    const LOCKED: i32 = 0;
    let (mut buffer, mut length) = (null_mut(), 0);
    // SAFETY: the call makes a buffer of `length` bytes, which is checked before it is read and
    // given back once. The buffer need not be aligned.
    unsafe {
        let class = WTSSessionInfoEx;
        let asked = WTSQuerySessionInformationW(
            WTS_CURRENT_SERVER_HANDLE,
            WTS_CURRENT_SESSION,
            class,
            &raw mut buffer,
            &raw mut length,
        );
        done("WTSQuerySessionInformation", asked)?;
        let whole = length as usize >= size_of::<WTSINFOEXW>();
        let flags = whole.then(|| {
            let info: WTSINFOEXW = buffer.cast::<WTSINFOEXW>().read_unaligned();
            info.Data.WTSInfoExLevel1.SessionFlags
        });
        WTSFreeMemory(buffer.cast());
        let flags = flags.ok_or_else(|| last_error("WTSQuerySessionInformation"))?;
        Ok(flags == LOCKED)
    }
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
fn is_full_screen() -> Option<bool> {
    let mut state = 0;
    // SAFETY: the call writes one number, and is given one.
    let result = unsafe { SHQueryUserNotificationState(&raw mut state) };
    let full = [
        QUNS_BUSY,
        QUNS_RUNNING_D3D_FULL_SCREEN,
        QUNS_PRESENTATION_MODE,
    ];
    (result >= 0).then(|| full.contains(&state))
}
