use std::fmt;
use std::sync::Arc;

/// What generated text must be: a grammar, of which each request follows its own copy.
#[derive(Clone)]
pub struct Constraint(Arc<dyn Grammar>);

/// A grammar over a model's tokens.
pub trait Grammar: Send + Sync {
    /// Where a text begins.
    fn begin(&self) -> Box<dyn Matcher>;
}

/// One text on its way through a grammar. It is called on a thread of the pipeline's, beside the
/// forward pass of the token that it takes in, within the share of time. A panic ends its request. It is
/// dropped on such a thread too, and dropping the pipeline waits for what it is at.
pub trait Matcher: Send {
    /// Takes in the token that was chosen, `None` before the first, and says which may follow. A
    /// grammar that ends here allows the model's end tokens.
    ///
    /// # Errors
    /// Where the grammar takes more work than it may. The request then ends with
    /// [`GenerateError::Constraint`](crate::GenerateError::Constraint).
    fn next(&mut self, token: Option<u32>) -> Result<Allowed, String>;
}

/// What may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Nothing: the text is complete, and the generation ends.
    Nothing,
    /// These tokens.
    Tokens(TokenSet),
}

/// A set of token ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSet {
    /// Bit `id % 64` of word `id / 64`.
    words: Vec<u64>,
}

impl TokenSet {
    /// The set whose ids have bit `id % 64` of word `id / 64`.
    pub fn from_words(words: Vec<u64>) -> Self {
        Self { words }
    }

    /// Whether `id` is in it.
    pub fn contains(&self, id: u32) -> bool {
        let word = self.words.get(id as usize / 64);
        word.is_some_and(|word| word >> (id % 64) & 1 == 1)
    }
}

impl FromIterator<u32> for TokenSet {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        let mut words = Vec::new();
        for id in ids {
            let word = id as usize / 64;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (id % 64);
        }
        Self { words }
    }
}

impl Constraint {
    /// Texts of `grammar`.
    pub fn new(grammar: Arc<dyn Grammar>) -> Self {
        Self(grammar)
    }

    pub(crate) fn begin(&self) -> Box<dyn Matcher> {
        self.0.begin()
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Constraint")
    }
}

impl PartialEq for Constraint {
    /// Whether both are one grammar, and not only equal ones.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
