use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::{Anchored, Input};
use regex_syntax::ast::{Ast, RepetitionKind, RepetitionRange, parse, print};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

use super::limits::{
    PATTERN_BYTES_MAX, PATTERN_CACHE_BYTES, PATTERN_EFFORT, PATTERN_NFA_BYTES_MAX,
};

/// A regular expression that cuts words, run as an automaton that reads each byte of a match
/// once. Has no look-around but one: the published expressions end in `\s+(?!\S)|\s+`, white
/// space that leaves its last character to the word that follows. That is one `\s+`, shortened
/// afterwards.
pub(super) struct Pattern {
    dfa: DFA,
    /// The alternative that is white space only, where the expression ends as above.
    spaces: Option<usize>,
    /// The states found so far, for the next text. Each thread takes them away while it uses
    /// them; one that finds none there makes its own.
    cache: Mutex<Option<Box<Cache>>>,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pattern").finish_non_exhaustive()
    }
}

/// The expression goes over this text again and again, or takes too many states for it.
#[derive(Debug, PartialEq)]
pub(super) struct TooCostly;

const SHARED_SPACES: [&str; 2] = [r"\s+(?!\S)|\s+", r"\s+(?!\S)|\s"];

impl Pattern {
    /// Compiles an expression, or says what is wrong with it or not supported.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(format!("it has more than {PATTERN_BYTES_MAX} bytes"));
        }
        let head = SHARED_SPACES
            .iter()
            .find_map(|spaces| pattern.strip_suffix(spaces))
            .filter(|head| head.is_empty() || head.ends_with('|'));
        let mut alternatives = Vec::new();
        match head.unwrap_or(pattern) {
            "" if head.is_some() => {}
            "" => return Err("it is empty".to_owned()),
            words => {
                let words = head.and_then(|_| words.strip_suffix('|')).unwrap_or(words);
                alternatives.push(checked(words)?);
            }
        }
        let spaces = head.map(|_| alternatives.len());
        alternatives.extend(spaces.map(|_| r"\s+".to_owned()));
        Ok(Self {
            dfa: automaton(&alternatives)?,
            spaces,
            cache: Mutex::new(None),
        })
    }

    /// One that finds `text` and nothing else.
    pub(super) fn literal(text: &str) -> Result<Self, String> {
        Self::new(&regex_syntax::escape(text))
    }

    /// Gives the matches in `text` and what lies between them to `sink`, in order and without
    /// gaps, and whether it is a match.
    pub(super) fn parts<E>(
        &self,
        text: &str,
        mut sink: impl FnMut(&str, bool) -> Result<(), E>,
    ) -> Result<Result<(), E>, TooCostly> {
        let mut finder = Finder {
            cache: self.take(),
            effort: PATTERN_EFFORT.saturating_mul(text.len() + 1024),
            pattern: self,
        };
        let (mut gap, mut at) = (0, 0);
        while at < text.len() {
            let Some(end) = finder.end(text, at)? else {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
                continue;
            };
            let gap_given = (gap < at).then(|| sink(&text[gap..at], false));
            let given = gap_given
                .unwrap_or(Ok(()))
                .and_then(|()| sink(&text[at..end], true));
            if given.is_err() {
                return Ok(given);
            }
            (gap, at) = (end, end);
        }
        let Finder { cache, .. } = finder;
        *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = Some(cache);
        Ok(if gap < at {
            sink(&text[gap..], false)
        } else {
            Ok(())
        })
    }

    fn take(&self) -> Box<Cache> {
        let kept = self
            .cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        kept.unwrap_or_else(|| Box::new(self.dfa.create_cache()))
    }
}

/// A search through one text.
struct Finder<'p> {
    pattern: &'p Pattern,
    cache: Box<Cache>,
    /// Bytes that may still be looked at.
    effort: usize,
}

impl Finder<'_> {
    /// The end of the match that begins at `start`, which is not empty.
    fn end(&mut self, text: &str, start: usize) -> Result<Option<usize>, TooCostly> {
        self.cache.search_start(start);
        let (found, read) = self.run(text.as_bytes(), start)?;
        self.cache.search_finish(read);
        self.effort = self.effort.checked_sub(read - start + 1).ok_or(TooCostly)?;
        let Some((end, alternative)) = found else {
            return Ok(None);
        };
        let shared = self.pattern.spaces == Some(alternative) && end < text.len();
        let last = text[start..end]
            .chars()
            .next_back()
            .map_or(0, char::len_utf8);
        Ok(Some(if shared && end - last > start {
            end - last
        } else {
            end
        }))
    }

    /// The end and the alternative of the match that begins at `start`, and how far was read.
    fn run(
        &mut self,
        text: &[u8],
        start: usize,
    ) -> Result<(Option<(usize, usize)>, usize), TooCostly> {
        let (dfa, cache) = (&self.pattern.dfa, &mut *self.cache);
        let input = Input::new(text).range(start..).anchored(Anchored::Yes);
        let mut state = dfa
            .start_state_forward(cache, &input)
            .map_err(|_| TooCostly)?;
        let (mut found, mut at) = (None, start);
        loop {
            state = match text.get(at) {
                Some(byte) => dfa.next_state(cache, state, *byte),
                None => dfa.next_eoi_state(cache, state),
            }
            .map_err(|_| TooCostly)?;
            // A match is seen one byte late.
            if state.is_match() {
                found = Some((at, dfa.match_pattern(cache, state, 0).as_usize()));
            } else if state.is_dead() || state.is_quit() {
                break;
            }
            if at == text.len() {
                break;
            }
            at += 1;
            if at % 4096 == 0 {
                cache.search_update(at);
            }
        }
        Ok((found, at))
    }
}

