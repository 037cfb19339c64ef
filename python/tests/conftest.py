from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

import bise

STORY = (
    ", a kind boy named Hugo lived in a cottage with a red roof. He never walked past someone who was sad. One day, Hugo got a small "
    "brown"
)
"""What the built-in model makes of "Once upon a time" in 32 tokens, greedily: the text of the Rust library's golden test."""

MODEL_PATH = Path(__file__).parents[2] / "models/tiny/bise-tiny.Q4_K_M.gguf"


@pytest.fixture(scope="session")
def model() -> Iterator[bise.Model]:
    with bise.Model.builtin() as model:
        yield model


@pytest.fixture
def slow() -> Iterator[bise.Model]:
    """A model that takes many seconds to read :data:`LONG`."""
    with bise.Model.builtin(isa="scalar", threads=1, n_ctx=16384) as model:
        yield model


LONG = [1, *[400 + i % 3000 for i in range(16000)]]
