use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};

use crate::error::GrammarError;
use crate::limits::{
    NESTING_MAX, PROPERTY_PAIRS_MAX, REPEATS_MAX, SPEC_BYTES_MAX, STEPS_DOWN_MAX, VALUES_MAX,
};

/// What a text must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// Any JSON object.
    JsonObject,
    /// A JSON value that a schema allows.
    JsonSchema(Value),
    /// A text that a regular expression matches from beginning to end, in the syntax of Rust's
    /// `regex` without looking around.
    Regex(String),
    /// A text of a context-free grammar, in llguidance's dialect of Lark, without schemas in it.
    Lark(String),
    /// The same of the calls of a request's tools, whose schemas stand in it and were
    /// [checked](Self::check) one by one.
    ToolCalls(String),
}

/// White space that is allowed between the values of JSON: a space, or a new line with indentation.
/// Models write both. More would let one that has lost its way write white space up to its limit.
const WHITE_SPACE: &str = r"\x20|\x0A[\x20\x09]{0,32}";

/// The key under which llguidance takes options from a schema, which are not the client's to set:
/// one of them leaves out what is not supported.
const OPTIONS: &str = "x-guidance";

impl Spec {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::JsonObject | Self::JsonSchema(_) => "schema",
            Self::Regex(_) => "regular expression",
            Self::Lark(_) | Self::ToolCalls(_) => "grammar",
        }
    }

    /// Whether it is of a size and kind that can be held, as far as that is known without a vocabulary.
    ///
    /// # Errors
    /// Names what it has too much of, or what is not supported.
    pub fn check(&self) -> Result<(), GrammarError> {
        self.to_grammar().map(drop)
    }

    /// What llguidance is given, once it is of a size that it can be.
    pub(crate) fn to_grammar(&self) -> Result<TopLevelGrammar, GrammarError> {
        match self {
            Self::JsonObject => self.of_schema(&json!({ "type": "object" })),
            Self::JsonSchema(schema) => self.of_schema(schema),
            Self::Regex(expression) => self.of_expression(expression),
            Self::Lark(grammar) => {
                if grammar.contains("%json") {
                    return Err(self.refused("it has %json; give the schema as a schema"));
                }
                self.check_text(grammar)?;
                self.of_lark(grammar)
            }
            Self::ToolCalls(grammar) => {
                self.at_most("bytes", grammar.len(), SPEC_BYTES_MAX)?;
                self.of_lark(grammar)
            }
        }
    }

    fn of_schema(&self, schema: &Value) -> Result<TopLevelGrammar, GrammarError> {
        self.measure(schema)?;
        let mut schema = match schema {
            Value::Bool(true) => Map::new(),
            Value::Bool(false) => return Err(self.refused("it allows nothing")),
            Value::Object(schema) => schema.clone(),
            _ => return Err(self.refused("it is neither an object nor true")),
        };
        if schema.contains_key(OPTIONS) {
            return Err(self.refused("it has the key x-guidance"));
        }
        let options = json!({ "whitespace_pattern": WHITE_SPACE });
        schema.insert(OPTIONS.to_owned(), options);
        Ok(TopLevelGrammar::from_json_schema(schema.into()))
    }

    /// Goes through a schema without calls within calls, whatever it is.
    fn measure(&self, schema: &Value) -> Result<(), GrammarError> {
        let mut size = Size::default();
        let mut left = vec![(schema, 1)];
        while let Some((value, depth)) = left.pop() {
            size.add(value, depth);
            self.at_most("values", size.values, VALUES_MAX)?;
            self.at_most("bytes", size.bytes, SPEC_BYTES_MAX)?;
            self.at_most("levels", size.levels, NESTING_MAX)?;
            match value {
                Value::Array(items) => left.extend(items.iter().map(|item| (item, depth + 1))),
                Value::Object(members) => {
                    for (key, value) in members {
                        self.check_member(key, value, &mut size)?;
                        left.push((value, depth + 1));
                    }
                }
                _ => {}
            }
        }
        let steps = size.levels.saturating_mul(size.references + 1);
        self.at_most("levels with its references", steps, STEPS_DOWN_MAX)
    }

    fn check_member(&self, key: &str, value: &Value, size: &mut Size) -> Result<(), GrammarError> {
        size.bytes += key.len();
        match (key, value) {
            ("$ref", Value::String(_)) => size.references += 1,
            ("properties", Value::Object(members)) => {
                size.property_pairs += members.len().saturating_mul(members.len());
                let of = "pairs of properties";
                self.at_most(of, size.property_pairs, PROPERTY_PAIRS_MAX)?;
            }
            ("minLength" | "maxLength" | "minItems" | "maxItems", Value::Number(number))
                if number.as_u64().is_some_and(|count| count > REPEATS_MAX) =>
            {
                let most = format!("{REPEATS_MAX} is the most that can be counted to");
                return Err(self.refused(&format!("{key} is {number}, and {most}")));
            }
            ("multipleOf", Value::Number(number)) => {
                let counted = size.add_step(&number.to_string());
                counted.ok_or_else(|| {
                    self.refused(&format!("multipleOf {number} has too many digits"))
                })?;
            }
            ("pattern", Value::String(expression)) => self.check_expression(expression)?,
            _ => {}
        }
        Ok(())
    }

    fn of_expression(&self, expression: &str) -> Result<TopLevelGrammar, GrammarError> {
        self.check_expression(expression)?;
        let whole = without_anchors(expression);
        if whole.is_empty() {
            return Err(self.refused("it matches nothing but the empty text"));
        }
        Ok(TopLevelGrammar::from_regex(whole))
    }

    /// An expression, on its own or within a schema.
    fn check_expression(&self, expression: &str) -> Result<(), GrammarError> {
        self.check_text(expression)?;
        if is_escape(expression, expression.len()) {
            return Err(self.refused("an expression ends with a backslash"));
        }
        Ok(())
    }

    fn of_lark(&self, grammar: &str) -> Result<TopLevelGrammar, GrammarError> {
        self.at_most("lines", grammar.lines().count(), STEPS_DOWN_MAX)?;
        Ok(TopLevelGrammar::from_lark(grammar.to_owned()))
    }

    fn check_text(&self, text: &str) -> Result<(), GrammarError> {
        self.at_most("bytes", text.len(), SPEC_BYTES_MAX)?;
        let mut nesting: usize = 0;
        for byte in text.bytes() {
            match byte {
                b'(' | b'[' | b'{' => nesting += 1,
                b')' | b']' | b'}' => nesting = nesting.saturating_sub(1),
                _ => {}
            }
            self.at_most("brackets within each other", nesting, NESTING_MAX)?;
        }
        match repeats(text).find(|count| *count > REPEATS_MAX) {
            Some(count) => {
                let what = format!(
                    "it repeats {count} times, and {REPEATS_MAX} is the most that can be counted to"
                );
                Err(self.refused(&what))
            }
            None => Ok(()),
        }
    }

    fn at_most(&self, of: &'static str, found: usize, max: usize) -> Result<(), GrammarError> {
        let kind = self.kind();
        match found <= max {
            true => Ok(()),
            false => Err(GrammarError::TooLarge {
                kind,
                of,
                found,
                max,
            }),
        }
    }

    pub(crate) fn refused(&self, what: &str) -> GrammarError {
        let kind = self.kind();
        let what = what.to_owned();
        GrammarError::Refused { kind, what }
    }
}

