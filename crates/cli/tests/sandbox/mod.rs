//! A folder of a test's own, with a tiny model, in which sockets are made too.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use gogrid_testkit::{Family, RandomModel, Spec};
use gogrid_units::WeightType;
use tempfile::TempDir;

/// A folder with a tiny model, in which sockets are made too.
pub(crate) struct Sandbox {
    pub(crate) folder: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec = Spec {
            family: Family::ALL[0],
            weights: WeightType::Q8_0,
            seed: 1,
        };
        let model = RandomModel::new(spec);
        model.write_gguf(&folder.path().join("model.gguf")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn gogrid(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gogrid"));
        command.args(args).stdin(Stdio::null());
        command.env_remove("GOGRID_CACHE");
        for folder in ["XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "HOME", "TMPDIR"] {
            command.env(folder, self.folder.path());
        }
        command
    }

    /// A chat that has opened its model.
    pub(crate) fn chat(&self, args: &[&str]) -> Chat {
        let mut command = self.gogrid(&["chat", "--model"]);
        command.arg(self.path("model.gguf")).args(args);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = pipes.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let greeting = line(&mut said);
        assert!(greeting.contains("/help lists"), "{greeting}");
        Chat { child, said }
    }
}

pub(crate) struct Chat {
    pub(crate) child: Child,
    pub(crate) said: BufReader<ChildStderr>,
}

impl Chat {
    pub(crate) fn end(mut self) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        assert!(!rest.contains("panicked"), "{rest}");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

/// The next line that is not about other programs, of which any may run beside this test.
pub(crate) fn line(said: &mut BufReader<ChildStderr>) -> String {
    loop {
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        if !is_log(&line) {
            return line;
        }
    }
}

pub(crate) fn is_log(line: &str) -> bool {
    [" INFO ", " WARN "]
        .iter()
        .any(|level| line.starts_with(level))
}
