use std::env::var_os;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect};
use rustix::process::{Pid, geteuid, test_kill_process};

use super::super::system::peer_user;
use super::files::kind_of;
use super::folder::{candidates, check_private, socket_folder};
use crate::error::HostError;
use crate::socket::SocketName;

/// The end of a socket's file name.
const ENDING: &str = ".sock";

/// What a socket is called by [`kind_of`].
const SOCKET: &str = "a socket";

/// How long a listener whose queue is full is waited for.
const CALL_MAX: Duration = Duration::from_millis(200);

/// Where this process listens. A lock: a process that ends at once removes the files of all of its
/// listeners, whoever owns them.
static BOUND: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn bound() -> MutexGuard<'static, Vec<PathBuf>> {
    // Every write leaves it sound.
    BOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the files of all sockets that this process listens on.
pub(crate) fn remove_sockets() {
    for path in bound().drain(..) {
        // One that stays is found to be stale.
        let _ = fs::remove_file(path);
    }
}

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
        check_socket(&path).map_err(failed)?;
        let socket = match UnixListener::bind(&path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(&path) => {
                fs::remove_file(&path).map_err(failed)?;
                UnixListener::bind(&path)
            }
            other => other,
        }
        .map_err(failed)?;
        bound().push(path.clone());
        let listener = Self { socket, path };
        // Nobody else gets into the folder, so nobody was quicker than this.
        let private = Permissions::from_mode(0o600);
        let set = fs::set_permissions(&listener.path, private);
        set.map_err(|source| HostError::Socket {
            path: listener.path.display().to_string(),
            source,
        })?;
        Ok(listener)
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
        bound().retain(|path| *path != self.path);
        // One that is gone already is no matter; one that stays is found to be stale.
        let _ = fs::remove_file(&self.path);
    }
}

/// The kernel names the user at the other end. Not even root is let in: root has other ways.
fn check_peer(socket: &UnixStream, ours: u32) -> io::Result<()> {
    let user = peer_user(socket)?;
    if user == ours {
        return Ok(());
    }
    let what = format!("the other end is user {user} and not {ours}");
    Err(io::Error::new(ErrorKind::PermissionDenied, what))
}

/// That nothing but a socket of ours is at the path, if anything is.
fn check_socket(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let (user, kind) = (found.uid(), kind_of(found.file_type()));
    if kind != SOCKET {
        let problem = format!("{kind} is where the socket should be; remove it");
        return Err(io::Error::new(ErrorKind::AlreadyExists, problem));
    }
    if user != geteuid().as_raw() {
        let problem = format!("the socket there belongs to user {user}");
        return Err(io::Error::new(ErrorKind::PermissionDenied, problem));
    }
    Ok(())
}

/// A socket that no program which this process starts is given.
#[cfg(target_os = "linux")]
fn own_socket() -> rustix::io::Result<OwnedFd> {
    let flags = rustix::net::SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// The same in two steps, where the system has no such call.
#[cfg(not(target_os = "linux"))]
fn own_socket() -> rustix::io::Result<OwnedFd> {
    let ours = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC)?;
    Ok(ours)
}

/// Calls the listener at `path`. The system waits where the listener's queue is full, up to the
/// time that sending may take.
fn call(path: &Path) -> io::Result<UnixStream> {
    check_socket(path)?;
    let address = SocketAddrUnix::new(path)?;
    let ours = own_socket()?;
    set_socket_timeout(&ours, Timeout::Send, Some(CALL_MAX))?;
    // A call with such a time is not begun again by the system after a signal.
    retry_on_intr(|| connect(&ours, &address))?;
    set_socket_timeout(&ours, Timeout::Send, None)?;
    let stream = UnixStream::from(ours);
    check_peer(&stream, geteuid().as_raw())?;
    Ok(stream)
}

#[derive(Debug)]
pub(crate) struct Stream(UnixStream);

