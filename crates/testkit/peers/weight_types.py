#!/usr/bin/env python3
"""Takes from gguf-py what the repository keeps of the weight types with code-books.

    INTERPRETER crates/testkit/peers/weight_types.py

INTERPRETER is a Python that has gguf (0.19.0 made what is there) and numpy. Run from the repository's
root. Writes

- crates/units/src/grids.rs: the grids, as indices of levels,
- crates/testkit/golden/weight_types.txt: what gguf-py makes of seeded blocks. A line for each type has
  its name, the bytes of a block, its values as f32 (both hexadecimal, little-endian), and the FNV-1a hash
  of the bytes of the values of as many blocks as BLOCKS says. Values of -0 are taken as 0.
"""
import subprocess

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

# A block has 32 entries of the largest grid, of 2,048: each is met about as many times.
BLOCKS = 2048
SEED = 1

GRIDS = [
    (quants.IQ3_XXS, "IQ3_XXS", "four", 3),
    (quants.IQ3_S, "IQ3_S", "four", 3),
    (quants.IQ2_XXS, "IQ2_XXS", "eight", 2),
    (quants.IQ2_XS, "IQ2_XS", "eight", 2),
    (quants.IQ2_S, "IQ2_S", "eight", 2),
    (quants.IQ1_S, "IQ1", "eight", 2),
]

# The byte with the upper bits of each type's half, from which bit 6 is taken so that it is finite.
TYPES = [
    (T.IQ4_NL, 1), (T.IQ4_XS, 1), (T.MXFP4, None), (T.IQ3_XXS, 1), (T.IQ3_S, 1), (T.IQ2_XXS, 1),
    (T.IQ2_XS, 1), (T.IQ2_S, 1), (T.IQ1_S, 1), (T.IQ1_M, 55), (T.TQ1_0, 53), (T.TQ2_0, 65),
]

HEAD = """//! The grids out of which GGML's smallest weight types take their values.
//!
//! Made by `crates/testkit/peers/weight_types.py` from gguf-py's `quants.py`, which has them from
//! llama.cpp's `ggml-common.h` (both under the MIT license). An entry is the indices of four or eight
//! levels, the first one lowest.
"""


def rust_grids():
    text = HEAD
    for cls, name, count, bits in GRIDS:
        cls.init_grid()
        grid = cls.grid.reshape(cls.grid_shape)
        levels = [float(level) for level in cls.grid_map]
        words = [sum(levels.index(float(v)) << (bits * i) for i, v in enumerate(row)) for row in grid]
        shown = ", ".join(f"{level:g}" for level in levels)
        which = "`iq1_s` and `iq1_m`" if name == "IQ1" else f"`{name.lower()}`"
        text += f"\n/// Of {which}: {count} indices of {bits} bits, for the levels {shown}.\n"
        text += f"pub const {name}: &[u16; {len(words)}] = &["
        text += ", ".join(f"0x{word:04x}" for word in words) + "];\n"
    path = "crates/units/src/grids.rs"
    with open(path, "w") as file:
        file.write(text)
    subprocess.run(["rustfmt", "--edition", "2024", path], check=True)


def random_bytes(count):
    """SplitMix64's words, little-endian."""
    with np.errstate(over="ignore"):
        steps = np.arange(1, (count + 7) // 8 + 1, dtype=np.uint64)
        z = np.uint64(SEED) + steps * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return z.astype("<u8").view(np.uint8)[:count].copy()


def fnv1a(data):
    state = 0xCBF29CE484222325
    for byte in data:
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return state


def main():
    rust_grids()
    with open("crates/testkit/golden/weight_types.txt", "w") as file:
        for ty, high in TYPES:
            length, size = gguf.GGML_QUANT_SIZES[ty]
            blocks = random_bytes(BLOCKS * size).reshape(BLOCKS, size)
            if high is not None:
                blocks[:, high] &= 0xBF
            values = quants.dequantize(blocks, ty).reshape(BLOCKS, length) + np.float32(0)
            hash_ = fnv1a(values.astype("<f4").tobytes())
            first = values[0].astype("<f4").tobytes().hex()
            file.write(f"{ty.name.lower()} {blocks[0].tobytes().hex()} {first} {hash_:016x}\n")


main()