fn automaton(alternatives: &[String]) -> Result<DFA, String> {
    let config = DFA::config()
        .cache_capacity(PATTERN_CACHE_BYTES)
        .skip_cache_capacity_check(true)
        .minimum_cache_clear_count(Some(8))
        .minimum_bytes_per_state(Some(8));
    let limited = thompson::Config::new().nfa_size_limit(Some(PATTERN_NFA_BYTES_MAX));
    let built = DFA::builder()
        .configure(config)
        .thompson(limited)
        .build_many(alternatives);
    built.map_err(|error| match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })
}

/// The expression with possessive repetitions as plain ones, where they mean the same.
fn checked(pattern: &str) -> Result<String, String> {
    if pattern.contains("[[:") || pattern.contains("[^[:") {
        return Err("classes like [[:alpha:]] differ between engines".to_owned());
    }
    let mut ast = parse::Parser::new()
        .parse(pattern)
        .map_err(|error| error.kind().to_string())?;
    match &mut ast {
        Ast::Alternation(all) => all.asts.iter_mut().try_for_each(without_possessive)?,
        one => without_possessive(one)?,
    }
    let pattern = printed(&ast);
    let hir = hir(&pattern)?;
    if !hir.properties().look_set().is_empty() {
        return Err("it looks at what is around a match".to_owned());
    }
    if hir.properties().minimum_len().is_none_or(|len| len == 0) {
        return Err("it can match nothing".to_owned());
    }
    Ok(pattern)
}

fn printed(ast: &Ast) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    print::Printer::new()
        .print(ast, &mut text)
        .unwrap_or_default();
    text
}

fn hir(pattern: &str) -> Result<Hir, String> {
    match regex_syntax::parse(pattern) {
        Ok(hir) => Ok(hir),
        Err(regex_syntax::Error::Parse(error)) => Err(error.kind().to_string()),
        Err(regex_syntax::Error::Translate(error)) => Err(error.kind().to_string()),
        Err(_) => Err("it is no regular expression".to_owned()),
    }
}

/// Takes `X++` to `X+`, `X?+` to `X?` and `X*+` to `X*` in an alternative, where what follows can
/// do without all that they took.
fn without_possessive(alternative: &mut Ast) -> Result<(), String> {
    const REFUSED: &str = "a possessive repetition that gives nothing back changes its meaning";
    let asts = match alternative {
        Ast::Concat(concat) => &mut concat.asts[..],
        one => std::slice::from_mut(one),
    };
    let mut plain = Vec::new();
    for (at, ast) in asts.iter().enumerate() {
        plain.extend(possessive(ast)?.map(|ast| (at, ast)));
    }
    // Each element is looked at once, however many repetitions there are.
    let empty: Vec<bool> = match plain.is_empty() {
        true => Vec::new(),
        false => asts.iter().map(can_be_empty).collect(),
    };
    let rest_at = empty
        .iter()
        .rposition(|empty| !empty)
        .map_or(0, |at| at + 1);
    for (at, ast) in &plain {
        // What follows can do without any character, or fails on those that were taken.
        let first = asts.get(at + 1).zip(empty.get(at + 1));
        let goes_without = *at + 1 >= rest_at
            || first.is_some_and(|(first, empty)| fails_on_taken(ast, (first, *empty)));
        if !goes_without {
            return Err(REFUSED.to_owned());
        }
    }
    for (at, ast) in plain {
        asts[at] = ast;
    }
    if asts.iter().any(repeats_repetition) {
        return Err(REFUSED.to_owned());
    }
    Ok(())
}

/// The repetition that `ast` repeats possessively, if it does.
fn possessive(ast: &Ast) -> Result<Option<Ast>, String> {
    let Ast::Repetition(outer) = ast else {
        return Ok(None);
    };
    let Ast::Repetition(inner) = &*outer.ast else {
        return Ok(None);
    };
    let plus = matches!(outer.op.kind, RepetitionKind::OneOrMore) && outer.greedy;
    let ranged = matches!(
        inner.op.kind,
        RepetitionKind::Range(
            RepetitionRange::AtLeast(_)
                | RepetitionRange::Bounded(..)
                | RepetitionRange::Exactly(_)
        )
    );
    if !plus || ranged || !inner.greedy {
        return Err("a repetition of a repetition".to_owned());
    }
    Ok(Some(Ast::Repetition(inner.clone())))
}

