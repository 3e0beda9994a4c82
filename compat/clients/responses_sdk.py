"""openai-python: responses."""

import json

from openai import BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel, Field

import harness as h

client = OpenAI(base_url=f"{h.URL}/v1", api_key="none", max_retries=0, timeout=120)
TOOL = {"type": "function", "strict": True, **h.WEATHER_TOOL["function"]}


class Person(BaseModel):
    name: str = Field(min_length=1, max_length=20)
    age: int = Field(ge=0, le=120)


def ask(model=h.MODEL, **more):
    more = {"input": h.QUESTION, "max_output_tokens": 24, "temperature": 0, "store": False, **more}
    return client.responses.create(model=model, **more)


def chat():
    answer = ask()
    h.check_text(answer.output_text)
    assert answer.status in ("completed", "incomplete"), answer.status


def stream():
    events = list(ask(stream=True))
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(len(events))), f"sequence numbers {numbers}"
    assert events[0].type == "response.created", events[0].type
    assert events[-1].type in ("response.completed", "response.incomplete"), events[-1].type
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    h.same(text, events[-1].response.output_text)
    h.same(text, ask().output_text)


def usage():
    usage = ask().usage
    h.check_usage(usage.input_tokens, usage.output_tokens, usage.total_tokens)


def weather(**more):
    more = {"input": h.ASK_WEATHER, "tools": [TOOL], "max_output_tokens": 96, "tool_choice": "required", **more}
    return ask(h.TOOL_MODEL, **more)


def tools():
    call = next(item for item in weather().output if item.type == "function_call")
    h.check_call(call.name, call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": json.dumps("18 degrees")}
    said = call.model_dump(exclude_none=True)
    h.check_text(weather(input=[*h.ASK_WEATHER, said, result], tool_choice="none").output_text)


def streamed_tools():
    deltas = {}
    for event in weather(stream=True):
        if event.type == "response.function_call_arguments.delta":
            deltas[event.item_id] = deltas.get(event.item_id, "") + event.delta
        if event.type == "response.function_call_arguments.done":
            h.same(deltas[event.item_id], event.arguments)
    whole = [item.arguments for item in weather().output if item.type == "function_call"]
    h.same(list(deltas.values()), whole)


def schema():
    answer = client.responses.parse(
        model=h.MODEL, input=h.ASK_PERSON, text_format=Person, max_output_tokens=96, temperature=0
    )
    h.check_person(answer.output_parsed.model_dump())


def unknown_model():
    h.raises(NotFoundError, lambda: ask(model=h.NO_MODEL))


def overflow():
    error = h.raises(BadRequestError, lambda: ask(input=h.TOO_LONG))
    assert error.code == "context_length_exceeded", error.code


h.run(
    "openai-python, responses",
    {
        "chat": chat,
        "stream": stream,
        "usage": usage,
        "tools": tools,
        "streamed tools": streamed_tools,
        "schema": schema,
        "unknown model": unknown_model,
        "overflow": overflow,
        "embeddings": "responses have none",
    },
)
