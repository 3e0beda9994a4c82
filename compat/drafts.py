#!/usr/bin/env python3
"""Decoding with tokens drafted from the text itself, and one token at a time, in turn.

    GOGRID=target/release/gogrid python3 compat/drafts.py --model smollm2-135m --rounds 5

Texts that repeat what is there (an edit of code, a quotation), by greedy choice, and a story that does not, by chance
of a fixed seed. Each answer must have the same
tokens both ways. Prints, for each text, medians of tokens a second with and without drafts, their ratio, and how many
tokens of an answer were drafted. Nothing but Python's own library."""

import argparse
import json
import os
import statistics
import subprocess
import sys

GOGRID = os.environ.get("GOGRID", "target/release/gogrid")

CODE = """fn mean(values: &[f64]) -> f64 {
    let mut sum = 0.0;
    for value in values {
        sum += value;
    }
    sum / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    let mut sum = 0.0;
    for value in values {
        sum += (value - mean) * (value - mean);
    }
    sum / values.len() as f64
}"""
MINUTES = """The committee met on Tuesday to discuss the budget for the coming year. Members agreed that the library \
needs a new roof before winter, and that the swimming pool can wait until spring. The next meeting is on the first \
Monday of March."""
TEXTS = {
    "an edit of code": f"Rewrite this code with `total` in place of `sum`:\n{CODE}\n\nRewritten:\n",
    "a quotation": f"The minutes: {MINUTES}\n\nThe minutes once more, word for word:",
    "a story, by chance": "A lighthouse stood on a rock far from the shore, and in it lived",
}


def answer(model, name, tokens, more):
    temperature = "1" if "chance" in name else "0"
    command = [GOGRID, "generate", TEXTS[name], "--raw", "--model", model, "--mode", "aggressive", "--seed", "1",
               "--temperature", temperature, "--max-tokens", str(tokens), "--json", *more]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        sys.exit(done.stderr.decode())
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=160)
    args = parser.parse_args()
    for name in TEXTS:
        drafted, alone, accepted = [], [], []
        for _ in range(args.rounds):
            one = answer(args.model, name, args.tokens, [])
            other = answer(args.model, name, args.tokens, ["--no-prompt-lookup"])
            if one["ids"] != other["ids"]:
                sys.exit(f"{name}: other tokens with drafts than without")
            drafted.append(one["decode_tok_s"])
            alone.append(other["decode_tok_s"])
            accepted.append(one["accepted_tokens"])
        with_drafts, without = statistics.median(drafted), statistics.median(alone)
        print(f"{args.model}, {name}: {with_drafts:.0f} tok/s ({min(drafted):.0f}-{max(drafted):.0f}) with drafts, "
              f"{without:.0f} ({min(alone):.0f}-{max(alone):.0f}) without, {with_drafts / without:.2f} times; "
              f"{statistics.median(accepted):.0f} of {len(one['ids'])} tokens drafted")


if __name__ == "__main__":
    main()
