//! Templates that would take all time, memory or stack: each ends with an error, within what it
//! was granted. Counted work is asserted, not time.

use std::thread;

use gogrid_jinja::{Data, ErrorKind, Measured, Template};

/// What a conversation of a few words may cost at most: some tens of milliseconds.
const STEPS_MAX: u64 = 300_000;
/// Bytes of values; a text that grows has up to three times its size in memory.
const BYTES_MAX: u64 = 15 << 20;

fn message() -> Data<'static> {
    let text = |text: &'static str| Data::Given(text.into());
    Data::Dict(vec![
        ("role".into(), text("user")),
        ("content".into(), text("Hello")),
    ])
}

/// Renders on a thread with a small stack, so that a deep recursion would end the test.
fn run(source: &str) -> Result<Measured, gogrid_jinja::Error> {
    let source = source.to_owned();
    let run = move || {
        let variables = [("messages", Data::List(vec![message()]))];
        Template::parse(&source)?.measure(&variables, None)
    };
    let thread = thread::Builder::new().stack_size(256 << 10).spawn(run);
    thread.unwrap().join().unwrap()
}

fn spent(source: &str) -> Option<Measured> {
    let measured = run(source).ok()?;
    let shown = &source[..source.len().min(200)];
    assert!(measured.spent.steps <= measured.granted.steps, "{shown}");
    assert!(
        measured.granted.steps <= STEPS_MAX,
        "{:?}",
        measured.granted
    );
    assert!(
        measured.granted.bytes <= BYTES_MAX,
        "{:?}",
        measured.granted
    );
    Some(measured)
}

fn error_of(source: &str) -> gogrid_jinja::Error {
    let result = match run(source) {
        Ok(measured) => measured.result,
        Err(error) => Err(error),
    };
    let shown = source.chars().take(200).collect::<String>();
    match result {
        Ok(rendered) => panic!("{shown} gave {} bytes", rendered.text.len()),
        Err(error) => error,
    }
}

const HOSTILE: &[&str] = &[
    "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
    "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns == ns }}",
    "{% for a in [1] %}{% set ns = namespace(l=loop) %}{% endfor %}",
    "{% for a in [1] %}{{ loop.changed(loop) }}{% endfor %}",
    "{% for a in range(3) %}{{ loop.cycle() }}{% endfor %}",
    "{% set ns=namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s,ns.s] %}{% endfor %}{{ ns.s }}",
    "{% set ns=namespace(s=[1]) %}{% for i in range(30) %}{% set ns.s = [ns.s,ns.s] %}{% endfor %}{{ ns.s }}",
    "{% set ns=namespace(s=[1]) %}{% for i in range(30) %}{% set ns.s = [ns.s,ns.s] %}{% endfor %}{{ ns.s|tojson }}",
    "{% set ns=namespace(s=[1],t=[1]) %}{% for i in range(30) %}{% set ns.s = [ns.s,ns.s] %}{% set ns.t = [ns.t,ns.t] %}{% endfor %}{{ ns.s == ns.t }}",
    "{% set ns=namespace(s=[1],t=[1]) %}{% for i in range(30) %}{% set ns.s = [ns.s,ns.s] %}{% set ns.t = [ns.t,ns.t] %}{% endfor %}{{ ns.s < ns.t }}",
    "{{ 'x' * 99999999 }}",
    "{{ ['x'] * 99999999 }}",
    "{{ [[]] * 9223372036854775807 }}",
    "{{ 'a\nb' | indent(99999999) }}",
    "{{ ('a\n' * 9999) | indent('x' * 99999) }}",
    "{{ 'x' | center(99999999) }}",
    "{{ 'x'.ljust(99999999) }}",
    "{{ '7'.zfill(99999999) }}",
    "{{ '%99999999d' | format(1) }}",
    "{{ '%.99999999f' % 1 }}",
    "{{ '{:99999999}'.format(1) }}",
    "{{ '{:.99999999f}'.format(1.5) }}",
    "{{ ('%9999d' * 9999) % ([1] * 9999) }}",
    "{{ 1.5 | round(999999999) }}",
    "{{ 2 ** 99999999 }}",
    "{{ 9223372036854775807 + 1 }}",
    "{{ -9223372036854775807 - 2 }}",
    "{{ (-9223372036854775807 - 1) // -1 }}",
    "{{ 1 % 0 }}",
    "{{ 1 // 0.0 }}",
    "{{ range(9223372036854775807) }}",
    "{{ range(-9223372036854775807, 9223372036854775807, 1) }}",
    "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{% if 1 %}{% call m() %}{{ caller() }}{% endcall %}{% endif %}{% endmacro %}{{ m() }}",
    "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{{ ('x' * 9999).replace('', 'y' * 99999) }}",
    "{{ ('x' * 9999) | replace('x', 'y' * 99999) }}",
    "{{ range(9999) | map('string') | join('x' * 99999) }}",
    "{{ ('x' * 99999).join(range(9999) | map('string')) }}",
    "{{ range(99999) | batch(1) | list | tojson(indent=9999) }}",
    "{{ range(9999) | list | tojson(separators=('x' * 99999, '')) }}",
    "{{ range(99999) | slice(99999999) | list }}",
    "{{ [1] | batch(99999999, 2) | list }}",
    "{% set s = 'a' * 999999 %}{% for i in range(9999) %}{% if s.find('ab') %}{% endif %}{% endfor %}",
    "{% set s = 'a' * 999999 %}{% for i in range(9999) %}{% if s == s[1:] ~ 'a' %}{% endif %}{% endfor %}",
    "{{ range(99999) | unique | list }}",
    "{{ range(99999) | sort(attribute='a,b,c,d,e,f,g') }}",
    "{{ ('b' * 9999 ~ 'a').strip('a' * 99999 ~ 'b') }}{{ ('b' * 9999).strip('a' * 99999 ~ 'b') }}",
    "{% set ns = namespace(d={}) %}{% for i in range(9999) %}{% set ns.d = dict(ns.d, **{'k' ~ i: 1}) %}{% endfor %}",
    "{{ raise_exception('x' * 9999999) }}",
    "{% include 'other' %}",
    "{{ open('/etc/passwd') }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({}) }}",
    "{{ strftime_now('%c' * 999999) }}",
];

