from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from conftest import MODEL_PATH, STORY

import bise


def test_the_text_is_that_of_the_rust_library(model: bise.Model) -> None:
    text = model.generate("Once upon a time", max_tokens=32, temperature=0)
    assert text == STORY
    assert isinstance(text, str)
    assert (text.finish_reason, len(text.tokens), text.n_prompt) == ("length", 32, 5)
    assert model.detokenize([token.id for token in text.tokens]) == STORY


def test_pieces_are_the_text_in_parts(model: bise.Model) -> None:
    stream = model.generate("Once upon a time", max_tokens=32, temperature=0, stream=True)
    assert iter(stream) is stream and stream.finish_reason is None
    pieces = list(stream)
    assert len(pieces) > 20 and "".join(pieces) == STORY
    assert stream.finish_reason == "length"
    assert [token.id for piece in pieces for token in piece.tokens] == [
        token.id for token in model.generate("Once upon a time", max_tokens=32, temperature=0).tokens
    ]
    assert list(stream) == []


def test_a_file_gives_the_same_text(model: bise.Model) -> None:
    for mmap in (True, False):
        with bise.Model(MODEL_PATH, mmap=mmap, threads=2, n_ubatch=3) as opened:
            assert opened.generate("Once upon a time", max_tokens=32, temperature=0) == STORY
            assert opened.n_threads == 2
            assert opened.name == str(MODEL_PATH)
            assert opened.metadata["general.architecture"] == "llama"
            assert opened.n_vocab == model.n_vocab == len(opened.tokenizer) == 4096


def test_seeds(model: bise.Model) -> None:
    def write(**sampling: object) -> bise.Completion:
        return model.generate("The cat", max_tokens=24, temperature=1.5, **sampling)

    assert write(seed=7) == write(seed=7) != write(seed=8)
    drawn = write()
    assert write(seed=drawn.seed) == drawn
    # -1 draws one, as in llama.cpp.
    assert 0 <= write(seed=-1).seed < 2**32 - 1


def test_stop_texts(model: bise.Model) -> None:
    text = model.generate("Once upon a time", max_tokens=32, temperature=0, stop=" roof")
    assert (text, text.finish_reason) == (", a kind boy named Hugo lived in a cottage with a red", "stop")
    streamed = model.generate("Once upon a time", max_tokens=32, temperature=0, stop=["xyz", "cottage with"], stream=True)
    assert "".join(streamed) == ", a kind boy named Hugo lived in a "
    assert streamed.finish_reason == "stop"


def test_a_text_ends_where_the_model_ends_it(model: bise.Model) -> None:
    text = model.generate("Once upon a time", temperature=0)
    assert text.finish_reason == "stop"
    assert model.tokenizer.is_end(text.tokens[-1].id)
    assert text.startswith(STORY) and "</s>" not in text
    assert model.generate("Once upon a time", temperature=0, special=True, max_tokens=400).startswith(STORY)


def test_a_full_context_ends_a_text() -> None:
    # With a window there is no end.
    model = bise.Model.builtin(sliding_window=0)
    session = model.session(n_ctx=16)
    text = session.generate("Once upon a time", temperature=0)
    assert text.finish_reason == "length"
    # All sixteen tokens are read, and one more is chosen.
    assert (session.position, len(text.tokens), session.room) == (16, 12, 0)
    assert STORY.startswith(text)
    with pytest.raises(bise.ContextFullError, match="17 tokens at position 0"):
        model.session(n_ctx=16).generate([1] + [500] * 16)
    with pytest.raises(ValueError):
        session.feed([500])


def test_log_probabilities(model: bise.Model) -> None:
    session = model.session()
    text = model.generate("Once upon a time", max_tokens=8, temperature=0, logprobs=3)
    session.feed("Once upon a time")
    for token in text.tokens:
        logits = session.logits().astype(np.float64)
        logprobs = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        assert token.logprob == pytest.approx(logprobs[token.id], abs=1e-4)
        assert [id for id, _ in token.top] == list(np.argsort(-logprobs, kind="stable")[:3])
        assert token.top[0] == (token.id, token.logprob)
        session.feed([token.id])
    assert model.generate("Once", max_tokens=1).tokens[0].logprob is None


def test_choices(model: bise.Model) -> None:
    for seed in range(5):
        answer = model.generate("[INST] Is ice cold? [/INST]", choices=[" Yes", " No"], seed=seed, temperature=2)
        assert answer in (" Yes", " No") and answer.finish_reason == "stop"
    with pytest.raises(ValueError, match="nothing to choose from"):
        model.generate("x", choices=[])


