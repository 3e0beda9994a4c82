//! Method calls over D-Bus, one at a time: the handshake and the messages of the D-Bus specification
//! ("Authentication Protocol", "Message Protocol"). `zbus::wire` reads and writes the values in them.
//!
//! A connection of zbus's own runs tasks, for which it may start a thread that nobody restrains. Calls that
//! wait for their answer need neither.

use std::io::{self, Read, Write};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{Endian, ObjectPath, OwnedVariant, Signature, Type, Variant, to_bytes};

/// How long the whole of a call or of a handshake may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Answers to what is asked here are a few kilobytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The longest line that the specification's handshake needs is much shorter.
const LINE_BYTES_MAX: usize = 512;
/// Bytes of a message before its list of fields, the length of the list among them.
const FIXED_BYTES: usize = 16;

/// The kinds of messages that answer.
const RETURN: u8 = 2;
const ERROR: u8 = 3;

/// A connection to a message bus. After a fault it is of no more use.
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    /// What ended the conversation: where the next message begins is not known any more.
    fault: Option<String>,
}

/// A method of an object.
#[derive(Clone, Copy)]
pub(super) struct Method<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) name: &'a str,
}

/// The header of a message: byte order, kind, flags, version, bytes of the body, serial, fields.
type Header<V> = (u8, u8, u8, u8, u32, u32, Vec<(u8, V)>);

/// The numbers of header fields.
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SIGNATURE: u8 = 8;
}

/// A message that came.
struct Received {
    kind: u8,
    fields: Vec<(u8, OwnedVariant)>,
    body: Data<'static, 'static>,
}

impl Bus {
    /// Connects as this process's user, and says hello.
    pub(super) fn connect(address: &SocketAddr) -> Result<Self, String> {
        let stream = UnixStream::connect_addr(address).map_err(|error| error.to_string())?;
        Self::over(stream)
    }

    fn over(stream: UnixStream) -> Result<Self, String> {
        let mut bus = Self {
            stream,
            serial: 0,
            fault: None,
        };
        let deadline = deadline();
        bus.authenticate(deadline)
            .map_err(|error| format!("the bus's handshake: {error}"))?;
        let hello = Method {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            name: "Hello",
        };
        let _name: String = bus.call(hello, &())?;
        Ok(bus)
    }

