#!/usr/bin/env python3
"""The files that llama-gguf-split makes: gguf_split.txt.

    tests/golden/gguf_split.py LLAMA_GGUF_SPLIT    (of llama.cpp b11434)

A line: model of models/tests/oracles (or the built-in one), flags, file, size and CRC-32. "merge" stands for the file merged of those that the flags make.
"""
import pathlib
import subprocess
import sys
import tempfile
import zlib

OUT = pathlib.Path(__file__).with_suffix(".txt")
MODELS = pathlib.Path(__file__).parents[2] / "models"
CASES = [
    ("plain_f16", ""),
    ("plain_f16", "--split-max-tensors 5"),
    ("plain_f16", "--split-max-tensors 7 --no-tensor-first-split"),
    ("mixtral_split", "--split-max-size 1M"),
    ("mixtral_split", "--split-max-tensors 20"),
    ("window_1", "--split-max-tensors 1"),
    ("ministral_3", "--split-max-size 1M --no-tensor-first-split"),
    ("bise-tiny.Q4_K_M", "--split-max-size 2M"),
    ("bise-tiny.Q4_K_M", "--split-max-size 2M --no-tensor-first-split"),
]

lines = []
for model, flags in CASES:
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        run = lambda *args: subprocess.run([sys.argv[1], *args], check=True, capture_output=True)
        source = next(MODELS.glob(f"*/**/{model}.gguf"))
        run(*flags.split(), source, folder / "part")
        parts = sorted(folder.iterdir())
        run("--merge", parts[0], folder / "merge")
        for path in [*parts, folder / "merge"]:
            data = path.read_bytes()
            lines.append(f"{model}\t{flags}\t{path.name}\t{len(data)}\t{zlib.crc32(data):08x}")
OUT.write_text("\n".join(lines) + "\n")
