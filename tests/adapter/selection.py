#!/usr/bin/env python3
"""Prints which modules PEFT adapts under some configurations: the table of src/adapter/peft/selection.rs.

pip install peft==0.21.*
"""

from types import SimpleNamespace

from peft.tuners.tuners_utils import check_target_module_exists

MODULES = [f"model.layers.{i}.self_attn.q_proj" for i in (0, 1, 11)] + [
    "model.layers.1.block_sparse_moe.experts.0.w1",
    "lm_head",
    "model.lm_head",
]
CONFIGS = [
    {},
    {"layers_to_transform": None},
    {"layers_to_transform": []},
    {"layers_to_transform": 1},
    {"layers_to_transform": [0, 11]},
    {"layers_to_transform": [1], "layers_pattern": "layers"},
    {"layers_to_transform": [0], "layers_pattern": ["h", "experts"]},
    {"layers_to_transform": [1], "layers_pattern": []},
    {"exclude_modules": ["lm_head", "w1"]},
    {"exclude_modules": r".*\.1\..*"},
    {"exclude_modules": "q_proj"},
]

for config in CONFIGS:
    settings = SimpleNamespace(target_modules=["q_proj", "w1", "lm_head"], target_parameters=None, **config)
    # What is excluded is an object of its own, which counts as false.
    chosen = [check_target_module_exists(settings, module) for module in MODULES]
    chosen = [bool(found) and type(found).__name__ != "_ExcludedModule" for found in chosen]
    print(config, [str(found).lower() for found in chosen])
