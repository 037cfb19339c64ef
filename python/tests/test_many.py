from __future__ import annotations

import pytest
from conftest import STORY

import bise

PROMPTS = ["Once upon a time", "The cat", "One day, a little girl", "Tom had a red ball", "It was raining"]


def test_texts_are_those_of_each_alone(model: bise.Model) -> None:
    texts = model.generate_many(PROMPTS, max_tokens=32, temperature=0, n_parallel=3)
    assert texts[0] == STORY
    assert texts == [model.generate(prompt, max_tokens=32, temperature=0) for prompt in PROMPTS]
    assert [text.finish_reason for text in texts] == ["length"] * 5
    assert [len(text.tokens) for text in texts] == [32] * 5
    drawn = model.generate_many(PROMPTS, max_tokens=16, temperature=1.5)
    assert drawn == [
        model.generate(prompt, max_tokens=16, temperature=1.5, seed=text.seed) for prompt, text in zip(PROMPTS, drawn)
    ]
    assert model.generate_many([]) == []


def test_pieces_as_they_come(model: bise.Model) -> None:
    shown = [""] * len(PROMPTS)
    places = []

    def on_piece(i: int, piece: str) -> None:
        shown[i] += piece
        places.append(i)

    texts = model.generate_many(PROMPTS, max_tokens=16, temperature=0, logprobs=2, on_piece=on_piece)
    assert shown == texts
    # Together, not one after the other.
    assert places != sorted(places)
    assert all(len(token.top) == 2 and token.logprob is not None for text in texts for token in text.tokens)


def test_what_goes_wrong(model: bise.Model) -> None:
    calls = []

    def fail(i: int, piece: str) -> None:
        calls.append(i)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        model.generate_many(PROMPTS, on_piece=fail)
    assert len(calls) == 1
    endless = bise.Model.builtin(sliding_window=0)
    with pytest.raises(bise.ContextFullError, match="prompt 1: "):
        endless.generate_many(["Once", [1] * 3000], max_tokens=2)
    with pytest.raises(ValueError, match="prompt 0: "):
        model.generate_many([[]], max_tokens=2)
    with pytest.raises(ValueError, match="n_parallel"):
        model.generate_many(PROMPTS, n_parallel=0)
    with pytest.raises(TypeError):
        model.generate_many([3])
