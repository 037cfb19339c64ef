#!/usr/bin/env python3
"""Small random models of awkward shapes, and the logits that `transformers` (f32, eager attention) gives for them.

    python3 -m venv venv && venv/bin/pip install numpy gguf==0.19.0 torch transformers
    venv/bin/python models/tests/oracles/make.py

Writes NAME.gguf and NAME.npy (float32 [n_ids, n_vocab]) beside this script. The ids are id[i] = (7·i·i + 3·i + 1) mod n_vocab.
"""
import os

import gguf
import numpy as np
import torch
from transformers import (
    LlamaConfig, LlamaForCausalLM, Ministral3Config, Ministral3ForCausalLM, MistralConfig, MistralForCausalLM,
    MixtralConfig, MixtralForCausalLM,
)

N_VOCAB, N_IDS = 272, 96
HERE = os.path.dirname(os.path.abspath(__file__))
BASE = dict(
    vocab_size=N_VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, max_position_embeddings=512, rms_norm_eps=1e-5, sliding_window=None,
    tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
)
DTYPES = {"f32": (np.float32, gguf.LlamaFileType.ALL_F32), "f16": (np.float16, gguf.LlamaFileType.MOSTLY_F16)}


def permute(w, n_heads):
    """Hugging Face rotates halves of a head, GGUF's NORM rope neighbouring pairs: rows change places."""
    return w.reshape(n_heads, 2, w.shape[0] // n_heads // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def write(name, model, arch="llama", dtype="f32", split_experts=False, keys=lambda w: None, rope_freqs=None):
    torch.manual_seed(7)
    model.eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            scale = 0.3 if "norm" in key else 0.12 if "embed" not in key else 1.0
            p.copy_(torch.randn_like(p) * scale + (1.0 if "norm" in key else 0.0))
            if dtype == "f16" and p.ndim > 1:
                p.copy_(p.half().float())
    c, state = model.config, {k: v.detach().numpy() for k, v in model.state_dict().items()}
    ids = [(7 * i * i + 3 * i + 1) % N_VOCAB for i in range(N_IDS)]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float().numpy()
    np.save(f"{HERE}/{name}.npy", logits.astype(np.float32))

    w = gguf.GGUFWriter(f"{HERE}/{name}.gguf", arch)
    w.add_name(name)
    w.add_file_type(DTYPES[dtype][1])
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_key_length(c.head_dim)
    w.add_value_length(c.head_dim)
    w.add_rope_dimension_count(c.head_dim)
    w.add_rope_freq_base(c.rope_parameters["rope_theta"])
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    if getattr(c, "sliding_window", None):
        w.add_sliding_window(c.sliding_window)
    keys(w)
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    tokens += [f"word{i}" for i in range(N_VOCAB - len(tokens))]
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * N_VOCAB)
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * (N_VOCAB - 259))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)

    def add(key, a):
        w.add_tensor(key, np.ascontiguousarray(a.astype(DTYPES[dtype][0] if a.ndim > 1 else np.float32)))

    add("token_embd.weight", state["model.embed_tokens.weight"])
    add("output_norm.weight", state["model.norm.weight"])
    if not c.tie_word_embeddings:
        add("output.weight", state["lm_head.weight"])
    if rope_freqs is not None:
        add("rope_freqs.weight", rope_freqs)
    for i in range(c.num_hidden_layers):
        hf, b = f"model.layers.{i}.", f"blk.{i}."
        add(b + "attn_norm.weight", state[hf + "input_layernorm.weight"])
        add(b + "ffn_norm.weight", state[hf + "post_attention_layernorm.weight"])
        add(b + "attn_q.weight", permute(state[hf + "self_attn.q_proj.weight"], c.num_attention_heads))
        add(b + "attn_k.weight", permute(state[hf + "self_attn.k_proj.weight"], c.num_key_value_heads))
        add(b + "attn_v.weight", state[hf + "self_attn.v_proj.weight"])
        add(b + "attn_output.weight", state[hf + "self_attn.o_proj.weight"])
        router = [k for k in state if k.startswith(hf) and k.endswith(".gate.weight")]
        if not router:
            for part in ("gate", "up", "down"):
                add(f"{b}ffn_{part}.weight", state[f"{hf}mlp.{part}_proj.weight"])
            continue
        add(b + "ffn_gate_inp.weight", state[router[0]])
        gate_up = next(v for k, v in state.items() if k.startswith(hf) and k.endswith("experts.gate_up_proj"))
        down = next(v for k, v in state.items() if k.startswith(hf) and k.endswith("experts.down_proj"))
        gate, up = np.split(gate_up, 2, axis=1)
        for part, stacked in (("gate", gate), ("up", up), ("down", down)):
            if not split_experts:
                add(f"{b}ffn_{part}_exps.weight", stacked)
            else:
                for e, one in enumerate(stacked):
                    add(f"{b}ffn_{part}.{e}.weight", one)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    print(name, os.path.getsize(f"{HERE}/{name}.gguf"))


