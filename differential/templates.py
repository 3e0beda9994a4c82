#!/usr/bin/env python3
"""Compares gogrid's chat templates with jinja2, set up as transformers does.

First: every chat template of llama.cpp's source package with a dozen conversations. Second: seeded
random expressions and statements. Both must render equal, fail on both sides, or be refused by
gogrid with an error that names the construct. Prints counts and the first difference; exits with 1
where there is one.

    python3 differential/templates.py [--cases N] [--seed N] [--templates FOLDER]

jinja2 and the templates come from PyPI, once, into target/differential.
"""

import argparse
import copy
import json
import pathlib
import random
import re
import subprocess
import sys
import tarfile
import warnings
from collections import Counter
from datetime import datetime

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / "target" / "differential"
JINJA = "jinja2==3.1.6"
SOURCES = "llama-cpp-python==0.3.36"
NOW = datetime(2024, 7, 26, 15, 4, 9)


def fetch_jinja():
    folder = CACHE / "jinja2"
    if not folder.exists():
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), JINJA],
            stderr=subprocess.DEVNULL,
            check=True,
        )
    sys.path.insert(0, str(folder))


def fetch_templates():
    folder = CACHE / "templates"
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        pip += ["--no-binary", "llama-cpp-python", "--no-build-isolation", "-d", str(CACHE), SOURCES]
        if not list(CACHE.glob("llama_cpp_python-*.tar.gz")):
            subprocess.run(pip, check=True)
        archive = next(CACHE.glob("llama_cpp_python-*.tar.gz"))
        folder.mkdir(parents=True)
        with tarfile.open(archive) as tar:
            for member in tar:
                if "/models/templates/" in member.name and member.name.endswith(".jinja"):
                    data = tar.extractfile(member).read()
                    (folder / pathlib.PurePath(member.name).name).write_bytes(data)
    return folder


def environment():
    """As transformers' chat_template_utils makes it, but for the clock."""
    import jinja2
    from jinja2 import ext, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            call = self.call_method("_support")
            return nodes.CallBlock(call, [], [], body).set_lineno(line)

        def _support(self, caller):
            return caller()

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def rendered_by_jinja(env, template, context):
    """The text, or `None` and why not."""
    try:
        return env.from_string(template).render(**context), None
    except Exception as error:  # A template may raise whatever Python raises.
        return None, f"{type(error).__name__}: {error}"


def rendered_by_gogrid(cases):
    """Answers of the example program, one for each case."""
    program = ROOT / "target" / "debug" / "examples" / "render"
    build = ["cargo", "build", "--quiet", "-p", "gogrid-jinja", "--example", "render"]
    subprocess.run(build, check=True, cwd=ROOT)
    now = list(NOW.timetuple())[:6]
    lines = [json.dumps({"template": t, "context": c, "now": now}) for t, c in cases]
    out = subprocess.run(
        [program], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in out.stdout.splitlines()]


class Tally:
    def __init__(self, title):
        self.title = title
        self.counts = Counter()
        self.refused = Counter()
        self.where = {}
        self.first = None
        self.different = []

    def add(self, name, template, theirs, ours):
        text, error = theirs
        if "text" in ours:
            if text == ours["text"]:
                verdict = "equal"
            elif text is None:
                verdict = "only jinja2 fails"
            else:
                verdict = "different"
        elif text is None:
            verdict = "both fail"
        elif ours["kind"] == "Unsupported":
            verdict = "refused by name"
            reason = re.sub(r"^line \d+: ", "", ours["error"])
            self.refused[reason] += 1
            self.where.setdefault(reason, name)
        else:
            verdict = "only gogrid fails"
        self.counts[verdict] += 1
        if verdict in ("different", "only jinja2 fails", "only gogrid fails"):
            self.different.append((verdict, name, template, error if text is None else text, ours))
            self.first = self.first or self.different[-1]

    def report(self, show):
        counts = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        print(f"{self.title}: {sum(self.counts.values())} cases: {counts}")
        for reason, count in self.refused.most_common():
            print(f"  refused {count}: {reason} ({self.where[reason]})")
        for verdict, name, template, theirs, ours in self.different[:show]:
            print(f"  {verdict}: {name}")
            if len(template) < 2000:
                print(f"    template {template!r}")
            mine = ours.get("text", ours.get("error"))
            at = next((i for i, (a, b) in enumerate(zip(theirs, mine)) if a != b), 0)
            start = max(0, at - 60)
            print(f"    jinja2 {theirs[start:at + 160]!r}")
            print(f"    gogrid {mine[start:at + 160]!r}")
        return self.first is None


