use std::io;
use std::os::unix::net::UnixStream;

use rustix::net::sockopt::socket_peercred;

pub(crate) fn peer_user(socket: &UnixStream) -> io::Result<u32> {
    Ok(socket_peercred(socket)?.uid.as_raw())
}
