"""Runs the recipes of docs/SERVING.md as they stand there, against the server at GOGRID_URL: every block of Python and
JavaScript, and every line that begins with curl. Each must end well and print something.

usage: recipes.py DOCUMENT FOLDER_OF_NODE_MODULES; LLAMA_INDEX_PYTHON names a Python of LlamaIndex's own, which wants an
older openai than the others.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import URL

WRITTEN = "http://127.0.0.1:11711"


def recipes(document):
    """Kind and text of each."""
    for kind, text in re.findall(r"^```(\w+)\n(.*?)^```", document.replace(WRITTEN, URL), re.DOTALL | re.MULTILINE):
        if kind in ("python", "js"):
            yield kind, text
        elif kind == "sh":
            yield from (("curl", line) for line in text.splitlines() if line.startswith("curl "))


def command(kind, text, modules):
    if kind == "python":
        own = os.environ.get("LLAMA_INDEX_PYTHON") if "llama_index" in text else None
        return [own or sys.executable, "-c", text]
    if kind == "curl":
        return ["bash", "-c", text.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)]
    file = tempfile.NamedTemporaryFile("w", suffix=".mjs", dir=modules, delete=False)
    file.write(text)
    file.close()
    return ["node", file.name]


def fails(kind, text, modules):
    words = command(kind, text, modules)
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    if kind == "js":
        Path(words[1]).unlink()
    if done.returncode or not done.stdout.strip():
        return f"ended with {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}"
    return ""


def main():
    document, modules = sys.argv[1:]
    failed, count = 0, 0
    for kind, text in recipes(Path(document).read_text()):
        problem = fails(kind, text, modules)
        count += 1
        failed += bool(problem)
        if problem:
            print(f"FAILED recipe\n{text}\n{problem}")
    print(f"recipes of {document}: {count} run, {failed} failed")
    sys.exit(failed > 0 or count == 0)


main()
