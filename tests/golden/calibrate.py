#!/usr/bin/env python3
"""What `bise quantize --calibrate` gains, as docs/quantize.md tells: the KL divergence and the agreement of the first token over a text that was
not calibrated with (both by llama-perplexity), and the mean error of the matrices' outputs over it.

    pip install numpy torch gguf==0.19.0
    tests/golden/calibrate.py LLAMA_BIN BISE MODEL.F16.gguf CALIBRATION.txt HELDOUT.txt CONTEXT CHUNKS [HELDOUT_CHUNKS [TYPE...]]

LLAMA_BIN is a folder with b11434.
"""
import math
import pathlib
import re
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch

TYPES = "Q4_K_M", "Q3_K_M", "Q2_K", "Q5_K_M"
HELDOUT_CHUNKS = 40


def tensors(path):
    reader = gguf.GGUFReader(path)
    keys = {key: field.contents() for key, field in reader.fields.items()}
    values = {}
    for t in reader.tensors:
        data = np.array(gguf.quants.dequantize(t.data, t.tensor_type), dtype=np.float32)
        values[t.name] = torch.from_numpy(data.reshape(list(reversed(t.shape.tolist()))))
    return values, keys


def rms_norm(x, w, eps):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * w


def inputs(t, keys, tokens, n_ctx):
    """(layer, matrices, their inputs) of a dense model; contexts are no longer than its window."""
    key = lambda name, default=None: keys.get(f"{keys['general.architecture']}.{name}", default)
    n_heads, d, eps = key("attention.head_count"), key("embedding_length"), key("attention.layer_norm_rms_epsilon")
    n_kv, head = key("attention.head_count_kv", n_heads), key("attention.key_length", d // n_heads)
    angles = torch.arange(n_ctx).double()[:, None] * key("rope.freq_base", 10000.0) ** (-torch.arange(0, head, 2).double() / head)
    cos, sin = angles.cos().float()[:, None], angles.sin().float()[:, None]

    def rope(x):
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)

    mask = torch.full((n_ctx, n_ctx), -math.inf).triu(1)
    x = t["token_embd.weight"][tokens].view(-1, n_ctx, d)
    for layer in range(key("block_count")):
        w = lambda name: t[f"blk.{layer}.{name}.weight"]
        h = rms_norm(x, w("attn_norm"), eps)
        yield layer, ("attn_q", "attn_k", "attn_v"), h
        outputs = []
        for c in h:
            q, k = rope((c @ w("attn_q").T).view(n_ctx, n_heads, head)), rope((c @ w("attn_k").T).view(n_ctx, n_kv, head))
            v = (c @ w("attn_v").T).view(n_ctx, n_kv, head)
            k, v = (y.repeat_interleave(n_heads // n_kv, 1) for y in (k, v))
            scores = torch.einsum("qhd,khd->hqk", q, k) / head**0.5 + mask
            outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1))
        h = torch.stack(outputs)
        yield layer, ("attn_output",), h
        x = x + h @ w("attn_output").T
        h = rms_norm(x, w("ffn_norm"), eps)
        yield layer, ("ffn_gate", "ffn_up"), h
        h = torch.nn.functional.silu(h @ w("ffn_gate").T) * (h @ w("ffn_up").T)
        yield layer, ("ffn_down",), h
        x = x + h @ w("ffn_down").T


def main(llama, bise, model, calibration, heldout, n_ctx, chunks, heldout_chunks, types):
    torch.set_num_threads(1)
    ran = lambda *args: subprocess.run([str(a) for a in args], check=True, capture_output=True, text=True)
    run = lambda *args: ran(*args).stdout
    tool = lambda name: pathlib.Path(llama) / f"llama-{name}"
    original, keys = tensors(model)
    ids = eval(run(tool("tokenize"), "-m", model, "-f", heldout, "--ids", "--log-disable").strip().splitlines()[-1])
    ids = torch.tensor(ids[: min(len(ids) // n_ctx, heldout_chunks) * n_ctx]).view(-1, n_ctx)
    if keys.get("tokenizer.ggml.add_bos_token", True):
        ids[:, 0] = keys["tokenizer.ggml.bos_token_id"]
    grams = {}
    for layer, names, x in inputs(original, keys, ids.flatten(), n_ctx):
        x = x.flatten(0, 1).double()
        grams.update({f"blk.{layer}.{name}.weight": x.T @ x for name in names})
    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: f"{folder}/{name}"
        run(tool("imatrix"), "-m", model, "-f", calibration, "-o", at("i.gguf"), "-c", n_ctx, "--chunks", chunks, "--no-ppl", "-t", 1)
        perplexity = [tool("perplexity"), "-f", heldout, "-c", n_ctx, "--chunks", heldout_chunks, "-t", 1, "--kl-divergence-base", at("base")]
        run(*perplexity, "-m", model)
        for kind in types:
            makers = {
                "llama-quantize": [tool("quantize"), model, at("q.gguf"), kind],
                "llama-quantize --imatrix": [tool("quantize"), "--imatrix", at("i.gguf"), model, at("q.gguf"), kind],
                "bise quantize --imatrix": [bise, "quantize", "--force", "--imatrix", at("i.gguf"), model, at("q.gguf"), kind],
                "bise quantize --calibrate": [
                    bise, "quantize", "--force", "--calibrate", calibration, "-c", n_ctx, "--chunks", chunks, model, at("q.gguf"), kind
                ],
            }
            errors, rows = {}, []
            for maker, command in makers.items():
                run(*command)
                quantized, _ = tensors(at("q.gguf"))
                off = {name: original[name].double() - quantized[name].double() for name in grams}
                errors[maker] = {name: float(((e @ grams[name]) * e).sum()) for name, e in off.items()}
                # It sometimes ends before its last lines are out.
                said = ""
                while "Same top p:" not in said:
                    done = ran(*perplexity, "-m", at("q.gguf"), "--kl-divergence")
                    said = done.stdout + done.stderr
                find = lambda pattern: float(re.search(pattern + r"\s*:?\s*([\d.]+)", said)[1])
                size, kl, top = pathlib.Path(at("q.gguf")).stat().st_size, find("Mean +KLD"), find("Same top p:")
                rows.append((maker, f"{size:10} bytes, KL {kl:.5f}, top-1 {top:.2f} %, PPL {find('Mean PPL.Q.'):.4f}"))
            for maker, row in rows:
                other = errors["llama-quantize --imatrix"]
                ratios = [math.log(e / other[name]) for name, e in errors[maker].items() if e > 0]
                print(f"{kind:8} {maker:26} {row}, output error {math.exp(np.mean(ratios)):.3f}", flush=True)


if __name__ == "__main__":
    paths, (n_ctx, chunks, *rest) = sys.argv[1:6], sys.argv[6:]
    main(*paths, int(n_ctx), int(chunks), int(rest[0]) if rest else HELDOUT_CHUNKS, rest[1:] or TYPES)
