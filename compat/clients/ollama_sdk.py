"""ollama."""

from ollama import Client, ResponseError

import harness as h

client = Client(host=h.URL, timeout=120)


def ask(model=h.MODEL, messages=h.MESSAGES, **more):
    options = {"num_predict": more.pop("most", 24), "temperature": 0}
    return client.chat(model=model, messages=messages, options=options, **more)


def chat():
    h.check_text(ask().message.content)
    h.check_text(client.generate(model=h.MODEL, prompt=h.QUESTION, options={"num_predict": 8}).response)
    assert h.MODEL in [model.model for model in client.list().models], "list"
    assert client.show(h.MODEL).capabilities, "show"
    assert h.MODEL in [model.model for model in client.ps().models], "ps"


def stream():
    parts = list(ask(stream=True))
    assert parts[-1].done and parts[-1].done_reason in ("stop", "length"), parts[-1]
    h.same("".join(part.message.content for part in parts), ask().message.content)


def usage():
    whole = ask()
    h.check_usage(whole.prompt_eval_count, whole.eval_count)
    assert whole.total_duration > 0 and whole.eval_duration > 0, "durations"
    h.same(list(ask(stream=True))[-1].eval_count, whole.eval_count)


def weather(messages=h.ASK_WEATHER, **more):
    return ask(h.TOOL_MODEL, messages, tools=[h.WEATHER_TOOL], most=96, **more)


def tools():
    # Its protocol cannot have a call forced: a call must be right where there is one, and one of an earlier turn
    # and its result must be taken back.
    for call in weather().message.tool_calls or []:
        h.check_call(call.function.name, dict(call.function.arguments))
    function = {"name": "get_weather", "arguments": {"city": "Paris", "unit": "celsius"}}
    said = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
    result = {"role": "tool", "tool_name": "get_weather", "content": "18 degrees, dry"}
    answer = weather([*h.ASK_WEATHER, said, result]).message
    assert answer.content or answer.tool_calls, "neither text nor a call"


def streamed_tools():
    whole, parts = weather().message, list(weather(stream=True))
    calls = [call for part in parts for call in part.message.tool_calls or []]
    h.same("".join(part.message.content or "" for part in parts), whole.content or "")
    h.same(calls, list(whole.tool_calls or []))


def schema():
    h.check_person(ask(messages=h.ASK_PERSON, format=h.PERSON, most=96).message.content)


def unknown_model():
    error = h.raises(ResponseError, lambda: ask(h.NO_MODEL))
    h.same(error.status_code, 404)


def overflow():
    error = h.raises(ResponseError, lambda: ask(messages=[{"role": "user", "content": h.TOO_LONG}]))
    assert error.status_code == 400 and "context" in error.error, f"{error.status_code}: {error.error}"


def embeddings():
    error = h.raises(ResponseError, lambda: client.embed(model=h.MODEL, input="a text"))
    h.same(error.status_code, 400)


h.run(
    "ollama",
    {
        "chat": chat,
        "stream": stream,
        "usage": usage,
        "tools": tools,
        "streamed tools": streamed_tools,
        "schema": schema,
        "unknown model": unknown_model,
        "overflow": overflow,
        "embeddings": embeddings,
    },
)
