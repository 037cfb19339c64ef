from __future__ import annotations

import math

import pytest

import bise

TEXTS = ["The cat sat by the fire.", "A dog slept near the stove.", "It rained."]


def test_vectors(model: bise.Model) -> None:
    vectors = model.embed(TEXTS)
    assert [len(vector) for vector in vectors] == [model.n_embd] * 3
    assert all(math.sqrt(sum(x * x for x in vector)) == pytest.approx(1, abs=1e-5) for vector in vectors)
    # Alone and among others, the same bits; tokens are as good as their text.
    assert model.embed(TEXTS[1]) == vectors[1]
    assert model.embed([model.tokenize(TEXTS[2])])[0] == vectors[2]
    assert model.embed([]) == []


def test_pooling(model: bise.Model) -> None:
    from bise import _bise

    states = _bise._hidden_states(model, TEXTS[0], False)
    assert len(states) == len(model.tokenize(TEXTS[0]))
    mean = [sum(column) / len(states) for column in zip(*states)]
    assert model.embed(TEXTS[0], pooling="mean", normalize=False) == pytest.approx(mean, rel=1e-5, abs=1e-6)
    assert model.embed(TEXTS[0], pooling="last", normalize=False) == states[-1]
    assert model.embed(TEXTS[0], pooling="first", normalize=False) == states[0]
    with pytest.raises(ValueError, match='pooling is "max"'):
        model.embed("x", pooling="max")


def test_texts_that_cannot_be_embedded() -> None:
    # With a window there is no end.
    model = bise.Model.builtin(sliding_window=0)
    with pytest.raises(bise.ContextFullError, match="text 1: "):
        model.embed(["short", [1] * 3000])
    with pytest.raises(ValueError, match="text 0: "):
        model.embed([[]])
