//! Files that are not what they should be.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use gogrid_host::{open_own, open_regular, read_regular, replace_own};

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn only_regular_files_are_read_and_nothing_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, file, link) = (
        folder.path().join("pipe"),
        folder.path().join("file"),
        folder.path().join("link"),
    );
    make_pipe(&pipe);
    fs::write(&file, "text").unwrap();
    symlink(&file, &link).unwrap();
    assert_eq!(read_regular(&file, 4).unwrap(), b"text");
    assert_eq!(
        read_regular(&link, 4).unwrap(),
        b"text",
        "a user's link is followed"
    );
    let long = read_regular(&file, 3).unwrap_err();
    assert!(long.to_string().contains("more than 3 bytes"), "{long}");
    let devices = ["/dev/zero", "/dev/full", "/dev/null"].map(Path::new);
    for (path, kind) in [(&*pipe, "a pipe"), (folder.path(), "a folder")]
        .into_iter()
        .chain(devices.map(|path| (path, "a device")))
    {
        let refused = open_regular(path).unwrap_err().to_string();
        assert!(refused.contains(kind), "{}: {refused}", path.display());
    }
    let missing = open_regular(&folder.path().join("none")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn a_file_of_the_programs_own_is_never_reached_through_a_link_nor_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let (target, own) = (folder.path().join("target"), folder.path().join("own"));
    fs::write(&target, "kept").unwrap();
    symlink(&target, &own).unwrap();
    let refused = open_own(&own).unwrap_err().to_string();
    assert!(refused.contains("a link"), "{refused}");
    replace_own(&own, b"new").unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"kept");
    assert_eq!(fs::read(&own).unwrap(), b"new");
    drop(open_own(&own).unwrap());
    assert_eq!(fs::read(&own).unwrap(), b"new", "opening keeps it");
    fs::remove_file(&own).unwrap();
    make_pipe(&own);
    let refused = open_own(&own).unwrap_err().to_string();
    assert!(refused.contains("a pipe"), "{refused}");
    replace_own(&own, b"again").unwrap();
    assert_eq!(fs::read(&own).unwrap(), b"again");
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2, "nothing is left beside");
}
