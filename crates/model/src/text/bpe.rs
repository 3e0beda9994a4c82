use super::alphabet::ByteAlphabet;
use super::index::{Crowded, Index, hash_bytes, mix};
use super::merge::{Merge, Merger, NONE};
use super::pieces::{Kind, Pieces};
use super::split::Splitter;

/// A byte-level byte-pair vocabulary (GPT-2 and most since): a text is cut into words, and within
/// a word its bytes merge in the order of the list of merges.
#[derive(Debug)]
pub(super) struct Bpe {
    splitter: Splitter,
    /// The token of each byte, or [`NONE`]: such a byte is left out, as in llama.cpp.
    bytes: Box<[u32; 256]>,
    /// Left token, right token and what they become, best first.
    merges: Vec<[u32; 3]>,
    /// Of pairs in `merges`.
    pairs: Index,
    /// Of the bytes of tokens, where whole words are looked up.
    words: Option<Index>,
}

/// Why texts and merges make no byte-level vocabulary.
#[derive(Debug)]
pub(super) enum BpeFault {
    Crowded,
    /// Two tokens with the same text.
    Twins(u32, u32),
    /// The merge with this number is not two tokens that make a third.
    Merge(usize),
}

impl From<Crowded> for BpeFault {
    fn from(_: Crowded) -> Self {
        Self::Crowded
    }
}

impl Bpe {
    /// `tokens` are the texts as the file writes them, `pieces` the same decoded.
    pub(super) fn new(
        splitter: Splitter,
        pieces: &Pieces,
        tokens: &[&str],
        merges: &[&str],
    ) -> Result<Self, BpeFault> {
        let written = Written::new(tokens)?;
        let mut bpe = Self {
            words: splitter.whole_words.then(|| words(pieces)).transpose()?,
            splitter,
            bytes: Box::new([NONE; 256]),
            merges: Vec::with_capacity(merges.len()),
            pairs: Index::with_room_for(merges.len()),
        };
        let alphabet = ByteAlphabet::new();
        // The alphabet ends at U+0143.
        for char in ('\0'..='\u{143}').map(String::from) {
            if let (Some(byte), Some(id)) = (alphabet.decode(&char), written.find(&char)) {
                bpe.bytes[usize::from(byte[0])] = id;
            }
        }
        for (rank, merge) in merges.iter().enumerate() {
            let [left, right, both] = written.merge(merge).ok_or(BpeFault::Merge(rank))?;
            bpe.add([left, right, both])?;
        }
        bpe.merges.shrink_to_fit();
        Ok(bpe)
    }

    /// The first of two merges of the same pair counts.
    fn add(&mut self, merge: [u32; 3]) -> Result<(), Crowded> {
        if self.find(merge[0], merge[1]).is_none() {
            // There are fewer merges than bytes in the file, whose size is limited.
            let rank = self.merges.len() as u32;
            self.merges.push(merge);
            self.pairs.insert(hash_pair(merge[0], merge[1]), rank)?;
        }
        Ok(())
    }

    fn find(&self, left: u32, right: u32) -> Option<Merge> {
        let is = |rank: u32| self.merges[rank as usize][..2] == [left, right];
        let rank = self.pairs.find(hash_pair(left, right), is)?;
        let id = self.merges[rank as usize][2];
        Some(Merge { rank, id })
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, pieces: &Pieces, text: &str, out: &mut Vec<u32>) {
        let mut merger = Merger::default();
        self.splitter.split(text, &mut |word| {
            let word = word.as_bytes();
            if let Some(id) = self.whole(pieces, word) {
                return out.push(id);
            }
            for byte in word {
                merger.push(1, self.bytes[usize::from(*byte)]);
            }
            merger.run(
                |left, right| self.find(left.id, right.id),
                |symbol| out.extend((symbol.id != NONE).then_some(symbol.id)),
            );
        });
    }

    fn whole(&self, pieces: &Pieces, word: &[u8]) -> Option<u32> {
        let words = self.words.as_ref()?;
        words.find(hash_bytes(word), |id| pieces.text(id) == word)
    }
}

fn words(pieces: &Pieces) -> Result<Index, Crowded> {
    let mut index = Index::with_room_for(pieces.len());
    // There are fewer than 2^31 tokens.
    for id in 0..pieces.len() as u32 {
        if pieces.kind(id) == Some(Kind::Plain) {
            index.insert(hash_bytes(pieces.text(id)), id)?;
        }
    }
    Ok(index)
}

fn hash_pair(left: u32, right: u32) -> u64 {
    mix(u64::from(left) << 32 | u64::from(right))
}

/// The tokens by the text the file writes for them: needed only while merges are read.
struct Written<'a> {
    tokens: &'a [&'a str],
    index: Index,
}

impl<'a> Written<'a> {
    fn new(tokens: &'a [&'a str]) -> Result<Self, BpeFault> {
        let index = Index::with_room_for(tokens.len());
        let mut written = Self { tokens, index };
        for (id, text) in tokens.iter().enumerate() {
            // There are fewer than 2^31 tokens.
            let id = id as u32;
            match written.find(text) {
                Some(other) if !text.is_empty() => return Err(BpeFault::Twins(other, id)),
                _ => written.index.insert(hash_bytes(text.as_bytes()), id)?,
            }
        }
        Ok(written)
    }

    fn find(&self, text: &str) -> Option<u32> {
        self.index.find(hash_bytes(text.as_bytes()), |id| {
            self.tokens[id as usize] == text
        })
    }

    /// The tokens of a merge written `left right`.
    fn merge(&self, merge: &str) -> Option<[u32; 3]> {
        // A space that is the first byte belongs to the left side.
        let space = 1 + merge.bytes().skip(1).position(|byte| byte == b' ')?;
        let (left, right) = (&merge[..space], &merge[space + 1..]);
        let both = [left, right].concat();
        Some([self.find(left)?, self.find(right)?, self.find(&both)?])
    }
}