def mistral(**change):
    return MistralForCausalLM(MistralConfig(**{**BASE, "attn_implementation": "eager", **change}))


def rope(**parameters):
    return dict(rope_theta=10000.0, **parameters)


write("plain_f32", mistral())
write("plain_f16", mistral(), dtype="f16")
write("window_5", mistral(sliding_window=5))
write("window_1", mistral(sliding_window=1, num_hidden_layers=1))
write("window_70_f16", mistral(sliding_window=70), dtype="f16")
# 5 heads of 24 over 64: wider than the model, no power of two; one head of keys.
write("mqa_wide", mistral(num_attention_heads=5, num_key_value_heads=1, head_dim=24))
write("mha_narrow_tied", mistral(num_attention_heads=3, num_key_value_heads=3, head_dim=10, tie_word_embeddings=True))


def linear_keys(w):
    w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    w.add_rope_scaling_factor(4.0)


write("rope_linear", mistral(rope_parameters=rope(rope_type="linear", factor=4.0)), keys=linear_keys)


def yarn_keys(w):
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(8.0)
    w.add_rope_scaling_orig_ctx_len(32)


yarn = rope(rope_type="yarn", factor=8.0, original_max_position_embeddings=32)
write("rope_yarn", mistral(rope_parameters=yarn, max_position_embeddings=256), keys=yarn_keys)


def ministral_keys(w):
    yarn_keys(w)
    w.add_rope_scaling_yarn_log_mul(1.0)
    w.add_attn_temperature_scale(0.1)


ministral = Ministral3ForCausalLM(Ministral3Config(**{
    **BASE, "attn_implementation": "eager", "tie_word_embeddings": True, "max_position_embeddings": 256,
    "rope_parameters": rope(rope_type="yarn", factor=8.0, original_max_position_embeddings=32, beta_fast=32.0,
                            beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.1),
}))
write("ministral_3", ministral, arch="mistral3", keys=ministral_keys)


def mixtral():
    return MixtralForCausalLM(MixtralConfig(**{
        **BASE, "attn_implementation": "eager", "num_local_experts": 4, "num_experts_per_tok": 2,
    }))


def expert_keys(w):
    w.add_expert_count(4)
    w.add_expert_used_count(2)


write("mixtral_stacked", mixtral(), keys=expert_keys)
write("mixtral_split", mixtral(), keys=expert_keys, split_experts=True)

llama3 = rope(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
model = LlamaForCausalLM(LlamaConfig(**{**BASE, "attn_implementation": "eager", "rope_parameters": llama3}))
plain = 1.0 / 10000.0 ** (np.arange(0, 16, 2, dtype=np.float32) / 16)
write("rope_freqs", model, rope_freqs=plain / model.model.rotary_emb.inv_freq.numpy())
