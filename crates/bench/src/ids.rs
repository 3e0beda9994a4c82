//! The token ids that are fed, whatever the model would say.

/// Ids stay under this, as in the script that times llama.cpp.
const IDS: usize = 20_000;

/// The ids of a stream's prompt.
pub(crate) fn prompt_ids(count: usize, stream: usize, vocabulary: usize) -> Vec<u32> {
    (0..count)
        .map(|i| id(i * 37 + 11 + stream, vocabulary))
        .collect()
}

/// The ids that a stream decodes, one a step.
pub(crate) fn decode_ids(count: usize, stream: usize, vocabulary: usize) -> Vec<u32> {
    (0..count)
        .map(|k| id(k * 13 + 7 + stream, vocabulary))
        .collect()
}

fn id(n: usize, vocabulary: usize) -> u32 {
    // Under 20,000, and so a u32.
    (n % IDS % vocabulary) as u32
}
