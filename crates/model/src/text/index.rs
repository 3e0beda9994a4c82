use super::limits::PROBES_MAX;

const EMPTY: u32 = u32::MAX;

/// A hash table from something its owner keeps in an array to the position in that array: four
/// bytes a slot and at least two slots an entry, so that a quarter of a million pieces take 2 MiB.
#[derive(Debug)]
pub(super) struct Index {
    slots: Vec<u32>,
}

/// Entries of a file that were made to collide.
#[derive(Debug, PartialEq)]
pub(super) struct Crowded;

impl Index {
    /// Room for `len` entries, which must be below 2^31.
    pub(super) fn with_room_for(len: usize) -> Self {
        let slots = (2 * len).next_power_of_two().max(2);
        Self {
            slots: vec![EMPTY; slots],
        }
    }

    /// The entry with this hash that `is` what is looked for.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        for slot in self.path(hash) {
            match self.slots[slot] {
                EMPTY => return None,
                entry if is(entry) => return Some(entry),
                _ => {}
            }
        }
        None
    }

    /// Adds an entry; the caller has made sure that it is not there yet. A file whose entries
    /// collide far beyond chance is refused rather than searched slowly for ever.
    pub(super) fn insert(&mut self, hash: u64, entry: u32) -> Result<(), Crowded> {
        let slot = self.path(hash).find(|slot| self.slots[*slot] == EMPTY);
        self.slots[slot.ok_or(Crowded)?] = entry;
        Ok(())
    }

    fn path(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len() - 1;
        // Truncation on 32-bit machines is harmless: only the low bits are used.
        let start = hash as usize;
        (0..PROBES_MAX.min(mask + 1)).map(move |step| start.wrapping_add(step) & mask)
    }
}

/// A hash of bytes, the same on every machine and in every run.
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = mix(bytes.len() as u64);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = mix(hash ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash ^ u64::from_le_bytes(last))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
pub(super) fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_and_others_are_not() {
        let words: Vec<String> = (0..1000).map(|n| format!("word {n}")).collect();
        let mut index = Index::with_room_for(words.len());
        for (at, word) in words.iter().enumerate() {
            index
                .insert(hash_bytes(word.as_bytes()), at as u32)
                .unwrap();
        }
        let find =
            |word: &str| index.find(hash_bytes(word.as_bytes()), |at| words[at as usize] == word);
        assert_eq!(find("word 777"), Some(777));
        assert_eq!(find("word 1000"), None);
    }

    #[test]
    fn entries_made_to_collide_are_refused() {
        let mut index = Index::with_room_for(100_000);
        let refused = (0..100_000)
            .map(|at| index.insert(42, at))
            .position(|r| r.is_err());
        assert_eq!(refused, Some(PROBES_MAX));
    }
}
