use std::io::{self, Error, ErrorKind, Read, Write};
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, ERROR_PIPE_BUSY, ERROR_PIPE_CONNECTED, ERROR_SEM_TIMEOUT, GENERIC_READ,
    GENERIC_WRITE, INVALID_HANDLE_VALUE, LocalFree, WAIT_TIMEOUT,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{
    GetTokenInformation, PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER,
    TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, OPEN_EXISTING,
    PIPE_ACCESS_DUPLEX, ReadFile, SECURITY_IDENTIFICATION, SECURITY_SQOS_PRESENT, WriteFile,
};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResultEx, OVERLAPPED};
use windows_sys::Win32::System::Pipes::{
    ConnectNamedPipe, CreateNamedPipeW, PIPE_READMODE_BYTE, PIPE_REJECT_REMOTE_CLIENTS,
    PIPE_TYPE_BYTE, PIPE_UNLIMITED_INSTANCES, PIPE_WAIT, WaitNamedPipeW,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, INFINITE, OpenProcessToken};

use crate::error::HostError;
use crate::programs::process_ids;
use crate::socket::SocketName;

const FOLDER: &str = r"\\.\pipe\";
const BUFFER: u32 = 64 << 10;

/// The name has the user's id in it, so that users do not take each other's names by accident; a
/// name that another took on purpose is refused when it is bound.
fn path_of(name: &SocketName) -> io::Result<Vec<u16>> {
    let path = format!("{FOLDER}{}", file_of(name)?);
    Ok(wide(&path))
}

