#!/usr/bin/env python3
"""A compilation on all cores, alone and beside an owner's and a guest's requests, in turn.

    GOGRID=target/release/gogrid python3 compat/beside.py --rounds 3

A long request runs for as long as the compiler does. Prints a line of JSON: the compiler's time beside each over that
alone (median and range), the words that were made meanwhile, and of an owner's request of 20 tokens when its first
text came, and its end. Nothing but
Python's own library and this repository's compiler."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time

GOGRID = os.environ.get("GOGRID", "target/release/gogrid")
# When the compiler is at work on all cores.
WARM_UP_S = 6


def compile_once(folder, package, jobs):
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    command = ["cargo", "build", f"-j{jobs}", "-p", package, "--target-dir", folder]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def request(whose, tokens):
    return subprocess.Popen(
        [GOGRID, "generate", "Name three colours.", "--max-tokens", str(tokens), "--ignore-eos", "--figures",
         "--as", whose],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def short(whose):
    """Seconds from the program's start to its first text and to its end, and what it said."""
    began = time.perf_counter()
    process = request(whose, 20)
    process.stdout.read(1)
    first = time.perf_counter() - began
    process.stdout.read()
    said = process.stderr.read().decode(errors="replace")
    process.wait()
    return first, time.perf_counter() - began, said


def beside(whose, arguments, folder):
    """The compiler's time, and what a request of 20 tokens came to beside it. A long one follows it until the compiler
    is done; of a guest's there is the long one alone, which waits."""
    found, long = [], []

    def ask():
        time.sleep(WARM_UP_S)
        if whose == "owner":
            found.append(short(whose))
        long.append(request(whose, 5000))

    asking = threading.Thread(target=ask)
    if whose:
        asking.start()
    took = compile_once(folder, arguments.package, arguments.jobs)
    if whose:
        asking.join()
        long[0].terminate()
        text = long[0].stdout.read().decode(errors="replace")
        said = long[0].stderr.read().decode(errors="replace")
        long[0].wait()
        found.append((None, len(text.split()), said))
    return took, found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--package", default="gogrid-model")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "target")
        compile_once(target, arguments.package, arguments.jobs)
        times = {None: [], "owner": [], "guest": []}
        answers = {"owner": [], "guest": []}
        for number in range(arguments.rounds):
            order = list(times)
            for whose in order[number % 3:] + order[:number % 3]:
                took, found = beside(whose, arguments, target)
                times[whose].append(took)
                if whose:
                    answers[whose].append(found)
    result = {"compile_alone_s": [round(took, 1) for took in times[None]]}
    for whose, all_ in answers.items():
        ratios = [took / alone for took, alone in zip(times[whose], times[None])]
        result[whose] = {
            "compile_ratio": round(statistics.median(ratios), 3),
            "range": [round(min(ratios), 3), round(max(ratios), 3)],
            "words_beside": [found[-1][1] for found in all_],
            "says": sorted({line for found in all_ for *_, said in found for line in said.splitlines()
                            if "stopped" in line})[:2],
        }
    shorts = [found[0] for found in answers["owner"]]
    result["owner"]["first_text_s"] = [round(first, 2) for first, _, _ in shorts]
    result["owner"]["end_s"] = [round(end, 2) for _, end, _ in shorts]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
