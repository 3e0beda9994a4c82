//! What templates give, by table. Every expected text is what jinja2 3.1.6 gives in the
//! environment that transformers makes; `differential/templates.py` compares many more.

use gogrid_jinja::{CivilTime, Data, Rendered, Template};

fn text(text: &'static str) -> Data<'static> {
    Data::Given(text.into())
}

fn dict(entries: Vec<(&'static str, Data<'static>)>) -> Data<'static> {
    let entries = entries.into_iter();
    Data::Dict(entries.map(|(key, value)| (key.into(), value)).collect())
}

fn run(source: &str) -> Result<Rendered, gogrid_jinja::Error> {
    let message = |role, content| dict(vec![("role", text(role)), ("content", text(content))]);
    let messages = vec![message("user", " Hi <b> "), message("assistant", "Yo")];
    let variables = [
        ("messages", Data::List(messages)),
        (
            "d",
            dict(vec![
                ("z", Data::Int(1)),
                ("a", Data::None),
                ("items", Data::Float(2.5)),
            ]),
        ),
        ("s", text("Grüße, 'x'")),
        ("tools", Data::None),
        ("bos", Data::Trusted("<s>".into())),
    ];
    let now = CivilTime::new([2024, 7, 26], [15, 4, 9]).unwrap();
    Template::parse(source)?.render(&variables, Some(&now))
}

fn check(table: &[(&str, &str)]) {
    for (source, expected) in table {
        match run(source) {
            Ok(rendered) => assert_eq!(rendered.text, *expected, "{source}"),
            Err(error) => panic!("{source}: {error}"),
        }
    }
}

fn refuse(table: &[(&str, &str)]) {
    for (source, part) in table {
        let error = run(source).expect_err(source).to_string();
        assert!(error.contains(part), "{source}: {error}");
    }
}

#[test]
fn white_space_goes_as_the_signs_say() {
    check(&[
        ("a\n  {% if 1 %}\n b\n  {% endif %}\nc\n", "a\n b\nc"),
        ("a\n  {%+ if 1 %} b {%- endif +%}\nc\n\n", "a\n   b\nc\n"),
        ("a {{- 1 -}} b {# c #}\n  {#- d -#}  e", "a1b e"),
        ("x {% if 1 %}y{% endif %}", "x y"),
        (
            "{% raw %}{{ x }} {% y %}{% endraw %}\nz",
            "{{ x }} {% y %}z",
        ),
        ("a\r\nb\rc", "a\nb\nc"),
        ("{{ {'a': {'b': 1}}['a']['b'] }}{{ '}}' }}", "1}}"),
        ("{{ 'a\\n\\t\\x41\\u00e9\\'\\q' }}", "a\n\tAé'\\q"),
    ]);
}

#[test]
fn values_are_printed_as_python_prints_them() {
    check(&[
        (
            "{{ [1, 'a', none, true, 1.0, (1,), {}] }}",
            "[1, 'a', None, True, 1.0, (1,), {}]",
        ),
        ("{{ d }}", "{'z': 1, 'a': None, 'items': 2.5}"),
        (
            "{{ d.items() }} {{ d.keys() }}",
            "dict_items([('z', 1), ('a', None), ('items', 2.5)]) dict_keys(['z', 'a', 'items'])",
        ),
        (
            "{{ [s, \"it's\", 'a\\n\\x00\\u200b'] }}",
            "[\"Grüße, 'x'\", \"it's\", 'a\\n\\x00\\u200b']",
        ),
        (
            "{{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 0.00001 }} {{ 3 / 2 }}",
            "1e+16 1000000000000000.0 0.0001 1e-05 1.5",
        ),
        (
            "{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ -7.5 // 2 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }}",
            "-4 2 -2 -4.0 64 4",
        ),
        (
            "{{ missing }}|{{ missing.x if false }}|{{ range(3) }}",
            "||range(0, 3)",
        ),
        (
            "{{ namespace(a=1, b='x') }}",
            "<Namespace {'a': 1, 'b': 'x'}>",
        ),
    ]);
}