#[test]
fn hostile_templates_end_with_an_error() {
    let loops = |depth: usize| {
        let open = "{% for i in range(9999) %}".repeat(depth);
        format!("{open}x{}", "{% endfor %}".repeat(depth))
    };
    let doubled = |what: &str| {
        format!(
            "{{% set ns = namespace(x={what}) %}}{{% for i in range(99) %}}{{% set ns.x = ns.x + ns.x %}}{{% endfor %}}"
        )
    };
    let made = [
        format!("{{{{ {}1 }}}}", "1+".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(150_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(150_000)),
        format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000)),
        format!("{{{{ {}1{} }}}}", "[".repeat(50_000), "]".repeat(50_000)),
        format!("{{{{ {}1{} }}}}", "{1:".repeat(50_000), "}".repeat(50_000)),
        format!("{{{{ {}1 }}}}", "1 if 1 else ".repeat(60_000)),
        format!("{{{{ x{} }}}}", "[x".repeat(60_000)),
        format!("{{{{ x{} }}}}", ".a".repeat(60_000)),
        "{% if 1 %}".repeat(60_000),
        "{% for (a, (a".repeat(60_000),
        "{% macro m() %}".repeat(60_000),
        "{{ x }}".repeat(140_000),
        " ".repeat(2 << 20),
        loops(4),
        doubled("'xxxxxxxx'"),
        doubled("[1, 2]"),
        doubled("(1, 2)"),
    ];
    let hostile = HOSTILE.iter().map(|source| source.to_string()).chain(made);
    for source in hostile {
        spent(&source);
        let error = error_of(&source);
        assert!(error.to_string().len() < 2_000, "{error}");
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
}