# Conversations.

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a <city> & \"more\"",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Which city", "enum": ["Köln", "Rom"]},
                    "days": {"type": "integer", "default": 3},
                    "where": {
                        "type": "object",
                        "properties": {"lat": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}},
                        "required": ["lat"],
                    },
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}},
    },
]


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def call(arguments, number="call_001"):
    function = {"name": "get_weather", "arguments": arguments}
    return {"id": number, "type": "function", "function": function}


def conversations():
    system = {"role": "system", "content": "You are terse."}
    turns = [user("Hello"), assistant("Hi."), user("And now?")]
    arguments = {"city": "Köln", "days": 2, "deep": {"a": [1, 2.5, None, True]}}
    result = {"role": "tool", "name": "get_weather", "tool_call_id": "call_001", "content": '{"sun": true}'}
    called = [system, user("Weather?"), assistant("", tool_calls=[call(arguments)]), result]
    textual = [user("Weather?"), assistant(None, tool_calls=[call(json.dumps(arguments))]), result]
    parts = [{"type": "text", "text": "Look"}, {"type": "text", "text": " here"}]
    image = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    thinking = assistant("42", reasoning_content="I add.\nTwice.", thinking="I add.\nTwice.")
    yield "no system", {"messages": [user("Hello")]}
    yield "system", {"messages": [system, user("Hello")]}
    yield "two turns", {"messages": [system, *turns]}
    yield "no prompt", {"messages": [*turns, assistant("Bye.")], "add_generation_prompt": False}
    yield "tools", {"messages": [system, *turns], "tools": TOOLS}
    yield "tools, no system", {"messages": [user("Hello")], "tools": TOOLS}
    yield "tool call", {"messages": called, "tools": TOOLS}
    yield "tool call, answered", {"messages": [*called, assistant("Sunny."), user("Thanks")], "tools": TOOLS}
    yield "arguments as text", {"messages": textual, "tools": TOOLS}
    yield "reasoning", {"messages": [user("20+22?"), thinking, user("Sure?")]}
    yield "reasoning off", {"messages": [user("20+22?")], "enable_thinking": False}
    yield "think in text", {"messages": [user("a"), assistant("<think>\nhm\n</think>\n\nb"), user("c")]}
    yield "unicode", {"messages": [user("Grüße, 世界 🌍 \u202e e\u0301 'q' \"d\" \\ <|im_end|>")]}
    yield "empty", {"messages": [system, user(""), assistant(""), user("x")]}
    yield "parts", {"messages": [{"role": "user", "content": parts}]}
    yield "image", {"messages": [{"role": "user", "content": image}]}
    yield "white space", {"messages": [{"role": "system", "content": " s \n"}, user("  a\n\n"), assistant("\tb "), user("\n")]}
    yield "roles wrong", {"messages": [user("a"), user("b"), assistant("c"), assistant("d")]}
    yield "documents", {"messages": [user("x")], "documents": [{"title": "T", "text": "D\nE"}]}
    yield "nothing", {"messages": []}


def template_cases(folder):
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for name, given in conversations():
            context = {
                "tools": None, "documents": None, "add_generation_prompt": True,
                "bos_token": "<s>", "eos_token": "</s>", **given,
            }
            yield f"{path.name}: {name}", source, context


# Random templates.