#[test]
fn json_is_as_python_writes_it() {
    check(&[
        ("{{ d | tojson }}", r#"{"z": 1, "a": null, "items": 2.5}"#),
        (
            "{{ messages[0] | tojson }}",
            r#"{"role": "user", "content": " Hi <b> "}"#,
        ),
        (
            "{{ [1, {'a': []}] | tojson(indent=2) }}",
            "[\n  1,\n  {\n    \"a\": []\n  }\n]",
        ),
        (
            "{{ d | tojson(separators=(',', ':'), sort_keys=true) }}",
            r#"{"a":null,"items":2.5,"z":1}"#,
        ),
        (
            "{{ [s, '\\x1f\"\\\\', '🌍'] | tojson(ensure_ascii=true) }}",
            r#"["Gr\u00fc\u00dfe, 'x'", "\u001f\"\\", "\ud83c\udf0d"]"#,
        ),
        (
            "{{ {1: true, none: 1.5, true: 2} | tojson }}",
            r#"{"1": 2, "null": 1.5}"#,
        ),
    ]);
    refuse(&[
        ("{{ missing | tojson }}", "undefined"),
        ("{{ d.items() | tojson }}", "dict_items"),
    ]);
}

#[test]
fn scopes_are_those_of_jinja() {
    check(&[
        (
            "{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
            "231",
        ),
        ("{% if 1 %}{% set x = 2 %}{% endif %}{{ x }}", "2"),
        (
            "{% set n = namespace(x=0) %}{% for i in [1, 2] %}{% set n.x = n.x + i %}{% endfor %}{{ n.x }}",
            "3",
        ),
        (
            "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}",
            "3",
        ),
        (
            "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ s2 }}{% endmacro %}{% set s2 = 'x' %}{{ m(1) }}{{ m(b=1, a=0) }}",
            "12x01x",
        ),
        (
            "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}",
            "(1, 2){'k': 3}",
        ),
        (
            "{% macro m(x) %}[{{ caller(x) }}]{% endmacro %}{% call(y) m(4) %}{{ y }}!{% endcall %}",
            "[4!]",
        ),
        (
            "{% set x | upper %}a{{ s }}{% endset %}{{ x }}",
            "AGRÜSSE, 'X'",
        ),
        ("{% filter trim | upper %} a {% endfilter %}", "A"),
        (
            "{% generation %}{% set q = 1 %}g{{ q }}{% endgeneration %}{{ q }}",
            "g1",
        ),
        (
            "{% set a, (b, c) = 1, [2, 3] %}{{ a }}{{ b }}{{ c }}",
            "123",
        ),
    ]);
    refuse(&[
        (
            "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
            "takes at most 1",
        ),
        (
            "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}",
            "no argument 'b'",
        ),
        ("{% set n = {} %}{% set n.x = 1 %}", "only a namespace"),
        (
            "{% for i in [1] %}{% set ns = i %}{% macro m() %}{% endmacro %}{% endfor %}{{ m() }}",
            "'m' is undefined",
        ),
    ]);
}

#[test]
fn loops_know_where_they_are() {
    check(&[
        (
            "{% for i in 'abc' %}{{ loop.index }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
            "12TrueFalse3 21FalseFalse3 30FalseTrue3 ",
        ),
        (
            "{% for i in [1, 2, 3] %}{{ loop.previtem }}<{{ loop.nextitem }}{% endfor %}",
            "<21<32<",
        ),
        (
            "{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{{ loop.cycle('a', 'b') }} {% endfor %}",
            "Truea Falseb Truea ",
        ),
        (
            "{% for k, v in d.items() if v %}{{ k }}={{ v }};{% endfor %}",
            "z=1;items=2.5;",
        ),
        (
            "{% for i in [] %}x{% else %}none{% endfor %}{% for i in missing %}{% else %}!{% endfor %}",
            "none!",
        ),
        (
            "{% for i in [1, 2, 3, 4] %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "13",
        ),
        (
            "{% for i in [1, [2, [3]]] recursive %}{{ loop(i) if i is iterable else i }}{{ loop.depth }}{% endfor %}",
            "11223321",
        ),
        (
            "{% set j = joiner('|') %}{% set c = cycler('x', 'y') %}{% for i in [1, 2, 3] %}{{ j() }}{{ c.next() }}{% endfor %}",
            "x|y|x",
        ),
        (
            "{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}{{ range(3) | list }}",
            "531[0, 1, 2]",
        ),
    ]);
    refuse(&[
        ("{% for i in none %}{% endfor %}", "not iterable"),
        ("{% for i in [1] %}{{ loop([1]) }}{% endfor %}", "recursive"),
        ("{% break %}", "outside of a loop"),
    ]);
}

#[test]
fn strings_have_pythons_methods() {
    check(&[
        (
            "{{ 'a,b,c'.rsplit(',', 1) }}{{ ' a  b '.split() }}{{ ' a  b '.split(none, 1) }}",
            "['a,b', 'c']['a', 'b']['a', 'b ']",
        ),
        (
            "{{ 'k=v=w'.partition('=') }}{{ 'k=v=w'.rpartition('=') }}{{ 'x'.partition('=') }}",
            "('k', '=', 'v=w')('k=v', '=', 'w')('x', '', '')",
        ),
        (
            "{{ 'xxaxx'.strip('x') }}{{ 'xa'.removeprefix('x') }}{{ 'xa'.removesuffix('a') }}",
            "aax",
        ),
        (
            "{{ 'äbä'.find('ä', 1) }}{{ 'abc'.find('z') }}{{ 'abc'.index('c') }}{{ 'aaa'.count('a', 1) }}",
            "2-122",
        ),
        (
            "{{ 'abc'.startswith(('x', 'a')) }}{{ 'abc'.endswith('bc', 1) }}",
            "TrueTrue",
        ),
        (
            "{{ 'a-b'.title() }}{{ 'ÄB'.lower() }}{{ 'aB'.swapcase() }}{{ '7'.zfill(3) }}{{ '-7'.zfill(4) }}",
            "A-BäbAb007-007",
        ),
        ("{{ '{} {x:>4} {0!r}'.format('a', x=1) }}", "a    1 'a'"),
        (
            "{{ '%s %05.1f %d%% %r %(z)s' % () if 0 else '%s %05.1f %d%% %r' % ('a', 2.25, 3, 'q') }}",
            "a 002.2 3% 'q'",
        ),
        ("{{ '%(z)s-%(items).2f' % d }}", "1-2.50"),
        (
            "{{ s[::-1] }}{{ s[1:3] }}{{ s[-1] }}{{ s[99] }}",
            "'x' ,eßürGrü'",
        ),
        (
            "{{ 'a\\nb\\r\\nc\\x0bd'.splitlines() }}",
            "['a', 'b', 'c', 'd']",
        ),
    ]);
    refuse(&[
        ("{{ 'abc'.index('z') }}", "not found"),
        ("{{ 'abc'.encode() }}", "the method 'encode'"),
        ("{{ ''.nope() }}", "no attribute 'nope'"),
        ("{{ [].append(1) }}", "'append' would change"),
        ("{{ d.update({}) }}", "'update' would change"),
    ]);
}

#[test]
fn filters_and_tests_are_those_of_jinja() {
    check(&[
        (
            "{{ tools is iterable }}{{ tools is none }}{{ missing is iterable }}{{ 'a' is sequence }}{{ d is mapping }}",
            "FalseTrueTrueTrueTrue",
        ),
        (
            "{{ messages | map(attribute='role') | join(', ') }}",
            "user, assistant",
        ),
        (
            "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list }}",
            "[' Hi <b> ']",
        ),
        (
            "{{ [3, 1, 2] | sort }}{{ ['b', 'A', 'a'] | sort }}{{ ['b', 'A', 'a'] | unique | list }}",
            "[1, 2, 3]['A', 'a', 'b']['b', 'A']",
        ),
        (
            "{% for role, items in messages | groupby('role') %}{{ role }}{{ items | length }}{% endfor %}",
            "assistant1user1",
        ),
        (
            "{{ d | dictsort }}{{ d | items | first }}",
            "[('a', None), ('items', 2.5), ('z', 1)]('z', 1)",
        ),
        (
            "{{ 'a\\n\\nb' | indent }}|{{ 'a\\nb' | indent(2, true) }}",
            "a\n\n    b|  a\n  b",
        ),
        (
            "{{ missing | default('x') }}{{ '' | d('y', true) }}{{ none | default('z') }}",
            "xyNone",
        ),
        (
            "{{ ' 42 ' | int }}{{ 'x' | int(7) }}{{ '3.9' | int }}{{ 'x' | float }}{{ 2.5 | round }}{{ 2.675 | round(2) }}",
            "42730.02.02.67",
        ),
        (
            "{{ [1, 2, 3, 4, 5] | batch(2, 0) | list }}{{ [1, 2, 3] | slice(2) | list }}",
            "[[1, 2], [3, 4], [5, 0]][[1, 2], [3]]",
        ),
        (
            "{{ [3, 1] | truncate(2, true, '', 0) }}{{ {'a': 1} | truncate }}",
            "[3, 1]{'a': 1}",
        ),
        (
            "{{ 'hello big world' | truncate(9, leeway=0) }}{{ 'hello wide' | title }}{{ 'a b' | wordcount }}",
            "hello...Hello Wide2",
        ),
        (
            "{{ '<a>' | e }}{{ '<a>' | safe }}{{ ('<' | safe) + '<' }}",
            "&lt;a&gt;<a><&lt;",
        ),
        (
            "{{ 5 is divisibleby 5 }}{{ 3 is odd }}{{ 1 is in [1] }}{{ 'a' is not string }}{{ none is sameas none }}",
            "TrueTrueTrueFalseTrue",
        ),
        (
            "{{ 1 < 2 < 3 }}{{ 1 in [1.0] }}{{ 'a' not in 'abc' }}{{ [1, 2] < [1, 3] }}{{ 1 == true }}",
            "TrueTrueFalseTrueTrue",
        ),
        (
            "{{ d.items is callable }}{{ d['items'] }}{{ d.get('no', 3) }}",
            "True2.53",
        ),
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
    ]);
}

#[test]
fn what_is_not_there_is_named() {
    refuse(&[
        (
            "{% for i in [1] %}{{ s }}{% endfor %}{% set s = 1 %}",
            "setting 's' after a block inside has read it",
        ),
        ("{{ 1 | nope }}", "there is no filter 'nope'"),
        ("{{ 1 is nope }}", "there is no test 'nope'"),
        (
            "{{ 'x' | striptags }}",
            "the filter 'striptags' is not supported",
        ),
        (
            "{{ [1] | map('upper') }}",
            "printing a value of type generator",
        ),
        ("{{ 1 + 'a' }}", "'+' does not go with int and str"),
        ("{{ missing.x }}", "'missing' is undefined"),
        ("{{ missing + 1 }}", "'missing' is undefined"),
        ("{{ raise_exception('no!') }}", "no!"),
        ("{{ strftime_now('%Q') }}", "'%Q' in a date's format"),
        ("{% include 'x' %}", "the statement 'include'"),
        ("{% do 1 %}", "unknown tag 'do'"),
    ]);
}

#[test]
fn every_operation_keeps_where_text_came_from() {
    let table = [
        // Marked with brackets: what is the template's own.
        ("a{{ s[:2] }}b{{ bos }}", "[a]Gr[b<s>]"),
        (
            "{{ 'x' + s[:1] + 'y' }}{{ 'x' ~ s[:1] ~ 1 }}",
            "[x]G[yx]G[1]",
        ),
        ("{{ (' <' ~ s[:1] ~ '> ') | trim | upper }}", "[<]G[>]"),
        (
            "{{ ('a' ~ s[:2] ~ 'b')[1:] }}{{ ('a' ~ s[:2])[::-1] }}",
            "Gr[b]rG[a]",
        ),
        (
            "{{ ('a,' ~ s[:2] ~ ',b').split(',') | join(';') }}",
            "[a;]Gr[;b]",
        ),
        (
            "{{ s[:2].replace('r', '<r>') }}{{ 'x-y'.replace('-', s[:1]) }}",
            "G[<r>x]G[y]",
        ),
        (
            "{{ '%s|%3s' % (s[:1], 'b') }}{{ '{}!'.format(s[:1]) }}",
            "G[|  b]G[!]",
        ),
        (
            "{{ messages[1] | tojson }}",
            "[{\"]role[\": \"]assistant[\", \"]content[\": \"]Yo[\"}]",
        ),
        ("{{ [s[:1], 'b'] }}", "[[']G[', 'b']]"),
        ("{{ (s[:1] ~ '\\n' ~ s[:1]) | indent(1) }}", "G[\n ]G"),
        (
            "{% set x %}<{{ s[:1] }}>{% endset %}{{ x }}{% macro m(a) %}({{ a }}){% endmacro %}{{ m(s[:1]) }}",
            "[<]G[>(]G[)]",
        ),
        (
            "{% for c in s[:2] %}{{ c }}-{% endfor %}{{ s[0] }}",
            "G[-]r[-]G",
        ),
        (
            "{{ s[:2].center(4) }}{{ s[:1].zfill(2) }}{{ (s[:1]|e) }}{{ s[:1].title() }}",
            "[ ]Gr[ 0]GGG",
        ),
    ];
    for (source, expected) in table {
        let Rendered { text, own } =
            run(source).unwrap_or_else(|error| panic!("{source}: {error}"));
        let mut marked = String::new();
        let mut at = 0;
        for range in own {
            marked += &format!("{}[{}]", &text[at..range.start], &text[range.clone()]);
            at = range.end;
        }
        marked += &text[at..];
        assert_eq!(marked, expected, "{source}");
    }
}
