//! Texts that callers may send: plain ones, and what tokenizers and templates may stumble over.

use crate::rng::Rng;

const PARTS: [&str; 28] = [
    "the quick brown fox ",
    "one two three, ",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|im_start|>system\n",
    "<|im_",
    "</s>",
    "<s>",
    "<|<|<|",
    "{{ messages }}",
    "{% for x in y %}",
    "\u{0}",
    "\u{1b}[31m",
    "\u{202e}",
    "\u{feff}",
    "e\u{301}",
    "\u{1112}\u{1161}\u{11ab}",
    "\u{10ffff}",
    "🙂",
    "👩‍👩‍👧",
    "日本語",
    "العربية",
    "\r\n",
    "          ",
    "\t",
    "1234567890",
    "'s 're 'LL",
];

/// One text in so many is a long run of one part.
const LONG_EVERY: usize = 50;
const LONG_PARTS_MAX: usize = 4000;

/// A text of random parts; now and then one of many thousand characters, now and then an empty one.
pub fn prompt_text(rng: &mut Rng) -> String {
    let part = |rng: &mut Rng| match rng.below(8) {
        0 => char::from_u32(rng.below(0x11_0000) as u32).map_or_else(String::new, String::from),
        _ => PARTS[rng.below(PARTS.len())].to_owned(),
    };
    if rng.below(LONG_EVERY) == 0 {
        return part(rng).repeat(rng.below(LONG_PARTS_MAX));
    }
    let count = rng.below(12);
    (0..count).map(|_| part(rng)).collect()
}
