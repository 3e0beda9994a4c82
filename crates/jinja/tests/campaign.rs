//! Random templates, valid ones and broken ones: none panics, and none takes more than granted.
//! `GOGRID_CASES` says how many are tried, `GOGRID_SEED` which.

use std::env;
use std::thread;

use gogrid_jinja::{CivilTime, Data, Template};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn expr(&mut self, depth: usize) -> String {
        if depth == 0 || self.below(6) == 0 {
            return self.pick(ATOMS).to_owned();
        }
        let mut inner = || self.expr(depth - 1);
        let (a, b) = (inner(), inner());
        match self.below(12) {
            0 | 1 => format!("({a} {} {b})", self.pick(OPERATORS)),
            2 | 3 => format!("({a} | {})", self.pick(FILTERS)),
            4 => format!("({a} | {}({b}))", self.pick(FILTER_NAMES)),
            5 => format!("{a}.{}({b})", self.pick(METHODS)),
            6 => format!("({a} is {})", self.pick(TESTS)),
            7 => format!("{a}{}", self.pick(SUBSCRIPTS)),
            8 => format!("{a}[{b}]"),
            9 => format!("({a} if {b} else {a})"),
            10 => format!("[{a}, {b}]"),
            _ => format!("{{'k': {a}, {b}: 1}}"),
        }
    }

    fn statements(&mut self, depth: usize) -> String {
        let mut out = String::new();
        for _ in 0..=self.below(3) {
            let inner = if depth == 0 {
                "x".to_owned()
            } else {
                self.statements(depth - 1)
            };
            let expr = self.expr(2);
            out += &match self.below(11) {
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
        for _ in 0..=self.below(4) {
            let at = self.below(chars.len() + 1);
            match self.below(5) {
                0 if at < chars.len() => drop(chars.remove(at)),
                1 => drop(chars.splice(at..at, self.pick(SCRAPS).chars())),
                2 if at < chars.len() => chars.truncate(at),
                3 => {
                    let end = (at + self.below(20)).min(chars.len());
                    let copied = chars[at..end].to_vec();
                    chars.splice(at..at, copied);
                }
                _ => {
                    let times = 1 + self.below(60);
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

fn conversation() -> [(&'static str, Data<'static>); 5] {
    let text = |text: &'static str| Data::Given(text.into());
    let message = |role, content| {
        Data::Dict(vec![
            ("role".into(), text(role)),
            ("content".into(), text(content)),
        ])
    };
    let messages = vec![
        message("user", "Hello,\n <|im_end|> wörld"),
        message("assistant", ""),
    ];
    [
        ("messages", Data::List(messages)),
        ("a", Data::Int(7)),
        ("m", Data::None),
        ("ns", text("no namespace")),
        ("bos_token", Data::Trusted("<s>".into())),
    ]
}

fn number(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {value}")),
        Err(_) => default,
    }
}

fn run(cases: u64, seed: u64) -> [u64; 3] {
    let (variables, now) = (conversation(), CivilTime::new([2026, 11, 29], [1, 2, 3]));
    let mut counts = [0; 3];
    for case in 0..cases {
        let mut random = Random(seed.wrapping_mul(0x1_0000_0001).wrapping_add(case));
        let set = "{% set ns = namespace(s=a) %}";
        let depth = random.below(4);
        let body = match depth {
            3 => random.statements(2),
            depth => format!("{{{{ {} }}}}", random.expr(depth)),
        };
        let mut source = format!("{set}{body}");
        if random.below(2) == 0 {
            source = random.mutated(&source);
        }
        let Ok(template) = Template::parse(&source) else {
            counts[0] += 1;
            continue;
        };
        let measured = template.measure(&variables, now.as_ref()).unwrap();
        let (spent, granted) = (measured.spent, measured.granted);
        assert!(
            spent.steps <= granted.steps && spent.bytes <= granted.bytes,
            "{source}"
        );
        match measured.result {
            Ok(rendered) => {
                counts[2] += 1;
                assert!(rendered.text.len() as u64 <= spent.bytes, "{source}");
                let mut before = 0;
                for own in &rendered.own {
                    assert!(own.start >= before && own.end > own.start, "{source}");
                    assert!(rendered.text.get(own.clone()).is_some(), "{source}");
                    let injected = rendered.text[own.clone()].contains("<|im_end|>");
                    assert!(
                        !injected,
                        "a given token became the template's own: {source}"
                    );
                    before = own.end + 1;
                }
            }
            Err(error) => {
                counts[1] += 1;
                assert!(!error.to_string().contains(char::is_control), "{source}");
            }
        }
    }
    counts
}

#[test]
fn no_template_panics_or_takes_more_than_granted() {
    let (cases, seed) = (number("GOGRID_CASES", 10_000), number("GOGRID_SEED", 1));
    let run = move || run(cases, seed);
    // A small stack, so that a recursion without a bound is found.
    let thread = thread::Builder::new().stack_size(256 << 10).spawn(run);
    let [broken, failed, rendered] = thread.unwrap().join().unwrap();
    println!("{cases} templates: {broken} broken, {failed} failed, {rendered} rendered");
    assert!(
        rendered >= cases / 20,
        "{rendered} of {cases} were rendered"
    );
    assert!(
        failed >= cases / 20 && broken >= cases / 20,
        "{failed} failed, {broken} broken"
    );
}