impl Stream {
    pub(crate) fn connect(name: &SocketName) -> Result<Self, HostError> {
        let found = folders_of_ours().find_map(|folder| {
            let path = path_in(&folder, name);
            path.symlink_metadata().is_ok().then_some(path)
        });
        let path = found.ok_or_else(|| HostError::Socket {
            path: name.to_string(),
            source: ErrorKind::NotFound.into(),
        })?;
        let socket = call(&path).map_err(|source| HostError::Socket {
            path: path.display().to_string(),
            source: match source.kind() {
                ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "it takes no calls"),
                _ => source,
            },
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
pub(crate) fn socket_files(program: &str) -> Vec<String> {
    let entries = folders_of_ours().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    let files = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    files
        .filter(|file| file.starts_with(program))
        .filter_map(|file| Some(file.strip_suffix(ENDING)?.to_owned()))
        .collect()
}

/// Whether anybody takes a call. A socket that nobody listens on is removed where its process is
/// dead. One whose number a living process has may be that process's, which is about to listen.
pub(crate) fn socket_is_alive(name: &SocketName) -> bool {
    let pid = i32::try_from(name.pid()).ok().and_then(Pid::from_raw);
    let is_dead = pid.is_none_or(|pid| test_kill_process(pid).is_err());
    let paths: Vec<_> = folders_of_ours()
        .map(|folder| path_in(&folder, name))
        .filter(|path| path.symlink_metadata().is_ok())
        .collect();
    let mut is_alive = false;
    for path in &paths {
        match call(path).map_err(|error| error.kind()) {
            Ok(_) | Err(ErrorKind::WouldBlock) => is_alive = true,
            Err(ErrorKind::ConnectionRefused) if is_dead => {
                // Where it cannot be removed it is found to be stale again.
                let _ = fs::remove_file(path);
            }
            Err(_) => {}
        }
    }
    is_alive
}

/// Whether nobody listens on it.
fn is_stale(path: &Path) -> bool {
    let refused = call(path).err();
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

    #[test]
    fn what_is_no_socket_of_ours_keeps_its_place_and_is_named() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("run");
        make_private(&folder).unwrap();
        let path = path_in(&folder, &name());
        let target = outer.path().join("target");
        fs::write(&target, "kept").unwrap();
        let check = |kind: &str| {
            let error = Listener::bind_in(&folder, &name()).unwrap_err().to_string();
            assert!(
                error.contains(kind) && error.contains("remove it"),
                "{error}"
            );
            let error = call(&path).unwrap_err().to_string();
            assert!(error.contains(kind), "{error}");
        };
        fs::create_dir(&path).unwrap();
        check("a folder is where");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "kept").unwrap();
        check("a regular file is where");
        assert_eq!(fs::read(&path).unwrap(), b"kept");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        check("a link is where");
        assert_eq!(fs::read(&target).unwrap(), b"kept");
    }

    #[test]
    fn a_listener_whose_queue_is_full_is_given_up_in_time() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("run");
        make_private(&folder).unwrap();
        let path = path_in(&folder, &name());
        let ours = own_socket().unwrap();
        let flags = rustix::io::fcntl_getfd(&ours).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        rustix::net::bind(&ours, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&ours, 0).unwrap();
        let mut waiting = Vec::new();
        let refused = loop {
            match call(&path) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
            assert!(waiting.len() < 16, "a queue of one place takes many");
        };
        assert_eq!(refused.kind(), ErrorKind::WouldBlock, "{refused}");
    }

    #[test]
    fn a_process_that_ends_at_once_leaves_no_socket() {
        // The list is the process's, so the other tests' listeners are taken off it as well: they
        // remove their files themselves.
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("run");
        make_private(&folder).unwrap();
        let listener = Listener::bind_in(&folder, &name()).unwrap();
        assert!(bound().contains(&listener.path));
        drop(listener);
        assert!(!bound().iter().any(|path| path.starts_with(outer.path())));
    }
}