#[test]
fn chains_do_not_nest() {
    let check = |source: String, expected: &str| {
        let measured = spent(&source).unwrap();
        assert_eq!(measured.result.unwrap().text, expected);
    };
    check(format!("{{{{ {}1 }}}}", "1+".repeat(20_000)), "20001");
    check(format!("{{{{ {}1 }}}}", "-".repeat(40_001)), "-1");
    check(format!("{{{{ {}1 }}}}", "not ".repeat(40_001)), "False");
    check(format!("{{{{ x{} }}}}", "|d".repeat(40_000)), "");
    check(format!("{{{{ {}1 }}}}", "0 or ".repeat(10_000)), "1");
    check(format!("{{{{ {}2 }}}}", "1 if 0 else ".repeat(10_000)), "2");
    check(format!("{{{{ 1{} }}}}", " == 1".repeat(20_000)), "True");
    check(
        format!(
            "{{% if 0 %}}{}x{{% endif %}}",
            "{% elif 0 %}".repeat(10_000)
        ),
        "",
    );
}

#[test]
fn a_limit_is_told_from_a_failure() {
    let check = |source: &str, kind, part: &str| {
        let error = error_of(source);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    check(
        "\n{{ 'x' * 99999999 }}",
        ErrorKind::Limit,
        "line 2: the template takes more memory",
    );
    check(
        "{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}",
        ErrorKind::Limit,
        "more ",
    );
    check(
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        ErrorKind::Limit,
        "inside each other",
    );
    check(
        "{{ 9223372036854775807 + 1 }}",
        ErrorKind::Unsupported,
        "64 bits",
    );
    check(
        "{{ raise_exception('a\x1b[2Jb') }}",
        ErrorKind::Raised,
        r"a\u{1b}[2Jb",
    );
    check("{{ 1 / 0 }}", ErrorKind::Runtime, "division by zero");
    check("{% endfor %}", ErrorKind::Syntax, "endfor");
    check(
        "a\nb{{ x | \x1b }}",
        ErrorKind::Syntax,
        "line 2: unexpected character '\\u{1b}'",
    );
}

#[test]
fn what_nests_as_deep_as_it_may_fits_a_small_stack() {
    // Parentheses, brackets and braces as deep as expressions go, in statements as deep as they go,
    // in macros that call each other until the limit.
    let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(30), close.repeat(30));
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{1: ", "}"),
        ("x[", "]"),
        ("1 if (", ") else 2"),
        ("d(", ")"),
    ] {
        let inner = nested(open, close);
        let statements = [
            "{% if 1 %}",
            "{% for i in [1] %}",
            "{% with a = 1 %}",
            "{% filter upper %}",
        ];
        let ends = [
            "{% endif %}",
            "{% endfor %}",
            "{% endwith %}",
            "{% endfilter %}",
        ];
        for (begin, end) in statements.iter().zip(ends) {
            let body = format!("{}{{{{ {inner} }}}}{}", begin.repeat(30), end.repeat(30));
            spent(&body);
            let (begins, ends) = (begin.repeat(28), end.repeat(28));
            let call = "{{ [[[[[[[[m()]]]]]]]] }}";
            let body =
                format!("{{% macro m() %}}{begins}{call}{ends}{{% endmacro %}}{{{{ m() }}}}");
            assert!(error_of(&body).to_string().contains("inside each other"));
        }
    }
    let made = "{% set ns = namespace(s=[1]) %}{% for i in range(39) %}{% set ns.s = [ns.s] %}{% endfor %}";
    let deepest = format!(
        "{made}{{% set x = [ns, [ns.s]] %}}{{{{ x }}}}{{{{ x == x }}}}{{{{ x < x }}}}{{{{ ns.s | tojson }}}}"
    );
    let measured = spent(&deepest).unwrap();
    assert!(
        measured
            .result
            .unwrap()
            .text
            .starts_with("[<Namespace {'s': [[[[")
    );
}

#[test]
fn a_long_conversation_may_cost_more() {
    let content = "word ".repeat(2_000);
    let message = || {
        Data::Dict(vec![
            ("role".into(), Data::Trusted("user".into())),
            ("content".into(), Data::Given(content.as_str().into())),
        ])
    };
    let messages = Data::List((0..500).map(|_| message()).collect());
    let source = "{% for m in messages %}{% set c = m.content | trim %}{{ '<' + m.role + '>' + c.replace('word', 'Word').split('</x>')[-1].strip() + '</' + m.role + '>' }}{% endfor %}";
    let template = Template::parse(source).unwrap();
    let measured = template.measure(&[("messages", messages)], None).unwrap();
    assert!(measured.result.unwrap().text.len() > 4_900_000);
}
