//! D-Bus addresses, by the D-Bus specification's "Server Addresses". Some kinds start a program or talk
//! over the network: only sockets of this machine are taken, whatever the environment says.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

/// Longer lists are nobody's.
const LENGTH_MAX: usize = 4096;

/// The sockets that a list of addresses names; an error says why no element of it will do.
pub(super) fn sockets(addresses: &str) -> Result<Vec<SocketAddr>, String> {
    if addresses.len() > LENGTH_MAX {
        return Err(format!("an address of {} bytes", addresses.len()));
    }
    let elements = addresses.split(';').filter(|element| !element.is_empty());
    let (mut sockets, mut skipped) = (Vec::new(), Vec::new());
    for element in elements {
        match socket(element) {
            Ok(address) => sockets.push(address),
            Err(fault) => skipped.push(format!("{element:?} {fault}")),
        }
    }
    match sockets.is_empty() {
        false => Ok(sockets),
        true if skipped.is_empty() => Err("the address is empty".to_owned()),
        true => Err(format!("no address of a socket: {}", skipped.join(", "))),
    }
}

fn socket(element: &str) -> Result<SocketAddr, String> {
    let keys = element
        .strip_prefix("unix:")
        .ok_or("is not of the kind unix")?;
    let mut named = None;
    for pair in keys.split(',') {
        let (key, value) = pair.split_once('=').ok_or("has a key without a value")?;
        match key {
            "path" | "abstract" if named.is_none() => named = Some((key, unescaped(value)?)),
            "path" | "abstract" => return Err("names two sockets".to_owned()),
            "guid" => {}
            _ => return Err(format!("has the key {key:?}")),
        }
    }
    let (key, name) = named.ok_or("names no socket")?;
    let of_no_socket = |_| "has a name that no socket has".to_owned();
    match key {
        _ if name.is_empty() => Err("has an empty name".to_owned()),
        // In an abstract name every byte counts, and the system allows zeros that no bus has.
        _ if name.contains(&0) => Err("has a zero byte in its name".to_owned()),
        "path" if name[0] != b'/' => Err("has a path that is not absolute".to_owned()),
        "path" => SocketAddr::from_pathname(OsStr::from_bytes(&name)).map_err(of_no_socket),
        _ => SocketAddr::from_abstract_name(&name).map_err(of_no_socket),
    }
}

/// Bytes that need no escape there.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_/.\\*".contains(&byte)
}

fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                let number = high.zip(low).map(|(high, low)| high * 16 + low);
                let number = number.ok_or("has a % without two digits")?;
                // Two hexadecimal digits.
                number as u8
            }
            byte if is_plain(byte) => byte,
            byte => return Err(format!("has an unescaped {:?}", char::from(byte))),
        });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(addresses: &str) -> Vec<String> {
        let found = sockets(addresses).unwrap();
        let path = |address: &SocketAddr| Some(address.as_pathname()?.to_str()?.to_owned());
        found.iter().map(|address| path(address).unwrap()).collect()
    }

    #[test]
    fn only_sockets_of_this_machine_are_taken() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(paths(text), expected, "{text}");
        };
        let bus = "/run/user/1000/bus";
        check("unix:path=/run/user/1000/bus", &[bus]);
        check("unix:path=/run/user/1000/bus,guid=0123456789abcdef", &[bus]);
        check("unix:path=/a;unix:path=/b", &["/a", "/b"]);
        check("unix:path=/with%20space%3B", &["/with space;"]);
        let hidden = sockets("unix:abstract=/tmp/dbus-X1").unwrap();
        let name = hidden[0].as_abstract_name();
        assert_eq!(name, Some(b"/tmp/dbus-X1".as_slice()));
        for other in [
            "",
            ";;",
            "unixexec:path=/bin/sh,argv1=-c",
            "unixexec:path=/bin/sh",
            "UNIX:path=/a",
            "tcp:host=localhost,port=1",
            "nonce-tcp:host=localhost,port=1,noncefile=/etc/passwd",
            "launchd:env=X",
            "autolaunch:",
            "systemd:",
            "unix:",
            "unix:path",
            "unix:path=",
            "unix:path=relative/bus",
            "unix:path=/a,path=/b",
            "unix:path=/a,abstract=b",
            "unix:tmpdir=/tmp",
            "unix:dir=/tmp",
            "unix:runtime=yes",
            "unix:path=/a,exec=/bin/sh",
            "unix:path=/a%2",
            "unix:path=/a%zz",
            "unix:path=/a%+1",
            "unix:path=/a%00b",
            "unix:path=/a b",
            "unix:path=/a\u{e4}",
            " unix:path=/a",
        ] {
            assert!(sockets(other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn each_element_is_checked_and_what_is_skipped_is_said() {
        let mixed = "unixexec:path=/bin/sh;unix:path=/a;tcp:host=x,port=1";
        assert_eq!(paths(mixed), ["/a"]);
        let behind = "unix:path=/a,x=unixexec:path=/b;unixexec:path=/bin/sh";
        let fault = sockets(behind).unwrap_err();
        assert!(fault.contains("unixexec:path=/bin/sh"), "{fault}");
        assert!(fault.contains("the key \"x\""), "{fault}");
        let long = format!("unix:path=/{}", "a".repeat(LENGTH_MAX));
        assert!(sockets(&long).is_err());
        let no_socket = format!("unix:path=/{}", "a".repeat(108));
        assert!(sockets(&no_socket).is_err());
    }
}
