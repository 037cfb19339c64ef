#!/usr/bin/env python3
"""Adapters of PEFT beside the small models of models/tests/oracles, and the logits that PEFT (f32, eager attention) gives with them.

    python3 -m venv venv && venv/bin/pip install numpy gguf==0.19.0 torch transformers peft safetensors
    venv/bin/python tests/adapter/make.py

Writes the folders ADAPTER/ and CASE.npy (float32 [4, n_vocab]: after ids 0, 7, 15 and 23) beside this script. The ids are
id[i] = (7·i·i + 3·i + 1) mod n_vocab, 24 of them.
"""
import json
import os
import shutil
import zlib

import gguf
import numpy as np
import safetensors.torch
import torch
from peft import LoraConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
ORACLES = os.path.join(HERE, "../../models/tests/oracles")
N_IDS, ROWS = 24, [0, 7, 15, 23]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]


def unpermute(w, n_heads):
    """The rows of queries and keys as Hugging Face has them."""
    return w.reshape(n_heads, w.shape[0] // n_heads // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def model(name):
    file = gguf.GGUFReader(f"{ORACLES}/{name}.gguf")
    field = lambda key: file.fields[key].contents() if key in file.fields else None
    t = {x.name: np.array(x.data, dtype=np.float32) for x in file.tensors}
    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    n_layers = field("llama.block_count")
    m = MistralForCausalLM(MistralConfig(
        vocab_size=t["token_embd.weight"].shape[0], hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"), num_hidden_layers=n_layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=field("llama.attention.key_length"),
        max_position_embeddings=512, rms_norm_eps=1e-5, sliding_window=field("llama.attention.sliding_window"),
        tie_word_embeddings="output.weight" not in t, attn_implementation="eager",
    ))
    state = {"model.embed_tokens.weight": t["token_embd.weight"], "model.norm.weight": t["output_norm.weight"]}
    state["lm_head.weight"] = t.get("output.weight", t["token_embd.weight"])
    for i in range(n_layers):
        hf, b = f"model.layers.{i}.", f"blk.{i}."
        state[hf + "input_layernorm.weight"] = t[b + "attn_norm.weight"]
        state[hf + "post_attention_layernorm.weight"] = t[b + "ffn_norm.weight"]
        state[hf + "self_attn.q_proj.weight"] = unpermute(t[b + "attn_q.weight"], heads)
        state[hf + "self_attn.k_proj.weight"] = unpermute(t[b + "attn_k.weight"], kv_heads)
        state[hf + "self_attn.v_proj.weight"] = t[b + "attn_v.weight"]
        state[hf + "self_attn.o_proj.weight"] = t[b + "attn_output.weight"]
        for part in ("gate", "up", "down"):
            state[f"{hf}mlp.{part}_proj.weight"] = t[f"{b}ffn_{part}.weight"]
    m.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=True)
    m.eval()
    # What transformers gave for the plain model when the oracles were made.
    expected = np.load(f"{ORACLES}/{name}.npy")[ROWS]
    assert np.abs(logits(m) - expected).max() < 1e-4, name
    return m


def logits(m):
    n_vocab = m.config.vocab_size
    ids = [(7 * i * i + 3 * i + 1) % n_vocab for i in range(N_IDS)]
    with torch.no_grad():
        return m(torch.tensor([ids])).logits[0].float().numpy()[ROWS].astype(np.float32)


def case(name, base, adapters, keep=()):
    """`adapters`: (folder, factor on its scale, config). Folders in `keep` are written."""
    torch.manual_seed(11)
    m = None
    for folder, _, config in adapters:
        if m is None:
            m = get_peft_model(model(base), config, adapter_name=folder)
        else:
            m.add_adapter(folder, config)
    with torch.no_grad():
        for key, p in m.named_parameters():
            if "lora_" in key:
                # Each adapter has the same numbers in every case.
                g = torch.Generator().manual_seed(zlib.crc32(key.encode()))
                p.copy_((torch.randn(p.shape, generator=g) * (0.3 if "lora_A" in key else 0.1)).half().float())
    names = [folder for folder, _, _ in adapters]
    m.base_model.set_adapter(names)
    for module in m.modules():
        for folder, factor, _ in adapters:
            if isinstance(getattr(module, "scaling", None), dict) and folder in module.scaling:
                module.scaling[folder] *= factor
    np.save(f"{HERE}/{name}.npy", logits(m))
    for folder in keep:
        shutil.rmtree(f"{HERE}/{folder}", ignore_errors=True)
        m.save_pretrained(HERE, selected_adapters=[folder], save_embedding_layers=False)
        path = f"{HERE}/{folder}/adapter_model.safetensors"
        tensors = safetensors.torch.load_file(path)
        safetensors.torch.save_file({k: v.half() for k, v in tensors.items()}, path, {"format": "pt"})
        for readme in (f"{HERE}/README.md", f"{HERE}/{folder}/README.md"):
            if os.path.exists(readme):
                os.remove(readme)
        config = json.load(open(f"{HERE}/{folder}/adapter_config.json"))
        config["base_model_name_or_path"] = base
        json.dump(config, open(f"{HERE}/{folder}/adapter_config.json", "w"), indent=2, sort_keys=True)
    print(name, {folder: os.path.getsize(f"{HERE}/{folder}/adapter_model.safetensors") for folder in keep})


every = LoraConfig(r=4, lora_alpha=8, target_modules=ALL)
rslora = LoraConfig(r=3, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"])
patterns = LoraConfig(
    r=2, lora_alpha=3, target_modules=["q_proj", "k_proj", "up_proj"], rank_pattern={"k_proj": 5},
    alpha_pattern={"layers.1.self_attn.q_proj": 7, "up_proj": 1},
)
case("plain_every", "plain_f32", [("every", 1.0, every)], keep=["every"])
case("plain_rslora", "plain_f32", [("rslora", 1.0, rslora)], keep=["rslora"])
case("plain_patterns", "plain_f32", [("patterns", 1.0, patterns)], keep=["patterns"])
case("plain_together", "plain_f32", [("every", 0.75, every), ("rslora", -0.5, rslora), ("patterns", 1.0, patterns)])
case("window_every", "window_5", [("every", 1.0, every)])
mqa = LoraConfig(r=2, lora_alpha=4, target_modules=ALL[:-1])
case("mqa_wide_mqa", "mqa_wide", [("mqa", 1.0, mqa)], keep=["mqa"])
narrow = LoraConfig(r=2, lora_alpha=4, target_modules=ALL[:4])
case("narrow_tied_narrow", "mha_narrow_tied", [("narrow", 1.0, narrow)], keep=["narrow"])
