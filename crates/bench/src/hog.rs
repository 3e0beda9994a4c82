//! Processes that keep processors busy, as the programs of a person at the desk would.

use std::io::{self, Read};
use std::process::{self, Child, Stdio};
use std::thread::Builder;

use crate::error::BenchError;
use crate::process::OwnCommand;

/// Busy processes, ended on drop. If this process is killed instead, their standard input closes,
/// which ends them too.
pub(crate) struct Hogs(Vec<Child>);

impl Hogs {
    /// Each runs `own`, which calls [`spin`].
    pub(crate) fn start(own: &OwnCommand, count: usize) -> Result<Self, BenchError> {
        let mut hogs = Self(Vec::new());
        for _ in 0..count {
            let mut command = own.command();
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            let child = command.spawn().map_err(|source| BenchError::Start {
                name: "a busy process".to_owned(),
                source,
            })?;
            hogs.0.push(child);
        }
        Ok(hogs)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            // Both fail only when it has ended already.
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

/// Keeps one processor busy until standard input closes, which ends the process.
pub fn spin() -> ! {
    let listen = || {
        let mut byte = [0];
        while let Ok(1..) = io::stdin().read(&mut byte) {}
        process::exit(0);
    };
    // Nothing would end it.
    if Builder::new().spawn(listen).is_err() {
        process::exit(1);
    }
    let mut n = 0u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}
