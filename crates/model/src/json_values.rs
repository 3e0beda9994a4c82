//! A look at the text of a JSON file before anything is built of it. Values take many times the
//! bytes of their text: `0,` becomes 32 bytes and more.

/// Brackets and commas that a JSON text may have: there are at most as many values, and one more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValueLimit {
    pub(crate) max: usize,
    /// Values in these fields of a field, `model.vocab`, do not count: their reader has a bound of
    /// its own.
    pub(crate) apart: &'static [[&'static str; 2]],
}

impl ValueLimit {
    /// For a file of which every value counts.
    pub(crate) const fn of_all(max: usize) -> Self {
        Self { max, apart: &[] }
    }

    /// Refuses a text with more, and says so. What is not JSON is for the parser to refuse, which
    /// builds nothing of what comes after it.
    pub(crate) fn check(self, json: &[u8]) -> Result<(), String> {
        let mut scan = Scan::new(json, self.apart);
        while scan.step() {
            if scan.count > self.max {
                return Err(format!("more than {} values", self.max));
            }
        }
        Ok(())
    }
}

/// A walk over a JSON text.
struct Scan<'j> {
    json: &'j [u8],
    apart: &'static [[&'static str; 2]],
    at: usize,
    depth: usize,
    /// The last string, without its quotes and as it is written.
    string: &'j [u8],
    /// The keys of the fields that hold this place, of the outermost two objects.
    keys: [&'j [u8]; 2],
    /// The place is within one of the fields `apart`.
    is_apart: bool,
    count: usize,
}

impl<'j> Scan<'j> {
    fn new(json: &'j [u8], apart: &'static [[&'static str; 2]]) -> Self {
        Self {
            json,
            apart,
            at: 0,
            depth: 0,
            string: b"",
            keys: [b"", b""],
            is_apart: false,
            count: 0,
        }
    }

    /// Takes the next byte or string; `false` at the end.
    fn step(&mut self) -> bool {
        let Some(byte) = self.json.get(self.at) else {
            return false;
        };
        self.at += 1;
        match byte {
            b'"' => self.take_string(),
            b':' => match self.depth {
                1 => self.keys = [self.string, b""],
                2 => self.keys[1] = self.string,
                _ => {}
            },
            b'[' | b'{' => {
                self.depth += 1;
                if self.depth == 3 {
                    let keys = self.keys;
                    let mut apart = self.apart.iter();
                    self.is_apart = apart.any(|path| path.map(str::as_bytes) == keys);
                }
                self.count += usize::from(!self.is_apart);
            }
            b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                self.is_apart &= self.depth >= 3;
            }
            b',' => self.count += usize::from(!self.is_apart),
            _ => {}
        }
        true
    }

    fn take_string(&mut self) {
        let start = self.at;
        while let Some(byte) = self.json.get(self.at) {
            self.at += match byte {
                b'"' => break,
                b'\\' => 2,
                _ => 1,
            };
        }
        let end = self.at.min(self.json.len());
        self.string = &self.json[start..end];
        self.at = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APART: &[[&str; 2]] = &[["model", "vocab"], ["model", "merges"]];

    fn count(json: &str) -> usize {
        let mut scan = Scan::new(json.as_bytes(), APART);
        while scan.step() {}
        scan.count
    }

    #[test]
    fn brackets_and_commas_outside_of_strings_count() {
        assert_eq!(count(""), 0);
        assert_eq!(count("[1, 2, [3]]"), 4);
        assert_eq!(count(r#"{"a,[": "\",{\\", "b": {}}"#), 3);
        assert_eq!(count(r#"["a\"#), 1);
    }

    #[test]
    fn fields_with_a_bound_of_their_own_do_not_count() {
        let json =
            r#"{"model": {"type": "BPE", "vocab": {"a": 1, "b": 2}, "merges": [["a", "b"]]}}"#;
        assert_eq!(count(json), 4);
        // A field of another, deeper or spelt otherwise is none of them.
        for json in [
            r#"{"model": {"x": [1, 2, 3]}}"#,
            r#"{"vocab": {"model": [1, 2, 3]}}"#,
            r#"{"model": [[1, 2, 3]]}"#,
            r#"{"model": {"v\u006fcab": [1, 2, 3]}}"#,
        ] {
            assert_eq!(count(json), 5, "{json}");
        }
        let stale = r#"{"x": {"vocab": []}, "model": [[1, 2, 3]]}"#;
        assert_eq!(count(stale), 8);
        let after = r#"{"model": {"vocab": [1, 2]}, "normalizer": {"x": [1, 2]}}"#;
        assert_eq!(count(after), 6);
    }

    #[test]
    fn a_text_with_more_is_refused() {
        let limit = ValueLimit::of_all(3);
        assert_eq!(limit.check(b"[1, 2, 3]"), Ok(()));
        let refused = limit.check(b"[1, 2, 3, 4]");
        assert_eq!(refused, Err("more than 3 values".to_owned()));
    }
}