    /// What the method answers to `argument`: one value each, or `()`. An error's text is the callee's own, or
    /// says what was wrong with the connection.
    pub(super) fn call<A, R>(&mut self, method: Method<'_>, argument: &A) -> Result<R, String>
    where
        A: Serialize + Type,
        R: DeserializeOwned + Type,
    {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let answered = self.exchange(method, argument, deadline());
        let answer = answered.inspect_err(|fault| self.fault = Some(fault.clone()))?;
        if answer.kind == ERROR {
            return Err(answer.error());
        }
        answer.value()
    }

    /// The answer to a call; an error leaves the connection in the middle of something.
    fn exchange<A: Serialize + Type>(
        &mut self,
        method: Method<'_>,
        argument: &A,
        deadline: Instant,
    ) -> Result<Received, String> {
        self.serial = self.serial.wrapping_add(1).max(1);
        let call = encoded(method, argument, self.serial).map_err(|error| error.to_string())?;
        self.send(&call, deadline).map_err(said)?;
        loop {
            let message = self.receive(deadline)?;
            if message.answers(self.serial) {
                return Ok(message);
            }
        }
    }

    /// The mechanism EXTERNAL: the kernel tells the bus who asks.
    fn authenticate(&mut self, deadline: Instant) -> Result<(), String> {
        let user = geteuid().as_raw().to_string();
        let user: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        let begin = format!("\0AUTH EXTERNAL {user}\r\n");
        self.send(begin.as_bytes(), deadline).map_err(said)?;
        let line = self.line(deadline)?;
        match line.starts_with("OK ") {
            true => self.send(b"BEGIN\r\n", deadline).map_err(said),
            false => Err(format!("it says {line:?}")),
        }
    }

    fn line(&mut self, deadline: Instant) -> Result<String, String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let [byte] = self.bytes(deadline).map_err(said)?;
            line.push(byte);
            if line.len() > LINE_BYTES_MAX {
                return Err(format!("a line of more than {LINE_BYTES_MAX} bytes"));
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Received, String> {
        let fixed: [u8; FIXED_BYTES] = self.bytes(deadline).map_err(said)?;
        let [b0, b1, b2, b3] = [fixed[4], fixed[5], fixed[6], fixed[7]];
        let [f0, f1, f2, f3] = [fixed[12], fixed[13], fixed[14], fixed[15]];
        let (endian, number): (_, fn([u8; 4]) -> u32) = match fixed[0] {
            b'l' => (Endian::Little, u32::from_le_bytes),
            b'B' => (Endian::Big, u32::from_be_bytes),
            other => return Err(format!("a message in the byte order {other}")),
        };
        let [body, fields] = [[b0, b1, b2, b3], [f0, f1, f2, f3]].map(number);
        let too_long = || format!("a message of more than {MESSAGE_BYTES_MAX} bytes");
        let [body, fields] = [body, fields].map(|bytes| usize::try_from(bytes).ok());
        let (body, fields) = body.zip(fields).ok_or_else(too_long)?;
        let head = fields.checked_next_multiple_of(8).ok_or_else(too_long)?;
        let rest = head.checked_add(body);
        let rest = rest.filter(|rest| *rest <= MESSAGE_BYTES_MAX);
        let mut bytes = fixed.to_vec();
        bytes.resize(FIXED_BYTES + rest.ok_or_else(too_long)?, 0);
        self.fill(&mut bytes[FIXED_BYTES..], deadline)
            .map_err(said)?;
        let body = bytes.split_off(FIXED_BYTES + head);
        let context = Context::new(endian, 0);
        let head = Data::new(bytes, context);
        let header: (Header<OwnedVariant>, usize) = head.deserialize().map_err(garbled)?;
        let (_, kind, _, _, _, _, fields) = header.0;
        let body = Data::new(body, context);
        Ok(Received { kind, fields, body })
    }

    fn send(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        self.stream.set_write_timeout(Some(left(deadline)?))?;
        self.stream.write_all(bytes)
    }

    fn bytes<const N: usize>(&mut self, deadline: Instant) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, deadline)?;
        Ok(bytes)
    }

    /// As `read_exact`, by a deadline for the whole.
    fn fill(&mut self, mut room: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !room.is_empty() {
            self.stream.set_read_timeout(Some(left(deadline)?))?;
            match self.stream.read(room) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => room = &mut room[read..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Received {
    fn field(&self, number: u8) -> Option<&OwnedVariant> {
        let found = self.fields.iter().find(|(of, _)| *of == number);
        found.map(|(_, value)| value)
    }

    /// Signals and calls answer nothing.
    fn answers(&self, serial: u32) -> bool {
        let of = self.field(field::REPLY_SERIAL);
        let of = of.and_then(|serial| u32::try_from(serial).ok());
        matches!(self.kind, RETURN | ERROR) && of == Some(serial)
    }

    /// By custom an error's first value is a sentence.
    fn error(&self) -> String {
        let name = self.field(field::ERROR_NAME);
        let name = name.and_then(|name| <&str>::try_from(name).ok());
        let name = name.unwrap_or("an error without a name");
        self.value().unwrap_or_else(|_| name.to_owned())
    }

    /// The body, which has to be of just this type.
    fn value<R: DeserializeOwned + Type>(&self) -> Result<R, String> {
        let found = self.field(field::SIGNATURE);
        let found = found.and_then(|found| <&Signature>::try_from(found).ok());
        let found = found.unwrap_or(&Signature::Unit);
        if found != R::SIGNATURE {
            let expected = R::SIGNATURE;
            return Err(format!(
                "an answer of the type \"{found}\", not \"{expected}\""
            ));
        }
        let value = self.body.deserialize().map_err(garbled)?;
        Ok(value.0)
    }
}

/// The bytes of a call.
fn encoded<A: Serialize + Type>(
    method: Method<'_>,
    argument: &A,
    serial: u32,
) -> Result<Vec<u8>, zbus::wire::Error> {
    const CALL: u8 = 1;
    const VERSION: u8 = 1;
    let context = Context::new(Endian::Little, 0);
    let body = match A::SIGNATURE {
        Signature::Unit => Vec::new(),
        _ => to_bytes(context, argument)?.bytes().to_vec(),
    };
    let mut fields = vec![
        (
            field::PATH,
            Variant::from(ObjectPath::try_from(method.path)?),
        ),
        (field::INTERFACE, Variant::from(method.interface)),
        (field::MEMBER, Variant::from(method.name)),
        (field::DESTINATION, Variant::from(method.destination)),
    ];
    if !body.is_empty() {
        fields.push((field::SIGNATURE, Variant::from(A::SIGNATURE.clone())));
    }
    let length = u32::try_from(body.len()).expect("an argument is a few bytes");
    let header: Header<Variant<'_>> = (b'l', CALL, 0, VERSION, length, serial, fields);
    let mut bytes = to_bytes(context, &header)?.bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(body);
    Ok(bytes)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a bus that hangs must not keep its caller"
)]
fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

fn left(deadline: Instant) -> io::Result<Duration> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a bus that hangs must not keep its caller"
    )]
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::WouldBlock.into()),
        false => Ok(left),
    }
}