def test_logits_processors(model: bise.Model) -> None:
    seen = []

    def force(tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
        seen.append(list(tokens))
        assert logits.shape == (4096,) and logits.dtype == np.float32
        logits[:] = -np.inf
        logits[500 + len(tokens)] = 1.0
        return logits

    text = model.generate([1, 400], max_tokens=3, logits_processor=force)
    assert [token.id for token in text.tokens] == [502, 503, 504]
    assert seen == [[1, 400], [1, 400, 502], [1, 400, 502, 503]]
    # As it is, the logits give the same text; so do lists.
    assert model.generate("Once upon a time", max_tokens=32, temperature=0, logits_processor=lambda _, l: l) == STORY
    as_list = model.generate("Once upon a time", max_tokens=4, temperature=0, logits_processor=lambda _, l: l.tolist())
    assert STORY.startswith(as_list)

    def end(tokens: np.ndarray, logits: np.ndarray) -> object:
        return None if len(tokens) == 8 else logits

    ended = model.generate("Once upon a time", temperature=0, logits_processor=end)
    assert (ended, ended.finish_reason) == (", a kind", "stop")


def test_logits_processors_that_fail(model: bise.Model) -> None:
    session = model.session()

    def fail(tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
        if len(tokens) == 7:
            raise KeyError("mine")
        return logits

    stream = session.generate("Once upon a time", temperature=0, logits_processor=fail, stream=True)
    with pytest.raises(KeyError, match="mine"):
        list(stream)
    assert list(stream) == []
    assert session.position == 7
    # The session goes on from there.
    assert session.generate([model.tokenize("a", add_special=False)[0]], max_tokens=2).finish_reason == "length"
    for wrong, error in (
        (lambda _, l: l[:10], "10 logits for a vocabulary of 4096"),
        (lambda _, l: l.reshape(2, -1), r"shape \[2, 2048\]"),
        (lambda _, l: l * np.nan, "expected a finite number"),
        (lambda _, l: l - np.inf, "no token can be sampled"),
    ):
        with pytest.raises((ValueError, bise.BiseError), match=error):
            model.generate("Once", max_tokens=3, logits_processor=wrong)
    with pytest.raises(TypeError):
        model.generate("Once", max_tokens=3, logits_processor=3)


def test_sampling_parameters(model: bise.Model) -> None:
    never_a = model.tokenize(" a", add_special=False)[-1]
    text = model.generate("Once upon a time", max_tokens=8, temperature=0, logit_bias={never_a: -math.inf})
    assert never_a not in [token.id for token in text.tokens]
    assert model.generate("Once", max_tokens=8, temperature=0, samplers=["top_k", "temperature"]) == model.generate(
        "Once", max_tokens=8, temperature=0, samplers="top_k;temperature"
    )
    # None leaves a default.
    assert model.generate("Once upon a time", max_tokens=32, temperature=0, top_k=None, seed=None) == STORY
    for wrong, error, message in (
        ({"tempreature": 1}, TypeError, "tempreature"),
        ({"top_k": 1.5}, ValueError, "top_k"),
        ({"temperature": float("nan")}, ValueError, "temp"),
        ({"repeat_penalty": 0}, ValueError, "penalty_repeat"),
        ({"seed": -2}, ValueError, "seed is -2"),
        ({"logit_bias": {4096: 1.0}}, ValueError, "4096"),
        ({"logit_bias": {"x": 1.0}}, TypeError, "not a token"),
        ({"samplers": ["top_q"]}, ValueError, "samplers"),
        ({"max_tokens": -1}, ValueError, "max_tokens is -1"),
    ):
        with pytest.raises(error, match=message):
            model.generate("Once", **wrong)


def test_results_can_be_copied_and_pickled(model: bise.Model) -> None:
    text = model.generate("Once upon a time", max_tokens=4, temperature=0, logprobs=1)
    for other in (pickle.loads(pickle.dumps(text)), copy.deepcopy(text)):
        assert other == text
        assert (other.tokens, other.finish_reason, other.seed) == (text.tokens, text.finish_reason, text.seed)
    piece = next(model.generate("Once upon a time", temperature=0, stream=True))
    assert pickle.loads(pickle.dumps(piece)).tokens == piece.tokens


def test_drafts_do_not_change_a_text(model: bise.Model) -> None:
    prompt = "The cat saw the dog. The dog saw the cat. The cat saw the dog. The dog"
    without = model.generate(prompt, max_tokens=40, temperature=0, draft_tokens=0)
    assert model.generate(prompt, max_tokens=40, temperature=0, draft_tokens=8) == without
