use std::env::var_os;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, geteuid, test_kill_process};

use super::super::system::peer_user;
use super::folder::{candidates, check_private, socket_folder};
use crate::error::HostError;
use crate::socket::SocketName;

/// The end of a socket's file name.
const ENDING: &str = ".sock";

#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    pub(crate) fn bind(name: &SocketName) -> Result<Self, HostError> {
        Self::bind_in(&socket_folder()?, name)
    }

    fn bind_in(folder: &Path, name: &SocketName) -> Result<Self, HostError> {
        let path = path_in(folder, name);
        let failed = |source| HostError::Socket {
            path: path.display().to_string(),
            source,
        };
        let socket = match UnixListener::bind(&path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(&path) => {
                fs::remove_file(&path).map_err(failed)?;
                UnixListener::bind(&path)
            }
            other => other,
        }
        .map_err(failed)?;
        // Nobody else gets into the folder, so nobody was quicker than this.
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { socket, path })
    }

    pub(crate) fn accept(&self) -> Result<Stream, HostError> {
        let failed = |source| HostError::Socket {
            path: self.path.display().to_string(),
            source,
        };
        let (socket, _) = self.socket.accept().map_err(failed)?;
        check_peer(&socket, geteuid().as_raw()).map_err(failed)?;
        Ok(Stream(socket))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // One that is gone already is no matter; one that stays is found to be stale.
        let _ = fs::remove_file(&self.path);
    }
}

/// The kernel names the user of the caller. Not even root is let in: root has other ways.
fn check_peer(socket: &UnixStream, ours: u32) -> io::Result<()> {
    let user = peer_user(socket)?;
    if user == ours {
        return Ok(());
    }
    let what = format!("the caller is user {user} and not {ours}");
    Err(io::Error::new(ErrorKind::PermissionDenied, what))
}

#[derive(Debug)]
pub(crate) struct Stream(UnixStream);

impl Stream {
    pub(crate) fn connect(name: &SocketName) -> Result<Self, HostError> {
        let found = folders_of_ours().find_map(|folder| {
            let path = path_in(&folder, name);
            path.exists().then_some(path)
        });
        let path = found.ok_or_else(|| HostError::Socket {
            path: name.to_string(),
            source: ErrorKind::NotFound.into(),
        })?;
        let socket = UnixStream::connect(&path).map_err(|source| HostError::Socket {
            path: path.display().to_string(),
            source,
        })?;
        Ok(Self(socket))
    }

    pub(crate) fn set_timeout(&mut self, each: Duration) -> Result<(), HostError> {
        let read = self.0.set_read_timeout(Some(each));
        let both = read.and_then(|()| self.0.set_write_timeout(Some(each)));
        both.map_err(|source| HostError::Call {
            call: "setsockopt",
            source,
        })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The candidates that are there and that nobody else can have put a socket into.
fn folders_of_ours() -> impl Iterator<Item = PathBuf> {
    let folders = candidates(|variable| var_os(variable));
    folders
        .into_iter()
        .filter(|folder| check_private(folder).is_ok())
}

fn path_in(folder: &Path, name: &SocketName) -> PathBuf {
    folder.join(format!("{name}{ENDING}"))
}

/// The names of all sockets in our folders.
pub(crate) fn socket_files() -> Vec<String> {
    let entries = folders_of_ours().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    let files = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    files
        .filter_map(|file| Some(file.strip_suffix(ENDING)?.to_owned()))
        .collect()
}

/// Whether its process lives; if not, the socket is removed.
pub(crate) fn socket_is_alive(name: &SocketName) -> bool {
    let pid = i32::try_from(name.pid()).ok().and_then(Pid::from_raw);
    if pid.is_some_and(|pid| test_kill_process(pid).is_ok()) {
        return true;
    }
    // A container may share the folder and not the process ids: only the socket itself knows.
    let paths: Vec<_> = folders_of_ours()
        .map(|folder| path_in(&folder, name))
        .collect();
    for path in paths.iter().filter(|path| is_stale(path)) {
        // Where it cannot be removed it is found to be stale again.
        let _ = fs::remove_file(path);
    }
    paths.iter().any(|path| path.exists())
}

/// Whether nobody listens on it.
fn is_stale(path: &Path) -> bool {
    let refused = UnixStream::connect(path).err();
    refused.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::super::folder::make_private;
    use super::*;

    fn name() -> SocketName {
        SocketName::own("gogrid-unit").unwrap()
    }

    #[test]
    fn a_socket_is_its_owners_alone_and_gone_when_dropped() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("run");
        make_private(&folder).unwrap();
        let listener = Listener::bind_in(&folder, &name()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&listener.path)), (0o700, 0o600));
        let path = listener.path.clone();
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_process_is_replaced_and_a_living_one_is_not() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("run");
        make_private(&folder).unwrap();
        // The standard library's listener leaves its file behind, as a killed process does.
        drop(UnixListener::bind(path_in(&folder, &name())).unwrap());
        let living = Listener::bind_in(&folder, &name()).unwrap();
        let error = Listener::bind_in(&folder, &name()).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        assert!(living.path.exists());
    }

    #[test]
    fn a_caller_of_another_user_is_refused() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let user = geteuid().as_raw();
        check_peer(&ours, user).unwrap();
        let refused = check_peer(&ours, user + 1).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    }
}
