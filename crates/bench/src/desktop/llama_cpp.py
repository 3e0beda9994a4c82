"""Decodes one stream with llama.cpp, told by lines on standard input when.

Started as: llama_cpp.py MODEL THREADS NICE TOKENS. Says once that it is ready; decodes from "start" to
"stop", from an empty context again after TOKENS; "mark" notes the time. After "stop" it says when
each token was done and each mark came. It ends when standard input closes. No layer is given to a GPU.
"""
import ctypes
import json
import os
import signal
import sys
import threading
import time

# Ctrl-C ends it at once and without a word.
signal.signal(signal.SIGINT, signal.SIG_DFL)


def open_context(model_path, threads, tokens):
    import llama_cpp as lib

    @lib.llama_log_callback
    def quiet(_level, _text, _data):
        pass

    open_context.quiet = quiet  # must live as long as the library
    lib.llama_log_set(quiet, ctypes.c_void_p(0))
    lib.llama_backend_init()
    model_params = lib.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(model_path.encode(), model_params)
    if not model:
        sys.exit(f"llama.cpp cannot load {model_path}")
    params = lib.llama_context_default_params()
    params.n_ctx = tokens
    params.n_threads = threads
    params.n_threads_batch = threads
    context = lib.llama_init_from_model(model, params)
    if not context:
        sys.exit(f"llama.cpp has no room for a context of {tokens} tokens")
    vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    return lib, context, vocabulary


class Decoder:
    def __init__(self, model_path, threads, tokens):
        self.lib, self.context, self.vocabulary = open_context(model_path, threads, tokens)
        self.memory = self.lib.llama_get_memory(self.context)
        self.batch = self.lib.llama_batch_init(1, 0, 1)
        self.batch.n_tokens = 1
        self.batch.n_seq_id[0] = 1
        self.batch.seq_id[0][0] = 0
        self.batch.logits[0] = True
        self.tokens = tokens
        self.position = 0

    def restart(self):
        self.lib.llama_memory_clear(self.memory, True)
        self.position = 0

    def step(self):
        if self.position == self.tokens:
            self.restart()
        self.batch.token[0] = (self.position * 13 + 7) % 20000 % self.vocabulary
        self.batch.pos[0] = self.position
        if self.lib.llama_decode(self.context, self.batch) != 0:
            sys.exit("llama.cpp failed to decode")
        self.lib.llama_synchronize(self.context)
        self.position += 1


def listen(running, marks):
    for line in iter(sys.stdin.readline, ""):
        order = line.strip()
        if order == "start":
            marks.clear()
            running.set()
        elif order == "mark":
            marks.append((time.perf_counter(), time.process_time()))
        elif order == "stop":
            running.clear()
    os._exit(0)


def say(value):
    print(json.dumps(value), flush=True)


def main():
    model_path, threads, nice, tokens = sys.argv[1], *map(int, sys.argv[2:5])
    if nice:
        os.nice(nice)
    decoder = Decoder(model_path, threads, tokens)
    decoder.step()
    running, marks = threading.Event(), []
    threading.Thread(target=listen, args=(running, marks), daemon=True).start()
    say({"version": decoder.lib.__version__})
    while True:
        running.wait()
        decoder.restart()
        tokens_s = []
        while running.is_set():
            decoder.step()
            tokens_s.append(time.perf_counter())
        say({"tokens_s": tokens_s, "marks_s": [mark[0] for mark in marks], "cpu_s": [mark[1] for mark in marks]})


main()
