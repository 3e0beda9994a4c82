use std::collections::BTreeSet;
use std::fmt;

use corpgrid_scheduler::{Priority, Whose};
use subtle::ConstantTimeEq;

use crate::limits::{KEY_BYTES_MIN, KEY_FILE_BYTES_MAX, KEYS_MAX};

/// The keys that clients show. None of them is ever written out.
pub struct Keys(Vec<Key>);

/// A key's owner, as far as the server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyOwner {
    /// For logs.
    pub(crate) name: String,
    /// Which keys share prefixes: each has a number of its own.
    pub(crate) salt: u64,
    /// Whether its requests are those of the machine's owner.
    pub(crate) whose: Whose,
    /// The highest class that its requests may ask for.
    pub(crate) ceiling: Priority,
    /// Whether it may change the machine's limits.
    pub(crate) may_change: bool,
}

struct Key {
    secret: Box<[u8]>,
    owner: KeyOwner,
}

/// Why keys cannot be used. It never says what a key is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct KeysError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl Keys {
    /// Keys as a file has them: one in a line, and after it, as far as wanted, `name=…` and
    /// `class=owner|guest`, whose its requests are, `tier=flex|default|priority`, the highest class it may ask for, and
    /// `limits=yes`, by which it may change the machine's limits. Lines that begin with `#` are left out.
    ///
    /// # Errors
    /// A key of fewer than 8 bytes, a word that is not known, a key or name that comes twice, no key.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let error = |line: usize, problem: &str| KeysError {
            line,
            problem: problem.to_owned(),
        };
        if text.len() > KEY_FILE_BYTES_MAX {
            return Err(error(1, "the file is over 256 KiB"));
        }
        let (mut keys, mut names): (Vec<Key>, BTreeSet<String>) = (Vec::new(), BTreeSet::new());
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let salt = keys.len() as u64 + 1;
            let key = Key::parse(line, salt).map_err(|problem| error(at + 1, &problem))?;
            if keys.iter().any(|other| other.secret == key.secret) {
                return Err(error(at + 1, "this key is there twice"));
            }
            if !names.insert(key.owner.name.clone()) {
                return Err(error(at + 1, "this name is there twice"));
            }
            keys.push(key);
        }
        match keys.len() {
            0 => Err(error(1, "there is no key")),
            1..=KEYS_MAX => Ok(Self(keys)),
            _ => Err(error(1, "there are more than 1024 keys")),
        }
    }

    /// The owner of `shown`. Takes as long whichever key it is, and whether it is one.
    pub(crate) fn owner(&self, shown: &str) -> Option<&KeyOwner> {
        let mut found = None;
        for key in &self.0 {
            if bool::from(key.secret.ct_eq(shown.as_bytes())) {
                found = Some(&key.owner);
            }
        }
        found
    }
}

impl Key {
    fn parse(line: &str, salt: u64) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let secret = words.next().unwrap_or_default();
        if secret.len() < KEY_BYTES_MIN {
            return Err(format!("the key has fewer than {KEY_BYTES_MIN} bytes"));
        }
        let mut owner = KeyOwner {
            name: format!("key-{salt}"),
            salt,
            whose: Whose::Guest,
            ceiling: Priority::Normal,
            may_change: false,
        };
        for word in words {
            match word.split_once('=') {
                Some(("name", name)) if !name.is_empty() => name.clone_into(&mut owner.name),
                Some(("tier", tier)) => {
                    owner.ceiling = tier_class(tier)
                        .ok_or("tier must be flex, default or priority".to_owned())?;
                }
                Some(("class", "owner")) => owner.whose = Whose::Owner,
                Some(("class", "guest")) => owner.whose = Whose::Guest,
                Some(("class", _)) => return Err("class must be owner or guest".to_owned()),
                Some(("limits", "yes")) => owner.may_change = true,
                Some(("limits", "no")) => owner.may_change = false,
                _ => {
                    let allowed = "name=…, class=…, tier=… and limits=yes";
                    return Err(format!("after the key only {allowed} may stand"));
                }
            }
        }
        Ok(Self {
            secret: secret.as_bytes().into(),
            owner,
        })
    }
}

/// OpenAI's names of classes.
pub(crate) fn tier_class(tier: &str) -> Option<Priority> {
    match tier {
        "flex" => Some(Priority::Low),
        "default" | "auto" => Some(Priority::Normal),
        "priority" => Some(Priority::High),
        _ => None,
    }
}

impl KeyOwner {
    /// Who asks where no key is needed: programs of this machine.
    pub(crate) fn local(whose: Whose) -> Self {
        Self {
            name: "local".to_owned(),
            salt: 0,
            whose,
            ceiling: Priority::High,
            may_change: true,
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_an_owner_and_another_has_none() {
        let keys = Keys::parse("# ours\n\nsecret-one name=ann tier=flex\nsecret-two\n").unwrap();
        let ann = keys.owner("secret-one").unwrap();
        assert_eq!((&*ann.name, ann.ceiling), ("ann", Priority::Low));
        assert_eq!(keys.owner("secret-two").unwrap().name, "key-2");
        assert_eq!(keys.owner("secret-tw"), None);
        assert_eq!(keys.owner(""), None);
        assert_eq!(format!("{keys:?}"), "2 keys");
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused_by_line_without_its_keys() {
        let cases = [
            ("", "line 1: there is no key"),
            ("short", "line 1: the key has fewer than 8 bytes"),
            (
                "# a\nlong-enough tier=gold",
                "line 2: tier must be flex, default or priority",
            ),
            (
                "long-enough class=me",
                "line 1: class must be owner or guest",
            ),
            (
                "long-enough owner=x",
                "line 1: after the key only name=…, class=…, tier=… and limits=yes may stand",
            ),
            (
                "long-enough\nlong-enough",
                "line 2: this key is there twice",
            ),
            (
                "long-enough name=a\nlong-other name=a",
                "line 2: this name is there twice",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Keys::parse(text).unwrap_err().to_string(), expected);
        }
    }
}
