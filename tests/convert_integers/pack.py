#!/usr/bin/env python3
"""Packs small layers the way AutoAWQ, AutoGPTQ, GPTQModel and compressed-tensors do, with what they hold beside them.

Needs numpy. Each file holds the tensors of the layer `l`, and

    expected.q      U8   [n_out, n_in]      the unsigned integers
    expected.zero   U8   [n_out, n_groups]  the integer that stands for zero
    expected.scale  F32  [n_out, n_groups]
    expected.blocks U8   [n_out, bytes]     the smallest GGUF blocks that hold them exactly
    __metadata__: config (quantization_config), format (of the blocks), group (weights that share a scale)

    python3 tests/convert_integers/pack.py      writes the files beside this one
"""

import json
import math
import pathlib
import struct

import numpy as np

HERE = pathlib.Path(__file__).parent


def save(name, tensors, metadata):
    """A safetensors file; numpy has no bf16, so such a tensor is a pair of "BF16" and its 16-bit words."""
    types = {"int32": "I32", "int64": "I64", "int16": "I16", "int8": "I8", "uint8": "U8", "float16": "F16", "float32": "F32"}
    header, data = {"__metadata__": metadata}, b""
    for key, value in tensors.items():
        dtype, value = value if isinstance(value, tuple) else (types[value.dtype.name], value)
        raw = np.ascontiguousarray(value).tobytes()
        header[key] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (HERE / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def pack(values, n_bits, axis):
    """Integers along an axis into int32 words, the first in the lowest bits; the last word is filled with zeros."""
    per = 32 // n_bits
    values = np.moveaxis(np.asarray(values, dtype=np.uint64), axis, -1)
    values = np.concatenate([values, np.zeros(values.shape[:-1] + (-values.shape[-1] % per,), np.uint64)], axis=-1)
    values = values.reshape(values.shape[:-1] + (-1, per))
    words = sum(values[..., i] << np.uint64(n_bits * i) for i in range(per)).astype(np.uint32)
    return np.moveaxis(words.view(np.int32), -1, axis)


def bf16(values):
    """float32 to the words of bf16 (the values are chosen to fit)."""
    words = np.asarray(values, dtype=np.float32).view(np.uint32)
    assert not (words & 0xFFFF).any()
    return (words >> 16).astype(np.uint16)


def blocks(q, zero, scale, group, n_bits):
    """The GGUF blocks of 32: Q4_0 and Q5_0 pair weight i with weight i + 16, Q5_0 adds a word of fifth bits."""
    n_out, n_in = q.shape
    symmetric = (zero == 1 << (n_bits - 1)).all()
    fmt = "Q8_0" if n_bits == 8 else "Q4_0" if symmetric else "Q5_0"
    rows = []
    for r in range(n_out):
        row = b""
        for c in range(0, n_in, 32):
            g = c // group
            d = np.float16(scale[r, g])
            assert np.float32(d) == scale[r, g]
            x = q[r, c : c + 32].astype(int) - int(zero[r, g])
            row += d.tobytes()
            if fmt == "Q8_0":
                row += x.astype(np.int8).tobytes()
            elif fmt == "Q4_0":
                row += bytes((x[i] + 8) | (x[i + 16] + 8) << 4 for i in range(16))
            else:
                u = x + 16
                assert u.min() >= 0 and u.max() <= 31
                row += struct.pack("<I", sum(int(u[i] >> 4) << i for i in range(32)))
                row += bytes((u[i] & 15) | (u[i + 16] & 15) << 4 for i in range(16))
        rows.append(np.frombuffer(row, dtype=np.uint8))
    return fmt, np.stack(rows)


class Layer:
    def __init__(self, seed, n_out, n_in, group, n_bits=4, zeros=(0, 15), scale_type="f16"):
        rng = np.random.default_rng(seed)
        self.n_bits, self.group = n_bits, n_in if group == -1 else group
        self.group_size = group
        self.q = rng.integers(0, 1 << n_bits, (n_out, n_in)).astype(np.uint8)
        n_groups = n_in // self.group
        self.zero = rng.integers(zeros[0], zeros[1] + 1, (n_out, n_groups)).astype(np.uint8)
        scale = rng.uniform(0.001, 0.02, (n_out, n_groups)).astype(np.float16).astype(np.float32)
        if scale_type == "bf16":
            scale = (scale.view(np.uint32) & 0xFFFF0000).view(np.float32)
        self.scale = scale

    def save(self, name, tensors, config):
        fmt, data = blocks(self.q, self.zero, self.scale, self.group, self.n_bits)
        tensors = {f"l.{key}": value for key, value in tensors.items()}
        tensors |= {"expected.q": self.q, "expected.zero": self.zero, "expected.scale": self.scale, "expected.blocks": data}
        save(name, tensors, {"config": json.dumps(config), "format": fmt, "group": str(self.group)})


# AutoAWQ

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def awq_columns(values):
    """[rows, n] into [rows, n / 8] words: nibble i of a word is column AWQ_ORDER[i] of its eight."""
    rows, n = values.shape
    values = values.reshape(rows, n // 8, 8)[:, :, AWQ_ORDER].reshape(rows, n)
    return pack(values, 4, 1)


def awq(version, layer):
    return {
        "quant_method": "awq", "zero_point": True, "group_size": layer.group_size, "bits": 4, "version": version,
        "modules_to_not_convert": None,
    }


def awq_gemm(name, layer, config=None):
    tensors = {
        "qweight": awq_columns(layer.q.T),
        "qzeros": awq_columns(layer.zero.T),
        "scales": layer.scale.T.astype(np.float16),
    }
    layer.save(name, tensors, config or awq("gemm", layer))


def gemv_width(layer):
    """Words that hold a row's zero points: whole words, whole pairs of them for groups of 64, fours for 32."""
    words = math.ceil(layer.zero.shape[1] / 8)
    multiple = 1 if layer.group >= 128 else 2 if layer.group == 64 else 4
    return math.ceil(words / multiple) * multiple


def padded(values, width):
    return np.pad(values, ((0, 0), (0, width - values.shape[1])))


def awq_gemv(name, layer):
    width = gemv_width(layer)
    tensors = {
        "qweight": pack(layer.q, 4, 1),
        "qzeros": pack(padded(layer.zero, width * 8), 4, 1),
        "scales": padded(layer.scale, width * 8).astype(np.float16),
    }
    layer.save(name, tensors, awq("gemv", layer))


def awq_gemv_fast(name, layer):
    n_out, n_in = layer.q.shape
    # Each 32 columns: as pairs [4, 4, 2] they change to [pair, quarter, 2], and in each eight of these the firsts go before the seconds.
    order = np.arange(32).reshape(4, 4, 2).transpose(1, 0, 2).reshape(4, 4, 2).transpose(0, 2, 1).reshape(32)
    q = layer.q.astype(np.uint16).reshape(n_out, n_in // 32, 32)[:, :, order]
    # Four rows share words: 64 columns of each, one row after the other, four to a word.
    q = q.reshape(n_out // 4, 4, n_in // 64, 64).transpose(0, 2, 1, 3).reshape(n_out // 4, n_in // 64, 64, 4)
    words = q[..., 0] | q[..., 1] << 4 | q[..., 2] << 8 | q[..., 3] << 12
    width = gemv_width(layer) * 8
    scaled = -(layer.scale * layer.zero.astype(np.float32)).astype(np.float16)
    tensors = {
        "qweight": words.reshape(n_out // 4, n_in).view(np.int16),
        "qzeros": padded(scaled, width).T,
        "scales": padded(layer.scale, width).astype(np.float16).T,
    }
    layer.save(name, tensors, awq("gemv_fast", layer))


# GPTQ


def gptq(layer, checkpoint_format, desc_act=False, **more):
    sym = bool((layer.zero == 1 << (layer.n_bits - 1)).all())
    return {
        "quant_method": "gptq", "bits": layer.n_bits, "group_size": layer.group_size, "desc_act": desc_act, "sym": sym,
        "checkpoint_format": checkpoint_format, "lm_head": False, **more,
    }


def gptq_layer(name, layer, qzeros, config, g_idx=True):
    n_in = layer.q.shape[1]
    tensors = {
        "qweight": pack(layer.q.T, layer.n_bits, 0),
        "qzeros": qzeros,
        "scales": layer.scale.T.astype(np.float16),
    }
    if g_idx:
        tensors["g_idx"] = (np.arange(n_in) // layer.group).astype(np.int32)
    layer.save(name, tensors, config)


def gptq_v1(name, layer, **more):
    """Stores zero points less one."""
    gptq_layer(name, layer, pack(layer.zero.T.astype(int) - 1, layer.n_bits, 1), gptq(layer, "gptq", **more))


def gptq_v2(name, layer):
    gptq_layer(name, layer, pack(layer.zero.T, layer.n_bits, 1), gptq(layer, "gptq_v2"))


def gptq_by_gptqmodel(name, layer):
    """Packs zero points as they are and then subtracts one from each of the eight at once: a 0 borrows from its neighbour."""
    words = pack(layer.zero.T, 4, 1).view(np.uint32).astype(np.int64) - 0x11111111
    qzeros = (words & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    gptq_layer(name, layer, qzeros, gptq(layer, "gptq", meta={"quantizer": ["gptqmodel:2.2.0"]}))


# compressed-tensors


def compressed(layer, symmetric, fmt="pack-quantized"):
    channel = layer.group_size == -1
    weights = {
        "num_bits": layer.n_bits, "type": "int", "symmetric": symmetric, "strategy": "channel" if channel else "group",
        "group_size": None if channel else layer.group_size, "dynamic": False, "actorder": None,
    }
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return {
        "quant_method": "compressed-tensors", "format": fmt, "quantization_status": "compressed", "ignore": ["lm_head"],
        "config_groups": {"group_0": group},
    }


def compressed_layer(name, layer, symmetric, scale, zero_points=None):
    tensors = {
        "weight_packed": pack(layer.q, layer.n_bits, 1),
        "weight_scale": scale,
        "weight_shape": np.array(layer.q.shape, dtype=np.int64),
    }
    if not symmetric:
        packed = pack(layer.zero, layer.n_bits, 0)
        tensors["weight_zero_point"] = packed if zero_points is None else zero_points
    layer.save(name, tensors, compressed(layer, symmetric))


def main():
    # More rows than a tile and than a cache line of words, columns that are no multiple of 64.
    awq_gemm("awq_gemm_g32", Layer(1, 144, 96, 32))
    awq_gemm("awq_gemm_g64", Layer(2, 16, 128, 64))
    awq_gemm("awq_gemm_g128", Layer(3, 8, 256, 128))
    awq_gemm("awq_gemm_row", Layer(4, 16, 96, -1))
    awq_gemm("awq_gemm_symmetric", Layer(5, 16, 64, 32, zeros=(8, 8)))
    awq_gemv("awq_gemv_g32", Layer(6, 6, 64, 32))
    awq_gemv("awq_gemv_g64", Layer(7, 5, 128, 64))
    awq_gemv("awq_gemv_g128", Layer(8, 3, 1280, 128))
    awq_gemv_fast("awq_gemv_fast_g32", Layer(9, 8, 128, 32))
    awq_gemv_fast("awq_gemv_fast_g128", Layer(10, 4, 256, 128))

    gptq_v1("gptq_v1_g32", Layer(11, 136, 96, 32, zeros=(1, 15)))
    gptq_v1("gptq_v1_g128", Layer(12, 8, 256, 128, zeros=(1, 16)))
    gptq_v1("gptq_v1_row", Layer(13, 16, 96, -1, zeros=(1, 15)), desc_act=True)
    gptq_v1("gptq_v1_symmetric", Layer(14, 16, 64, 32, zeros=(8, 8)))
    gptq_v1("gptq_v1_8_bits", Layer(15, 8, 128, 64, n_bits=8, zeros=(128, 128)))
    gptq_v2("gptq_v2_g64", Layer(16, 16, 128, 64))
    gptq_by_gptqmodel("gptq_v1_by_gptqmodel", Layer(17, 16, 128, 32))

    sym = Layer(18, 12, 128, 32, zeros=(8, 8), scale_type="bf16")
    compressed_layer("compressed_symmetric_g32", sym, True, ("BF16", bf16(sym.scale)))
    row = Layer(19, 12, 96, -1, zeros=(8, 8))
    compressed_layer("compressed_symmetric_row", row, True, row.scale.astype(np.float16))
    # Rows that do not fill the last word of zero points.
    asym = Layer(20, 12, 256, 128, scale_type="bf16")
    compressed_layer("compressed_asymmetric_g128", asym, False, ("BF16", bf16(asym.scale)))
    old = Layer(21, 8, 128, 64)
    signed = (old.zero.astype(int) - 8).astype(np.int8)
    compressed_layer("compressed_asymmetric_g64_int8", old, False, old.scale, zero_points=signed)
    wide = Layer(22, 6, 128, 64, n_bits=8, zeros=(128, 128))
    compressed_layer("compressed_8_bits_g64", wide, True, wide.scale.astype(np.float16))
    plain = Layer(23, 6, 96, -1, n_bits=8, zeros=(128, 128), scale_type="bf16")
    tensors = {"weight": (plain.q.astype(int) - 128).astype(np.int8), "weight_scale": ("BF16", bf16(plain.scale))}
    plain.save("compressed_int8", tensors, compressed(plain, True, "int-quantized"))


if __name__ == "__main__":
    main()
