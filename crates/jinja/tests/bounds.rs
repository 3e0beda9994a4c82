//! Templates that would take all time, memory or stack: each ends with an error soon, in a small
//! heap and on a small stack. `cargo test --release -p gogrid-jinja --test bounds -- --nocapture`
//! prints what the worst of them takes.

use std::cell::Cell;
use std::fs;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use gogrid_jinja::{CivilTime, Data, Error, ErrorKind, Measured, Template};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Held by what is measured, so that nothing else is measured with it.
static ALONE: Mutex<()> = Mutex::new(());

/// What a conversation of a few words may cost at most.
const STEPS_MAX: u64 = 300_000;
/// Bytes of values; a text that grows has up to three times its size in memory.
const BYTES_MAX: u64 = 15 << 20;
/// Of the heap, whatever the template is.
const HEAP_BYTES_MAX: usize = 64 << 20;
/// Of an unoptimised build on a busy machine. An optimised one takes a tenth of it at most.
const TIME_MAX: Duration = Duration::from_secs(5);

/// What a template took.
struct Run {
    result: Result<Measured, Error>,
    heap: usize,
    /// On a processor, where the system tells that, or by the clock.
    time: Duration,
}

/// The time that this thread was on a processor, as Linux tells it.
fn processor_time() -> Option<Duration> {
    // The count goes on when the thread gives its place to others.
    thread::yield_now();
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = told.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

fn message() -> Data<'static> {
    let text = |text: &'static str| Data::Given(text.into());
    Data::Dict(vec![
        ("role".into(), text("user")),
        ("content".into(), text("Hello")),
    ])
}

fn shown(source: &str) -> String {
    source.chars().take(200).collect()
}

/// Reads and renders on a thread with a small stack, so that a deep recursion would end the test,
/// and within the bounds on time and heap.
#[expect(clippy::disallowed_methods, reason = "a test of time reads the clock")]
fn measured(source: &str) -> Run {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    HEAP.reset_peak_usage();
    let (before, begin) = (HEAP.current_usage(), Instant::now());
    let (done, ended) = sync_channel(1);
    let owned = source.to_owned();
    let run = move || {
        let variables = [("messages", Data::List(vec![message()]))];
        let now = CivilTime::new([2026, 11, 29], [12, 0, 0]);
        let template = Template::parse(&owned);
        let result = template.and_then(|template| template.measure(&variables, now.as_ref()));
        // Fails when the test has given up.
        let _ = done.send((result, processor_time()));
    };
    let thread = thread::Builder::new().stack_size(256 << 10).spawn(run);
    let (result, on_processor) = match ended.recv_timeout(TIME_MAX) {
        Ok(ended) => ended,
        Err(error) => panic!("{}: {error}", shown(source)),
    };
    thread.unwrap().join().unwrap();
    let time = on_processor.unwrap_or(begin.elapsed());
    let heap = HEAP.peak_usage().saturating_sub(before);
    assert!(heap <= HEAP_BYTES_MAX, "{heap} bytes: {}", shown(source));
    if let Ok(Measured { granted, .. }) = &result {
        assert!(
            granted.steps <= STEPS_MAX && granted.bytes <= BYTES_MAX,
            "{granted:?}"
        );
    }
    Run { result, heap, time }
}

fn run(source: &str) -> Result<Measured, Error> {
    measured(source).result
}

