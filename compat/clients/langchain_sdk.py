"""langchain-openai."""

from langchain_core.exceptions import ContextOverflowError, ModelNotFoundError
from langchain_core.messages import ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import BadRequestError

import harness as h

COMMON = {"base_url": f"{h.URL}/v1", "api_key": "none", "max_retries": 0, "timeout": 120}


def model(name=h.MODEL, max_tokens=24):
    return ChatOpenAI(model=name, temperature=0, max_tokens=max_tokens, stream_usage=True, **COMMON)


def chat():
    h.check_text(model().invoke(h.QUESTION).content)


def stream():
    pieces = [chunk.content for chunk in model().stream(h.QUESTION)]
    h.same("".join(pieces), model().invoke(h.QUESTION).content)


def usage():
    whole = model().invoke(h.QUESTION).usage_metadata
    h.check_usage(whole["input_tokens"], whole["output_tokens"], whole["total_tokens"])
    full = sum_of(model().stream(h.QUESTION))
    h.same(full.usage_metadata["total_tokens"], whole["total_tokens"])


def sum_of(chunks):
    chunks = list(chunks)
    full = chunks[0]
    for chunk in chunks[1:]:
        full += chunk
    return full


def weather(choice="get_weather"):
    return model(h.TOOL_MODEL, 96).bind_tools([h.WEATHER_TOOL], tool_choice=choice)


def tools():
    answer = weather().invoke(h.ASK_WEATHER)
    call = answer.tool_calls[0]
    h.check_call(call["name"], call["args"])
    result = ToolMessage("18 degrees, dry", tool_call_id=call["id"])
    h.check_text(weather("none").invoke([*h.ASK_WEATHER, answer, result]).content)


def streamed_tools():
    call = sum_of(weather("required").stream(h.ASK_WEATHER)).tool_calls[0]
    h.check_call(call["name"], call["args"])


def schema():
    person = {"title": "Person", "description": "A person.", **h.PERSON}
    held = model(max_tokens=96).with_structured_output(person, method="json_schema")
    h.check_person(held.invoke(h.ASK_PERSON))


def unknown_model():
    h.raises(ModelNotFoundError, lambda: model(h.NO_MODEL).invoke(h.QUESTION))


def overflow():
    h.raises(ContextOverflowError, lambda: model().invoke(h.TOO_LONG))
    h.raises(ContextOverflowError, lambda: list(model().stream(h.TOO_LONG)))


def embeddings():
    # It sends token ids, and fetches a tokenizer for them unless it is told not to.
    embedder = OpenAIEmbeddings(model=h.MODEL, check_embedding_ctx_length=False, **COMMON)
    h.raises(BadRequestError, lambda: embedder.embed_query("a text"))


h.run(
    "langchain-openai",
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
