//! Chat templates, good ones and broken ones, and texts of callers that none of them can write.

use crate::rng::Rng;

/// Characters that no template drawn here has or can write: not by an escape, a change of case or
/// a format. What has one came from a caller.
pub const FOREIGN_CHARS: [char; 3] = ['\u{10fffd}', 'ø', '\u{2ff0}'];

/// A random template: every construct, filter, test and method is among them; half are broken
/// somewhere.
pub fn chat_template(rng: &mut Rng) -> String {
    let mut draw = Draw(rng);
    let depth = draw.0.below(4);
    let body = match depth {
        3 => draw.statements(2),
        depth => format!("{{{{ {} }}}}", draw.expr(depth)),
    };
    let source = format!("{{% set ns = namespace(s=a) %}}{body}");
    match draw.0.below(2) {
        0 => draw.mutated(&source),
        _ => source,
    }
}

/// What a caller may say: every letter is one of [`FOREIGN_CHARS`], between them stands what
/// formats, paths and dates are made of.
pub fn foreign_text(rng: &mut Rng) -> String {
    let mut text = String::new();
    for _ in 0..rng.below(12) {
        let char = FOREIGN_CHARS[rng.below(FOREIGN_CHARS.len())];
        let part = SAID_PARTS[rng.below(SAID_PARTS.len())];
        text += &part.replace('@', &char.to_string());
    }
    text
}

const SAID_PARTS: [&str; 24] = [
    "@",
    "@",
    "@",
    "@@ @",
    " @\n",
    "{}",
    "{0:@<9}",
    "{:@^5}",
    "{0:@>3d}",
    "{0:@=+8}",
    "{:@>9,}",
    "{0.@}",
    "{0!r:@<9}",
    "%s",
    "%5s@",
    "%%@",
    "%B @",
    "%-d",
    "%%",
    "0",
    "a.@.0",
    ",@",
    "{{@}}",
    "<@|@>",
];

struct Draw<'r>(&'r mut Rng);

impl Draw<'_> {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.0.below(from.len())]
    }

    fn expr(&mut self, depth: usize) -> String {
        if depth == 0 || self.0.below(6) == 0 {
            return self.pick(ATOMS).to_owned();
        }
        let mut inner = || self.expr(depth - 1);
        let (a, b) = (inner(), inner());
        match self.0.below(16) {
            0 | 1 => format!("({a} {} {b})", self.pick(OPERATORS)),
            2 | 3 => format!("({a} | {})", self.pick(FILTERS)),
            4 => format!("({a} | {}({b}))", self.pick(FILTER_NAMES)),
            5 => format!("{a}.{}({b})", self.pick(METHODS)),
            6 => format!("({a} is {})", self.pick(TESTS)),
            7 => format!("{a}{}", self.pick(SUBSCRIPTS)),
            8 => format!("{a}[{b}]"),
            9 => format!("({a} if {b} else {a})"),
            10 => format!("[{a}, {b}]"),
            11 => format!("({a}, {b})"),
            12 => format!("{a}.{}(9, {b})", self.pick(&["center", "ljust", "rjust"])),
            13 => format!("strftime_now({a})"),
            14 => format!(
                "{}({a})",
                self.pick(&["joiner", "cycler", "dict", "namespace"])
            ),
            _ => format!("{{'k': {a}, {b}: 1}}"),
        }
    }

    fn statements(&mut self, depth: usize) -> String {
        let mut out = String::new();
        for _ in 0..=self.0.below(3) {
            let inner = if depth == 0 {
                "x".to_owned()
            } else {
                self.statements(depth - 1)
            };
            let expr = self.expr(2);
            out += &match self.0.below(11) {
                0 => format!(
                    "{{% if {expr} %}}{inner}{{% elif a %}}b{{% else %}}{inner}{{% endif %}}"
                ),
                1 => format!(
                    "{{%- for i in {expr} %}}{inner}{{{{ loop.index }}}}{{% else %}}e{{%- endfor %}}"
                ),
                2 => format!(
                    "{{% for k, v in {expr} if k recursive %}}{inner}{{{{ loop(v) }}}}{{% endfor %}}"
                ),
                3 => format!("{{% set a = {expr} %}}"),
                4 => format!("{{% set a | upper %}}{inner}{{% endset %}}"),
                5 => format!(
                    "{{% macro m(p, q={expr}) %}}{inner}{{{{ p }}}}{{% endmacro %}}{{{{ m({expr}) }}}}"
                ),
                6 => format!("{{% call(x) m({expr}) %}}{inner}{{% endcall %}}"),
                7 => format!("{{% filter indent({expr}) %}}{inner}{{% endfilter %}}"),
                8 => format!("{{% set ns.s = {expr} %}}{{{{ ns }}}}{inner}"),
                9 => format!("{{% with a = {expr} %}}{inner}{{% endwith %}}{{# {inner} #}}"),
                _ => format!("{{{{ {expr} }}}}\n  {inner}"),
            };
        }
        out
    }

    /// Breaks a template somewhere.
    fn mutated(&mut self, source: &str) -> String {
        let mut chars: Vec<char> = source.chars().collect();
        for _ in 0..=self.0.below(4) {
            let at = self.0.below(chars.len() + 1);
            match self.0.below(5) {
                0 if at < chars.len() => drop(chars.remove(at)),
                1 => drop(chars.splice(at..at, self.pick(SCRAPS).chars())),
                2 if at < chars.len() => chars.truncate(at),
                3 => {
                    let end = (at + self.0.below(20)).min(chars.len());
                    let copied = chars[at..end].to_vec();
                    chars.splice(at..at, copied);
                }
                _ => {
                    let times = 1 + self.0.below(60);
                    let scrap = self.pick(SCRAPS).repeat(times);
                    drop(chars.splice(at..at, scrap.chars()));
                }
            }
        }
        chars.into_iter().collect()
    }
}

