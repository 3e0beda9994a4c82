"""Holds the log-likelihoods that lm_eval had from the server against those of `gogrid eval` over the same texts.

usage: compare_eval.py GOGRID MODEL SAMPLES.jsonl, the samples as lm_eval writes them.
"""

import json
import subprocess
import sys
import tempfile

# lm_eval adds up numbers that were written with fewer digits.
DIFFERENCE_MAX = 1e-3


def next_log_probs(gogrid, model, text):
    """Of each token after the first, given those before it."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(text)
        file.flush()
        words = [gogrid, "eval", "--mode", "aggressive", "--model", model, "--json", "--text", file.name]
        return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)["next_logprob"]


def likelihood(gogrid, model, context, continuation):
    whole = next_log_probs(gogrid, model, context + continuation)
    return sum(whole[len(next_log_probs(gogrid, model, context)) :])


def main():
    gogrid, model, path = sys.argv[1:]
    samples = [json.loads(line) for line in open(path)]
    worst, right, theirs = 0.0, 0, 0
    for sample in samples:
        arguments = sample["arguments"].values()
        ours = [likelihood(gogrid, model, *pair.values()) for pair in arguments]
        served = [float(answer[0]) for answer in sample["filtered_resps"]]
        worst = max(worst, *(abs(a - b) for a, b in zip(ours, served, strict=True)))
        right += ours.index(max(ours)) == sample["doc"]["gold"]
        theirs += sample["acc"]
    print(f"lm_eval: {theirs:.0f} of {len(samples)} right, gogrid eval: {right}; largest difference {worst:.2e}")
    sys.exit(not (worst <= DIFFERENCE_MAX and right == theirs))


main()
