#!/usr/bin/env python3
"""Compares the reference's logits of tiny random models with llama.cpp's.

    cargo run --release -p gogrid-testkit --example tiny_models -- DIRECTORY
    INTERPRETER crates/testkit/peers/compare_llama_cpp.py DIRECTORY [--only PATTERN] [--json]
        [--golden FILE]

INTERPRETER is a Python that has llama_cpp and numpy. For each model, llama.cpp runs the file of
the same values as F32, with an f32 KV cache, and the file as it is, with its own f16 cache and
quantised activations. Printed are the mean and the greatest difference of log-probabilities over
all tokens and the whole vocabulary. Exits with 1 when an F32 run differs by more than 2e-4
anywhere (6e-3 for Gemma: llama.cpp takes GELU from a table of f16), or a run with its own types by
more than 0.05 in the mean.
--golden writes the log-probabilities of each next token by the F32 runs. With --only 'q4_(1|k)$'
that is crates/testkit/golden/tiny-llama-cpp.json, which a test holds the reference against.

llama.cpp has no sliding window for the llama architecture, so Mistral models are compared over
their first window alone.
"""
import argparse
import ctypes
import glob
import json
import os
import re
import sys

import llama_cpp as llama
import numpy as np

F32 = 0
MAX_WIDE = 2e-4
MAX_WIDE_GELU = 6e-3
MEAN_STORED = 0.05


def logits(path, context, ids, wide):
    """[ids, vocab], or None when llama.cpp refuses the file."""
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    if not model:
        return None
    params = llama.llama_context_default_params()
    params.n_ctx = context
    params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = 1
    params.flash_attn_type = 0
    # Without this a windowed cache is kept at the window's size; the result is the same.
    params.swa_full = True
    if wide:
        params.type_k = params.type_v = F32
    run = llama.llama_init_from_model(model, params)
    batch = llama.llama_batch_init(len(ids), 0, 1)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i] = token, i
        batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, True
    batch.n_tokens = len(ids)
    assert llama.llama_decode(run, batch) == 0, path
    vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    flat = np.ctypeslib.as_array(llama.llama_get_logits(run), shape=(len(ids) * vocab,))
    out = flat.reshape(len(ids), vocab).astype(np.float64)
    llama.llama_batch_free(batch)
    llama.llama_free(run)
    llama.llama_model_free(model)
    return out


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def distance(run, theirs):
    if theirs is None:
        return None
    rows = run["peer_tokens"]
    ours = np.array(run["logits"], dtype=np.float64)[:rows]
    apart = np.abs(log_softmax(ours) - log_softmax(theirs[:rows]))
    return float(apart.mean()), float(apart.max())


def golden_run(name, run, theirs):
    rows, ids = run["peer_tokens"], run["ids"]
    log_probs = log_softmax(theirs[:rows])
    following = [round(float(log_probs[i, ids[i + 1]]), 5) for i in range(min(rows, len(ids) - 1))]
    family, weights = name.rsplit("-", 1)
    return {"family": family, "weights": weights, "context": run["context"],
            "ids": ids, "next_logprob": following}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory")
    parser.add_argument("--only", default="", help="models whose name has this pattern")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--golden", metavar="FILE")
    args = parser.parse_args()
    silent = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(silent, ctypes.c_void_p(0))
    llama.llama_backend_init()
    rows, golden, bad = [], [], 0
    for path in sorted(glob.glob(os.path.join(args.directory, "*.json"))):
        if not re.search(args.only, os.path.basename(path)[: -len(".json")]):
            continue
        with open(path) as file:
            case = json.load(file)
        stem = path[: -len(".json")]
        for run in case["runs"]:
            theirs = logits(stem + ".f32.gguf", run["context"], run["ids"], True)
            wide = distance(run, theirs)
            stored = distance(run, logits(stem + ".gguf", run["context"], run["ids"], False))
            most = MAX_WIDE_GELU if case["name"].startswith("gemma") else MAX_WIDE
            ok = bool(wide and stored and wide[1] <= most and stored[0] <= MEAN_STORED)
            bad += not ok
            if theirs is not None and args.golden:
                golden.append(golden_run(case["name"], run, theirs))
            rows.append({"model": case["name"], "context": run["context"], "ok": ok,
                         "f32_mean_max": wide, "stored_mean_max": stored})
            if not args.json:
                show = lambda d: "refused" if d is None else f"{d[0]:.1e} {d[1]:.1e}"
                print(f"{'ok ' if ok else 'BAD'} {case['name']:22} context {run['context']:5}"
                      f"  f32 {show(wide)}  stored {show(stored)}", flush=True)
    if args.golden:
        with open(args.golden, "w") as file:
            lines = ",\n".join(json.dumps(entry) for entry in golden)
            file.write(f"[\n{lines}\n]\n")
    if args.json:
        print(json.dumps(rows))
    print(f"{len(rows)} runs, {bad} bad", file=sys.stderr)
    sys.exit(1 if bad or not rows else 0)


main()
