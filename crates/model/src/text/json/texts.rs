use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::text::limits::{MERGES_MAX, TOKEN_BYTES_MAX, TOKENS_MAX};

/// Texts, one after the other.
#[derive(Default)]
struct Texts {
    all: String,
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.all.push_str(text);
        self.ends.push(self.all.len());
    }

    fn get(&self, at: usize) -> &str {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[start..self.ends[at]]
    }
}

/// Token texts and their ids, in the order of the file.
#[derive(Default)]
pub(super) struct Vocabulary {
    texts: Texts,
    ids: Vec<u32>,
}

impl Vocabulary {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        let ids = self.ids.iter().enumerate();
        ids.map(|(at, id)| (self.texts.get(at), *id))
    }
}

/// The sides of merges, best first.
#[derive(Default)]
pub(super) struct MergeList {
    sides: Texts,
}

impl MergeList {
    pub(super) fn len(&self) -> usize {
        self.sides.ends.len() / 2
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.len()).map(|at| (self.sides.get(2 * at), self.sides.get(2 * at + 1)))
    }
}

/// A text of limited length, borrowed where it can be.
struct Token<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Token<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);
        let Borrowed(text) = Borrowed::deserialize(deserializer)?;
        if text.len() > TOKEN_BYTES_MAX {
            let len = text.len();
            return Err(D::Error::custom(format_args!(
                "a token of {len} bytes; at most {TOKEN_BYTES_MAX}"
            )));
        }
        Ok(Self(text))
    }
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;
        impl<'de> Visitor<'de> for Tokens {
            type Value = Vocabulary;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tokens to ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
                let mut vocabulary = Vocabulary::default();
                while let Some((Token(text), id)) = map.next_entry::<Token<'_>, u32>()? {
                    if vocabulary.ids.len() == TOKENS_MAX {
                        let more = format_args!("more than {TOKENS_MAX} tokens");
                        return Err(A::Error::custom(more));
                    }
                    vocabulary.texts.push(&text);
                    vocabulary.ids.push(id);
                }
                Ok(vocabulary)
            }
        }
        deserializer.deserialize_map(Tokens)
    }
}

/// Both sides of a merge.
struct Sides<'de>(Token<'de>, Token<'de>);

impl<'de> Deserialize<'de> for Sides<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pair;
        impl<'de> Visitor<'de> for Pair {
            type Value = Sides<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("two tokens, in a list or with a space between them")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Sides<'de>, A::Error> {
                let mut side = |at| {
                    let side = seq.next_element::<Token<'de>>()?;
                    side.ok_or_else(|| A::Error::invalid_length(at, &self))
                };
                let sides = Sides(side(0)?, side(1)?);
                match seq.next_element::<serde::de::IgnoredAny>()? {
                    None => Ok(sides),
                    Some(_) => Err(A::Error::invalid_length(3, &self)),
                }
            }

            fn visit_borrowed_str<E: Error>(self, line: &'de str) -> Result<Sides<'de>, E> {
                let (left, right) = sides(line, &self)?;
                Ok(Sides(Token(left.into()), Token(right.into())))
            }

            fn visit_str<E: Error>(self, line: &str) -> Result<Sides<'de>, E> {
                let (left, right) = sides(line, &self)?;
                let own = |side: &str| Token(Cow::Owned(side.to_owned()));
                Ok(Sides(own(left), own(right)))
            }
        }
        deserializer.deserialize_any(Pair)
    }
}

fn sides<'l, E: Error>(
    line: &'l str,
    expected: &dyn serde::de::Expected,
) -> Result<(&'l str, &'l str), E> {
    let sides = line
        .split_once(' ')
        .filter(|(_, right)| !right.contains(' '));
    let sides = sides.filter(|_| line.len() <= 2 * TOKEN_BYTES_MAX);
    sides.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Other("another text"), expected))
}

impl<'de> Deserialize<'de> for MergeList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Merges;
        impl<'de> Visitor<'de> for Merges {
            type Value = MergeList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of merges")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<MergeList, A::Error> {
                let mut merges = MergeList::default();
                while let Some(Sides(left, right)) = seq.next_element::<Sides<'_>>()? {
                    if merges.len() == MERGES_MAX {
                        let more = format_args!("more than {MERGES_MAX} merges");
                        return Err(A::Error::custom(more));
                    }
                    merges.sides.push(&left.0);
                    merges.sides.push(&right.0);
                }
                Ok(merges)
            }
        }
        deserializer.deserialize_seq(Merges)
    }
}
