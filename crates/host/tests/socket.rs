//! Local sockets, between processes of one user and of two.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

use gogrid_host::{HostError, Listener, SocketName, Stream};

/// Names of this process's, one for each test.
fn name(test: &str) -> SocketName {
    SocketName::own(&format!("gogrid-test-{test}")).unwrap()
}

#[test]
fn what_one_end_writes_the_other_reads() {
    let name = name("echo");
    let listener = Listener::bind(&name).unwrap();
    let echo = thread::spawn(move || {
        let mut stream = listener.accept().unwrap();
        let mut line = [0; 5];
        stream.read_exact(&mut line).unwrap();
        stream.write_all(&line).unwrap();
        listener.name().pid()
    });
    let mut stream = Stream::connect(&name).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
    assert_eq!(echo.join().unwrap(), std::process::id());
}

#[test]
fn running_ones_are_found_and_ended_ones_are_not() {
    let name = name("list");
    let running = || SocketName::running("gogrid-test-list").unwrap();
    assert_eq!(running(), []);
    let listener = Listener::bind(&name).unwrap();
    assert_eq!(running(), std::slice::from_ref(&name));
    assert!(name.is_alive());
    drop(listener);
    assert_eq!(running(), []);
    assert!(!name.is_alive());
    let error = Stream::connect(&name).unwrap_err();
    assert!(matches!(error, HostError::Socket { .. }), "{error}");
}

#[test]
fn a_silent_end_is_given_up_in_time() {
    let name = name("slow");
    let listener = Listener::bind(&name).unwrap();
    let _silent = Stream::connect(&name).unwrap();
    let mut stream = listener.accept().unwrap();
    stream.set_timeout(Duration::ZERO).unwrap();
    let read = stream.read(&mut [0]).unwrap_err();
    assert_eq!(read.kind(), ErrorKind::TimedOut);
    // Nobody reads, so that a buffer somewhere is full at some time.
    let wrote = stream.write_all(&vec![0; 64 << 20]).unwrap_err();
    assert_eq!(wrote.kind(), ErrorKind::TimedOut);
}
