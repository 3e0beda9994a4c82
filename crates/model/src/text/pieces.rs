use unicode_normalization::char::is_combining_mark;

/// The texts of all tokens, one after the other, and what each counts as.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    texts: Vec<u8>,
    /// One past the last byte of each text.
    ends: Vec<u32>,
    kinds: Vec<Kind>,
}

/// What a token counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its bytes as they are.
    Plain,
    /// Its text with `▁` for spaces.
    Spaced,
    /// One byte, the only one of its text.
    Byte,
    /// Stands for its text; found in a text before anything else.
    Added,
    /// The same, but it may act as a control token although the vocabulary does not call it one.
    /// Nothing in a chat's messages becomes one.
    Structure,
    /// Begins or ends something; gives no text, and is found in a text only on request.
    Control,
    /// Not in use; gives no text.
    Unused,
}

impl Kind {
    /// What a token with this text is that the vocabulary adds and does not call a control token.
    /// Files say nothing about what such a token is for: Qwen3 writes `<think>` like this, DeepSeek's
    /// R1 distilled into Qwen the marks of turns, Gemma runs of line ends and HTML's formatting. So
    /// each counts as structure but those that cannot be told from what people write: words, white
    /// space, one mark of punctuation, and the HTML of Gemma's vocabulary.
    pub(super) fn of_added(text: &str) -> Self {
        let is_prose = |char: char| {
            let in_word = char.is_alphanumeric() || is_combining_mark(char);
            in_word || char.is_whitespace() || SPACE_MARK.starts_with(char)
        };
        let is_mark = || text.len() == 1 && text.bytes().all(|byte| byte.is_ascii_punctuation());
        match text.chars().all(is_prose) || is_mark() || is_formatting(text) {
            true => Self::Added,
            false => Self::Structure,
        }
    }
}

/// Whether a text is a tag of HTML that formats. `<s>` and `</s>` are not among them: they begin and
/// end texts in other vocabularies.
fn is_formatting(text: &str) -> bool {
    let tag = text
        .strip_prefix('<')
        .and_then(|tag| tag.strip_suffix('>'))
        .map(|tag| tag.strip_prefix('/').unwrap_or(tag));
    tag.is_some_and(|tag| FORMATTING.contains(&tag))
}

/// Names of HTML's elements in Gemma's vocabulary.
const FORMATTING: [&str; 33] = [
    "a",
    "b",
    "blockquote",
    "body",
    "caption",
    "code",
    "div",
    "em",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "html",
    "i",
    "iframe",
    "img",
    "li",
    "span",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "u",
    "ul",
];

impl Pieces {
    /// Adds the token with the next id. The texts together must stay below 2^32 bytes.
    pub(super) fn push(&mut self, text: &[u8], kind: Kind) {
        self.texts.extend_from_slice(text);
        // The caller's texts come from a file whose size is limited far below.
        self.ends.push(self.texts.len() as u32);
        self.kinds.push(kind);
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text as the vocabulary has it. `id` must be in it.
    pub(super) fn text(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.texts[start as usize..self.ends[id] as usize]
    }

    /// What the token counts as, or `None` when `id` is no token.
    pub(super) fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    pub(super) fn set_kind(&mut self, id: u32, kind: Kind) {
        self.kinds[id as usize] = kind;
    }

    /// Appends what the token adds to a text; nothing when `id` is no token.
    pub(super) fn write(&self, id: u32, out: &mut Vec<u8>) {
        match self.kind(id) {
            None | Some(Kind::Control | Kind::Unused) => {}
            Some(Kind::Plain | Kind::Byte | Kind::Added | Kind::Structure) => {
                out.extend_from_slice(self.text(id))
            }
            Some(Kind::Spaced) => unescape(self.text(id), out),
        }
    }

    /// Bytes of the longest text.
    pub(super) fn longest(&self) -> usize {
        let lens = (0..self.len() as u32).map(|id| self.text(id).len());
        lens.max().unwrap_or(0)
    }

    pub(super) fn shrink(&mut self) {
        self.texts.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.kinds.shrink_to_fit();
    }
}

/// The mark SentencePiece writes for a space, U+2581.
pub(super) const SPACE_MARK: &str = "\u{2581}";

fn unescape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(byte) = text.first() {
        let (made, taken) = match text.strip_prefix(SPACE_MARK.as_bytes()) {
            Some(_) => (b' ', SPACE_MARK.len()),
            None => (*byte, 1),
        };
        out.push(made);
        text = &text[taken..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_gives_its_text() {
        let mut pieces = Pieces::default();
        let kinds = [
            Kind::Plain,
            Kind::Spaced,
            Kind::Byte,
            Kind::Added,
            Kind::Structure,
            Kind::Control,
            Kind::Unused,
        ];
        for kind in kinds {
            pieces.push("\u{2581}a\u{2581}".as_bytes(), kind);
        }
        let texts = (0..8).map(|id| {
            let mut out = Vec::new();
            pieces.write(id, &mut out);
            String::from_utf8(out).unwrap()
        });
        assert_eq!(
            texts.collect::<Vec<_>>(),
            ["▁a▁", " a ", "▁a▁", "▁a▁", "▁a▁", "", "", ""]
        );
    }

    #[test]
    fn an_added_token_is_structure_unless_it_can_be_told_from_nothing_that_people_write() {
        let text = [
            "\n\n\n",
            "\t\t",
            "  ",
            "▁▁",
            "<table>",
            "</h1>",
            "<b>",
            "wörter",
            "हिन्दी",
            "~",
            "of 12",
        ];
        let structure = [
            "<｜User｜>",
            "<｜Assistant｜>",
            "<think>",
            "</think>",
            "<tool_call>",
            "</tool_response>",
            "<|fim_prefix|>",
            "<unused7>",
            "[multimodal]",
            "[INST]",
            "|||EMAIL_ADDRESS|||",
            "<s>",
            "</s>",
            "<</b>",
            "Human:",
            "\u{e000}",
        ];
        for text in text {
            assert_eq!(Kind::of_added(text), Kind::Added, "{text:?}");
        }
        for text in structure {
            assert_eq!(Kind::of_added(text), Kind::Structure, "{text:?}");
        }
    }
}
