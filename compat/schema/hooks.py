"""What the cases of `.ci/schema` are changed in before they are sent: answers are kept short, and most requests
name a model that there is. What is wrong with a case stays wrong: only right values are replaced."""

import schemathesis

TOKENS = ("max_tokens", "max_completion_tokens", "n_predict", "max_output_tokens", "num_predict")
GENERATING = {
    "/chat/completions": "max_tokens",
    "/completions": "max_tokens",
    "/responses": "max_output_tokens",
    "/v1/messages": "max_tokens",
}


def is_whole(value, least, most):
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def keep_short(path, fields):
    """Lowers the numbers of tokens and choices that are right."""
    for name in TOKENS:
        least = -(2**63) if name == "num_predict" else -1
        most = 2**64 - 1 if path == "/v1/messages" or path.endswith("/responses") else 2**63 - 1
        if is_whole(fields.get(name), least, most):
            fields[name] %= 4
    if is_whole(fields.get("n"), 1, 16) and fields["n"] > 2:
        fields["n"] = 2


def limit_tokens(path, body):
    """Names a number of tokens where the case names none."""
    if path.startswith("/api/"):
        if body.get("options") is None:
            body["options"] = {}
        options = body["options"]
        if isinstance(options, dict):
            if options.get("num_predict") is None:
                options["num_predict"] = 3
            keep_short(path, options)
        return
    for tail, name in GENERATING.items():
        if path.endswith(tail) and not any(body.get(other) is not None for other in TOKENS):
            body[name] = 3


def say_something(path, body):
    """Has a request that would only open a model be answered, unless it says for how long the model stays."""
    if body.get("keep_alive") is not None:
        return
    if path == "/api/chat" and body.get("messages", []) in ([], None):
        body["messages"] = [{"role": "user", "content": "a"}]
    if path == "/api/generate" and body.get("prompt", "") in ("", None):
        body["prompt"] = "a"


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if not isinstance(body, dict):
        return
    limit_tokens(case.path, body)
    keep_short(case.path, body)
    say_something(case.path, body)
    if body.get("prompt") == "" and case.path.endswith("/completions"):
        body["prompt"] = "a"
    name = body.get("model")
    # Every eighth name is left as it is: a model that there is not.
    if isinstance(name, str) and sum(name.encode(errors="replace")) % 8:
        body["model"] = ""
    headers = case.headers or {}
    for header in headers:
        if header.lower() == "x-gogrid-deadline" and isinstance(headers[header], str):
            try:
                if 0 <= float(headers[header]) <= 86400:
                    headers[header] = "20"
            except ValueError:
                pass
