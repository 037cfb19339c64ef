#!/usr/bin/env python3
"""The gradients that torch (f64 outside norms and softmax, eager attention, LoRA by peft) gives for the small models of `oracles` and for the built-in one.

    python3 -m venv venv && venv/bin/pip install numpy gguf==0.19.0 torch transformers peft
    venv/bin/python models/tests/gradients/make.py

Weights are those of the GGUF file, dequantized by gguf-py. Writes NAME.npy, float32, beside this script: the loss, then for each adapted
matrix, in order of layers and of `PROJECTIONS`, the gradients of A and of B, rows in the order of the GGUF file, every STRIDE-th value.

A and B, tokens and labels follow from formulas that `gradients.rs` has too.
"""
import os
import sys

import gguf
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    LlamaConfig, LlamaForCausalLM, Ministral3Config, Ministral3ForCausalLM, MistralConfig, MistralForCausalLM,
    MixtralConfig, MixtralForCausalLM,
)

HERE = os.path.dirname(os.path.abspath(__file__))
ORACLES = f"{HERE}/../oracles"
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GGUF_NAMES = dict(zip(PROJECTIONS, ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]))


def uniform(n, seed):
    """Numbers in [−1, 1), exact in f32, from a hash of their index."""
    h = (np.arange(1, n + 1, dtype=np.uint64) * 0x9E3779B1 + seed * 0x85EBCA77).astype(np.uint32)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x2C1B3C6D)
    h ^= h >> np.uint32(12)
    h *= np.uint32(0x297A2D39)
    h ^= h >> np.uint32(15)
    return (h >> np.uint32(8)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def permute(w, n_heads):
    """Hugging Face rotates halves of a head, GGUF's NORM rope neighbouring pairs: rows change places."""
    return w.reshape(n_heads, 2, w.shape[0] // n_heads // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def unpermute(w, n_heads):
    return w.reshape(n_heads, w.shape[0] // n_heads // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def rope(theta, **parameters):
    return dict(rope_theta=theta, **{"rope_type": "default", **parameters})


def base_model(path, make, change):
    """The file as a model of transformers."""
    reader = gguf.GGUFReader(path)
    arch = reader.get_field("general.architecture").contents()

    def key(name, default=None):
        field = reader.get_field(f"{arch}.{name}")
        return default if field is None else field.contents()

    w = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    d, n_heads, n_kv_heads = key("embedding_length"), key("attention.head_count"), key("attention.head_count_kv")
    config = dict(
        vocab_size=w["token_embd.weight"].shape[0], hidden_size=d, intermediate_size=key("feed_forward_length"),
        num_hidden_layers=key("block_count"), num_attention_heads=n_heads, num_key_value_heads=n_kv_heads,
        head_dim=key("attention.key_length", d // n_heads), max_position_embeddings=key("context_length"),
        rms_norm_eps=key("attention.layer_norm_rms_epsilon"), sliding_window=key("attention.sliding_window"),
        tie_word_embeddings="output.weight" not in w, attn_implementation="eager",
        rope_parameters=rope(key("rope.freq_base")),
    )
    model = make(**{**config, **change})
    state = {"model.embed_tokens.weight": w["token_embd.weight"], "model.norm.weight": w["output_norm.weight"]}
    state["lm_head.weight"] = w.get("output.weight", w["token_embd.weight"])
    for i in range(config["num_hidden_layers"]):
        hf, b = f"model.layers.{i}.", f"blk.{i}."
        state[hf + "input_layernorm.weight"] = w[b + "attn_norm.weight"]
        state[hf + "post_attention_layernorm.weight"] = w[b + "ffn_norm.weight"]
        state[hf + "self_attn.q_proj.weight"] = unpermute(w[b + "attn_q.weight"], n_heads)
        state[hf + "self_attn.k_proj.weight"] = unpermute(w[b + "attn_k.weight"], n_kv_heads)
        state[hf + "self_attn.v_proj.weight"] = w[b + "attn_v.weight"]
        state[hf + "self_attn.o_proj.weight"] = w[b + "attn_output.weight"]
        if b + "ffn_gate_inp.weight" in w:
            names = [n for n in model.state_dict() if n.startswith(hf)]
            one = lambda end: next(n for n in names if n.endswith(end))
            state[one(".gate.weight")] = w[b + "ffn_gate_inp.weight"]
            gate_up = [w[b + "ffn_gate_exps.weight"], w[b + "ffn_up_exps.weight"]]
            state[one("experts.gate_up_proj")] = np.concatenate(gate_up, axis=1)
            state[one("experts.down_proj")] = w[b + "ffn_down_exps.weight"]
        else:
            for part in ("gate", "up", "down"):
                state[f"{hf}mlp.{part}_proj.weight"] = w[f"{b}ffn_{part}.weight"]
    result = model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()}, strict=False)
    assert not result.unexpected_keys and not result.missing_keys, result
    return model, n_heads, n_kv_heads


def case(name, projections, last, rank, alpha, lengths, rslora=False, stride=1, path=None, make=None, change={}):
    if len(sys.argv) > 1 and name not in sys.argv[1:]:
        return
    make = make or (lambda **c: MistralForCausalLM(MistralConfig(**c)))
    model, n_heads, n_kv_heads = base_model(path or f"{ORACLES}/{name}.gguf", make, change)
    n_layers, n_vocab = model.config.num_hidden_layers, model.config.vocab_size
    layers = list(range(n_layers - last, n_layers))
    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=projections, layers_to_transform=layers, lora_dropout=0.0,
        use_rslora=rslora,
    )
    model = get_peft_model(model, config).double().train()
    parts = []
    for layer in layers:
        for projection in PROJECTIONS:
            if projection not in projections:
                continue
            room = "self_attn" if projection in PROJECTIONS[:4] else "mlp"
            module = model.get_submodule(f"base_model.model.model.layers.{layer}.{room}.{projection}")
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            heads = {"q_proj": n_heads, "k_proj": n_kv_heads}.get(projection)
            seed = 2 * len(parts)
            bound = np.float32(1 / np.sqrt(a.shape[1]))
            b0 = (np.float32(0.25) * uniform(b.numel(), seed + 1)).reshape(b.shape)
            with torch.no_grad():
                a.copy_(torch.from_numpy((bound * uniform(a.numel(), seed)).reshape(a.shape)))
                b.copy_(torch.from_numpy(unpermute(b0, heads) if heads else b0))
            parts.append((a, b, heads))
    loss = 0.0
    for e, n in enumerate(lengths):
        ids = torch.tensor([[(7 * i * i + 3 * i + 1 + 11 * e) % n_vocab for i in range(n)]])
        is_label = [i > 0 and (i * i + e) % 3 != 1 for i in range(n)]
        logits = model(input_ids=ids).logits[0]
        wanted = [i for i in range(n) if is_label[i]]
        loss = loss + torch.nn.functional.cross_entropy(logits[[i - 1 for i in wanted]], ids[0, wanted], reduction="sum")
    loss.backward()
    out = [np.array([loss.item()])]
    for a, b, heads in parts:
        gb = b.grad.numpy()
        gb = permute(gb, heads) if heads else gb
        out += [a.grad.numpy().ravel()[::stride], gb.ravel()[::stride]]
    out = np.concatenate(out).astype(np.float32)
    np.save(f"{HERE}/{name}.npy", out)
    print(name, "loss", loss.item(), "values", len(out))


ATTENTION = PROJECTIONS[:4]
case("plain_f16", PROJECTIONS, 2, 2, 3, [21, 40])
case("window_5", ATTENTION, 1, 3, 2, [40, 9], rslora=True)
case("mqa_wide", PROJECTIONS, 2, 2, 4, [33])
case("mha_narrow_tied", ["q_proj", "v_proj", "down_proj"], 2, 2, 4, [17, 2, 18])
case("rope_yarn", ["q_proj", "k_proj"], 2, 2, 4, [70], change=dict(
    rope_parameters=rope(10000.0, rope_type="yarn", factor=8.0, original_max_position_embeddings=32)))
case("rope_freqs", ["q_proj", "k_proj"], 1, 2, 4, [50], make=lambda **c: LlamaForCausalLM(LlamaConfig(**c)), change=dict(
    rope_parameters=rope(10000.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                         original_max_position_embeddings=64)))
case("ministral_3", ["q_proj", "o_proj", "up_proj"], 2, 2, 4, [70],
     make=lambda **c: Ministral3ForCausalLM(Ministral3Config(**c)), change=dict(
         rope_parameters=rope(10000.0, rope_type="yarn", factor=8.0, original_max_position_embeddings=32, beta_fast=32.0,
                              beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.1)))
case("mixtral_stacked", ATTENTION, 2, 2, 4, [30, 11], make=lambda **c: MixtralForCausalLM(MixtralConfig(**c)),
     change=dict(num_local_experts=4, num_experts_per_tok=2, experts_implementation="eager"))
case("tiny", PROJECTIONS, 8, 2, 4, [300, 40], stride=17, path=f"{HERE}/../../tiny/bise-tiny.Q4_K_M.gguf")
