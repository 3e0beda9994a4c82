//! Processes that keep processors busy, as the programs of a person at the desk would.

use std::env;
use std::io::{self, Read};
use std::process::{self, Child, Command, Stdio};
use std::thread;

use anyhow::Context;

/// Busy processes, ended on drop. If this process is killed instead, their standard input closes,
/// which ends them too.
pub(crate) struct Hogs(Vec<Child>);

impl Hogs {
    pub(crate) fn start(count: usize) -> anyhow::Result<Self> {
        let program = env::current_exe().context("cannot find this program's own file")?;
        let mut hogs = Self(Vec::new());
        for _ in 0..count {
            let mut command = Command::new(&program);
            command
                .arg("hog")
                .stdin(Stdio::piped())
                .stdout(Stdio::null());
            hogs.0
                .push(command.spawn().context("cannot start a busy process")?);
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

/// Keeps one processor busy until standard input closes.
pub(crate) fn spin() -> ! {
    thread::spawn(|| {
        let mut byte = [0];
        while let Ok(1..) = io::stdin().read(&mut byte) {}
        process::exit(0);
    });
    let mut n = 0u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}
