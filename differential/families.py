#!/usr/bin/env python3
"""Holds what GoGrid makes of tiny random models against llama.cpp: families x weight types x kinds of
rotations x widths of heads.

    PYTHON differential/families.py [--keep DIRECTORY]

PYTHON is an interpreter with llama-cpp-python. The models are written by the example
`differential_models` of corpgrid-scheduler, which cargo builds and runs. Prints counts for each weight
type, and the first case that is too far away. Exits with 1 if there is one.

Both engines read the same weights and keep keys and values as halves. They differ by how they round:

- f32: only in the order of sums and in the halves of the cache. Differences of log-probabilities of
  about 1e-3, for logits of about 1.
- f16, bf16: llama.cpp rounds the inputs of products to the weights' type, 11 and 8 bits. GoGrid does
  not.
- blocks of 32 and 256: both round inputs to 8 bits, by one scale for each block, but not the same
  values: a rounding of 1/254 of the greatest of a block, in each of about 20 products.

A rotation's scaling left out moves log-probabilities by 0.32 to 0.82 in the mean (Llama, Qwen 2 and
Phi-3 here, f32 and q8_0), six times the widest bound and more; Gemma 3's, in one layer of seven, by
0.06, which the bound of f32 tells apart. The bounds are on the mean and on the greatest difference.
"""
import argparse
import ctypes
import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

BOUNDS = {"f32": (2e-3, 2e-2), "f16": (4e-3, 4e-2), "bf16": (3e-2, 3e-1)}
BLOCKS_OF_32 = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl", "mxfp4"}
BOUND_OF_32 = (3e-2, 3e-1)
BOUND_OF_256 = (5e-2, 5e-1)


# Models that are apart for a reason, by the ends of their names. One that is not apart any more is told too.
KNOWN = {"-yarn-beta": "llama.cpp reads rope.scaling.yarn_beta_fast for Grok and Mistral 3 alone"}


def bound(weights):
    if weights in BOUNDS:
        return BOUNDS[weights]
    return BOUND_OF_32 if weights in BLOCKS_OF_32 else BOUND_OF_256


class Peer:
    """llama.cpp by its C interface."""

    def __init__(self):
        import llama_cpp

        self.api = llama_cpp
        self.silence = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self.silence, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()

    def log_probs(self, path, ids):
        """The log-probability of each id after the first; None where the model is refused."""
        api = self.api
        params = api.llama_model_default_params()
        params.use_mmap = False
        model = api.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            return None
        # Its LongRoPE goes by the context that is opened, which it rounds up to 256.
        context = api.llama_context_default_params()
        context.n_ctx = len(ids)
        context.n_batch = context.n_ubatch = 512
        context.n_threads = context.n_threads_batch = 2
        context.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        opened = api.llama_init_from_model(model, context)
        if not opened:
            api.llama_model_free(model)
            return None
        try:
            return self.decode(opened, model, ids)
        finally:
            api.llama_free(opened)
            api.llama_model_free(model)

    def decode(self, context, model, ids):
        api = self.api
        batch = api.llama_batch_init(len(ids), 0, 1)
        for at, token in enumerate(ids):
            batch.token[at], batch.pos[at] = token, at
            batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = 1, 0, True
        batch.n_tokens = len(ids)
        done = api.llama_decode(context, batch)
        api.llama_batch_free(batch)
        if done != 0:
            return None
        vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
        found = []
        for at, token in enumerate(ids[1:]):
            logits = api.llama_get_logits_ith(context, at)[:vocab]
            most = max(logits)
            total = math.log(sum(math.exp(logit - most) for logit in logits))
            found.append(logits[token] - most - total)
        return found


def cases(directory):
    """The example's lines, as they come."""
    command = "cargo run --quiet -p corpgrid-scheduler --example differential_models --".split()
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen([*command, directory], cwd=root, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        yield json.loads(line)
    if process.wait() != 0:
        sys.exit("the example failed")


def compare(directory):
    peer, counts, first = Peer(), defaultdict(lambda: [0, 0, 0, 0.0, 0.0]), None
    for case in cases(directory):
        count = counts[case["type"]]
        theirs = peer.log_probs(case["file"], case["ids"])
        if theirs is None:
            count[1] += 1
            print(f"{case['name']}: llama.cpp does not run it", flush=True)
            continue
        pairs = list(zip(case["log_probs"], theirs))[: case["compared"] - 1]
        apart = [abs(ours - their) for ours, their in pairs]
        mean, most = sum(apart) / len(apart), max(apart)
        count[0] += 1
        count[3], count[4] = max(count[3], mean), max(count[4], most)
        mean_max, most_max = bound(case["type"])
        # Not a number is beyond any bound.
        is_apart = not (mean <= mean_max and most <= most_max)
        reason = next((why for ending, why in KNOWN.items() if case["name"].endswith(ending)), None)
        if reason and is_apart:
            count[2] += 1
            print(f"{case['name']}: apart as known: {reason}", flush=True)
        elif reason:
            message = f"{case['name']}: alike, though known as apart: {reason}"
            first = first or message
            print(message, flush=True)
        elif is_apart:
            count[2] += 1
            at = apart.index(most)
            message = f"{case['name']}: mean {mean:.5f}, greatest {most:.5f} at token {at + 1}: {pairs[at]}"
            first = first or message
            print(message, flush=True)
    return counts, first


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", help="a folder for the models, which are else thrown away")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as scratch:
        counts, first = compare(keep or scratch)
    print(f"{'type':7} {'same':>5} {'refused':>8} {'apart':>6} {'mean at most':>13} {'greatest':>9}")
    for weights, (run, refused, apart, mean, most) in counts.items():
        print(f"{weights:7} {run - apart:5} {refused:8} {apart:6} {mean:13.5f} {most:9.5f}")
    print(f"first difference: {first or 'none'}")
    sys.exit(1 if first else 0)


main()
