use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::thread;

use corpgrid_scheduler::{Allowed, Constraint, Grammar, Matcher, TokenSet};
use gogrid_model::Tokenizer;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    ApproximateTokEnv, INVALID_TOKEN, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie,
};
use llguidance::{ParserFactory, TokenParser};

use crate::error::{GrammarError, PANICKED, shortened};
use crate::limits::{STACK_BYTES, TOKEN_BYTES_MAX, VOCABULARY_BYTES_MAX, parser_limits};
use crate::spec::Spec;

/// The grammars over one model's vocabulary. Made once for each model, and shared.
pub struct Grammars {
    factory: ParserFactory,
}

impl Grammars {
    /// Those over the vocabulary of `tokenizer`. The tokens that end a text are allowed where a
    /// grammar may end, and no other control token is, but where a Lark grammar names it: as
    /// `<|name|>`, or `<[id]>` by its id.
    ///
    /// Takes some tenths of a second and, for a large vocabulary, tens of MiB.
    ///
    /// # Errors
    /// When the vocabulary has more than the parser can hold.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, GrammarError> {
        let vocabulary = |what: String| GrammarError::Vocabulary { what };
        let words = words(tokenizer);
        let bytes: usize = words.iter().map(Vec::len).sum();
        if bytes > VOCABULARY_BYTES_MAX {
            let what = format!("its tokens have {bytes} bytes, not {VOCABULARY_BYTES_MAX} at most");
            return Err(vocabulary(what));
        }
        let slices = SlicedBiasComputer::json_slices();
        let env = environment(tokenizer, &words);
        let factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices);
        let mut factory = factory.map_err(|error| vocabulary(shortened(&error.to_string())))?;
        factory.quiet();
        *factory.limits_mut() = parser_limits();
        Ok(Self { factory })
    }

    /// The grammar that `spec` describes, to be followed by one request or several. Takes some
    /// milliseconds of a core, of the largest schemas half a second, so it belongs on a thread that may
    /// block.
    ///
    /// # Errors
    /// When it is none, when a keyword of its is not supported, or when it is too large or takes too
    /// much work. A text is never generated without what cannot be held.
    pub fn compile(&self, spec: &Spec) -> Result<Constraint, GrammarError> {
        let compiled = self.compiled(spec)?;
        // A schema that only refers to itself is one, and no text is of it.
        let first = compiled.begin().next(None);
        first.map_err(|what| spec.refused(&format!("no text can begin as it says: {what}")))?;
        Ok(Constraint::new(Arc::new(compiled)))
    }

    pub(crate) fn compiled(&self, spec: &Spec) -> Result<Compiled, GrammarError> {
        let grammar = spec.to_grammar()?;
        let compile = || -> Result<_, String> {
            let parser = self.factory.create_parser(grammar);
            let mut parser = parser.map_err(|error| format!("{error:#}"))?;
            match parser.grammar_warnings().into_iter().next() {
                Some(warning) => Err(warning),
                None => Ok(parser),
            }
        };
        let parser = on_large_stack(compile).map_err(|what| spec.refused(&shortened(&what)))?;
        let has_ends = !self.factory.tok_env().tok_trie().eos_token_set().is_zero();
        Ok(Compiled { parser, has_ends })
    }
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grammars")
    }
}

/// What `work` gives, done on a stack that fits the calls within calls that compiling makes.
fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("grammar".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work);
        let thread = thread.map_err(|error| format!("no thread to compile it on: {error}"))?;
        let panicked = |_| Err(PANICKED.to_owned());
        thread.join().unwrap_or_else(panicked)
    })
}

/// The bytes of each token as llguidance wants them: a control token is 0xFF and its name, which is
/// in no UTF-8 text. A token without bytes is never allowed.
fn words(tokenizer: &Tokenizer) -> Vec<Vec<u8>> {
    let ids = 0..tokenizer.vocab() as u32;
    let words = ids.map(|id| match tokenizer.name(id) {
        Some(name) => [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat(),
        None => {
            let piece = tokenizer.piece(id).unwrap_or_default();
            let is_marked = piece.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER);
            if is_marked { Vec::new() } else { piece }
        }
    });
    let held = |word: Vec<u8>| {
        if word.len() > TOKEN_BYTES_MAX {
            Vec::new()
        } else {
            word
        }
    };
    words.map(held).collect()
}

fn environment(tokenizer: &Tokenizer, words: &[Vec<u8>]) -> TokEnv {
    let vocab = words.len() as u32;
    let ends: Vec<u32> = (0..vocab).filter(|id| tokenizer.ends(*id)).collect();
    let info = TokRxInfo::new(vocab, ends.first().copied().unwrap_or(INVALID_TOKEN));
    let trie = TokTrie::from(&info, words);
    let trie = match ends.is_empty() {
        true => trie,
        false => trie.with_eos_tokens(&ends),
    };
    Arc::new(ApproximateTokEnv::new(trie))
}

/// A grammar, as it stands before a text begins.
pub(crate) struct Compiled {
    parser: TokenParser,
    /// Whether a token of the vocabulary ends a text.
    has_ends: bool,
}

impl Compiled {
    #[cfg(test)]
    pub(crate) fn parser(&self) -> &TokenParser {
        &self.parser
    }
}

impl Grammar for Compiled {
    fn begin(&self) -> Box<dyn Matcher> {
        // What one request makes the lexer hold is counted for that request alone.
        let parser = self.parser.deep_clone();
        Box::new(Walk {
            matcher: llguidance::Matcher::new(Ok(parser)),
            has_ends: self.has_ends,
        })
    }
}

/// One text on its way through a grammar.
struct Walk {
    matcher: llguidance::Matcher,
    has_ends: bool,
}

impl Matcher for Walk {
    fn next(&mut self, token: Option<u32>) -> Result<Allowed, String> {
        let allowed = self.step(token);
        allowed.map_err(|error| shortened(&error.to_string()))
    }
}

impl Walk {
    fn step(&mut self, token: Option<u32>) -> Result<Allowed, Box<dyn Error>> {
        let matcher = &mut self.matcher;
        if let Some(token) = token {
            matcher.consume_token(token)?;
        }
        if matcher.is_stopped() {
            return match matcher.stop_reason() {
                reason if reason.is_ok() => Ok(Allowed::Nothing),
                reason => Err(format!("the grammar stopped: {reason}").into()),
            };
        }
        let is_complete = matcher.is_accepting()?;
        match matcher.compute_mask() {
            Ok(mask) => Ok(Allowed::Tokens(set_of(&mask))),
            // A text that is complete ends even where the vocabulary has no token to end it.
            Err(_) if is_complete && !self.has_ends => Ok(Allowed::Nothing),
            Err(error) => Err(error.into()),
        }
    }
}

/// llguidance's sets have words of 32 bits.
fn set_of(mask: &SimpleVob) -> TokenSet {
    let words = mask.as_slice().chunks(2).map(|pair| {
        let high = pair.get(1).copied().unwrap_or(0);
        u64::from(pair[0]) | u64::from(high) << 32
    });
    TokenSet::from_words(words.collect())
}
