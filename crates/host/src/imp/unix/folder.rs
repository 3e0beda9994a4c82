use std::env::var_os;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::error::HostError;

const IN_CACHE: &str = "gogrid/run";

/// Folders for sockets, the best first. A command that runs outside of the desktop session, over
/// ssh or from cron, must find the sockets that a process inside of it made: it looks in all folders.
pub(super) fn candidates(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let absolute = |name: &str| {
        let path = variable(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let user = geteuid().as_raw();
    let session = PathBuf::from(format!("/run/user/{user}"));
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let temporary = absolute("TMPDIR").unwrap_or_else(|| "/tmp".into());
    let mut folders: Vec<PathBuf> = [
        absolute("XDG_RUNTIME_DIR").map(|folder| folder.join("gogrid")),
        Some(session.join("gogrid")),
        cache.map(|folder| folder.join(IN_CACHE)),
        Some(temporary.join(format!("gogrid-{user}"))),
    ]
    .into_iter()
    .flatten()
    .collect();
    folders.dedup();
    folders
}

/// The first folder that will do, made if it is not there; the error is that of the last one.
pub(crate) fn socket_folder() -> Result<PathBuf, HostError> {
    let folders = candidates(|variable| var_os(variable));
    let mut tried = folders
        .into_iter()
        .map(|folder| make_private(&folder).map(|()| folder));
    let first = tried.next().expect("the temporary folder is always tried");
    tried.fold(first, |found, next| found.or(next))
}

/// Makes the folder if it is not there, and checks that nobody else can reach into it.
pub(super) fn make_private(folder: &Path) -> Result<(), HostError> {
    // A cache may be the first thing in its home; a session's folder is the session's to make.
    let made = DirBuilder::new()
        .recursive(folder.ends_with(IN_CACHE))
        .mode(0o700)
        .create(folder);
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(HostError::Socket {
            path: folder.display().to_string(),
            source: error,
        }),
        _ => check_private(folder),
    }
}

/// That the folder is ours alone: it is what keeps other users from the sockets in it.
pub(super) fn check_private(folder: &Path) -> Result<(), HostError> {
    // Not the target of a link: in a folder that all may write to, the link may be another's.
    let found = fs::symlink_metadata(folder).map_err(|source| HostError::Socket {
        path: folder.display().to_string(),
        source,
    })?;
    match fault(&found) {
        None => Ok(()),
        Some(fault) => Err(HostError::UnsafeFolder {
            path: folder.display().to_string(),
            fault,
        }),
    }
}

fn fault(found: &Metadata) -> Option<String> {
    let (user, owner, mode) = (geteuid().as_raw(), found.uid(), found.mode() & 0o777);
    if !found.is_dir() {
        Some("it is no folder".to_owned())
    } else if owner != user {
        Some(format!("it belongs to user {owner} and not to {user}"))
    } else if mode & 0o077 != 0 {
        Some(format!("others may enter it: its mode is {mode:o}"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_session_comes_first_and_relative_paths_do_not_count() {
        let user = geteuid().as_raw();
        let check = |variables: &[(&str, &str)], expected: &[&str]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| OsString::from(value))
            };
            let expected: Vec<_> = expected
                .iter()
                .map(|path| PathBuf::from(path.replace('%', &user.to_string())))
                .collect();
            assert_eq!(candidates(variable), expected);
        };
        check(&[], &["/run/user/%/gogrid", "/tmp/gogrid-%"]);
        check(
            &[("XDG_RUNTIME_DIR", "/r"), ("HOME", "/h"), ("TMPDIR", "/t")],
            &[
                "/r/gogrid",
                "/run/user/%/gogrid",
                "/h/.cache/gogrid/run",
                "/t/gogrid-%",
            ],
        );
        check(
            &[
                ("XDG_RUNTIME_DIR", "r"),
                ("XDG_CACHE_HOME", "/x"),
                ("HOME", "/h"),
            ],
            &["/run/user/%/gogrid", "/x/gogrid/run", "/tmp/gogrid-%"],
        );
    }

    #[test]
    fn only_a_folder_of_ours_alone_is_taken() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("run");
        make_private(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        make_private(&folder).unwrap();

        let link = outer.path().join("link");
        symlink(&folder, &link).unwrap();
        let error = check_private(&link).unwrap_err().to_string();
        assert!(error.ends_with("it is no folder"), "{error}");

        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        let error = make_private(&folder).unwrap_err().to_string();
        assert!(error.ends_with("its mode is 750"), "{error}");
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        let root = fs::symlink_metadata("/").unwrap();
        let fault = fault(&root).unwrap();
        let says = if geteuid().is_root() {
            "others may enter it"
        } else {
            "it belongs to user 0"
        };
        assert!(fault.starts_with(says), "{fault}");
    }
}
