"""llm, with a model of its extra-openai-models.yaml."""

import os
import tempfile
from pathlib import Path

folder = tempfile.TemporaryDirectory()
os.environ["LLM_USER_PATH"] = folder.name

import harness as h


def entry(name, embeds=False):
    lines = [f"- model_id: gogrid/{name}", f"  model_name: {name}", f"  api_base: {h.URL}/v1"]
    lines += [] if embeds else ["  supports_schema: true", "  supports_tools: true"]
    return "\n".join(lines) + "\n"


(Path(folder.name) / "extra-openai-models.yaml").write_text(
    "".join(entry(name) for name in {h.MODEL, h.TOOL_MODEL, h.NO_MODEL})
)

import llm
import openai


def model(name=h.MODEL):
    found = llm.get_model(f"gogrid/{name}")
    found.key = "none"
    return found


def ask(name=h.MODEL, prompt=h.QUESTION, **more):
    more = {"temperature": 0, "max_tokens": 24, **more}
    return model(name).prompt(prompt, **more)


def chat():
    h.check_text(ask(stream=False).text())


def stream():
    h.same("".join(ask()), ask(stream=False).text())


def usage():
    for streams in (False, True):
        answer = ask(stream=streams)
        answer.text()
        figures = answer.usage()
        h.check_usage(figures.input, figures.output)


def get_weather(city: str, unit: str) -> str:
    """Tells the weather of a city."""
    return f"18 degrees {unit} in {city}"


def answered(streams):
    # It has no way to force a call: the tools must be taken, and a call be right where there is one.
    answer = ask(h.TOOL_MODEL, h.ASK_WEATHER[0]["content"], tools=[get_weather], stream=streams, max_tokens=96)
    text, calls = answer.text(), answer.tool_calls()
    assert text or calls, "neither text nor a call"
    return text, [(call.name, call.arguments) for call in calls]


def tools():
    for name, arguments in answered(False)[1]:
        assert name == "get_weather" and isinstance(arguments, dict), (name, arguments)


def streamed_tools():
    h.same(answered(True), answered(False))


def schema():
    h.check_person(ask(prompt=h.ASK_PERSON[0]["content"], schema=h.PERSON, max_tokens=96).text())


def unknown_model():
    # It hands on the errors of the library that it asks with.
    h.raises(openai.NotFoundError, lambda: ask(h.NO_MODEL).text())


def overflow():
    error = h.raises(openai.BadRequestError, lambda: ask(prompt=h.TOO_LONG).text())
    assert error.code == "context_length_exceeded", error.code


h.run(
    "llm",
    {
        "chat": chat,
        "stream": stream,
        "usage": usage,
        "tools": tools,
        "streamed tools": streamed_tools,
        "schema": schema,
        "unknown model": unknown_model,
        "overflow": overflow,
        "embeddings": "its models of this kind have none",
    },
)