fn error_of(source: &str) -> Error {
    match run(source).and_then(|measured| measured.result) {
        Ok(rendered) => panic!("{} gave {} bytes", shown(source), rendered.text.len()),
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
    "{% for a in [1] %}{% for b in [1] %}{% set x = loop.cycle(loop) %}{% endfor %}{% set ns = namespace(l=loop) %}{% endfor %}",
    "{% set ns = namespace(j='') %}{% for i in range(2600) %}{% set ns.j = joiner(joiner(ns.j)) %}{% endfor %}",
    "{% set ns = namespace(j='') %}{% for i in range(2600) %}{% set ns.j = cycler(ns.j) %}{% endfor %}",
    "{% set ns = namespace(j=[]) %}{% for i in range(2600) %}{% set ns.j = [ns.j.copy] %}{% endfor %}",
    "{% set ns = namespace(j={}) %}{% for i in range(2600) %}{% set ns.j = {1: ns.j}.items() %}{% endfor %}",
    "{% set ns = namespace(j=[]) %}{% for i in range(2600) %}{% set ns.j = [ns.j] | map('list') %}{% endfor %}",
    // Loops over what costs nothing to make.
    "{{ range(99999) | map(attribute='a' ~ '.a' * 999999, default=5) | list }}",
    "{% set p = 'a' ~ '.a' * 99999 %}{% for i in range(9999) %}{{ [1] | map(attribute=p, default=5) | list }}{% endfor %}",
    "{% for i in range(9999) %}{{ [] | sort(attribute=',' * 999999) }}{% endfor %}",
    "{% for i in range(9999) %}{{ [1] | sum(attribute='.' * 999999) }}{% endfor %}",
    "{% set a = [none] * 50000 %}{% set b = [none] * 50000 %}{% for i in range(99999) %}{% if a == b %}{% endif %}{% endfor %}",
    "{% set s = 'A' * 999999 %}{% for i in range(99999) %}{% if s is upper %}{% endif %}{% endfor %}",
    "{% set s = 'ä' * 999999 %}{{ ('%.0s' * 99999) % ((s,) * 99999) }}",
    "{% set s = 'ä' * 999999 %}{% for i in range(99999) %}{% set x = '{:.0}'.format(s) %}{% endfor %}",
    "{% for i in range(99999) %}{% set x = '%.9999g' % 1.5 %}{% endfor %}",
    "{% for i in range(99999) %}{% set x = strftime_now('%z' * 99999) %}{% endfor %}",
    "{% set s = '_' * 3000000 %}{% for i in range(99999) %}{{ s | int }}{% endfor %}",
    "{{ ('a ' * 3000000).split() }}",
    "{{ dict([(1, 2)] * 100000) | length ~ dict([(1, 2)] * 99999) }}",
    "{{ ([[1]] * 100000) | groupby(0) }}",
];

/// What takes long for its steps, of a text or number `s`, again and again. The loops around it cost
/// little, so that it may use up nearly all steps.
const REPEATED: &[(&str, &str)] = &[
    ("'\\x01' * 9999", "[s] | string"),
    ("'\\\"' * 9999", "s | tojson"),
    ("'\u{e9}' * 9999", "s | tojson(ensure_ascii=true)"),
    ("'<' * 9999", "s | escape"),
    ("'%%' * 9999", "s % ()"),
    ("'{{' * 9999", "s.format()"),
    ("'aB ' * 3333", "s.title()"),
    ("'a' * 9999", "s | reverse"),
    ("'a' * 9999", "s.count('a')"),
    ("'a' * 9999", "s.replace('a', '')"),
    ("'\u{3a3}.' * 9999", "s | lower"),
    ("'\u{390}' * 9999", "s | upper"),
    ("'\u{4e00}' * 9999", "s | int"),
    ("'1_' * 9999 ~ '1'", "s | float"),
    ("''", "s.center(9999)"),
    ("'x'", "s * 9999"),
    ("'%c' * 999", "strftime_now(s)"),
    ("1e308", "'%f' % s"),
    ("1e308", "'{:,f}'.format(s)"),
    ("1e-300", "'%.300g' % s"),
    ("1e-300", "s | round(300)"),
    ("range(999) | list", "s | map('string') | list"),
];

/// As many values as the exponents say, of which all but a few are shared.
const SHARED: &[&str] = &[
    "{{ {t: 1} }}",
    "{{ [t, t] | unique | list }}",
    "{{ t is filter }}{{ t is test }}{{ dict([(t, 1)])[t] }}{{ t }}",
    "{{ t == u }}",
    "{{ t < u }}",
    "{{ [t, u] | sort }}",
    "{{ [t, u] | min }}",
    "{{ t | string | length }}",
    "{{ '%s' % (t,) }}",
    "{{ '{}'.format(t) }}",
    "{{ t ~ '' }}",
    "{{ t | tojson }}",
    "{{ [t] | join }}",
    "{{ [t, u] | groupby(0) | list }}",
    "{{ [u].index(t) }}",
    "{{ [t].count(u) }}",
    "{% for i in [t, u] %}{{ loop.changed(i) }}{% endfor %}",
];

#[test]
fn what_is_shared_is_paid_for_at_every_visit() {
    for levels in [30, 39] {
        let made = |name| format!("{{% set {name} = ({name}, {name}) %}}").repeat(levels);
        let begin = format!(
            "{{% set t = 1 %}}{}{{% set u = 1 %}}{}",
            made("t"),
            made("u")
        );
        for source in SHARED {
            let error = error_of(&format!("{begin}{source}"));
            assert_eq!(error.kind(), ErrorKind::Limit, "{source}: {error}");
        }
        // Nothing goes through these.
        for (source, expected) in [
            ("{{ t | length }}", "2"),
            ("{{ t is filter }}", "False"),
            ("{{ t is sameas t }}", "True"),
            ("{{ t in {1: 2} }}{{ t in {t: 1} }}", "FalseTrue"),
        ] {
            let measured = run(&format!("{begin}{source}")).unwrap();
            assert!(measured.spent.steps < 2_000, "{:?}", measured.spent);
            assert_eq!(measured.result.unwrap().text, expected);
        }
    }
}

#[test]
fn what_takes_long_costs_steps() {
    let spent = |rounds: u64, expr: &str| {
        let loop_ = format!("{{% for i in range({rounds}) %}}{{% set x = {expr} %}}{{% endfor %}}");
        let measured = run(&loop_).unwrap();
        measured.result.unwrap();
        measured.spent.steps
    };
    // The least that a round costs, beside the nodes of the tree.
    for (expr, least) in [
        // Digits, each of which takes arithmetic with long integers.
        ("'%f' % 1e308", 308),
        ("'%.300f' % 1e308", 608),
        ("'%.300e' % 1e-300", 300),
        ("'%.300g' % 1e-300", 300),
        ("'%.9999f' % 5e-324", 1_074),
        ("'{:f}'.format(1e308)", 308),
        ("'{:.300%}'.format(1e-300)", 300),
        ("1e308 | round(2)", 308),
        ("1e-300 | round(300)", 300),
        ("('1' * 800 ~ '.5') | float", 800),
        ("('1' * 800 ~ '.5') | int(0)", 800),
        ("strftime_now('%c' * 100)", 800),
        // Many short pieces of a text.
        ("['\\x01' * 1000] | string", 1_250),
        ("('\\\"' * 1000) | tojson", 1_250),
        ("('\u{e9}' * 1000) | tojson(ensure_ascii=true)", 1_250),
        ("('<' * 1000) | escape", 1_250),
        ("('%%' * 1000) % ()", 1_250),
        ("('{{' * 1000).format()", 1_250),
        ("('-' * 1000).title()", 250),
        ("('ab' * 1000)[::-2]", 250),
        ("[[[[[[[1]]]]]]] | tojson(indent='')", 14),
    ] {
        let cost = (spent(11, expr) - spent(1, expr)) / 10;
        assert!(cost >= least, "{expr} costs {cost} steps");
    }
}

#[test]
fn what_looks_up_a_name_pays_for_what_it_passes() {
    let unread = |n| format!("{{{{ n{n} }}}}");
    let names: String = (0..20_000).map(unread).collect();
    let set = |n| format!("{{% set ns.a{n} = 1 %}}");
    let attributes: String = (0..1_000).map(set).collect();
    let (withs, ends) = ("{% with %}".repeat(30), "{% endwith %}".repeat(30));
    let often = |inner: &str| format!("{{% for i in range(99999) %}}{inner}{{% endfor %}}");
    let special = "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}";
    for source in [
        format!(
            "{{% if 0 %}}{names}{{% endif %}}{special}{}",
            often("{{ m() }}")
        ),
        format!("{withs}{}{ends}", often("{{ m }}")),
        format!(
            "{{% set ns = namespace() %}}{attributes}{}",
            often("{{ ns.b }}")
        ),
    ] {
        assert_eq!(error_of(&source).kind(), ErrorKind::Limit);
    }
}

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
        format!(
            "{{% set ns = namespace(j='') %}}{{% for i in range(2600) %}}{{% set ns.j = {}ns.j{} %}}{{% endfor %}}",
            "joiner(".repeat(28),
            ")".repeat(28)
        ),
        doubled("'xxxxxxxx'"),
        doubled("[1, 2]"),
        doubled("(1, 2)"),
    ];
    let repeated = REPEATED.iter().map(|(s, expr)| {
        format!(
            "{{% set s = {s} %}}{{% for i in range(999) %}}{{% for i in range(999) %}}{{% set x = {expr} %}}{{% endfor %}}{{% endfor %}}"
        )
    });
    let hostile = HOSTILE.iter().map(|source| source.to_string());
    let hostile = hostile.chain(made).chain(repeated);
    let (mut slowest, mut largest) = (Duration::ZERO, 0);
    let (mut slow, mut large) = (String::new(), String::new());
    for source in hostile {
        let Run { result, heap, time } = measured(&source);
        let Err(error) = result.and_then(|measured| measured.result) else {
            panic!("{} was rendered", shown(&source));
        };
        assert!(error.to_string().len() < 2_000, "{error}");
        assert!(!error.to_string().contains(char::is_control), "{error}");
        if time > slowest {
            (slowest, slow) = (time, shown(&source));
        }
        if heap > largest {
            (largest, large) = (heap, shown(&source));
        }
    }
    println!("the slowest took {slowest:?}: {slow}");
    println!("the largest took {largest} bytes of the heap: {large}");
}

