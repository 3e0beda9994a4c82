use std::iter;
use std::os::windows::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null_mut;

use windows_sys::Win32::Storage::FileSystem::GetDiskFreeSpaceExW;

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
pub(crate) fn free_space(folder: &Path) -> Option<u64> {
    let name: Vec<u16> = folder
        .as_os_str()
        .encode_wide()
        .chain(iter::once(0))
        .collect();
    let mut free = 0;
    // SAFETY: the name ends with a zero, the call writes one number, and is asked for no other.
    let read = unsafe { GetDiskFreeSpaceExW(name.as_ptr(), &raw mut free, null_mut(), null_mut()) };
    (read != 0).then_some(free)
}
