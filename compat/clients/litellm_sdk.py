"""litellm."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch one

import litellm

import harness as h

litellm.telemetry = False
litellm.suppress_debug_info = True
COMMON = {"api_base": f"{h.URL}/v1", "api_key": "none", "num_retries": 0, "timeout": 120}


def ask(model=h.MODEL, messages=h.MESSAGES, **more):
    more = {"max_tokens": 24, "temperature": 0, **COMMON, **more}
    return litellm.completion(model=f"openai/{model}", messages=messages, **more)


def chat():
    h.check_text(ask().choices[0].message.content)


def stream():
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask(stream=True)]
    h.same("".join(pieces), ask().choices[0].message.content)


def usage():
    whole = ask().usage
    h.check_usage(whole.prompt_tokens, whole.completion_tokens, whole.total_tokens)
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    told = [chunk.usage.total_tokens for chunk in chunks if getattr(chunk, "usage", None)]
    h.same(told, [whole.total_tokens])


def weather(**more):
    more = {"messages": h.ASK_WEATHER, "tools": [h.WEATHER_TOOL], "max_tokens": 96, **more}
    return ask(h.TOOL_MODEL, **more)


def tools():
    said = weather(tool_choice="required").choices[0].message
    call = said.tool_calls[0]
    h.check_call(call.function.name, call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees, dry"}
    messages = [*h.ASK_WEATHER, said.model_dump(exclude_none=True), result]
    h.check_text(weather(messages=messages, tool_choice="none").choices[0].message.content)


def streamed_tools():
    chunks = list(weather(tool_choice="required", stream=True))
    call = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls[0]
    h.check_call(call.function.name, call.function.arguments)


def schema():
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": h.PERSON, "strict": True}}
    answer = ask(messages=h.ASK_PERSON, response_format=wanted, max_tokens=96)
    h.check_person(answer.choices[0].message.content)


def unknown_model():
    h.raises(litellm.NotFoundError, lambda: ask(h.NO_MODEL))


def overflow():
    long = [{"role": "user", "content": h.TOO_LONG}]
    h.raises(litellm.ContextWindowExceededError, lambda: ask(messages=long))


def embeddings():
    h.raises(
        litellm.BadRequestError,
        lambda: litellm.embedding(model=f"openai/{h.MODEL}", input=["a text"], **COMMON),
    )


h.run(
    "litellm",
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
