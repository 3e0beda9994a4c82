//! Small vocabularies that tokenizers load: every byte has a token, and a few dozen merges.

use crate::gguf_writer::Meta;

/// Merges in rank order, with `_` for the space that begins a word.
const MERGES: [(&str, &str); 36] = [
    ("_", "t"),
    ("h", "e"),
    ("i", "n"),
    ("_", "a"),
    ("r", "e"),
    ("o", "n"),
    ("e", "r"),
    ("_t", "he"),
    ("_", "s"),
    ("a", "t"),
    ("_", "w"),
    ("_", "o"),
    ("o", "r"),
    ("e", "n"),
    ("_", "c"),
    ("i", "t"),
    ("i", "s"),
    ("a", "n"),
    ("e", "s"),
    ("_", "b"),
    ("e", "d"),
    ("_", "f"),
    ("in", "g"),
    ("_", "p"),
    ("o", "u"),
    ("_a", "n"),
    ("a", "l"),
    ("a", "r"),
    ("_t", "o"),
    ("_", "m"),
    ("_o", "f"),
    ("_", "in"),
    ("_", "d"),
    ("_", "h"),
    ("_an", "d"),
    ("i", "c"),
];

/// GGUF's kinds of token.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

/// The chat template of the byte-level kind.
pub(crate) const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + \
message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}\
{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A vocabulary: a token's id is its place.
#[derive(Clone, Debug)]
pub(crate) struct Vocabulary {
    pub(crate) tokens: Vec<String>,
    kinds: Vec<i32>,
    /// Pairs of tokens in rank order.
    pub(crate) merges: Vec<(String, String)>,
    /// Ids of the tokens that are never made from text.
    pub(crate) control: Vec<u32>,
    pub(crate) begin: u32,
    pub(crate) end: u32,
}

impl Vocabulary {
    /// Byte-level BPE: three control tokens, the bytes in GPT-2's letters, and what merges make.
    pub(crate) fn byte_level() -> Self {
        let control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
        let mut tokens: Vec<String> = control.map(String::from).to_vec();
        tokens.extend((0..=255).map(|byte| byte_letter(byte).to_string()));
        let merges = merges("\u{120}");
        tokens.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
        let kinds = (0..tokens.len()).map(|id| if id < 3 { CONTROL } else { NORMAL });
        Self {
            kinds: kinds.collect(),
            tokens,
            merges,
            control: vec![0, 1, 2],
            begin: 1,
            end: 2,
        }
    }

    /// SentencePiece as Gemma has it: control tokens, byte tokens, letters, and what merges make.
    pub(crate) fn sentence_piece() -> Self {
        let mut tokens: Vec<String> = ["<pad>", "<eos>", "<bos>", "<unk>"]
            .map(String::from)
            .into();
        let mut kinds = vec![CONTROL, CONTROL, CONTROL, UNKNOWN];
        tokens.extend((0..=255).map(|byte: u8| format!("<0x{byte:02X}>")));
        kinds.extend([BYTE; 256]);
        let merges = merges("\u{2581}");
        tokens.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
        tokens.push("\u{2581}".into());
        tokens.extend((' '..='~').skip(1).map(String::from));
        kinds.resize(tokens.len(), NORMAL);
        Self {
            tokens,
            kinds,
            merges,
            control: vec![0, 1, 2],
            begin: 2,
            end: 1,
        }
    }

    /// The tokenizer's entries of a GGUF file, for the byte-level kind cut up by `pre`.
    pub(crate) fn byte_level_meta(&self, pre: &str) -> Vec<(String, Meta)> {
        let merges = self.merges.iter().map(|(a, b)| format!("{a} {b}"));
        let mut meta = self.shared_meta("gpt2");
        meta.extend([
            ("tokenizer.ggml.pre".into(), Meta::Text(pre.into())),
            (
                "tokenizer.ggml.merges".into(),
                Meta::Texts(merges.collect()),
            ),
            ("tokenizer.ggml.add_bos_token".into(), Meta::Bool(false)),
            ("tokenizer.chat_template".into(), Meta::Text(CHATML.into())),
        ]);
        meta
    }

    /// The tokenizer's entries of a GGUF file, for the SentencePiece kind.
    pub(crate) fn sentence_piece_meta(&self) -> Vec<(String, Meta)> {
        // The earlier a piece, the likelier: with SentencePiece the best score merges first.
        let scores = (0..self.tokens.len()).map(|id| -(id as f32));
        let mut meta = self.shared_meta("llama");
        meta.extend([
            ("tokenizer.ggml.scores".into(), Meta::F32s(scores.collect())),
            ("tokenizer.ggml.add_bos_token".into(), Meta::Bool(true)),
            ("tokenizer.ggml.add_space_prefix".into(), Meta::Bool(false)),
            ("tokenizer.ggml.unknown_token_id".into(), Meta::U32(3)),
        ]);
        meta
    }

    fn shared_meta(&self, kind: &str) -> Vec<(String, Meta)> {
        vec![
            ("tokenizer.ggml.model".into(), Meta::Text(kind.into())),
            (
                "tokenizer.ggml.tokens".into(),
                Meta::Texts(self.tokens.clone()),
            ),
            (
                "tokenizer.ggml.token_type".into(),
                Meta::I32s(self.kinds.clone()),
            ),
            ("tokenizer.ggml.bos_token_id".into(), Meta::U32(self.begin)),
            ("tokenizer.ggml.eos_token_id".into(), Meta::U32(self.end)),
            ("tokenizer.ggml.padding_token_id".into(), Meta::U32(0)),
        ]
    }
}

fn merges(space: &str) -> Vec<(String, String)> {
    let spaced = |text: &str| text.replace('_', space);
    MERGES.iter().map(|(a, b)| (spaced(a), spaced(b))).collect()
}

/// GPT-2's letter for a byte: itself where that can be seen, else the next letter from U+0100 on.
fn byte_letter(byte: u8) -> char {
    let visible = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if visible(&byte) {
        return char::from(byte);
    }
    let hidden_before = (0..byte).filter(|b| !visible(b)).count();
    // At most 68 bytes are hidden, so this is a letter.
    char::from_u32(0x100 + hidden_before as u32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn check(vocabulary: &Vocabulary) {
        let distinct: HashSet<_> = vocabulary.tokens.iter().collect();
        assert_eq!(distinct.len(), vocabulary.tokens.len());
        assert_eq!(vocabulary.kinds.len(), vocabulary.tokens.len());
        for (a, b) in &vocabulary.merges {
            assert!(distinct.contains(a) && distinct.contains(b), "{a} {b}");
        }
    }

    #[test]
    fn tokens_are_distinct_and_merges_are_of_tokens() {
        check(&Vocabulary::byte_level());
        check(&Vocabulary::sentence_piece());
        assert_eq!(byte_letter(b' '), '\u{120}');
        assert_eq!(byte_letter(0xAD), '\u{143}');
    }
}