CONTEXT = {
    "a": 7, "b": -3, "f": 2.5, "t": True, "n": None, "e": "", "s": "Hello, wOrld", "u": "äß\n'x' \"y\"\t",
    "xs": [3, 1, 2], "names": ["b", "A", "c", "a"], "d": {"k": 1, "z": [1, 2], "items": 5, "m": {"q": "v"}},
    "rows": [{"n": "x", "v": 2, "ok": True}, {"n": "y", "v": 1}, {"n": "X", "v": 2, "ok": False}],
    "lines": " one\n two\n\nthree ", "nested": [[1, "a"], [2, "b"]],
}
# By the type of what they give.
ATOMS = {
    "str": ["e", "s", "u", "lines", "'x'", "\"it's\"", "''", "' pad '", "'a,b,,c'", "'Σας ΟΔΟΣ'", "'12'", "' 3.50 '", "'a<b&\\'c'", "missing"],
    "int": ["a", "b", "0", "1", "-2", "4000", "true", "t", "xs[0]", "d.k"],
    "float": ["f", "3.5", "0.1", "1.5e-7", "100.0", "1e20", "-0.25", "2.675"],
    "list": ["xs", "names", "rows", "nested", "[]", "()", "(1,)", "[1, 'a', none]", "range(3)", "range(5, 1, -2)", "d.z", "missing", "[3, 1, 2]"],
    "dict": ["d", "{}", "{'a': 1, 2: 'b'}", "rows[0]", "d.m", "{'b': 1, 'A': none}", "dict(q=1, p=[2])"],
    "bool": ["true", "t", "false", "a > 3", "n is none", "'l' in s", "1 in xs", "'k' in d"],
    "any": ["n", "none", "missing", "d.nope", "loop"],
}
# Filters, methods, subscripts and formats by the type of what they take, with that of what they give.
STEPS = {
    "str": [
        ("|capitalize", "str"), ("|center(9)", "str"), ("|default('D')", "str"), ("|d('D', true)", "str"), ("|escape|string", "str"),
        ("|first", "str"), ("|float", "float"), ("|float(1.5)", "float"), ("|format(a, b)", "str"), ("|indent", "str"), ("|indent(2, true)", "str"),
        ("|indent(width=3, blank=true)", "str"), ("|int", "int"), ("|int(5)", "int"), ("|int(0, 16)", "int"), ("|join('-')", "str"), ("|last", "str"),
        ("|length", "int"), ("|list", "list"), ("|lower", "str"), ("|replace('l', 'L')", "str"), ("|replace('o', '0', 1)", "str"), ("|reverse", "str"),
        ("|safe", "str"), ("|sort|join", "str"), ("|string", "str"), ("|title", "str"), ("|tojson", "str"), ("|tojson(ensure_ascii=true)", "str"),
        ("|trim", "str"), ("|trim('Hd')", "str"), ("|truncate(8)", "str"), ("|truncate(5, true, '..', 0)", "str"), ("|unique|list", "list"),
        ("|upper", "str"), ("|wordcount", "int"), ("|map('upper')|list", "list"), (".strip()", "str"), (".lstrip()", "str"), (".rstrip('d ')", "str"),
        (".split()", "list"), (".split(',')", "list"), (".split('l', 1)", "list"), (".rsplit('o', 1)", "list"), (".rsplit()", "list"), (".split(none, 1)", "list"),
        (".rsplit(none, 1)", "list"), (".splitlines()", "list"), (".splitlines(true)", "list"), (".partition(', ')", "list"), (".rpartition('o')", "list"),
        (".upper()", "str"), (".lower()", "str"), (".title()", "str"), (".capitalize()", "str"), (".swapcase()", "str"), (".startswith('H')", "bool"),
        (".startswith(('x', ' '))", "bool"), (".endswith('d')", "bool"), (".find('o')", "int"), (".find('o', 5)", "int"), (".find('', 3, -1)", "int"),
        (".rfind('o')", "int"), (".index('')", "int"), (".count('l')", "int"), (".count('', 2)", "int"), (".replace('l', '')", "str"), (".replace('', '.')", "str"),
        (".replace('l', 'L', 1)", "str"), (".removeprefix('He')", "str"), (".removesuffix('ld')", "str"), (".join(names)", "str"), (".join(['a', 'b'])", "str"),
        (".zfill(6)", "str"), (".zfill(20)", "str"), (".center(20)", "str"), (".center(21, '*')", "str"), (".ljust(15, '-')", "str"), (".rjust(15)", "str"),
        (".isdigit()", "bool"), (".isupper()", "bool"), (".islower()", "bool"), (".isspace()", "bool"), ("[0]", "str"), ("[-1]", "str"), ("[1:]", "str"),
        ("[:2]", "str"), ("[::-1]", "str"), ("[-3:-1]", "str"), ("[::2]", "str"), ("[5:1:-2]", "str"), (" * 2", "str"), (" ~ 1", "str"),
    ],
    "int": [
        ("|abs", "int"), ("|float", "float"), ("|int", "int"), ("|round", "int"), ("|round(1, 'floor')", "float"), ("|string", "str"), ("|tojson", "str"),
        (" + 1", "int"), (" - b", "int"), (" * 3", "int"), (" / 4", "float"), (" // 2", "int"), (" % 3", "int"), (" // -2", "int"), (" % -3", "int"), (" ** 2", "int"),
        (" ~ 'x'", "str"), (" + f", "float"), (" * 'ab'", "str"), ("|default(3)", "int"),
    ],
    "float": [
        ("|abs", "float"), ("|int", "int"), ("|round", "float"), ("|round(1)", "float"), ("|round(2)", "float"), ("|round(0, 'floor')", "float"),
        ("|round(1, 'ceil')", "float"), ("|string", "str"), ("|tojson", "str"), (" + 1", "float"), (" * -2.5", "float"), (" / 3", "float"),
        (" // 2", "float"), (" % 0.3", "float"), (" % -3", "float"), (" ** 2", "float"), (" ~ ''", "str"),
    ],
    "list": [
        ("|batch(2)|list", "list"), ("|batch(2, 'f')|list", "list"), ("|first", "any"), ("|last", "any"), ("|groupby('v')", "list"), ("|groupby('n')|list", "list"),
        ("|join", "str"), ("|join(', ')", "str"), ("|join('-', attribute='n')", "str"), ("|length", "int"), ("|list", "list"), ("|map('upper')|list", "list"),
        ("|map(attribute='n')|list", "list"), ("|map(attribute='v', default=9)|list", "list"), ("|map('default', 'z')|list", "list"), ("|map('string')|list", "list"),
        ("|max", "any"), ("|min", "any"), ("|max(attribute='v')", "any"), ("|reject('odd')|list", "list"), ("|reject|list", "list"), ("|rejectattr('ok')|list", "list"),
        ("|reverse|list", "list"), ("|select|list", "list"), ("|select('string')|list", "list"), ("|select('gt', 1)|list", "list"), ("|selectattr('ok')|list", "list"),
        ("|selectattr('v', 'eq', 2)|list", "list"), ("|slice(2)|list", "list"), ("|slice(3, 'f')|list", "list"), ("|sort", "list"), ("|sort(reverse=true)", "list"),
        ("|sort(attribute='v')", "list"), ("|sort(attribute='v,n')", "list"), ("|sort(case_sensitive=true)", "list"), ("|string", "str"), ("|sum", "any"),
        ("|sum(attribute='v')", "any"), ("|tojson", "str"), ("|tojson(indent=2)", "str"), ("|unique|list", "list"), ("|unique(attribute='v')|list", "list"),
        ("[0]", "any"), ("[-1]", "any"), ("[9]", "any"), ("[1:]", "list"), ("[:2]", "list"), ("[::-1]", "list"), ("[-2:]", "list"), ("[::2]", "list"),
        ("[5:1:-2]", "list"), (".0", "any"), (".index(2)", "int"), (".count(1)", "int"), (" + [1]", "list"), (" * 2", "list"), ("|map('tojson')|join", "str"),
        ("|map(attribute=0)|list", "list"), ("|select('mapping')|list", "list"), ("|select('in', [1, 'a'])|list", "list"),
    ],
    "dict": [
        (".k", "any"), (".m.q", "any"), (".nope", "any"), ("['k']", "any"), ("['items']", "any"), (".get('k')", "any"), (".get('nope')", "any"),
        (".get('nope', 3)", "any"), (".items()", "list"), (".items()|list", "list"), (".keys()|list", "list"), (".values()|list", "list"), (".copy()", "dict"),
        ("|dictsort", "list"), ("|dictsort(by='value')", "list"), ("|dictsort(reverse=true)", "list"), ("|items|list", "list"), ("|length", "int"), ("|list", "list"),
        ("|tojson", "str"), ("|tojson(indent=2)", "str"), ("|tojson(sort_keys=true)", "str"), ("|tojson(separators=(',', ':'))", "str"), ("|string", "str"),
        ("|join(',')", "str"), ("|first", "any"), (".pop()", "any"), (".update({})", "any"), (".items", "any"),
    ],
    "bool": [("|string", "str"), ("|int", "int"), ("|tojson", "str"), (" + 1", "int"), ("|upper", "str")],
    "any": [("|string", "str"), ("|default('D')", "any"), ("|tojson", "str"), ("|list", "list"), ("|length", "int"), (".x", "any"), ("[0]", "any"), ("|trim", "str")],
}
TESTS = [
    "defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping",
    "iterable", "sequence", "callable", "odd", "even", "divisibleby 3", "divisibleby(2)", "eq 7", "equalto('x')", "ne 1",
    "lt 5", "ge(7)", "in [1, 7]", "in 'Hello'", "sameas none", "sameas true", "lower", "upper", "escaped", "not none",
    "not defined", "filter", "gt 'a'",
]
FORMATS = [
    "'%5.2f' % ({f})", "'%-6s|%6s' % ({s}, {s})", "'%03d|%+d|% d' % ({i}, {i}, {i})", "'%x|%o|%#X' % (a, a, {i}|abs)", "'%r %%' % ({s},)",
    "'%e|%.3E' % ({f}, {f})", "'%g|%G|%.2g' % ({f}, {f}, {f})", "'%(k)s|%(k)05d' % d", "'%.3s|' % ({s},)", "'{{0:>8}}|{{1:<8}}|{{2!r}}|{{0}}'.format({s}, {s}, {l})",
    "'{{:.2f}}|{{:10.1f}}|{{:e}}'.format({f}, {f}, {f})", "'{{:05d}}|{{:+d}}|{{:,}}|{{:x}}'.format({i}, {i}, 1234567, a)", "'{{}} {{x}}'.format({l}, x={d})",
    "'{{0.k}} {{0[items]}}'.format(d)", "'{{:^9}}|{{:*^9}}'.format({s}, {i})", "'{{:g}}|{{:.3}}|{{:%}}'.format({f}, {s}, {f})", "'%s' % ({l},)", "'%d' % {f}",
]
TYPES = ["str"] * 5 + ["int"] * 2 + ["float"] + ["list"] * 4 + ["dict"] * 2 + ["bool"]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def expr(self, depth, kind=None):
        """An expression of a type, or of any; now and then of another than asked for."""
        pick = self.random.random()
        kind = self.random.choice(TYPES) if kind is None or self.random.random() < 0.02 else kind
        if depth <= 0 or pick < 0.15:
            return self.random.choice(ATOMS[kind])
        inner = lambda kind=None: self.expr(depth - 1, kind)
        if pick < 0.70:
            source = self.random.choice(TYPES + ["any"])
            step = self.random.choice([step for step, result in STEPS[source] if result == kind] or [None])
            if step is not None:
                return f"({inner(source)}{step})" if step.startswith(("|", " ")) else f"({inner(source)}){step}"
        if pick < 0.78:
            return f"({inner(kind)} if {inner('bool')} else {inner(kind)})"
        if pick < 0.81:
            return f"({inner(kind)} {self.random.choice(['and', 'or'])} {inner(kind)})"
        if kind == "bool":
            if pick < 0.9:
                return f"({inner()} is {self.random.choice(TESTS)})"
            same = self.random.choice(TYPES)
            operator = self.random.choice(["==", "!=", "<", "<=", ">", ">=", "in", "not in"])
            return f"({'not ' if pick < 0.92 else ''}{inner(same)} {operator} {inner('list' if 'in' in operator else same)})"
        if kind == "str":
            if pick < 0.9:
                fill = {"s": inner("str"), "i": inner("int"), "f": inner("float"), "l": inner("list"), "d": inner("dict")}
                return f"({self.random.choice(FORMATS).format(**fill)})"
            return f"({inner('str')} {self.random.choice(['+', '~'])} {inner('str')})"
        if kind == "list":
            return f"[{inner()}, {inner()}]" if pick < 0.95 else f"({inner()}, {inner()})"
        if kind == "dict":
            return f"{{'z': {inner()}, {inner('str')}: {inner()}}}"
        operator = self.random.choice(["+", "-", "*", "/", "//", "%"])
        sign = self.random.choice(["", "", "-"])
        return f"{sign}({inner('int')} {operator} {inner(kind)})"

    def body(self, depth):
        return "".join(self.piece(depth) for _ in range(self.random.randint(1, 3)))

    def tag(self, text):
        open_, close = self.random.choice([("{%", "%}")] * 4 + [("{%-", "-%}"), ("{%-", "%}"), ("{%", "-%}"), ("{%+", "+%}")])
        return f"{open_} {text} {close}"

    def piece(self, depth):
        pick = self.random.random()
        space = self.random.choice(["", "", " ", "\n", "\n  ", "x\n", "  y "])
        if depth <= 0 or pick < 0.4:
            sign = self.random.choice(["", "", "", "-"])
            return f"{space}{{{{{sign} {self.expr(2)} {sign}}}}}{self.random.choice(['', chr(10), ' '])}"
        inner = lambda: self.body(depth - 1)
        if pick < 0.55:
            name = self.random.choice(["i", "a", "x"])
            head = f"for {name} in {self.expr(1, 'list')}" + self.random.choice(["", "", f" if {name}", f" if {name} is string"])
            loop = self.random.choice(
                ["", "{{ loop.index }}", "{{ loop.last }}{{ loop.length }}", "{{ loop.cycle('o', 'e') }}",
                 "{{ loop.previtem }}{{ loop.nextitem }}", "{{ loop.changed(loop.index // 2) }}", "{{ loop.revindex }}",
                 "{% if loop.index > 1 %}{% break %}{% endif %}", "{% if loop.first %}{% continue %}{% endif %}"])
            last = self.random.choice(["", self.tag("else") + inner()])
            return space + self.tag(head) + loop + inner() + f"{{{{ {name} }}}}" + last + self.tag("endfor")
        if pick < 0.70:
            middle = self.random.choice(["", self.tag("else") + inner(), self.tag(f"elif {self.expr(1)}") + inner()])
            return space + self.tag(f"if {self.expr(2)}") + inner() + middle + self.tag("endif")
        if pick < 0.80:
            name = self.random.choice(["a", "x", "y", "s"])
            return space + self.tag(f"set {name} = {self.expr(2)}") + f"{{{{ {name} }}}}"
        if pick < 0.84:
            return space + self.tag("set x" + self.random.choice(["", " | upper", " | trim"])) + inner() + self.tag("endset") + "{{ x }}"
        if pick < 0.88:
            signature = self.random.choice(["p", "p, q=2", "p=a", ""])
            special = self.random.choice(["", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller else '-' }}"])
            uses = self.random.choice(["{{ m(1) }}", "{{ m(1, 2, 3) }}", "{{ m(q=5, p=4) }}", "{% call m(1) %}c{{ a }}{% endcall %}", "{{ m() }}"])
            return space + self.tag(f"macro m({signature})") + "{{ p }}{{ q }}" + special + inner() + self.tag("endmacro") + uses
        if pick < 0.91:
            return space + self.tag(f"with w = {self.expr(1)}, a = {self.expr(1)}") + inner() + "{{ w }}{{ a }}" + self.tag("endwith")
        if pick < 0.94:
            return space + self.tag(f"filter {self.random.choice(['upper', 'trim', 'indent(2)', 'replace(1, 2)|title'])}") + inner() + self.tag("endfilter")
        if pick < 0.97:
            return space + "{% set ns = namespace(v=1) %}{% for i in xs %}{% set ns.v = ns.v + i %}{% endfor %}{{ ns.v }}{{ ns.nope }}"
        return space + self.random.choice(["{# c #}\n", "{#- c -#} ", "{% raw %}{{ x }}{% endraw %}\n", "{% generation %}g{{ a }}{% endgeneration %}"])

    def template(self):
        if self.random.random() < 0.7:
            return f"{{{{ {self.expr(3)} }}}}"
        return self.body(2)