#[test]
fn chains_do_not_nest() {
    let check = |source: String, expected: &str| {
        let measured = run(&source).unwrap();
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
            let _ = run(&body);
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
    let measured = run(&deepest).unwrap();
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
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let template = Template::parse(source).unwrap();
    let measured = template.measure(&[("messages", messages)], None).unwrap();
    assert!(measured.result.unwrap().text.len() > 4_900_000);
}

#[test]
fn a_rendering_asks_often_whether_it_goes_on() {
    let source = "{% for i in range(9999) %}{% for i in range(9999) %}{% endfor %}{% endfor %}";
    let template = Template::parse(source).unwrap();
    let asked = Cell::new(0_u64);
    let ask = |allowed: u64| {
        asked.set(0);
        let goes_on = || asked.replace(asked.get() + 1) < allowed;
        let error = template.render_while(&[], None, &goes_on).unwrap_err();
        (error.kind(), asked.get())
    };
    for allowed in [0, 1, 20] {
        assert_eq!(ask(allowed), (ErrorKind::Stopped, allowed + 1));
    }
    let (kind, questions) = ask(u64::MAX);
    assert_eq!(kind, ErrorKind::Limit);
    // A question for every few thousand of the steps that it was granted.
    assert!((30..=100).contains(&questions), "{questions}");
}
