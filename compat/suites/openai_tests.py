"""Copies the tests of OpenAI's library and mends the values in them that no server could take.

usage: openai_tests.py SOURCE TARGET, where SOURCE is the unpacked package and TARGET a folder that is made anew.
"""

import shutil
import sys
from pathlib import Path

# What is replaced by what: their mock server looks at types alone.
PATCHES = [
    # A bias is of a token's id.
    ('logit_bias={"foo": 0}', 'logit_bias={"7": 0}'),
    # The best of none of several choices.
    ("best_of=0", "best_of=1"),
    # A response to nothing.
    ("response.create()", 'response.create(input="string")'),
    ("responses.create()", 'responses.create(input="string")'),
    ("create(\n            stream=True,\n        )", 'create(input="string", stream=True)'),
]


def main():
    source, target = map(Path, sys.argv[1:])
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source / "tests", target / "tests")
    # It holds pytest's settings.
    shutil.copy(source / "pyproject.toml", target)
    resources = target / "tests" / "api_resources"
    paths = [*resources.rglob("test_completions.py"), resources / "test_responses.py"]
    for old, new in PATCHES:
        count = sum(patch(path, old, new) for path in paths)
        assert count, f"{old!r} is nowhere: the tests have changed"


def patch(path, old, new):
    text = path.read_text()
    path.write_text(text.replace(old, new))
    return text.count(old)


main()
