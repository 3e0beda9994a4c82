"""Prints what the clients' checks came to: a table, then the reasons. Fails where a check did, and where one
passes that expected.tsv calls a failure.

usage: table.py RESULTS EXPECTED
"""

import json
import sys

from harness import CHECKS


def read_expected(path):
    """Client, check and reason in each line; what begins with # is left out."""
    expected = {}
    with open(path) as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                client, check, reason = line.rstrip("\n").split("\t")
                expected[client, check] = reason
    return expected


def word(line, expected):
    reason = expected.get((line["client"], line["check"]))
    match line["result"], reason:
        case "failed", None:
            return "FAILED"
        case "failed", _:
            return "expected"
        case "ok", reason if reason is not None:
            return "FAILED"
        case "not applicable", _:
            return "-"
        case result, _:
            return result


def rows(lines, expected):
    words = {(line["client"], line["check"]): word(line, expected) for line in lines}
    clients = dict.fromkeys(line["client"] for line in lines)
    # A client that ended before its last check has failed it.
    return [[client, *(words.get((client, check), "FAILED") for check in CHECKS)] for client in clients]


def show(table):
    table = [["", *CHECKS], *table]
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def reasons(lines, expected):
    for line in lines:
        client, check, result = line["client"], line["check"], line["result"]
        known = expected.get((client, check))
        name = f"{client}, {check}"
        if result == "failed" and known is None:
            print(f"FAILED {name}: {line['reason']}")
        elif result == "failed":
            print(f"expected {name}: {known}")
        elif result == "ok" and known is not None:
            print(f"FAILED {name}: passes, though expected.tsv says: {known}")
        elif result == "not applicable":
            print(f"not applicable {name}: {line['reason']}")


def main():
    results, expected = sys.argv[1:]
    with open(results) as file:
        lines = [json.loads(line) for line in file]
    expected = read_expected(expected)
    table = rows(lines, expected)
    show(table)
    print()
    reasons(lines, expected)
    sys.exit(any("FAILED" in row for row in table))


main()