fn file_of(name: &SocketName) -> io::Result<String> {
    Ok(format!("{}.{name}", user()?))
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

fn failed(name: &SocketName) -> impl Fn(Error) -> HostError {
    let path = format!("{FOLDER}...{name}");
    move |source| HostError::Socket {
        path: path.clone(),
        source,
    }
}

/// This process's user, as `S-1-5-21-...`.
#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
fn user() -> io::Result<String> {
    // A user's id has at most 68 bytes; words, so that the struct in front is aligned.
    let mut buffer = [0_usize; 32];
    let size = size_of_val(&buffer) as u32;
    let (mut token, mut length, mut text) = (null_mut(), 0, null_mut());
    // SAFETY: the token is closed by its owner; the second call writes no more than the buffer
    // has, and begins it with a TOKEN_USER; the third makes a text that ends with zero and is
    // given back once.
    unsafe {
        check(OpenProcessToken(
            GetCurrentProcess(),
            TOKEN_QUERY,
            &raw mut token,
        ))?;
        let token = OwnedHandle::from_raw_handle(token);
        let (raw, to) = (token.as_raw_handle(), buffer.as_mut_ptr().cast());
        check(GetTokenInformation(
            raw,
            TokenUser,
            to,
            size,
            &raw mut length,
        ))?;
        let user = &*buffer.as_ptr().cast::<TOKEN_USER>();
        check(ConvertSidToStringSidW(user.User.Sid, &raw mut text))?;
        let length = (0..).take_while(|&index| *text.add(index) != 0).count();
        let sid = String::from_utf16_lossy(std::slice::from_raw_parts(text, length));
        LocalFree(text.cast());
        Ok(sid)
    }
}

fn check(result: i32) -> io::Result<()> {
    match result {
        0 => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

#[derive(Debug)]
pub(crate) struct Listener {
    name: SocketName,
    /// The end that the next caller gets: always one, so that callers find the name.
    next: Mutex<OwnedHandle>,
}

impl Listener {
    pub(crate) fn bind(name: &SocketName) -> Result<Self, HostError> {
        let first = instance(name, FILE_FLAG_FIRST_PIPE_INSTANCE).map_err(failed(name))?;
        Ok(Self {
            name: name.clone(),
            next: Mutex::new(first),
        })
    }

    pub(crate) fn accept(&self) -> Result<Stream, HostError> {
        // Held while it waits: callers of `accept` take turns.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        connected(&next).map_err(failed(&self.name))?;
        let another = instance(&self.name, 0).map_err(failed(&self.name))?;
        Ok(Stream::over(std::mem::replace(&mut next, another)))
    }
}

/// A server's end, for this user and nobody else, from this machine.
#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
fn instance(name: &SocketName, flags: u32) -> io::Result<OwnedHandle> {
    let (path, user) = (path_of(name)?, user()?);
    let rights = wide(&format!("O:{user}D:P(A;;GA;;;{user})"));
    let mut descriptor: PSECURITY_DESCRIPTOR = null_mut();
    // SAFETY: both texts end with zero and outlive the calls; the descriptor is given back once,
    // after its use; a valid handle is ours to close.
    unsafe {
        check(ConvertStringSecurityDescriptorToSecurityDescriptorW(
            rights.as_ptr(),
            SDDL_REVISION_1,
            &raw mut descriptor,
            null_mut(),
        ))?;
        let attributes = SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: descriptor,
            bInheritHandle: 0,
        };
        let handle = CreateNamedPipeW(
            path.as_ptr(),
            PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | flags,
            PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS,
            PIPE_UNLIMITED_INSTANCES,
            BUFFER,
            BUFFER,
            0,
            &raw const attributes,
        );
        let error = Error::last_os_error();
        LocalFree(descriptor);
        match handle == INVALID_HANDLE_VALUE {
            true => Err(error),
            false => Ok(OwnedHandle::from_raw_handle(handle)),
        }
    }
}

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
fn connected(pipe: &OwnedHandle) -> io::Result<()> {
    let made = overlapped(pipe, INFINITE, |to| {
        // SAFETY: the pipe is open, and `overlapped` keeps `to` until the call has ended.
        unsafe { ConnectNamedPipe(pipe.as_raw_handle(), to) }
    });
    match made {
        Err(error) if error.raw_os_error() == Some(ERROR_PIPE_CONNECTED as i32) => Ok(()),
        other => other.map(drop),
    }
}

/// Begins a call and waits for it so long; a longer call is cancelled. Gives the bytes it moved.
#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
fn overlapped(
    pipe: &OwnedHandle,
    millis: u32,
    begin: impl FnOnce(*mut OVERLAPPED) -> i32,
) -> io::Result<usize> {
    let mut state = OVERLAPPED::default();
    let (raw, to) = (pipe.as_raw_handle(), &raw mut state);
    if begin(to) == 0 {
        let error = Error::last_os_error();
        if error.raw_os_error() != Some(ERROR_IO_PENDING as i32) {
            return Err(error);
        }
    }
    let mut moved = 0;
    // SAFETY: the pipe is open, and the state lives until the call has ended: one that is
    // cancelled is waited for.
    unsafe {
        if GetOverlappedResultEx(raw, to, &raw mut moved, millis, 0) != 0 {
            return Ok(moved as usize);
        }
        let error = Error::last_os_error();
        if error.raw_os_error() != Some(WAIT_TIMEOUT as i32) {
            return Err(error);
        }
        CancelIoEx(raw, to);
        // It may have ended just before.
        match GetOverlappedResultEx(raw, to, &raw mut moved, INFINITE, 0) {
            0 => Err(ErrorKind::TimedOut.into()),
            _ => Ok(moved as usize),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Stream {
    pipe: OwnedHandle,
    millis: u32,
}

impl Stream {
    fn over(pipe: OwnedHandle) -> Self {
        Self {
            pipe,
            millis: INFINITE,
        }
    }

    pub(crate) fn connect(name: &SocketName) -> Result<Self, HostError> {
        let pipe = open(name).map_err(failed(name))?;
        Ok(Self::over(pipe))
    }

    pub(crate) fn set_timeout(&mut self, each: Duration) -> Result<(), HostError> {
        self.millis = u32::try_from(each.as_millis()).unwrap_or(INFINITE);
        Ok(())
    }
}

/// A caller's end. A server under a stranger's account may know the caller's name and not act in it.
#[expect(unsafe_code, reason = "the system calls have no safe wrapper")]
fn open(name: &SocketName) -> io::Result<OwnedHandle> {
    const WAIT_MAX_MS: u32 = 2000;
    let path = path_of(name)?;
    let flags = FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION;
    let rights = GENERIC_READ | GENERIC_WRITE;
    let try_once = || {
        // SAFETY: the path ends with zero and outlives the call; a valid handle is ours to close.
        unsafe {
            let handle = CreateFileW(
                path.as_ptr(),
                rights,
                0,
                null(),
                OPEN_EXISTING,
                flags,
                null_mut(),
            );
            match handle == INVALID_HANDLE_VALUE {
                true => Err(Error::last_os_error()),
                false => Ok(OwnedHandle::from_raw_handle(handle)),
            }
        }
    };
    match try_once() {
        Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY as i32) => {
            // SAFETY: the path ends with zero and outlives the call.
            check(unsafe { WaitNamedPipeW(path.as_ptr(), WAIT_MAX_MS) })?;
            try_once()
        }
        other => other,
    }
}

impl Read for Stream {
    #[expect(unsafe_code, reason = "the system call has no safe wrapper")]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let (raw, to) = (self.pipe.as_raw_handle(), buffer.as_mut_ptr());
        let read = overlapped(&self.pipe, self.millis, |state| {
            // SAFETY: the buffer has so many bytes, and it and the state outlive the call, which
            // `overlapped` waits for.
            unsafe { ReadFile(raw, to, length, null_mut(), state) }
        });
        match read {
            // The other end is closed.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
            other => other,
        }
    }
}

impl Write for Stream {
    #[expect(unsafe_code, reason = "the system call has no safe wrapper")]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let (raw, from) = (self.pipe.as_raw_handle(), bytes.as_ptr());
        overlapped(&self.pipe, self.millis, |state| {
            // SAFETY: there are so many bytes, and they and the state outlive the call, which
            // `overlapped` waits for.
            unsafe { WriteFile(raw, from, length, null_mut(), state) }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The names of this user's pipes under the program's name: each living process is asked for by number. The list of
/// all pipes would say the same, and Wine has none.
pub(crate) fn socket_files(program: &str) -> Vec<String> {
    let names = process_ids()
        .into_iter()
        .filter_map(|pid| SocketName::of(program, pid).ok());
    names
        .filter(socket_is_alive)
        .map(|name| name.to_string())
        .collect()
}

/// A pipe ends with its process. One whose ends all have callers is there.
#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
pub(crate) fn socket_is_alive(name: &SocketName) -> bool {
    const WAIT_MS: u32 = 1;
    let Ok(path) = path_of(name) else {
        return false;
    };
    // SAFETY: the path ends with zero and outlives the call, which does not open the pipe.
    match check(unsafe { WaitNamedPipeW(path.as_ptr(), WAIT_MS) }) {
        Ok(()) => true,
        Err(error) => error.raw_os_error() == Some(ERROR_SEM_TIMEOUT as i32),
    }
}
