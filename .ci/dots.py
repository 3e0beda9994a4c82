"""Reads a disassembly and counts each kernel's dot products of bytes: see `.ci/dots`."""

import re
import sys
from collections import Counter

# What multiplies bytes, and what writes a vector of sums to the stack.
DOTS = {
    "Avx512": (r"\bvpdpbusd\b", r"\bvmov\w+ +%zmm\d+,.*\(%rsp"),
    "Avx2": (r"\bvpmaddubsw\b", r"\bvmov\w+ +%ymm\d+,.*\(%rsp"),
    "Neon": (r"\bsm(?:ull|lal)2?\s+v\d+\.8h", r"\bst[pr]\s+q\d+,.*\[sp"),
    "NeonDot": (r"\bsdot\b", r"\bst[pr]\s+q\d+,.*\[sp"),
}
# Without a dot product of bytes a token's products take so long that its sums may wait in memory.
MAY_LOOP = {"Neon"}
# How many stores of sums a dot product may cost: AVX2 has sixteen registers, which eight bits' signs fill.
SPILLS = {"Avx512": 0.5, "Avx2": 2.5, "Neon": 2, "NeonDot": 1}
# What a binary has to have, as instruction set, tiles and tokens: each processor's greatest kernels.
NEEDED = [{("Avx512", 2, 4), ("Avx512", 1, 4), ("Avx2", 1, 4)}, {("NeonDot", 1, 4), ("Neon", 1, 4)}]
# A unit of 32 columns by 16 rows takes eight, or eight for each part of a register that has fewer rows.
UNIT = {"Avx512": 8, "Avx2": 8, "Neon": 64, "NeonDot": 32}

SYMBOL = re.compile(r"^[0-9a-f]+ <(.*)>:$")
KERNEL = re.compile(r"simd::\w+::(\w+) as .*WholeTiles<.*, (\d+)(?:: usize)?, (\d+)(?:: usize)?>>$")


def kernels(lines):
    """The instruction set, tiles, tokens and symbol of each kernel, with its dot products and stores of sums."""
    kernel, counts = None, Counter()
    for line in lines:
        if found := SYMBOL.match(line):
            if kernel:
                yield kernel, counts
            kernel, counts = None, Counter()
            if (named := KERNEL.search(found[1])) and "Blocks<" in found[1] and named[1] in DOTS:
                kernel = (named[1], int(named[2]), int(named[3]), found[1])
        elif kernel:
            dot, stored = DOTS[kernel[0]]
            counts["dots"] += bool(re.search(dot, line))
            counts["stored"] += bool(re.search(stored, line))
    if kernel:
        yield kernel, counts


seen, bad = Counter(), []
for (isa, tiles, tokens, symbol), counts in kernels(sys.stdin):
    each = UNIT[isa] * tiles * (1 if isa in MAY_LOOP else tokens)
    seen[isa, tiles, tokens] += 1
    if counts["dots"] < each or counts["dots"] % each or counts["stored"] > SPILLS[isa] * counts["dots"]:
        bad.append(f"{symbol}: {counts['dots']} dot products, {counts['stored']} stores of sums; {each} or a multiple")
for (isa, tiles, tokens), count in sorted(seen.items()):
    print(f"{isa}: {count} kernels of {tiles} tiles by {tokens} tokens")
if not any(needed <= set(seen) for needed in NEEDED):
    sys.exit("not all kernels were found: was it built with -C symbol-mangling-version=v0?")
if bad:
    sys.exit("\n".join(bad))
