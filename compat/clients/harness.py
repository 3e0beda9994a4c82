"""What every client is asked for, and what its answers are held to.

A client's file hands `run` a function for each check: what the function raises is why the check failed. A check
that a client has no call for is a text instead, which says so.
"""

import json
import os
import sys
import time

CHECKS = [
    "chat",
    "stream",
    "usage",
    "tools",
    "streamed tools",
    "schema",
    "unknown model",
    "overflow",
    "embeddings",
]

URL = os.environ.get("GOGRID_URL", "http://127.0.0.1:11711")
MODEL = os.environ.get("GOGRID_MODEL", "smollm2-135m")
# The same model with a chat template that knows tools.
TOOL_MODEL = os.environ.get("GOGRID_TOOL_MODEL", MODEL)
NO_MODEL = "no-such-model"

QUESTION = "Name three colours."
MESSAGES = [{"role": "user", "content": QUESTION}]
# More tokens than the server's context has.
TOO_LONG = "word " * 4000

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "maxLength": 24},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city.",
        "parameters": WEATHER,
    },
}
ASK_WEATHER = [{"role": "user", "content": "What is the weather in Paris, in celsius?"}]

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
ASK_PERSON = [{"role": "user", "content": "Invent a person: a name and an age."}]


def run(client, checks):
    """Runs a client's checks in order and prints a line of JSON for each."""
    assert list(checks) == CHECKS, f"{client} must name the checks {CHECKS}"
    for name, check in checks.items():
        begun = time.monotonic()
        result, reason = outcome(check)
        seconds = round(time.monotonic() - begun, 2)
        line = {"client": client, "check": name, "result": result, "reason": reason, "seconds": seconds}
        print(json.dumps(line), flush=True)


def outcome(check):
    if isinstance(check, str):
        return "not applicable", check
    try:
        check()
    except Exception as error:  # whatever a client raises is its verdict
        text = " ".join(f"{type(error).__name__}: {error}".split())
        print(text, file=sys.stderr)
        return "failed", text[:400]
    return "ok", ""


def raises(kind, call):
    """The error that `call` must raise, of this class of the client's own."""
    try:
        answer = call()
    except kind as error:
        return error
    except Exception as error:
        raise AssertionError(f"expected {kind.__name__}, got {type(error).__name__}: {error}") from error
    raise AssertionError(f"expected {kind.__name__}, got an answer: {answer!r}")


def check_text(text):
    assert isinstance(text, str) and text.strip(), f"expected text, got {text!r}"


def check_usage(prompt, completion, total=None):
    assert isinstance(prompt, int) and prompt > 0, f"prompt tokens: {prompt!r}"
    assert isinstance(completion, int) and completion > 0, f"completion tokens: {completion!r}"
    assert total in (None, prompt + completion), f"total tokens: {total!r}"


def check_call(name, arguments):
    """A call of the weather tool; its arguments are JSON in a text, or already read."""
    value = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert name == "get_weather", f"called {name!r}"
    assert set(value) == {"city", "unit"}, f"arguments {value!r}"
    assert isinstance(value["city"], str) and 1 <= len(value["city"]) <= 24, f"city {value['city']!r}"
    assert value["unit"] in ("celsius", "fahrenheit"), f"unit {value['unit']!r}"


def check_person(answer):
    """An answer to the schema; JSON in a text, or already read."""
    value = json.loads(answer) if isinstance(answer, str) else answer
    assert set(value) == {"name", "age"}, f"fields {value!r}"
    assert isinstance(value["name"], str) and 1 <= len(value["name"]) <= 20, f"name {value['name']!r}"
    assert type(value["age"]) is int and 0 <= value["age"] <= 120, f"age {value['age']!r}"


def same(streamed, whole):
    assert streamed == whole, f"streamed {streamed!r}, at once {whole!r}"
