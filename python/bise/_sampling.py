"""The keyword arguments that say how tokens are chosen."""

from __future__ import annotations

from typing import Mapping, Optional, Sequence, TypedDict, Union


class Sampling(TypedDict, total=False):
    """How tokens are chosen. Names and defaults are llama.cpp's; None leaves a default."""

    seed: Optional[int]
    temperature: Optional[float]
    top_k: Optional[int]
    top_p: Optional[float]
    min_p: Optional[float]
    min_keep: Optional[int]
    typical_p: Optional[float]
    top_n_sigma: Optional[float]
    xtc_probability: Optional[float]
    xtc_threshold: Optional[float]
    dynatemp_range: Optional[float]
    dynatemp_exponent: Optional[float]
    repeat_last_n: Optional[int]
    repeat_penalty: Optional[float]
    frequency_penalty: Optional[float]
    presence_penalty: Optional[float]
    dry_multiplier: Optional[float]
    dry_base: Optional[float]
    dry_allowed_length: Optional[int]
    dry_penalty_last_n: Optional[int]
    dry_sequence_breakers: Optional[Sequence[str]]
    mirostat: Optional[int]
    mirostat_tau: Optional[float]
    mirostat_eta: Optional[float]
    ignore_eos: Optional[bool]
    samplers: Union[None, str, Sequence[str]]
    logit_bias: Optional[Mapping[int, float]]