def random_cases(count, seed):
    generator = Generator(seed)
    for number in range(count):
        yield f"case {number} of seed {seed}", generator.template(), CONTEXT


def compare(title, cases, show):
    # Python warns of what a generated template does with constants.
    warnings.simplefilter("ignore")
    env = environment()
    cases = list(cases)
    tally = Tally(title)
    answers = rendered_by_gogrid([(template, context) for _, template, context in cases])
    for (name, template, context), ours in zip(cases, answers, strict=True):
        # Jinja's `indent` changes a list that it is given.
        theirs = rendered_by_jinja(env, template, copy.deepcopy(context))
        # A generator's or a function's place in memory is nothing to compare.
        if theirs[0] is not None and " at 0x" in theirs[0]:
            theirs = (None, "prints an address")
        tally.add(name, template, theirs, ours)
    return tally.report(show)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=1, help="differences shown")
    parser.add_argument("--templates", type=pathlib.Path, help="a folder of templates, not fetched")
    args = parser.parse_args()
    fetch_jinja()
    folder = args.templates or fetch_templates()
    real = compare("templates x conversations", template_cases(folder), args.show)
    made = compare("random templates", random_cases(args.cases, args.seed), args.show)
    return 0 if real and made else 1


if __name__ == "__main__":
    sys.exit(main())