fn said(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer for {} s", PATIENCE.as_secs())
        }
        io::ErrorKind::UnexpectedEof => "the bus closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

fn garbled(error: zbus::wire::Error) -> String {
    format!("a message that cannot be read: {error}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::super::address::sockets;
    use super::*;

    const ASK: Method<'_> = Method {
        destination: "org.example.Clock",
        path: "/org/example/Clock",
        interface: "org.example.Clock",
        name: "Ask",
    };

    /// A message of a bus that answers the call of this serial.
    fn message<V>(endian: Endian, (kind, serial): (u8, u32), body: &V) -> Vec<u8>
    where
        V: Serialize + Type,
    {
        let context = Context::new(endian, 0);
        let body = match V::SIGNATURE {
            Signature::Unit => Vec::new(),
            _ => to_bytes(context, body).unwrap().bytes().to_vec(),
        };
        let mut fields = vec![(field::REPLY_SERIAL, Variant::from(serial))];
        if kind == ERROR {
            let name = Variant::from("org.example.Error.Late");
            fields.push((field::ERROR_NAME, name));
        }
        if !body.is_empty() {
            fields.push((field::SIGNATURE, Variant::from(V::SIGNATURE.clone())));
        }
        let order = match endian {
            Endian::Little => b'l',
            Endian::Big => b'B',
        };
        let header: Header<Variant<'_>> = (order, kind, 0, 1, body.len() as u32, 7, fields);
        let mut bytes = to_bytes(context, &header).unwrap().bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(body);
        bytes
    }

    /// What a bus says when it is greeted.
    fn greeting() -> Vec<u8> {
        let mut said = b"OK 0123456789abcdef0123456789abcdef\r\n".to_vec();
        said.extend(message(Endian::Little, (RETURN, 1), &":1.7"));
        said
    }

    /// A bus that says all this, whatever it is asked, and is closed then; with the bus's end.
    fn saying(said: &[u8]) -> (Result<Bus, String>, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(said).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        (Bus::over(ours), theirs)
    }

    fn fault_of(said: &[u8]) -> String {
        let (bus, _theirs) = saying(said);
        bus.err().expect("it is no bus")
    }

    #[test]
    fn a_call_has_its_answer_among_other_messages() {
        const SIGNAL: u8 = 4;
        let mut said = greeting();
        said.extend(message(Endian::Little, (SIGNAL, 2), &"not the answer"));
        said.extend(message(Endian::Little, (RETURN, 9), &9_u64));
        said.extend(message(Endian::Little, (RETURN, 2), &40_u64));
        said.extend(message(Endian::Big, (RETURN, 3), &vec![("a", 1_u32)]));
        said.extend(message(Endian::Little, (RETURN, 4), &()));
        let (bus, mut theirs) = saying(&said);
        let mut bus = bus.unwrap();
        assert_eq!(bus.call(ASK, &()), Ok(40_u64));
        let rows: Vec<(String, u32)> = bus.call(ASK, &"all").unwrap();
        assert_eq!(rows, [("a".to_owned(), 1)]);
        assert_eq!(bus.call(ASK, &()), Ok(()));
        drop(bus);
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).unwrap();
        let heard = String::from_utf8_lossy(&heard);
        assert!(heard.starts_with("\0AUTH EXTERNAL 3"), "{heard:?}");
        assert!(heard.contains("\r\nBEGIN\r\nl"), "{heard:?}");
    }

    #[test]
    fn an_error_is_the_callees_own_text_and_ends_nothing() {
        let mut said = greeting();
        said.extend(message(Endian::Little, (ERROR, 2), &"it is late"));
        said.extend(message(Endian::Little, (ERROR, 3), &()));
        said.extend(message(Endian::Little, (RETURN, 4), &1_u32));
        said.extend(message(Endian::Little, (RETURN, 5), &1_u64));
        let (bus, _theirs) = saying(&said);
        let mut bus = bus.unwrap();
        let mut ask = || bus.call::<_, u64>(ASK, &());
        assert_eq!(ask(), Err("it is late".to_owned()));
        assert_eq!(ask(), Err("org.example.Error.Late".to_owned()));
        let other_type = "an answer of the type \"u\", not \"t\"";
        assert_eq!(ask(), Err(other_type.to_owned()));
        assert_eq!(ask(), Ok(1));
        let closed = Err("the bus closed the connection".to_owned());
        assert_eq!(ask(), closed);
        assert_eq!(ask(), closed, "a connection that broke stays so");
    }

    /// Ends with the test.
    struct Daemon(Child);

    impl Drop for Daemon {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    /// The bus that most systems run, without which nothing is tried here.
    fn daemon() -> Option<(Daemon, SocketAddr)> {
        let mut command = Command::new("dbus-daemon");
        command.args(["--session", "--nofork", "--print-address"]);
        let started = command.stdout(Stdio::piped()).spawn();
        let mut daemon = Daemon(started.ok()?);
        let mut address = String::new();
        let said = daemon.0.stdout.take().unwrap();
        BufReader::new(said).read_line(&mut address).unwrap();
        let address = sockets(address.trim()).unwrap().remove(0);
        Some((daemon, address))
    }

    #[test]
    fn the_bus_of_the_system_is_understood() {
        let Some((_daemon, address)) = daemon() else {
            eprintln!("not tried: there is no dbus-daemon");
            return;
        };
        let mut bus = Bus::connect(&address).unwrap();
        let of_bus = |interface, name| Method {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface,
            name,
        };
        let names: Vec<String> = bus
            .call(of_bus("org.freedesktop.DBus", "ListNames"), &())
            .unwrap();
        assert!(names.contains(&"org.freedesktop.DBus".to_owned()));
        let get_all = of_bus("org.freedesktop.DBus.Properties", "GetAll");
        let properties: HashMap<String, OwnedVariant> =
            bus.call(get_all, &"org.freedesktop.DBus").unwrap();
        assert!(properties.contains_key("Interfaces"), "{properties:?}");
        let refused = bus.call::<_, ()>(ASK, &()).unwrap_err();
        assert!(refused.contains("org.example.Clock"), "{refused}");
    }

    #[test]
    fn what_is_no_bus_is_an_error() {
        let check = |said: &[u8], expected: &str| {
            let fault = fault_of(said);
            assert!(fault.contains(expected), "{fault}");
        };
        check(b"", "closed");
        check(b"REJECTED EXTERNAL\r\n", "\"REJECTED EXTERNAL\"");
        check(b"\xff\xfe\r\n", "it says");
        check(&[b'x'; 600], "a line of more than 512 bytes");
        let after_ok = |message: &[u8]| [b"OK 0\r\n", message].concat();
        check(&after_ok(&[0; 16]), "byte order 0");
        check(&after_ok(b"l"), "closed");
        let endless = *b"l\x02\0\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0";
        check(&after_ok(&endless), "more than 1048576 bytes");
        let long_head = *b"l\x02\0\x01\0\0\0\0\x01\0\0\0\xff\xff\xff\xff";
        check(&after_ok(&long_head), "more than 1048576 bytes");
    }

    #[test]
    fn a_message_with_any_byte_changed_is_read_or_is_an_error() {
        let whole = greeting();
        let begin = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for at in begin..whole.len() {
            for changed in [0, 1, 0x7f, 0xff] {
                let mut said = whole.clone();
                said[at] = changed;
                // No panic, and no wait: the bus's end is closed.
                let (_bus, _theirs) = saying(&said);
            }
        }
    }
}
