use crate::error::ModelError;

use super::alphabet::ByteAlphabet;
use super::budget::Budget;
use super::encoder::Run;
use super::index::{Crowded, Index, hash_bytes, mix};
use super::marks::MarkCut;
use super::merge::{Merge, Merger, NONE};
use super::pieces::{Kind, Pieces, SPACE_MARK};

/// A byte-pair vocabulary (Sennrich et al. 2016): within a word, neighbours merge in the order of
/// the list of merges.
#[derive(Debug)]
pub(super) struct Bpe {
    start: Start,
    /// What a character without a token becomes; without this it is left out.
    unknown: Option<Unknown>,
    /// A word that is a token as a whole is that token, whatever the merges say.
    whole_words: bool,
    /// Left token, right token and what they become, best first.
    merges: Vec<[u32; 3]>,
    /// Of pairs in `merges`.
    pairs: Index,
    /// Of the bytes of tokens that a word or a character may be.
    words: Option<Index>,
    cut: MarkCut,
}

/// What merging starts from. A byte without a token is [`NONE`].
#[derive(Debug)]
pub(super) enum Start {
    /// Bytes (GPT-2 and most since).
    Bytes(Box<[u32; 256]>),
    /// Characters, and their bytes where a character has no token (SentencePiece).
    Chars(Box<[u32; 256]>),
}

/// The token for what the vocabulary has none for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unknown {
    pub(super) id: u32,
    /// One token stands for all such characters in a row.
    pub(super) fuses: bool,
}

/// What goes into a [`Bpe`].
pub(super) struct BpeParts<'a> {
    pub(super) start: Start,
    pub(super) unknown: Option<Unknown>,
    pub(super) whole_words: bool,
    /// Tokens as [`Written::merge`] finds them, best first.
    pub(super) merges: Vec<[u32; 3]>,
    /// Of two merges of one pair the last counts, not the first.
    pub(super) last_counts: bool,
    /// The texts of tokens as the file writes them; empty where an id has none.
    pub(super) tokens: &'a [&'a str],
}

impl Bpe {
    pub(super) fn new(parts: BpeParts<'_>, pieces: &Pieces) -> Result<Self, Crowded> {
        let indexed = parts.whole_words || matches!(parts.start, Start::Chars(_));
        let mut bpe = Self {
            words: indexed.then(|| words(&parts, pieces)).transpose()?,
            start: parts.start,
            unknown: parts.unknown,
            whole_words: parts.whole_words,
            pairs: Index::with_room_for(parts.merges.len()),
            merges: parts.merges,
            cut: MarkCut::never(),
        };
        // There are fewer merges than bytes in the file, whose size is limited.
        let ranks = 0..bpe.merges.len() as u32;
        if parts.last_counts {
            ranks.rev().try_for_each(|rank| bpe.index(rank, pieces))?;
        } else {
            ranks
                .into_iter()
                .try_for_each(|rank| bpe.index(rank, pieces))?;
        }
        bpe.cut = bpe.mark_cut(pieces);
        Ok(bpe)
    }

    /// Text must not become structure by merging, so such merges are not there.
    fn index(&mut self, rank: u32, pieces: &Pieces) -> Result<(), Crowded> {
        let [left, right, both] = self.merges[rank as usize];
        let structure = matches!(pieces.kind(both), Some(Kind::Control | Kind::Structure));
        if structure || self.find(left, right).is_some() {
            return Ok(());
        }
        self.pairs.insert(hash_pair(left, right), rank)
    }

    fn find(&self, left: u32, right: u32) -> Option<Merge> {
        let is = |rank: u32| self.merges[rank as usize][..2] == [left, right];
        let rank = self.pairs.find(hash_pair(left, right), is)?;
        let id = self.merges[rank as usize][2];
        Some(Merge { rank, id })
    }

    /// Bytes of a word that no token may come from, or that one token may stand for, without end.
    pub(super) fn swallows(&self) -> bool {
        let (Start::Bytes(bytes) | Start::Chars(bytes)) = &self.start;
        let complete = bytes.iter().all(|id| *id != NONE);
        !complete && self.unknown.is_none_or(|unknown| unknown.fuses)
    }

    /// Appends the tokens of a word.
    pub(super) fn encode(
        &self,
        word: &str,
        run: &mut Run<'_>,
        budget: &mut Budget<'_>,
    ) -> Result<(), ModelError> {
        if self.whole_words
            && let Some(id) = self.token(run.pieces, word.as_bytes())
        {
            run.out.push(id);
            return Ok(());
        }
        for word in self.cut.words(word) {
            self.merge(word, run, budget)?;
            budget.check(run.out.len(), 0)?;
        }
        Ok(())
    }

    fn merge(
        &self,
        word: &str,
        run: &mut Run<'_>,
        budget: &mut Budget<'_>,
    ) -> Result<(), ModelError> {
        let Run {
            pieces,
            merger,
            out,
        } = run;
        budget.spend(word.len())?;
        let mut beginning = Beginning {
            merger,
            unknown: self.unknown,
            waiting: None,
        };
        match &self.start {
            Start::Bytes(bytes) => {
                for byte in word.as_bytes() {
                    beginning.push(1, bytes[usize::from(*byte)]);
                }
            }
            Start::Chars(bytes) => self.chars((pieces, word), bytes, &mut beginning),
        }
        beginning.finish();
        merger.run(|left, right| self.find(left.id, right.id), budget)?;
        out.extend(merger.drain().map(|symbol| symbol.id));
        Ok(())
    }

