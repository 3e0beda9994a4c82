"""openai-python: chat completions."""

from openai import BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel, Field

import harness as h

client = OpenAI(base_url=f"{h.URL}/v1", api_key="none", max_retries=0, timeout=120)


class Person(BaseModel):
    name: str = Field(min_length=1, max_length=20)
    age: int = Field(ge=0, le=120)


def ask(model=h.MODEL, messages=h.MESSAGES, **more):
    more = {"max_tokens": 24, "temperature": 0, **more}
    return client.chat.completions.create(model=model, messages=messages, **more)


def chat():
    choice = ask().choices[0]
    h.check_text(choice.message.content)
    assert choice.finish_reason in ("stop", "length"), choice.finish_reason


def stream():
    chunks = list(ask(stream=True))
    choices = [chunk.choices[0] for chunk in chunks]
    assert len({chunk.id for chunk in chunks}) == 1, "one id"
    assert choices[0].delta.role == "assistant", "the role comes first"
    reasons = [choice.finish_reason for choice in choices]
    assert reasons[-1] in ("stop", "length") and not any(reasons[:-1]), reasons
    h.same("".join(choice.delta.content or "" for choice in choices), ask().choices[0].message.content)


def usage():
    whole = ask().usage
    h.check_usage(whole.prompt_tokens, whole.completion_tokens, whole.total_tokens)
    last = list(ask(stream=True, stream_options={"include_usage": True}))[-1]
    assert last.choices == [], "the usage has a chunk of its own"
    h.same(last.usage.total_tokens, whole.total_tokens)
    assert list(ask(stream=True))[-1].usage is None, "usage comes only where it is asked for"


def tools():
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        answer = weather(tool_choice=choice).choices[0]
        assert answer.finish_reason == "tool_calls", answer.finish_reason
        call = answer.message.tool_calls[0]
        h.check_call(call.function.name, call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees, dry"}
    said = answer.message.model_dump(exclude_none=True)
    after = weather(messages=[*h.ASK_WEATHER, said, result], tool_choice="none").choices[0].message
    h.check_text(after.content)
    assert not after.tool_calls, "tool_choice none"


def weather(**more):
    more = {"messages": h.ASK_WEATHER, "tools": [h.WEATHER_TOOL], "max_tokens": 96, **more}
    return ask(h.TOOL_MODEL, **more)


def streamed_tools():
    whole = weather(tool_choice="required").choices[0].message.tool_calls[0].function
    with client.chat.completions.stream(
        model=h.TOOL_MODEL,
        messages=h.ASK_WEATHER,
        tools=[h.WEATHER_TOOL],
        tool_choice="required",
        max_tokens=96,
        temperature=0,
    ) as events:
        call = events.get_final_completion().choices[0].message.tool_calls[0].function
    h.check_call(call.name, call.arguments)
    h.same(call.arguments, whole.arguments)


def schema():
    answer = client.chat.completions.parse(
        model=h.MODEL, messages=h.ASK_PERSON, response_format=Person, max_tokens=96, temperature=0
    )
    h.check_person(answer.choices[0].message.parsed.model_dump())
    bad = {"type": "json_schema", "json_schema": {"name": "bad", "schema": {"type": "nonsense"}}}
    h.raises(BadRequestError, lambda: ask(response_format=bad))


def unknown_model():
    error = h.raises(NotFoundError, lambda: ask(model=h.NO_MODEL))
    assert error.code == "model_not_found" and h.MODEL in str(error), f"{error.code}: {error}"


def overflow():
    long = [{"role": "user", "content": h.TOO_LONG}]
    for streams in (False, True):
        error = h.raises(BadRequestError, lambda streams=streams: ask(messages=long, stream=streams))
        assert error.code == "context_length_exceeded", error.code


def embeddings():
    h.raises(BadRequestError, lambda: client.embeddings.create(model=h.MODEL, input="a text"))


h.run(
    "openai-python",
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
