"""From the arguments of ``Llama(…)`` to an open model."""

from __future__ import annotations

import os
import sys
from typing import Any, Dict, NoReturn, Optional, Union

from bise import Model
from bise.llama_cpp import _constants as c
from bise.llama_cpp.llama_speculative import LlamaPromptLookupDecoding

CACHE_TYPES = {c.GGML_TYPE_F32: "f32", c.GGML_TYPE_F16: "f16", c.GGML_TYPE_Q4_0: "q4_0", c.GGML_TYPE_Q8_0: "q8_0"}

CHAT_FORMATS = {
    "chatml": "chatml",
    "llama-2": "llama2",
    "llama-3": "llama3",
    "mistral-instruct": "mistral-v1",
    "zephyr": "zephyr",
}
"""Names of llama-cpp-python, and of the templates that they are here."""

ROPE_SCALING = {
    c.LLAMA_ROPE_SCALING_TYPE_NONE: "none",
    c.LLAMA_ROPE_SCALING_TYPE_LINEAR: "linear",
    c.LLAMA_ROPE_SCALING_TYPE_YARN: "yarn",
}

POOLING: Dict[int, Optional[str]] = {
    c.LLAMA_POOLING_TYPE_UNSPECIFIED: None,
    c.LLAMA_POOLING_TYPE_NONE: "none",
    c.LLAMA_POOLING_TYPE_MEAN: "mean",
    c.LLAMA_POOLING_TYPE_CLS: "first",
    c.LLAMA_POOLING_TYPE_LAST: "last",
}


def refuse(name: str, why: str) -> NoReturn:
    """Names an argument that cannot be obeyed."""
    raise NotImplementedError(f"{name}: {why}")


def check_unsupported(arguments: Dict[str, Any]) -> None:
    """Refuses by name what the engine does not have."""
    if arguments["lora_base"]:
        refuse("lora_base", "adapters stand beside the weights as they are, and need no others: leave it out")
    if arguments["tokenizer"] is not None:
        refuse("tokenizer", "bise uses the tokenizer in the model's file, which gives the tokens of Hugging Face's")
    draft_model = arguments["draft_model"]
    if draft_model is not None and not isinstance(draft_model, LlamaPromptLookupDecoding):
        refuse("draft_model", "bise drafts from the prompt alone: expected LlamaPromptLookupDecoding or None")
    if arguments["attention_type"] not in (-1, 0):
        refuse("attention_type", "bise runs models with causal attention alone")
    for name, default in (("yarn_ext_factor", -1.0), ("yarn_attn_factor", 1.0)):
        if arguments[name] != default:
            refuse(name, f"bise takes it from the model's file alone: leave it at {default}")
    if arguments["pooling_type"] not in POOLING:
        refuse("pooling_type", f"{arguments['pooling_type']} is not known: expected one of {sorted(POOLING)}")
    for name in ("type_k", "type_v"):
        if arguments[name] is not None and arguments[name] not in CACHE_TYPES:
            kinds = ", ".join(f"{number} ({kind})" for number, kind in CACHE_TYPES.items())
            refuse(name, f"{arguments[name]} is not known: expected one of {kinds}")


def open_model(path: Union[str, os.PathLike[str]], arguments: Dict[str, Any]) -> Model:
    """The model at ``path``."""
    threads = max(arguments["n_threads"] or 0, arguments["n_threads_batch"] or 0)
    options: Dict[str, Any] = {
        "n_ctx": arguments["n_ctx"],
        "threads": threads or None,
        "n_ubatch": max(1, min(arguments["n_batch"], arguments["n_ubatch"])),
        "mmap": arguments["use_mmap"],
        "mlock": arguments["use_mlock"],
        "cache_type_k": CACHE_TYPES[arguments["type_k"]] if arguments["type_k"] is not None else "f16",
        "cache_type_v": CACHE_TYPES[arguments["type_v"]] if arguments["type_v"] is not None else "f16",
        "chat_template": chat_template(arguments["chat_format"]),
        "adapters": [(arguments["lora_path"], arguments["lora_scale"])] if arguments["lora_path"] else [],
    }
    metadata = dict(arguments["kv_overrides"] or {})
    rope = rope_metadata(arguments)
    if rope:
        # The keys begin with the architecture, which is in the file.
        with Model(path) as model:
            architecture = model.metadata["general.architecture"]
        metadata.update({f"{architecture}.rope.{key}": value for key, value in rope.items()})
    model = Model(path, metadata=metadata, **options)
    if arguments["verbose"]:
        for warning in model.warnings:
            print(f"warning: {warning}", file=sys.stderr)
    return model


def chat_template(chat_format: Optional[str]) -> Optional[str]:
    """The template that a ``chat_format`` is here; None for the model's own."""
    if chat_format is None:
        return None
    from bise import _bise

    if chat_format in CHAT_FORMATS:
        return CHAT_FORMATS[chat_format]
    if chat_format in _bise.chat_template_names():
        return chat_format
    names = sorted({*CHAT_FORMATS, *_bise.chat_template_names()})
    refuse("chat_format", f"{chat_format!r} is not there: leave it out for the model's own template, or take one of {', '.join(names)}")


def rope_metadata(arguments: Dict[str, Any]) -> Dict[str, Union[int, float, str]]:
    """What arguments about positions say in place of the file, less the architecture."""
    rope: Dict[str, Union[int, float, str]] = {}
    if arguments["rope_freq_base"]:
        rope["freq_base"] = float(arguments["rope_freq_base"])
    if arguments["rope_freq_scale"]:
        rope["scaling.factor"] = 1.0 / float(arguments["rope_freq_scale"])
        rope["scaling.type"] = "linear"
    scaling = arguments["rope_scaling_type"]
    if scaling not in (None, c.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED):
        if scaling not in ROPE_SCALING:
            refuse("rope_scaling_type", f"{scaling} is not known: expected one of {sorted(ROPE_SCALING)}")
        rope["scaling.type"] = ROPE_SCALING[scaling]
    if arguments["yarn_orig_ctx"]:
        rope["scaling.original_context_length"] = int(arguments["yarn_orig_ctx"])
    for name, default in (("yarn_beta_fast", 32.0), ("yarn_beta_slow", 1.0)):
        if arguments[name] not in (default, -1.0):
            rope[f"scaling.{name}"] = float(arguments[name])
    return rope