const ATOMS: &[&str] = &[
    "a",
    "m",
    "messages",
    "messages[0]",
    "messages[0].content",
    "ns",
    "ns.s",
    "none",
    "true",
    "-1",
    "0",
    "1.5",
    "1e300",
    "9223372036854775807",
    "'x'",
    "'äß\u{1f30d}\\n<'",
    "''",
    "[]",
    "{}",
    "()",
    "range(4)",
    "range(99999)",
    "loop",
    "missing",
    "'%s %5d %.3f %r'",
    "'{0} {x} {0!r:>9}'",
    "'x' * 999",
    "caller",
    "joiner('|')",
    "cycler(1, 2)",
    "namespace(a=1)",
    "dict(a=1)",
    "i",
    "k",
    "strftime_now('%d %B %Y')",
    "messages[1].content",
    "'a,b, c'",
    "messages | map(attribute='role')",
];
const OPERATORS: &[&str] = &[
    "+", "-", "*", "/", "//", "%", "**", "~", "and", "or", "==", "!=", "<", "<=", ">", "in",
    "not in",
];
const FILTER_NAMES: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "center",
    "default",
    "dictsort",
    "escape",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "wordcount",
];
const FILTERS: &[&str] = &[
    "trim",
    "upper",
    "lower",
    "title",
    "tojson(indent=2)",
    "map('upper')",
    "join('-')",
    "list",
    "map(attribute='content')",
    "selectattr('role', 'equalto', 'user')",
    "sort(reverse=true)",
    "indent(width=2, first=true)",
    "replace('x', 'yy')",
    "round(2)",
    "batch(2, 0)",
    "slice(3)",
    "groupby('role')",
    "safe",
    "e",
    "center(30)",
    "truncate(4)",
    "length",
    "first",
    "last",
    "unique",
    "reverse",
    "dictsort",
    "items",
    "default('d', true)",
    "format(1, 2, 3)",
    "center(9)",
    "replace('', messages[1].content)",
    "batch(2, messages[0].content)",
    "join(messages[0].content)",
    "indent(messages[1].content)",
];
const METHODS: &[&str] = &[
    "strip",
    "split",
    "rsplit",
    "splitlines",
    "partition",
    "upper",
    "title",
    "startswith",
    "endswith",
    "find",
    "rindex",
    "count",
    "replace",
    "removeprefix",
    "join",
    "format",
    "zfill",
    "center",
    "ljust",
    "isdigit",
    "get",
    "items",
    "keys",
    "values",
    "index",
    "append",
    "cycle",
    "changed",
    "next",
    "nope",
];
const TESTS: &[&str] = &[
    "defined",
    "not defined",
    "none",
    "string",
    "number",
    "mapping",
    "iterable",
    "sequence",
    "odd",
    "divisibleby 0",
    "eq 1",
    "in 'x'",
    "sameas none",
    "lower",
    "callable",
    "nope",
];
const SUBSCRIPTS: &[&str] = &[
    ".content",
    ".items",
    "[0]",
    "[-1]",
    "[1:]",
    "[::-1]",
    "['role']",
    "[::0]",
    ".0",
    "[:99999]",
    "[-9223372036854775807:]",
    ".__class__",
];
const SCRAPS: &[&str] = &[
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "{%-",
    "-}}",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "'",
    "\"",
    "\\",
    "|",
    ".",
    ",",
    ":",
    "~",
    "+",
    "-",
    "*",
    "%",
    " is ",
    " in ",
    " if ",
    " else ",
    " not ",
    "\n",
    "\r\n",
    "\u{2028}",
    "\u{1f600}",
    "\0",
    "{% endif %}",
    "{% endfor %}",
    "{% raw %}",
    "9",
    "0x",
    "1e",
    "\\u12",
    "{% set x = ",
    "loop",
    "range(99999)",
    "{{ 'x' * 99 }}",
];
