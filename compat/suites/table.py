"""Prints how many tests of each suite passed, failed and do not apply, and then the reasons from known.tsv. Fails
where a test failed whose reason is not known, where one passes that is said to fail, and where of a project's tests
that apply fewer than 80 % passed.

usage: table.py KNOWN RESULT.xml…, files as pytest writes them; a file's name is its suite's, PROJECT_….
"""

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

SHARE_MIN = 0.8


def read_known(path):
    """Suite, pattern of tests, `n/a` or `fails`, reason; what begins with # is left out."""
    lines = [line for line in Path(path).read_text().splitlines() if line and not line.startswith("#")]
    return [
        (suite, re.compile(pattern), kind, reason)
        for suite, pattern, kind, reason in (line.split("\t") for line in lines)
    ]


def read_results(path):
    """Each test's name, and why it did not pass, in the order they ran."""
    results = {}
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname').split('.')[-1]}::{case.get('name')}"
        failures = [child for child in case if child.tag in ("failure", "error")]
        skipped = case.find("skipped")
        if skipped is not None:
            results[name] = ("skipped", skipped.get("message", ""))
        elif failures:
            results[name] = ("failed", " ".join(failures[0].get("message", "").split())[:160])
        else:
            results[name] = ("passed", "")
    return results


def judge(suite, results, known):
    """For each test what it counts as, and the reason."""
    for name, (result, message) in results.items():
        match = next((line for line in known if line[0] == suite and line[1].search(name)), None)
        kind, reason = (match[2], match[3]) if match else (None, "")
        if result == "skipped":
            yield name, "n/a", f"skipped by the suite: {message}"
        elif kind == "n/a":
            yield name, "n/a", reason
        elif result == "passed":
            yield name, "passed" if kind is None else "unexpected", f"passes, though it is said to fail: {reason}"
        elif kind == "fails":
            yield name, "failed", reason
        else:
            yield name, "unexpected", message


def count(judged, kind):
    return sum(1 for one in judged if one[1] == kind)


def row(name, judged):
    """A line of the table, and the share that passed of those that apply; none where none applies."""
    passed, failed = count(judged, "passed"), count(judged, "failed") + count(judged, "unexpected")
    share = passed / (passed + failed) if passed + failed else None
    told = "-" if share is None else f"{share:.0%}"
    print(f"{name:<32}{passed:>8}{failed:>8}{count(judged, 'n/a'):>6}{told:>22}")
    return share


def tell(suite, judged):
    """Each reason once, with how many tests have it; what was not expected by name."""
    told = {}
    for name, kind, reason in judged:
        if kind == "unexpected":
            print(f"UNEXPECTED {suite} {name}: {reason}")
        elif kind != "passed":
            told[kind, reason] = told.get((kind, reason), 0) + 1
    for (kind, reason), tests in sorted(told.items()):
        print(f"{kind:<7}{tests:>3} {suite}: {reason}")


def main():
    known, good = read_known(sys.argv[1]), True
    suites = {path.stem: list(judge(path.stem, read_results(path), known)) for path in map(Path, sys.argv[2:])}
    print(f"{'suite':<32}{'passed':>8}{'failed':>8}{'n/a':>6}{'of those that apply':>22}")
    for suite, judged in suites.items():
        row(suite, judged)
        good &= count(judged, "unexpected") == 0
    for family in sorted({suite.split("_")[0] for suite in suites}):
        together = [one for suite, judged in suites.items() if suite.startswith(family + "_") for one in judged]
        good &= (row(f"all of {family}", together) or 0) >= SHARE_MIN
    for suite, judged in suites.items():
        tell(suite, judged)
    sys.exit(not good)


main()
