/// The characters GPT-2's vocabularies write for bytes (Radford et al. 2019): printable Latin-1
/// characters stand for themselves, the other bytes for the characters from U+0100 on, in order.
#[derive(Debug)]
pub(super) struct ByteAlphabet {
    /// The byte of each character below U+0144.
    bytes: [Option<u8>; 0x144],
}

impl ByteAlphabet {
    pub(super) fn new() -> Self {
        let mut bytes = [None; 0x144];
        let mut next = 0x100;
        for byte in 0..=255_u8 {
            let own = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
            let at = if own { usize::from(byte) } else { next };
            next += usize::from(!own);
            bytes[at] = Some(byte);
        }
        Self { bytes }
    }

    /// The bytes `text` stands for, or `None` when a character is outside the alphabet.
    pub(super) fn decode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars()
            .map(|char| *self.bytes.get(char as usize)?)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let alphabet = ByteAlphabet::new();
        let mut bytes: Vec<u8> = alphabet.bytes.iter().copied().flatten().collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn text_stands_for_its_bytes() {
        let alphabet = ByteAlphabet::new();
        assert_eq!(
            alphabet.decode("ĠHelloĊ").as_deref(),
            Some(&b" Hello\n"[..])
        );
        assert_eq!(alphabet.decode("Ã©"), Some("é".as_bytes().to_vec()));
        assert_eq!(alphabet.decode("<｜end｜>"), None);
    }
}
