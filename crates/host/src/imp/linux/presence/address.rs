//! D-Bus addresses, by the D-Bus specification's "Server Addresses". Some kinds start a program or talk
//! over the network: only sockets of this machine are taken, whatever the environment says.

/// Longer lists are nobody's.
const LENGTH_MAX: usize = 4096;
/// Longer than any socket's name.
const NAME_MAX: usize = 108;

/// The sockets that a list of addresses names, each as an address of its own; an error says why no element
/// of it will do.
pub(super) fn sockets(addresses: &str) -> Result<Vec<String>, String> {
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

/// The address of a socket at this path.
pub(super) fn of_path(path: &[u8]) -> String {
    format!("unix:path={}", escaped(path))
}

/// One element, written anew from what was understood of it: nothing else in it reaches the library.
fn socket(element: &str) -> Result<String, String> {
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
    match key {
        _ if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) => {
            Err("has a name that no socket has".to_owned())
        }
        "path" if name[0] != b'/' => Err("has a path that is not absolute".to_owned()),
        _ => Ok(format!("unix:{key}={}", escaped(&name))),
    }
}

/// Bytes that need no escape there.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_/.\\*".contains(&byte)
}

fn escaped(bytes: &[u8]) -> String {
    let escape = |&byte: &u8| match is_plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02x}"),
    };
    bytes.iter().map(escape).collect()
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

    #[test]
    fn only_sockets_of_this_machine_are_taken() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(sockets(text).unwrap_or_default(), expected, "{text}");
        };
        let bus = "unix:path=/run/user/1000/bus";
        check(bus, &[bus]);
        check("unix:path=/run/user/1000/bus,guid=0123456789abcdef", &[bus]);
        check(
            "unix:abstract=/tmp/dbus-X1",
            &["unix:abstract=/tmp/dbus-X1"],
        );
        check(
            "unix:path=/a;unix:path=/b",
            &["unix:path=/a", "unix:path=/b"],
        );
        check(
            "unix:path=/with%20space%3B",
            &["unix:path=/with%20space%3b"],
        );
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
        assert_eq!(sockets(mixed).unwrap(), ["unix:path=/a"]);
        let behind = "unix:path=/a,x=unixexec:path=/b;unixexec:path=/bin/sh";
        let fault = sockets(behind).unwrap_err();
        assert!(fault.contains("unixexec:path=/bin/sh"), "{fault}");
        assert!(fault.contains("the key \"x\""), "{fault}");
        let long = format!("unix:path=/{}", "a".repeat(LENGTH_MAX));
        assert!(sockets(&long).is_err());
        let no_socket = format!("unix:path=/{}", "a".repeat(NAME_MAX));
        assert!(sockets(&no_socket).is_err());
    }

    #[test]
    fn a_path_of_any_bytes_is_one_address() {
        let path = b"/run/a;unixexec:path=/bin/sh,b=\xff";
        let address = of_path(path);
        assert_eq!(sockets(&address).unwrap().concat(), address);
        let value = address.strip_prefix("unix:path=").unwrap();
        assert_eq!(unescaped(value).unwrap(), path);
    }
}
