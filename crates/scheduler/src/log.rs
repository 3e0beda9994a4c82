//! What an operator is told. The subscriber is the program's own code: a panic of it ends nothing
//! here, so every event of this crate goes through this file, after what it tells of is in effect.

use std::fmt::Display;

use gogrid_units::contain;

pub(crate) fn error(event: &dyn Display) {
    // A subscriber that panics is not told of that.
    let _ = contain(|| tracing::error!("{event}"));
}

pub(crate) fn warn(event: &dyn Display) {
    let _ = contain(|| tracing::warn!("{event}"));
}

pub(crate) fn info(event: &dyn Display) {
    let _ = contain(|| tracing::info!("{event}"));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    struct Panics;

    impl Subscriber for Panics {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {
            panic!("as a test asked");
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_subscriber_that_panics_ends_nothing() {
        tracing::subscriber::with_default(Panics, || {
            error(&"one");
            warn(&"two");
            info(&"three");
        });
    }

    /// Lines of this crate's own code, tests aside, that hold `word`, by file.
    fn files_with(word: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().expect("its sources are there") {
                let path = entry.expect("it is read").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).expect("it is text");
                let code = text.split("#[cfg(test)]\nmod tests {").next();
                if code.is_some_and(|code| code.contains(word)) {
                    let name = path.file_name().unwrap_or_default();
                    found.push(name.to_string_lossy().into_owned());
                }
            }
        }
        found
    }

    /// What is a caller's, a subscriber's or a panic's is met in one place each.
    #[test]
    fn each_border_is_one_file() {
        assert_eq!(files_with("tracing::"), ["log.rs"]);
        assert_eq!(files_with("futures_channel::"), ["caller.rs"]);
        assert_eq!(files_with("catch_unwind"), <[&str; 0]>::default());
    }
}
