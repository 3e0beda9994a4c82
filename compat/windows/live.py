"""live.py THREADS MODEL PROGRAM WORDS: a generation under Wine is listed, its limits are changed and read back, it is paused and
goes on, all by another process of the program over the named pipe. THREADS (threads.c) reads priorities as another process sees them.
Ends with 1 at the first thing that is not as it should be."""

import json
import subprocess
import sys
import tempfile
import time

THREADS, MODEL, *PROGRAM = sys.argv[1:]
PATIENCE_S = 60
IDLE = -15  # THREAD_PRIORITY_IDLE


def gogrid(*words, code=0):
    """What it prints, as JSON where it is that."""
    returned, said, problem = run([*PROGRAM, *words])
    if returned != code:
        sys.exit(f"gogrid {' '.join(words)} ended with {returned}: {said}{problem}")
    return json.loads(said) if "--json" in words and code == 0 else said + problem


def run(words):
    """To files: programs of Wine's own that ours starts would keep a pipe."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        code = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=120).returncode
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read()


def hold(is_true, what):
    print(("holds: " if is_true else "does not hold: ") + str(what), flush=True)
    if not is_true:
        sys.exit(1)


def wait(get, what):
    due = time.monotonic() + PATIENCE_S
    while time.monotonic() < due:
        if got := get():
            return got
        time.sleep(0.2)
    sys.exit(f"it never came that {what}")


def status():
    return gogrid("limits", "get", "--json")["status"]


def busy():
    return sum(device["busy_s"] for device in status()["devices"])


hold(gogrid("ps", "--json") == [], "nothing runs")
words = ["generate", "--mode", "aggressive", "--as", "owner", "--model", MODEL, "--context", "8192"]
words += ["--ignore-eos", "--max-tokens", "8000", "Count on."]
running = subprocess.Popen([*PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    listed = wait(lambda: [each for each in gogrid("ps", "--json") if each["running"] == 1], "it is listed and runs")
    pid = listed[0]["pid"]
    hold(len(listed) == 1, f"one gogrid runs, {listed[0]}")
    gogrid("limits", "get", "--json", "--pid", str(pid + 100_000), code=7)

    gogrid("limits", "set", "process_priority=15", "max_compute_usage_percent=0.6")
    limits = gogrid("limits", "get", "--json")["settings"]["limits"]
    hold((limits["process_priority"], limits["max_compute_usage_percent"]) == (15, 0.6), f"limits are read back, {limits}")

    def lowered():
        return [thread for thread in status()["threads"] if thread["nice"] == 15]

    wait(lambda: len(lowered()) == len(status()["threads"]) - 1, "all threads but the spawner are lowered")
    named = [thread["name"] for thread in lowered()]
    seen = run([*PROGRAM[:-1], THREADS, str(pid)])[1].split()
    hold(seen.count(str(IDLE)) == len(named), f"another process sees as many idle threads as {named}: {seen}")
    for thread in status()["threads"]:
        print(thread)
    # What cannot be read back is told, and nothing else is.
    problems = status()["not_enforced"]
    known = ("it for files and not for threads", "GetThreadInformation: this Windows does not have it")
    hold(problems and all(any(word in problem for word in known) for problem in problems), f"not enforced: {problems}")

    gogrid("limits", "pause")
    before = wait(lambda: (one := busy()) == busy() and one, "a pause holds")
    time.sleep(2)
    hold(busy() == before, f"nothing is computed in a pause, {before} s busy")
    gogrid("limits", "resume")
    wait(lambda: busy() > before + 0.05, "it goes on")
finally:
    running.kill()
    running.wait()
wait(lambda: gogrid("ps", "--json") == [], "it has ended, and is listed no more")
