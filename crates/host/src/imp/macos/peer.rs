use std::io::{self, Error};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

#[expect(unsafe_code, reason = "the system call has no safe wrapper")]
pub(crate) fn peer_user(socket: &UnixStream) -> io::Result<u32> {
    let (mut user, mut group) = (0, 0);
    // SAFETY: the socket is open, and the call writes two numbers, and is given two.
    match unsafe { libc::getpeereid(socket.as_raw_fd(), &raw mut user, &raw mut group) } {
        0 => Ok(user),
        _ => Err(Error::last_os_error()),
    }
}