/// What there is of a schema.
#[derive(Default)]
struct Size {
    values: usize,
    bytes: usize,
    levels: usize,
    references: usize,
    property_pairs: usize,
    /// The digits of each `multipleOf`, once.
    steps: Vec<u32>,
    /// The most decimal places that one has.
    places: u32,
}

impl Size {
    /// Counts a `multipleOf`. `None` where all of them together, which `allOf` may put into one, are
    /// more than the library calculates with: it has 32 bits, and does not look whether they suffice.
    fn add_step(&mut self, number: &str) -> Option<()> {
        let (whole, places) = number.split_once('.').unwrap_or((number, ""));
        // Neither a sign nor an exponent.
        let digits = format!("{whole}{places}").parse().ok()?;
        if !self.steps.contains(&digits) {
            self.steps.push(digits);
        }
        self.places = self.places.max(places.len() as u32);
        let start = 10u32.checked_pow(self.places + 1)?;
        let mut steps = self.steps.iter();
        let product = steps.try_fold(start, |product, digits| product.checked_mul(*digits));
        product.map(|_| ())
    }

    fn add(&mut self, value: &Value, depth: usize) {
        self.values += 1;
        self.levels = self.levels.max(depth);
        self.bytes += match value {
            Value::String(text) => text.len(),
            _ => 1,
        };
    }
}

/// Whether the character that ends before `end` is a backslash that escapes what follows.
fn is_escape(expression: &str, end: usize) -> bool {
    let before = &expression[..end];
    let backslashes = before.len() - before.trim_end_matches('\\').len();
    backslashes % 2 == 1
}

/// The expression without `^` in front and `$` behind, which say nothing where all of a text is
/// matched.
fn without_anchors(expression: &str) -> &str {
    let expression = expression.strip_prefix('^').unwrap_or(expression);
    match expression.strip_suffix('$') {
        Some(before) if !is_escape(before, before.len()) => before,
        _ => expression,
    }
}

/// The numbers in `{…}`, `{…,…}` and, in Lark, `~…` and `~…..…`.
fn repeats(text: &str) -> impl Iterator<Item = u64> + '_ {
    let opened = text.split(['{', '~']).skip(1);
    opened.flat_map(|after| {
        let is_count = |char: char| char.is_ascii_digit() || " ,.".contains(char);
        let end = after.find(|char| !is_count(char)).unwrap_or(after.len());
        let numbers = after[..end].split(|char: char| !char.is_ascii_digit());
        let numbers = numbers.filter(|number| !number.is_empty());
        numbers.map(|number| number.parse().unwrap_or(u64::MAX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_around_an_expression_say_nothing() {
        for (expression, whole) in [
            ("^a$", "a"),
            ("a", "a"),
            (r"a\$", r"a\$"),
            (r"a\\$", r"a\\"),
            ("", ""),
        ] {
            assert_eq!(without_anchors(expression), whole);
        }
    }

    #[test]
    fn repeats_are_found_wherever_they_stand() {
        let found = |text| repeats(text).collect::<Vec<_>>();
        assert_eq!(found("a{3}b{4, 5}c~6..7 ~ 8"), [3, 4, 5, 6, 7, 8]);
        assert_eq!(found("{99999999999999999999999}"), [u64::MAX]);
        assert_eq!(found("a{,x}{\"b\": 7}"), [0; 0]);
    }
}
