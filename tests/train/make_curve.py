#!/usr/bin/env python3
"""Writes what transformers' Trainer and PEFT make of 50 steps on the built-in model: curve.json and curve_adapter.npy, from curve.jsonl.

    pip install torch transformers peft gguf numpy accelerate sentencepiece protobuf
    tests/train/make_curve.py models/tiny/bise-tiny.Q4_K_M.gguf

The model is dequantized to F32 by gguf-py. The first adapter follows from a formula that tests/train_curve.rs has, too; rows come in the order of
the file; warmup, accumulation, weight decay and clipping are at work. Made with torch 2.15.0, transformers 5.24.0, peft 0.21.0.
"""

import json
import os
import sys
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gguf
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2
from transformers import MistralConfig, MistralForCausalLM, Trainer, TrainingArguments

HERE = os.path.dirname(os.path.abspath(__file__))
RANK, ALPHA = 4, 8
SAMPLE = 16


def load(path):
    """The model with its weights dequantized."""
    reader = gguf.GGUFReader(path)
    key = lambda name: reader.fields[name].contents()
    heads, kv_heads = key("llama.attention.head_count"), key("llama.attention.head_count_kv")
    width = key("llama.embedding_length")
    window = reader.fields.get("llama.attention.sliding_window")
    embeddings = next(int(tensor.shape[1]) for tensor in reader.tensors if tensor.name == "token_embd.weight")
    config = MistralConfig(
        vocab_size=embeddings, hidden_size=width, intermediate_size=key("llama.feed_forward_length"),
        num_hidden_layers=key("llama.block_count"), num_attention_heads=heads, num_key_value_heads=kv_heads,
        head_dim=width // heads, rms_norm_eps=key("llama.attention.layer_norm_rms_epsilon"),
        rope_theta=key("llama.rope.freq_base"), sliding_window=window.contents() if window else None,
        max_position_embeddings=key("llama.context_length"), tie_word_embeddings=False)
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
             "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    whole = {"token_embd.weight": "model.embed_tokens.weight", "output.weight": "lm_head.weight", "output_norm.weight": "model.norm.weight"}
    state = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        values = torch.from_numpy(np.array(values, dtype=np.float32)).reshape([int(n) for n in reversed(tensor.shape)])
        if tensor.name in whole:
            state[whole[tensor.name]] = values
            continue
        _, layer, part, _ = tensor.name.split(".")
        if part in ("attn_q", "attn_k"):
            values = unpermute(values, heads if part == "attn_q" else kv_heads)
        state[f"model.layers.{layer}.{names[part]}.weight"] = values
    model = MistralForCausalLM(config).float()
    model.load_state_dict(state, strict=True)
    return model


def tokenizer(path):
    """SentencePiece with the vocabulary of the file. (What transformers makes of it leaves out the space behind BOS.)"""
    reader = gguf.GGUFReader(path)
    key = lambda name: reader.fields[f"tokenizer.ggml.{name}"].contents()
    proto = sentencepiece_model_pb2.ModelProto()
    proto.trainer_spec.model_type = sentencepiece_model_pb2.TrainerSpec.BPE
    proto.trainer_spec.byte_fallback = True
    for piece, score, kind in zip(key("tokens"), key("scores"), key("token_type")):
        proto.pieces.add(piece=piece, score=score, type=kind)
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.remove_extra_whitespaces = False
    return SentencePieceProcessor(model_proto=proto.SerializeToString())


def unpermute(values, heads):
    """Rows that rotate together side by side, as in GGUF files, to halves of a head."""
    n, columns = values.shape
    return values.reshape(heads, n // heads // 2, 2, columns).transpose(1, 2).reshape(n, columns)


def permute(values, heads):
    n, columns = values.shape
    return values.reshape(heads, 2, n // heads // 2, columns).transpose(1, 2).reshape(n, columns)


def formula(n, seed, bound):
    """Numbers in ±bound, from SplitMix64: exact in f32 where bound is a power of two."""
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) / 2**23 - 1.0).astype(np.float32) * np.float32(bound)


def parts(model):
    """The matrices in the order of bise: layers, then q, k, v, o, then A and B; B in the order of GGUF files."""
    config = model.config
    for i, layer in enumerate(model.base_model.model.model.layers):
        for name, heads in [("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads), ("v_proj", 0), ("o_proj", 0)]:
            module = getattr(layer.self_attn, name)
            yield module.lora_A.default.weight, 0
            yield module.lora_B.default.weight, heads


def values(model):
    for weight, heads in parts(model):
        value = weight.detach()
        yield (permute(value, heads) if heads else value).contiguous().numpy().reshape(-1)


class InOrder(Trainer):
    def _get_train_sampler(self, *args):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def main(path):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, vocabulary = load(path), tokenizer(path)
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]))
    for number, (weight, heads) in enumerate(parts(model)):
        is_a = number % 2 == 0
        first = torch.from_numpy(formula(weight.numel(), number, 1 / 16 if is_a else 1 / 256)).reshape(weight.shape)
        weight.data = unpermute(first, heads) if heads else first
    rows = []
    for line in open(os.path.join(HERE, "curve.jsonl"), encoding="utf-8"):
        row = json.loads(line)
        prompt, answer = f"[INST] {row['prompt']} [/INST]", f" {row['completion']}"
        ids = [1] + vocabulary.encode(prompt + answer) + [2]
        n = 1 + len(vocabulary.encode(prompt))
        rows.append({"input_ids": ids, "labels": [-100] * n + ids[n:]})

    def collate(batch):
        width = max(len(row["input_ids"]) for row in batch)
        pad = lambda key, value: torch.tensor([row[key] + [value] * (width - len(row[key])) for row in batch])
        mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in batch])
        return {"input_ids": pad("input_ids", 0), "labels": pad("labels", -100), "attention_mask": mask}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=50, per_device_train_batch_size=2, gradient_accumulation_steps=2, learning_rate=2e-3,
            warmup_steps=5, lr_scheduler_type="linear", weight_decay=0.01, max_grad_norm=1.0, optim="adamw_torch", logging_steps=1,
            use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, remove_unused_columns=False)
        trainer = InOrder(model=model, args=arguments, train_dataset=rows, data_collator=collate)
        trainer.train()
    steps = [log for log in trainer.state.log_history if "loss" in log and "grad_norm" in log]
    samples = [value[::SAMPLE] for value in values(model)]
    with open(os.path.join(HERE, "curve.json"), "w", encoding="utf-8") as out:
        json.dump({
            "tokens": [row["input_ids"] for row in rows[:4]],
            "first_labels": [row["labels"].count(-100) for row in rows],
            "losses": [round(step["loss"], 6) for step in steps],
            "gradient_norms": [round(step["grad_norm"], 6) for step in steps],
            "learning_rates": [step["learning_rate"] for step in steps],
            "norms": [round(float(np.linalg.norm(value.astype(np.float64))), 8) for value in values(model)],
        }, out)
        out.write("\n")
    np.save(os.path.join(HERE, "curve_adapter.npy"), np.concatenate(samples))
    print([step["loss"] for step in steps])


if __name__ == "__main__":
    main(sys.argv[1])
