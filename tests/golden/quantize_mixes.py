#!/usr/bin/env python3
"""Which tensor gets which type from llama-quantize, for models of several shapes: quantize_mixes.txt.

    pip install numpy gguf==0.19.0
    tests/golden/quantize_mixes.py LLAMA_QUANTIZE    (of llama.cpp b11434)

A line: shape, file type ("+" with an importance matrix), tensor without its layer, and the types over the layers as runs. Shapes are those of
tests/quantize_mixes.rs, with rows of their length and two rows a matrix: the rules look at nothing else.
"""
import itertools
import pathlib
import re
import subprocess
import sys
import tempfile

import gguf
import numpy as np

OUT = pathlib.Path(__file__).with_suffix(".txt")
#        architecture, layers, heads, heads of keys and values, experts, width, feed-forward, has output.weight
SHAPES = {
    "dense": ("llama", 32, 32, 8, 0, 256, 512, True),
    "ungrouped": ("llama", 32, 32, 32, 0, 256, 512, True),
    "gqa8": ("llama", 80, 64, 8, 0, 256, 512, True),
    "mixtral": ("llama", 32, 32, 8, 8, 256, 512, True),
    "experts4": ("llama", 9, 32, 8, 4, 256, 512, True),
    "tied": ("llama", 12, 8, 2, 0, 256, 512, False),
    "narrow": ("llama", 9, 8, 2, 0, 96, 80, True),
    "mistral3": ("mistral3", 26, 32, 8, 0, 256, 512, True),
}
TYPES = "Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ4_NL IQ4_XS F16 BF16 F32 COPY".split()
WITH_IMPORTANCE = "Q4_0 Q5_0 IQ4_NL IQ4_XS Q2_K_S Q4_K_M".split()
LINE = re.compile(r"^\[ *\d+/ *\d+\] (\S+) +- \[.*?\], type = +(\S+), size =[^(]*(?:\((\S+)\))?$")


def write_model(path, arch, layers, heads, kv_heads, experts, width, ffn, has_output):
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(layers)
    w.add_context_length(64)
    w.add_embedding_length(width)
    w.add_feed_forward_length(ffn)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    if experts:
        w.add_expert_count(experts)
        w.add_expert_used_count(2)

    def add(name, *shape):
        w.add_tensor(name, np.zeros(shape, np.float32 if len(shape) == 1 or "gate_inp" in name else np.float16))

    add("token_embd.weight", 2, width)
    for i in range(layers):
        for name in "attn_q", "attn_k", "attn_v", "attn_output":
            add(f"blk.{i}.{name}.weight", 2, width)
        add(f"blk.{i}.attn_norm.weight", width)
        if experts:
            add(f"blk.{i}.ffn_gate_inp.weight", experts, width)
            add(f"blk.{i}.ffn_gate_exps.weight", experts, 2, width)
            add(f"blk.{i}.ffn_up_exps.weight", experts, 2, width)
            add(f"blk.{i}.ffn_down_exps.weight", experts, 2, ffn)
        else:
            add(f"blk.{i}.ffn_gate.weight", 2, width)
            add(f"blk.{i}.ffn_up.weight", 2, width)
            add(f"blk.{i}.ffn_down.weight", 2, ffn)
    add("output_norm.weight", width)
    if has_output:
        add("output.weight", 2, width)
    finish(w)


def write_imatrix(path):
    w = gguf.GGUFWriter(path, "")
    w.add_string("general.type", "imatrix")
    w.add_array("imatrix.datasets", ["x"])
    w.add_uint32("imatrix.chunk_count", 1)
    w.add_uint32("imatrix.chunk_size", 1)
    w.add_tensor("none.in_sum2", np.ones((1, 1), np.float32))
    w.add_tensor("none.counts", np.ones((1, 1), np.float32))
    finish(w)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def types(program, flags, model, file_type):
    ran = subprocess.run([program, "--dry-run", *flags, model, file_type], capture_output=True, text=True, check=True)
    found = {}
    for line in (ran.stdout + ran.stderr).splitlines():
        # Warnings about rows stand before the line, without a line of their own.
        if match := LINE.match(line):
            name, before, after = match.groups()
            found[name] = (after or before).upper()
    return found


def main(program):
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        model, imatrix = f"{folder}/model.gguf", f"{folder}/imatrix.gguf"
        write_imatrix(imatrix)
        for shape, numbers in SHAPES.items():
            write_model(model, *numbers)
            runs = [(t, t, []) for t in TYPES] + [(t + "+", t, ["--imatrix", imatrix]) for t in WITH_IMPORTANCE]
            for label, file_type, flags in runs:
                by_part = {}
                for name, tensor_type in types(program, flags, model, file_type).items():
                    part = re.sub(r"^blk\.\d+\.", "", name).removesuffix(".weight")
                    layer = re.match(r"blk\.(\d+)", name)
                    by_part.setdefault(part, []).append((int(layer[1]) if layer else 0, tensor_type))
                assert len(by_part) >= 10, (shape, label, by_part)
                for part, pairs in sorted(by_part.items()):
                    ordered = [t for _, t in sorted(pairs)]
                    assert len(ordered) in (1, numbers[1]), (shape, label, part, len(ordered))
                    groups = [(t, len(list(g))) for t, g in itertools.groupby(ordered)]
                    lines.append(f"{shape} {label} {part} " + ",".join(f"{n}*{t}" for t, n in groups))
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
