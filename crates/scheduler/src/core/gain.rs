use crate::generation::{Finish, TokenLogProb};

/// What a step gave one sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    /// `[vocab]` for each row that wanted them.
    pub(crate) logits: &'a [f32],
    /// One for each row that wanted one.
    pub(crate) log_probs: &'a [f32],
    /// `[width]` for each row that wanted them.
    pub(crate) hidden: &'a [f32],
    /// The drafted tokens, which its rows after the first feed; none where nothing was drafted.
    pub(crate) draft: &'a [u32],
    /// Rows whose values mean something: all, or those before the first of a draft's that does not.
    pub(crate) sound: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Gain {
    pub(crate) ids: Vec<u32>,
    pub(crate) text: String,
    /// Of each token, where that is told.
    pub(crate) log_probs: Vec<TokenLogProb>,
    pub(crate) finish: Option<Finish>,
}

impl Gain {
    /// What came after it.
    pub(super) fn append(&mut self, next: Self) {
        self.ids.extend(next.ids);
        self.text += &next.text;
        self.log_probs.extend(next.log_probs);
        self.finish = next.finish;
    }
}
