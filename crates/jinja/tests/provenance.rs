//! Whatever a template does with what a caller said, by every filter, method and function, and
//! whichever of its arguments it is: no character of it is ever the template's own.

use gogrid_jinja::{CivilTime, Data, Template};

/// Stands in every text of the caller and in no template, and cannot be written by one.
const SAID: char = '\u{10fffd}';

/// Texts, formats, paths and dates, with `@` for [`SAID`].
const TEXTS: &[&str] = &[
    "@",
    "@@ @\n@",
    "{0:@<9}",
    "{0:@^9d}{0:@>9,}",
    "{:@=+9}{:@<9}",
    "{0!r:@>9}{0!s:@^30}",
    "{0.@}",
    "@%s@%5s",
    "%d@",
    "%%@",
    "%B @ %-d@",
    "a.@,@.0",
    "{{@}}",
    "7@",
];
const ARGS: &[&str] = &[
    "",
    "c",
    "c, c",
    "9, c",
    "c, 9",
    "9",
    "'x', c",
    "c, 'x'",
    "'x', 7, c",
    "3, true, c",
    "attribute=c",
    "c, attribute=0",
    "attribute='a', default=c",
    "'replace', 'x', c",
    "indent=c",
    "separators=(c, c)",
    "default_value=c",
];
const OF: &[&str] = &[
    "c",
    "'x'",
    "'x y'",
    "7",
    "1.5",
    "['x', c]",
    "('x', 'y')",
    "{'a': c, c: 'x'}",
    "[{'a': c}, {'a': 'x'}]",
    "missing",
];
const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
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
const METHODS: &[&str] = &[
    "capitalize",
    "center",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isascii",
    "isspace",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
    "get",
    "items",
    "keys",
    "values",
    "copy",
    "casefold",
    "expandtabs",
    "rindex",
    "islower",
];
/// With `ARGS` for the arguments.
const OTHERS: &[&str] = &[
    "{{ strftime_now(ARGS) }}",
    "{% set j = joiner(ARGS) %}{{ j() }}{{ j() }}",
    "{% set j = cycler(ARGS) %}{{ j.next() }}{{ j.next() }}",
    "{% for i in [1, 2] %}{{ loop.cycle(ARGS) }}{% endfor %}",
    "{{ dict(ARGS) }}",
    "{{ dict([(ARGS)]) }}",
    "{{ namespace(ARGS) }}",
    "{% macro m(a, b, attribute) %}{{ a }}{{ b }}{{ attribute }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(ARGS) }}",
    "{% set x %}{{ [ARGS] }}{% endset %}{{ x }}{{ x | upper }}",
    "{{ c % (ARGS) }}",
    "{{ '%s %r %5s %-5s' % (ARGS) }}",
    "{{ '{0} {0!r} {0:9} {0:^9}'.format(ARGS) }}",
    "{{ [ARGS] * 2 }}{{ (ARGS) ~ 'x' }}",
    "{{ c[::-1] }}{{ c[1:] ~ [ARGS] }}",
    "{% filter indent(ARGS) %}x\ny{% endfilter %}",
    "{% for i in c %}{{ i }}{{ i in [ARGS] }}{{ loop.previtem }}{% endfor %}",
];

/// Renders with each of the texts as `c`; gives how many were rendered with something of it.
fn check(source: &str) -> usize {
    assert!(!source.contains(SAID));
    let Ok(template) = Template::parse(source) else {
        return 0;
    };
    let now = CivilTime::new([2026, 11, 29], [1, 2, 3]);
    let mut quoting = 0;
    for text in TEXTS {
        let text = text.replace('@', &SAID.to_string());
        let variables = [("c", Data::Given(text.as_str().into()))];
        let Ok(rendered) = template.render(&variables, now.as_ref()) else {
            continue;
        };
        for own in &rendered.own {
            let own = &rendered.text[own.clone()];
            assert!(!own.contains(SAID), "{source} of {text:?} owns {own:?}");
        }
        quoting += usize::from(rendered.text.contains(SAID));
    }
    quoting
}

#[test]
fn no_operation_makes_a_callers_character_the_templates_own() {
    let mut quoting = 0;
    for args in ARGS {
        for of in OF {
            for name in FILTERS {
                let args = if args.is_empty() {
                    String::new()
                } else {
                    format!("({args})")
                };
                let of_each = format!("{{{{ ({of}) | {name}{args} }}}}");
                quoting += check(&of_each);
                quoting += check(&format!("{{{{ ({of}) | {name}{args} | list }}}}"));
            }
            for name in METHODS {
                quoting += check(&format!("{{{{ ({of}).{name}({args}) }}}}"));
            }
        }
        for other in OTHERS {
            quoting += check(&other.replace("ARGS", args));
        }
    }
    println!("{quoting} renderings with something of the caller");
    assert!(quoting > 3_000, "{quoting}");
}

#[test]
fn what_a_callers_format_adds_is_the_callers() {
    let own = |source: &str, said: &str| {
        let template = Template::parse(source).unwrap();
        let variables = [("c", Data::Given(said.into()))];
        let now = CivilTime::new([2026, 11, 29], [1, 2, 3]);
        let rendered = template.render(&variables, now.as_ref()).unwrap();
        let own = rendered.own.iter();
        let own: String = own.map(|own| &rendered.text[own.clone()]).collect();
        (rendered.text, own)
    };
    for (source, said, text, expected) in [
        ("{{ c.format('') }}", "{0:<<1}{0:|<1}{0:s<1}", "<|s", ""),
        ("{{ c.format('ab') }}", "{0:<<4}", "ab<<", "ab"),
        ("{{ c.format(1234) }}", "{:|>+7,}", "|+1,234", ""),
        ("{{ '{:|>+7,}'.format(1234) }}", "", "|+1,234", "|+1,234"),
        ("{{ c % 7 }}", "%+4d", "  +7", ""),
        ("{{ c % 'ab' }}", "%4s%%", "  ab%", "ab"),
        ("{{ '%4s|' % c }}", "ab", "  ab|", "  |"),
        ("{{ strftime_now(c) }}", "<|%Y|>", "<|2026|>", ""),
        ("{{ strftime_now('%d' ~ c ~ '%m') }}", "|%", "29|%m", "29m"),
        ("{{ strftime_now('%A' ~ c) }}", "|%%", "Sunday|%", "Sunday"),
        ("{{ 'ab'.center(6, c) }}", "<", "<<ab<<", "ab"),
        (
            "{{ 'ab'.ljust(4, c) }}{{ 'ab'.rjust(4, c) }}",
            "|",
            "ab||||ab",
            "abab",
        ),
        (
            "{{ c.zfill(3) }}{{ c | center(4) }}",
            "7",
            "007 7  ",
            "00   ",
        ),
    ] {
        assert_eq!(
            own(source, said),
            (text.to_owned(), expected.to_owned()),
            "{source}"
        );
    }
}
