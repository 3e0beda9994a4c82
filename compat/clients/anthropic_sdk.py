"""anthropic."""

from anthropic import Anthropic, BadRequestError, NotFoundError

import harness as h

client = Anthropic(base_url=h.URL, api_key="none", max_retries=0, timeout=120)
TOOL = {"name": "get_weather", "description": "Tells the weather of a city.", "input_schema": h.WEATHER}


# The client has no argument for it any more; the server takes it all the same.
COLD = {"temperature": 0}


def ask(model=h.MODEL, messages=h.MESSAGES, **more):
    more = {"max_tokens": 24, "extra_body": COLD, **more}
    return client.messages.create(model=model, messages=messages, **more)


def chat():
    answer = ask()
    h.check_text(answer.content[0].text)
    assert answer.stop_reason in ("end_turn", "max_tokens"), answer.stop_reason


def stream():
    with client.messages.stream(model=h.MODEL, messages=h.MESSAGES, max_tokens=24, extra_body=COLD) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    h.same(text, ask().content[0].text)
    assert final.stop_reason in ("end_turn", "max_tokens"), final.stop_reason


def usage():
    usage = ask().usage
    h.check_usage(prompt_tokens(usage), usage.output_tokens)
    with client.messages.stream(model=h.MODEL, messages=h.MESSAGES, max_tokens=24, extra_body=COLD) as events:
        streamed = events.get_final_message().usage
    h.same(
        (prompt_tokens(streamed), streamed.output_tokens),
        (prompt_tokens(usage), usage.output_tokens),
    )
    counted = client.messages.count_tokens(model=h.MODEL, messages=h.MESSAGES)
    h.same(counted.input_tokens, prompt_tokens(usage))


def prompt_tokens(usage):
    return usage.input_tokens + (usage.cache_read_input_tokens or 0)


NAMED = {"type": "tool", "name": "get_weather"}


def weather(messages=h.ASK_WEATHER, choice=NAMED, **more):
    return ask(h.TOOL_MODEL, messages, tools=[TOOL], tool_choice=choice, max_tokens=96, **more)


def call_of(message):
    assert message.stop_reason == "tool_use", message.stop_reason
    return next(block for block in message.content if block.type == "tool_use")


def tools():
    answer = weather()
    call = call_of(answer)
    h.check_call(call.name, call.input)
    call_of(weather(choice={"type": "any"}))
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "18 degrees, dry"}
    said = {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in answer.content]}
    after = weather([*h.ASK_WEATHER, said, {"role": "user", "content": [result]}], {"type": "none"})
    h.check_text(after.content[0].text)


def streamed_tools():
    with client.messages.stream(
        model=h.TOOL_MODEL,
        messages=h.ASK_WEATHER,
        tools=[TOOL],
        tool_choice={"type": "any"},
        max_tokens=96,
        extra_body=COLD,
    ) as events:
        call = call_of(events.get_final_message())
    h.check_call(call.name, call.input)


def schema():
    wanted = {"format": {"type": "json_schema", "schema": h.PERSON}}
    h.check_person(ask(messages=h.ASK_PERSON, output_config=wanted, max_tokens=96).content[0].text)


def unknown_model():
    h.raises(NotFoundError, lambda: ask(h.NO_MODEL))


def overflow():
    long = [{"role": "user", "content": h.TOO_LONG}]
    error = h.raises(BadRequestError, lambda: ask(messages=long))
    # It has no class for this; programs look for these words.
    assert "prompt is too long" in str(error) or "context window" in str(error), str(error)


h.run(
    "anthropic",
    {
        "chat": chat,
        "stream": stream,
        "usage": usage,
        "tools": tools,
        "streamed tools": streamed_tools,
        "schema": schema,
        "unknown model": unknown_model,
        "overflow": overflow,
        "embeddings": "the client has none",
    },
)
