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
ATOMS = [
    "a", "b", "f", "t", "n", "e", "s", "u", "xs", "names", "d", "rows", "lines", "nested", "missing",
    "0", "1", "-2", "3.5", "1e20", "0.1", "'x'", "\"it's\"", "'%s|%d'", "''", "' pad '", "true", "false",
    "none", "[]", "()", "{}", "(1,)", "[1, 'a', none]", "{'a': 1, 2: 'b'}", "range(3)", "range(5, 1, -2)",
    "'a,b,,c'", "'{} {x}'", "loop", "'Σας ΟΔΟΣ'", "4000", "1.5e-7", "100.0",
]
FILTERS = [
    "abs", "capitalize", "center(9)", "count", "default('D')", "d('D', true)", "dictsort", "dictsort(by='value')",
    "dictsort(reverse=true)", "escape", "first", "float", "float(1.5)", "format(a, b)", "groupby('v')", "groupby('n')",
    "indent", "indent(2, true)", "indent(width=3, blank=true)", "int", "int(5)", "int(0, 16)", "items", "join", "join(', ')",
    "join('-', attribute='n')", "last", "length", "list", "lower", "map('upper')", "map(attribute='n')",
    "map(attribute='v', default=9)", "map('default', 'z')", "max", "min", "max(attribute='v')", "reject('odd')", "reject",
    "rejectattr('ok')", "replace('l', 'L')", "replace('o', '0', 1)", "reverse", "round", "round(1)", "round(0, 'floor')",
    "safe", "select", "select('string')", "select('gt', 1)", "selectattr('ok')", "selectattr('v', 'eq', 2)",
    "slice(2)", "slice(3, 'f')", "batch(2)", "batch(2, 'f')", "sort", "sort(reverse=true)", "sort(attribute='v')",
    "sort(attribute='v,n')", "sort(case_sensitive=true)", "string", "sum", "sum(attribute='v')", "title", "tojson",
    "tojson(indent=2)", "tojson(ensure_ascii=true)", "tojson(sort_keys=true)", "tojson(separators=(',', ':'))", "trim",
    "trim('Hd')", "truncate(8)", "truncate(5, true, '..', 0)", "unique", "unique(attribute='v')", "upper", "wordcount",
    "attr('upper')", "e", "list|sort", "list|length", "list|join('+')",
]
METHODS = [
    "strip()", "lstrip()", "rstrip('d ')", "split()", "split(',')", "split('l', 1)", "rsplit('o', 1)", "rsplit()",
    "split(none, 1)", "rsplit(none, 1)", "splitlines()", "splitlines(true)", "partition(', ')", "rpartition('o')", "upper()",
    "lower()", "title()", "capitalize()", "swapcase()", "startswith('H')", "startswith(('x', ' '))", "endswith('d')",
    "find('o')", "find('o', 5)", "rfind('o')", "index('o')", "count('l')", "replace('l', '')", "replace('', '.')",
    "replace('l', 'L', 1)", "removeprefix('He')", "removesuffix('ld')", "join(names)", "join(['a', 1])", "format(1, x=2)",
    "zfill(6)", "zfill(20)", "center(20)", "center(21, '*')", "ljust(15, '-')", "rjust(15)", "isdigit()", "isupper()", "islower()",
    "isspace()", "isalpha()", "isalnum()", "get('k')", "get('nope')", "get('nope', 3)", "items()", "keys()", "values()",
    "copy()", "pop()", "append(1)", "update({})", "index(2)", "count(1)", "nope()",
]
TESTS = [
    "defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping",
    "iterable", "sequence", "callable", "odd", "even", "divisibleby 3", "divisibleby(2)", "eq 7", "equalto('x')", "ne 1",
    "lt 5", "ge(7)", "in [1, 7]", "in 'Hello'", "sameas none", "sameas true", "lower", "upper", "escaped", "not none",
    "not defined", "filter", "gt 'a'",
]
SUBSCRIPTS = [
    ".k", ".items", ".m.q", ".nope", "[0]", "[-1]", "[9]", "['k']", "['items']", "['nope']", "[1:]", "[:2]", "[::-1]",
    "[-2:]", "[:-1]", "[::2]", "[5:1:-2]", ".0", "[1.5]", "[none]", "[true]", "[1:none]", "['upper']()",
]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "and", "or", "==", "!=", "<", "<=", ">", ">=", "in", "not in"]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def expr(self, depth):
        pick = self.random.random()
        if depth <= 0 or pick < 0.12:
            return self.random.choice(ATOMS)
        inner = lambda: self.expr(depth - 1)
        if pick < 0.30:
            return f"({inner()} {self.random.choice(OPERATORS)} {inner()})"
        if pick < 0.50:
            return f"({inner()}|{self.random.choice(FILTERS)})"
        if pick < 0.64:
            return f"{inner()}.{self.random.choice(METHODS)}"
        if pick < 0.73:
            return f"({inner()} is {self.random.choice(TESTS)})"
        if pick < 0.83:
            return f"{inner()}{self.random.choice(SUBSCRIPTS)}"
        if pick < 0.88:
            return f"({inner()} if {inner()} else {inner()})"
        if pick < 0.90:
            return f"({inner()} if {inner()})"
        if pick < 0.93:
            return f"[{inner()}, {inner()}]"
        if pick < 0.95:
            return f"{{{inner()}: {inner()}, 'k': {inner()}}}"
        if pick < 0.97:
            return f"('%5.2f|%-6s|%03d|%x|%r|%%' % ({inner()}, {inner()}, {inner()}, {inner()}, {inner()}))"
        if pick < 0.985:
            return f"'{{0:>8}}|{{1:<8}}|{{2!r}}|{{0}}'.format({inner()}, {inner()}, {inner()})"
        return f"{self.random.choice(['-', '+', 'not '])}{inner()}"

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
            head = f"for {name} in {self.expr(1)}" + self.random.choice(["", "", f" if {name}", f" if {name} is string"])
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
        theirs = rendered_by_jinja(env, template, context)
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