    /// Where words may be cut: a mark that is a token ends what unknown characters wait for.
    fn mark_cut(&self, pieces: &Pieces) -> MarkCut {
        if matches!(self.start, Start::Bytes(_))
            || self.token(pieces, SPACE_MARK.as_bytes()).is_none()
        {
            return MarkCut::never();
        }
        MarkCut::of(self.merges.iter().map(|[.., both]| pieces.text(*both)))
    }

    fn chars(
        &self,
        (pieces, word): (&Pieces, &str),
        bytes: &[u32; 256],
        beginning: &mut Beginning<'_>,
    ) {
        let mut buffer = [0; 4];
        for char in word.chars() {
            let char = char.encode_utf8(&mut buffer).as_bytes();
            if let Some(id) = self.token(pieces, char) {
                beginning.push(char.len(), id);
                continue;
            }
            let ids = char.iter().map(|byte| bytes[usize::from(*byte)]);
            if ids.clone().all(|id| id != NONE) {
                ids.for_each(|id| beginning.merger.push(1, id));
            } else {
                beginning.push(char.len(), NONE);
            }
        }
    }

    fn token(&self, pieces: &Pieces, text: &[u8]) -> Option<u32> {
        let words = self.words.as_ref()?;
        words.find(hash_bytes(text), |id| pieces.text(id) == text)
    }
}

/// The symbols that merging begins with.
struct Beginning<'m> {
    merger: &'m mut Merger,
    unknown: Option<Unknown>,
    /// Bytes of unknown characters before the next symbol.
    waiting: Option<usize>,
}

impl Beginning<'_> {
    fn push(&mut self, len: usize, id: u32) {
        if id != NONE {
            self.finish();
            self.merger.push(len, id);
            return;
        }
        match (self.unknown, self.waiting) {
            (None, _) => {}
            (Some(unknown), Some(waiting)) if unknown.fuses => {
                self.waiting = Some(waiting + len);
            }
            (Some(_), _) => {
                self.finish();
                self.waiting = Some(len);
            }
        }
    }

    fn finish(&mut self) {
        if let (Some(unknown), Some(len)) = (self.unknown, self.waiting.take()) {
            self.merger.push(len, unknown.id);
        }
    }
}

/// The token of each byte in GPT-2's alphabet, or [`NONE`].
pub(super) fn alphabet_tokens(written: &Written<'_>) -> Box<[u32; 256]> {
    let alphabet = ByteAlphabet::new();
    let mut bytes = Box::new([NONE; 256]);
    // The alphabet ends at U+0143.
    for char in ('\0'..='\u{143}').map(String::from) {
        if let (Some(byte), Some(id)) = (alphabet.decode(&char), written.find(&char)) {
            bytes[usize::from(byte[0])] = id;
        }
    }
    bytes
}

/// Tokens by their bytes, without structure and those that stand for one byte.
fn words(parts: &BpeParts<'_>, pieces: &Pieces) -> Result<Index, Crowded> {
    let alphabet = matches!(parts.start, Start::Bytes(_)).then(ByteAlphabet::new);
    let mut index = Index::with_room_for(parts.tokens.len());
    for (id, token) in parts.tokens.iter().enumerate() {
        // There are fewer than 2^31 tokens.
        let id = id as u32;
        let kind = pieces.kind(id);
        let is_word = matches!(kind, Some(Kind::Plain | Kind::Spaced | Kind::Added));
        let spelt = alphabet
            .as_ref()
            .is_none_or(|alphabet| alphabet.decode(token).is_some());
        if is_word && spelt && !token.is_empty() {
            index.insert(hash_bytes(pieces.text(id)), id)?;
        }
    }
    Ok(index)
}

fn hash_pair(left: u32, right: u32) -> u64 {
    mix(u64::from(left) << 32 | u64::from(right))
}

/// The tokens by the text the file writes for them: needed only while a file is read.
pub(super) struct Written<'a> {
    tokens: &'a [&'a str],
    index: Index,
    /// What two tokens make together.
    both: String,
}

/// Why texts make no vocabulary.
#[derive(Debug)]
pub(super) enum WrittenFault {
    Crowded,
    /// Two tokens with the same text.
    Twins(u32, u32),
}

impl<'a> Written<'a> {
    /// `tokens` are the texts by id; an empty one is no token.
    pub(super) fn new(tokens: &'a [&'a str]) -> Result<Self, WrittenFault> {
        let index = Index::with_room_for(tokens.len());
        let mut written = Self {
            tokens,
            index,
            both: String::new(),
        };
        for (id, text) in tokens.iter().enumerate() {
            // There are fewer than 2^31 tokens.
            let id = id as u32;
            if text.is_empty() {
                continue;
            }
            if let Some(other) = written.find(text) {
                return Err(WrittenFault::Twins(other, id));
            }
            let inserted = written.index.insert(hash_bytes(text.as_bytes()), id);
            inserted.map_err(|Crowded| WrittenFault::Crowded)?;
        }
        Ok(written)
    }

    pub(super) fn find(&self, text: &str) -> Option<u32> {
        self.index.find(hash_bytes(text.as_bytes()), |id| {
            self.tokens[id as usize] == text
        })
    }

    /// The tokens of a merge and the token they become.
    pub(super) fn merge(&mut self, left: &str, right: &str) -> Option<[u32; 3]> {
        self.both.clear();
        self.both.push_str(left);
        self.both.push_str(right);
        Some([self.find(left)?, self.find(right)?, self.find(&self.both)?])
    }
}