fn can_be_empty(ast: &Ast) -> bool {
    hir(&printed(ast)).is_ok_and(|hir| hir.properties().minimum_len() == Some(0))
}

/// Whether `first`, which may be able to match nothing, fails on every character that `taken`
/// repeats.
fn fails_on_taken(taken: &Ast, (first, empty): (&Ast, bool)) -> bool {
    let Ast::Repetition(taken) = taken else {
        return false;
    };
    let first = match first {
        Ast::Repetition(first) if !empty => &*first.ast,
        first => first,
    };
    match (class(&taken.ast), class(first)) {
        (Some(mut taken), Some(first)) => {
            taken.intersect(&first);
            taken.ranges().is_empty()
        }
        _ => false,
    }
}

/// The characters of an expression that is one character.
fn class(ast: &Ast) -> Option<ClassUnicode> {
    match hir(&printed(ast)).ok()?.kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class.clone()),
        HirKind::Literal(literal) => {
            let mut chars = std::str::from_utf8(&literal.0).ok()?.chars();
            let (char, None) = (chars.next()?, chars.next()) else {
                return None;
            };
            Some(ClassUnicode::new([ClassUnicodeRange::new(char, char)]))
        }
        _ => None,
    }
}

/// Whether a repetition stands directly within another: some engines take that for a possessive
/// one. The parser bounds the depth.
fn repeats_repetition(ast: &Ast) -> bool {
    match ast {
        Ast::Repetition(outer) => {
            matches!(*outer.ast, Ast::Repetition(_)) || repeats_repetition(&outer.ast)
        }
        Ast::Group(group) => repeats_repetition(&group.ast),
        Ast::Alternation(all) => all.asts.iter().any(repeats_repetition),
        Ast::Concat(all) => all.asts.iter().any(repeats_repetition),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, parts: &[&str]) {
        let mut found = Vec::new();
        let pattern = Pattern::new(pattern).unwrap();
        let done = pattern.parts(text, |part, is_match| {
            found.push(if is_match {
                part.to_owned()
            } else {
                format!("({part})")
            });
            Ok::<(), ()>(())
        });
        assert_eq!(
            (done, found),
            (Ok(Ok(())), parts.iter().map(|p| (*p).to_owned()).collect())
        );
    }

    #[test]
    fn matches_and_gaps_follow_each_other() {
        check(
            "[0-9]+|é",
            "a12é3 bé",
            &["(a)", "12", "é", "3", "( b)", "é"],
        );
        check("ab|a", "abaa", &["ab", "a", "a"]);
        check("a|ab", "abaa", &["a", "(b)", "a", "a"]);
        check("x", "", &[]);
    }

    #[test]
    fn the_last_of_several_spaces_goes_to_the_next_word() {
        check(r" ?x|\s+(?!\S)|\s+", "x   x  ", &["x", "  ", " x", "  "]);
        check(
            r"\s+(?!\S)|\s+",
            "a b\n\nc",
            &["(a)", " ", "(b)", "\n", "\n", "(c)"],
        );
    }

    #[test]
    fn possessive_repetitions_that_give_nothing_up_are_plain_ones() {
        check(
            r"[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s",
            "-ab12!!\n",
            &["-ab", "12", "!!\n"],
        );
        check(r"(?i:'s|'t)|\p{N}++", "'S12", &["'S", "12"]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test is about time")]
    fn an_expression_of_possessive_repetitions_is_read_in_time_that_grows_as_it_does() {
        let begun = std::time::Instant::now();
        for one in [r"\w*+", r"\w++\s", r"\w++\d*+", r"\w*+\s*+"] {
            let many = one.repeat(PATTERN_BYTES_MAX / one.len());
            let _ = Pattern::new(&many);
            let _ = Pattern::new(&many.replace(r"\s", r"|\s"));
        }
        // Some seconds where nothing is optimised; the square of it would take minutes.
        let seconds = begun.elapsed().as_secs_f64();
        assert!(seconds < 30.0, "{seconds} s");
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let refused = |pattern: &str| Pattern::new(pattern).unwrap_err();
        assert!(
            refused("a++a").contains("possessive"),
            "{}",
            refused("a++a")
        );
        assert!(refused("(?:a++)b").contains("possessive"));
        assert!(refused("a{1,3}+").contains("repetition"));
        assert!(refused("a(?=b)").contains("look-around"));
        assert!(refused(r"\bx").contains("around"));
        assert!(refused("a*").contains("nothing"));
        assert!(refused(r"(a)\1").contains("backreference"));
        assert!(refused("").contains("empty"));
        let large = refused(r"(\p{L}{1000}){1000}");
        assert!(large.contains("exceeded limit"), "{large}");
        assert!(refused(&"a".repeat(100_000)).contains("bytes"));
    }

    #[test]
    fn an_expression_that_reads_on_and_on_is_stopped() {
        let pattern = Pattern::new("a*b|a").unwrap();
        let text = "a".repeat(1 << 20);
        let done = pattern.parts(&text, |_, _| Ok::<(), ()>(()));
        assert_eq!(done, Err(TooCostly));
    }
}
