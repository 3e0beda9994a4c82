"""Copies llama.cpp's server tests and takes out what belongs to the model they were written for.

usage: llama_tests.py SOURCE TARGET, where SOURCE is llama.cpp's folder and TARGET one that is made anew.
"""

import re
import shutil
import sys
from pathlib import Path

# In which files, what is replaced by what, and why.
PATCHES = [
    # The texts and counts are those of stories260K, a model of 260 thousand weights that is not to be had here.
    ("utils.py", r"(def match_regex\(.*\n)", r"\1    return isinstance(text, str)\n"),
    ("test_*.py", r"== n_prompt\b", "> 0"),
    # A model with more to say may end before the limit, and so may one of this family.
    ("test_*.py", r"== n_predicted\b", "<= n_predicted"),
    ("test_*.py", r"== finish_reason\b", 'in ("stop", "length")'),
    ("test_*.py", r'(finish_reason"?\]?) == "length"', r'\1 in ("stop", "length")'),
    # The names of headers have no case.
    ("utils.py", r"dict\(response\.headers\)", "response.headers"),
    # It has no model to fetch.
    ("conftest.py", r"ServerPreset\.load_all\(\)", "pass"),
    # It serves any name; here unknown ones are 404, and names that begin with gpt- mean the default model.
    ("test_*.py", r'"(test|codellama70b|davinci-002)"(?=[,)])', r'"gpt-\1"'),
    # Its builds are called b1234.
    ("test_*.py", r'system_fingerprint(.*?)startswith\("b"\)', r'system_fingerprint\1startswith("gogrid")'),
    # The first delta's content is null there, and an empty text here and at OpenAI.
    ("test_*.py", r'(\["delta"\]\["content"\]|\.delta\.content) is None', r"\1 in (None, '')"),
    # Without a version, completions have the shape of its own endpoint there, and OpenAI's here.
    ("test_security.py", r'assert "content" in res\.body', 'assert "choices" in res.body'),
]


def main():
    source, target = map(Path, sys.argv[1:])
    shutil.rmtree(target, ignore_errors=True)
    tests = target / "tools" / "server" / "tests"
    shutil.copytree(source / "tools" / "server" / "tests", tests)
    # Templates are asked for by paths from the tests.
    (target / "models").symlink_to(source / "models")
    for pattern, old, new in PATCHES:
        paths = list(tests.rglob(pattern))
        count = sum(patch(path, old, new) for path in paths)
        assert count, f"{old!r} is nowhere in {pattern}: the tests have changed"


def patch(path, old, new):
    text, count = re.subn(old, new, path.read_text())
    path.write_text(text)
    return count


main()
