#!/usr/bin/env python3
"""Holds gogrid's tokenizers against llama.cpp's and the tokenizers library's, id by id.

The vocabularies are those of llama.cpp's own tests, in llama-cpp-python's source package, and every
tokenizer.json given. For each, seeded texts are encoded by all; the counts and the first difference are
printed. A vocabulary that gogrid refuses by name is counted as refused.

    differential/tokenizers.py [--texts 2600] [--package FILE.tar.gz] [--json FOLDER]...

Needs an interpreter with llama_cpp and gguf (vocabularies) and tokenizers (tokenizer.json); parts without
their library are skipped and say so. Builds `cargo build --release -p gogrid-model --example tokenize`.

The vocabularies are also written as tokenizer.json in the ways that published models have, so that the
library and gogrid read the same file of real size.

Three differences to llama.cpp are known, the model's own tokenizer is right in all of them, and they are
counted apart:

- composed: llama.cpp normalises nothing. Qwen's and Command R's own tokenizers compose (NFC). llama.cpp
  gives gogrid's ids when it is given the composed text.
- by text: llama.cpp makes a plain token named `</s>` a control token. In Qwen's own tokenizer it is HTML.
- wide space: llama.cpp's Phi-3 tokens take ASCII white space after them, the original's any white space.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent
# This file has the library's name, and is not it.
sys.path = [path for path in sys.path if pathlib.Path(path).resolve() != ROOT / "differential"]
try:
    import gguf
    import llama_cpp
except ImportError:
    llama_cpp = None
try:
    import tokenizers
except ImportError:
    tokenizers = None
    print("skipped: no tokenizers in this interpreter")

VERSION = "0.3.36"
PARTS = {
    "plain": "the of and to in is was that it for on with as his be at by this had not are but from or have an they"
             " which one you were all her she there would their we him been has when who will no more if out so up said"
             " It's I'll we've don't THEY'RE He'd".split(),
    "code": ["def f(x):\n", "    return x + 1\n", "\tif (a != b) {\n", "}\n\n", "// ok\n", "x = [1, 2, 3];", "#include <a.h>\r\n",
             "http://a.b/c?d=e&f=1", "/* */", "fooBarBaz", "HTTPServer", "snake_case_name", "$x->y[0]", "'''", "\"\"\"", "\\n"],
    "space": [" ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\n\n\n", "\r\n", " \n", "\n ", "\u00a0", "\u3000", "\u2003", "x", ".", "1"],
    "digits": ["1", "12", "123", "1234", "12345678", "3.14", "1,000", "٣", "½", "²", "Ⅻ", " 7", "2026-11-29", "0x1F"],
    "unicode": ["Привет", " мир", "日本語", "中文字符", "한국어", "ไทย", "العربية", "עברית", "हिन्दी", "Ελληνικά", "Việt", "Ünïcödé",
                "ß", "ſ", "ﬁ", "Ω", "。", "，", "！", "“x”", "—", "…", "𝕏", "𠀋", "ǅ", "ʰ"],
    "emoji": ["🙂", "👩‍👩‍👧", "🇩🇪", "👍🏽", "❤️", "😶‍🌫️", "✅", "🦙🦙", "🚀 "],
    "html": ["<s>", "</s>", "<b>", "</b>", "<br/>", "<pad>", "<unk>", "<|", "|>", "<|<|<|", "<table>", "</table>", "[INST]", "<eos>", "<0x0A>"],
}
DECOMPOSED = [unicodedata.normalize("NFD", text) for text in ["é", "Việt", "Ünïcödé", "한국어", "Å", "ñandú", "が", "ё"]] + ["\u212b", "q\u0323\u0307", "\u0301x"]


def in_old_unicode(char):
    """Not newer than the library's tables of normal forms, which are older than gogrid's."""
    return unicodedata.category(char) != "Cn" and not 0x10780 <= ord(char) < 0x107c0


def texts(count, names, seed=1):
    rng = random.Random(seed)
    kinds = list(PARTS) + ["decomposed", "names", "mixed", "any"]
    everything = sum(PARTS.values(), []) + DECOMPOSED + names
    for at in range(count):
        kind = kinds[at % len(kinds)]
        length = rng.choice([1, 2, 3, 5, 8, 13, 30])
        if kind == "any":
            chars = (chr(rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x20, 0xd800), rng.randrange(0xe000, 0x1f900)])) for _ in range(length))
            yield "".join(char for char in chars if in_old_unicode(char))
            continue
        parts = {"decomposed": DECOMPOSED + PARTS["plain"], "names": names + PARTS["html"] + [" ", "  ", "\n", "x"], "mixed": everything}.get(kind, PARTS.get(kind))
        joint = " " if kind == "plain" else rng.choice(["", "", " "])
        yield joint.join(rng.choice(parts) for _ in range(length))


def ours(example, path, lines):
    """Our ids, or the words of a refusal."""
    written = "".join(json.dumps(text) + "\n" for text in lines)
    done = subprocess.run([example, path], input=written.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        return done.stderr.decode().strip()
    return [json.loads(line) for line in done.stdout.splitlines()]


class Tally:
    def __init__(self):
        self.different = 0

    def add(self, name, lines, mine, theirs, known=lambda *_: None):
        counts = collections.Counter()
        first = None
        for text, a, b in zip(lines, mine, theirs, strict=True):
            kind = "equal" if a == b else known(text, a, b) or "different"
            counts[kind] += 1
            if kind == "different":
                first = first or (text, a, b)
        self.different += counts["different"]
        print(f"{name:32}", ", ".join(f"{count} {kind}" for kind, count in counts.items()), flush=True)
        if first:
            text, a, b = first
            print(f"    first: {text!r}\n    gogrid {a}\n    other  {b}")


def vocabularies(options, example, tally):
    if llama_cpp is None:
        print("skipped: no llama_cpp or gguf in this interpreter")
        return
    log = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(log, None)
    with tempfile.TemporaryDirectory() as folder:
        package = options.package
        if package is None:
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python",
                            f"llama-cpp-python=={VERSION}", "--dest", folder], check=True)
            package = next(pathlib.Path(folder).glob("*.tar.gz"))
        with tarfile.open(package) as archive:
            members = [one for one in archive.getmembers() if "/models/ggml-vocab-" in one.name and one.name.endswith(".gguf")]
            archive.extractall(folder, members=members, filter="data")
        for path in sorted(pathlib.Path(folder).rglob("ggml-vocab-*.gguf")):
            vocabulary(options, example, path, tally)


def vocabulary(options, example, path, tally):
    refused = ours(example, path, [])
    if isinstance(refused, str):
        words = refused.replace(str(path), path.name)
        print(f"{path.stem:32} refused: {words[:120]}")
        return
    reader = gguf.GGUFReader(path)
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    type_of = types.__getitem__
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    vocab = llama_cpp.llama_model_get_vocab(model.model)
    count = llama_cpp.llama_vocab_n_tokens(vocab)
    names = []
    for id in range(count):
        if llama_cpp.llama_vocab_is_control(vocab, id):
            names.append(llama_cpp.llama_vocab_get_text(vocab, id).decode(errors="replace"))
    lines = list(texts(options.texts, [name for name in names if name][:40]))

    def theirs(text):
        return list(model.tokenize(text.encode(), add_bos=False, special=True))

    mine = ours(example, path, lines)
    if isinstance(mine, str):
        print(f"{path.stem:32} FAILED: {mine[:200]}")
        tally.different += 1
        return

    def known(text, a, b):
        if a == theirs(unicodedata.normalize("NFC", text)):
            return "composed"
        if plain_end in b and plain_end not in a:
            return "by text"
        wide = re.search("> ?[\u00a0\u2003\u3000]", text)
        return "wide space" if wide and "phi" in path.stem else None

    plain_end = next((id for id in range(count) if llama_cpp.llama_vocab_get_text(vocab, id) == b"</s>" and type_of(id) != 3), -1)
    tally.add(path.stem, lines, mine, [theirs(text) for text in lines], known)
    written(options, example, (path, reader), tally)


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
MARK = "\u2581"


def step(kind, **keys):
    return {"type": kind, **keys}


def split(regex, behavior="Isolated", invert=False):
    return step("Split", pattern={"Regex": regex}, behavior=behavior, invert=invert)


def letters(use_regex, add_prefix_space=False):
    return step("ByteLevel", add_prefix_space=add_prefix_space, trim_offsets=True, use_regex=use_regex)


def sequence(*steps):
    return step("Sequence", pretokenizers=list(steps))


def replaced(pattern, content):
    return step("Replace", pattern={"String": pattern}, content=content)


# Normaliser, pre-tokenizer, flags of the model, flags of added tokens.
BYTE_LEVEL = {
    "gpt2": (None, letters(True), {}, {}),
    "prefix": (None, letters(True, True), {}, {}),
    "qwen2": (step("NFC"), sequence(split(LLAMA3.replace("{1,3}", "")), letters(False)), {}, {}),
    "llama3": (None, sequence(split(LLAMA3), letters(False)), {"ignore_merges": True}, {}),
    "possessive": (None, sequence(split(LLAMA3.replace("]?", "]?+", 1).replace("]+[", "]++[")), letters(False)), {}, {}),
    "o200k": (step("NFKC"), sequence(split(O200K, "Removed", True), letters(False)), {}, {"normalized": True}),
    "digits": (step("NFD"), sequence(step("Digits", individual_digits=True), letters(True)), {}, {"lstrip": True, "normalized": True}),
    "runs": (step("NFKD"), sequence(step("Punctuation", behavior="Contiguous"), step("Digits", individual_digits=False), letters(True)), {}, {"single_word": True, "rstrip": True}),
}
SENTENCE_PIECE = {
    "llama2": (step("Sequence", normalizers=[step("Prepend", prepend=MARK), replaced(" ", MARK)]), None, {"byte_fallback": True, "fuse_unk": True}, {"normalized": False}),
    "phi3": (step("Sequence", normalizers=[step("Prepend", prepend=MARK), replaced(" ", MARK)]), None, {"byte_fallback": True, "fuse_unk": True}, {"normalized": False, "rstrip": True}),
    "gemma": (replaced(" ", MARK), step("Split", pattern={"String": " "}, behavior="MergedWithPrevious", invert=False), {"byte_fallback": True, "fuse_unk": True}, {"normalized": False}),
    "metaspace": (None, step("Metaspace", replacement=MARK, prepend_scheme="first", split=False), {"byte_fallback": True}, {"normalized": False}),
    "always": (None, step("Metaspace", replacement=MARK, prepend_scheme="always", split=True), {"byte_fallback": False, "fuse_unk": True}, {}),
    "unknown": (None, step("Metaspace", replacement=MARK, prepend_scheme="never", split=True), {"byte_fallback": False, "fuse_unk": False}, {}),
}


def written(options, example, source, tally):
    """Holds the vocabulary, written as tokenizer.json in several ways, against the library."""
    path, reader = source
    model, tokens, types = (reader.fields[f"tokenizer.ggml.{key}"].contents() for key in ["model", "tokens", "token_type"])
    styles = BYTE_LEVEL if model == "gpt2" else SENTENCE_PIECE
    if model == "gpt2":
        merges = [line.split(" ") for line in reader.fields["tokenizer.ggml.merges"].contents()]
        decoder = letters(True)
    else:
        scores = reader.fields["tokenizer.ggml.scores"].contents()
        ids = {token: id for id, token in enumerate(tokens)}
        ranked = ((-scores[id], id, token[:at], token[at:]) for token, id in ids.items() if types[id] == 1
                  for at in range(1, len(token)) if token[:at] in ids and token[at:] in ids)
        merges = [list(sides) for _, _, *sides in sorted(ranked)]
        decoder = step("Sequence", decoders=[replaced(MARK, " "), step("ByteFallback"), step("Fuse")])
    unknown = next((token for token, kind in zip(tokens, types) if kind == 2), None)
    for name, (normalizer, pre_tokenizer, flags, added) in styles.items():
        special = [{"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, **added, "special": kind == 3}
                   for id, (token, kind) in enumerate(zip(tokens, types)) if kind in (3, 4)]
        # The library ignores flags of control tokens in normalised text that gogrid does not look for there.
        for token in special:
            token["normalized"] = token["normalized"] and not token["special"]
        whole = {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": None, "decoder": decoder,
            "model": {"type": "BPE", "dropout": None, "unk_token": unknown, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, **flags,
                      "vocab": {token: id for id, token in enumerate(tokens)}, "merges": merges},
        }
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "tokenizer.json").write_text(json.dumps(whole))
            folder_of(options, example, (folder, f"  as tokenizer.json, {name}"), tally)


def folder_of(options, example, source, tally):
    """Holds a folder with tokenizer.json against the library."""
    if tokenizers is None:
        return
    folder, name = source
    refused = ours(example, folder, [])
    if isinstance(refused, str):
        print(f"{name:32} refused: {refused.replace(str(folder), '')[:160]}", flush=True)
        return
    other = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    other.no_padding()
    other.no_truncation()
    names = [token.content for token in other.get_added_tokens_decoder().values()]
    lines = list(texts(options.texts, names[:40] or ["<s>"]))
    mine = ours(example, folder, lines)
    if isinstance(mine, str):
        print(f"{name:32} FAILED: {mine[:200]}", flush=True)
        tally.different += 1
        return
    theirs = [other.encode(text, add_special_tokens=False).ids for text in lines]
    tally.add(name, lines, mine, theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=2600)
    parser.add_argument("--package", type=pathlib.Path)
    parser.add_argument("--json", action="append", default=[], metavar="FOLDER")
    options = parser.parse_args()
    build = ["cargo", "build", "--quiet", "--release", "-p", "gogrid-model", "--example", "tokenize"]
    subprocess.run(build, cwd=ROOT, check=True)
    example = ROOT / "target/release/examples/tokenize"
    tally = Tally()
    vocabularies(options, example, tally)
    for folder in options.json:
        folder_of(options, example, (folder, pathlib.Path(folder).name), tally)
    print(f"{tally.different} different")
    return 1 if tally.different else 0


if __name__ == "__main__":
    sys.exit(main())
