from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from conftest import STORY

import bise


def test_a_text_is_read_and_continued(model: bise.Model) -> None:
    session = model.session()
    assert (session.position, len(session), session.n_ctx, session.room) == (0, 0, 2048, None)
    session.feed("Once upon a time")
    assert session.tokens == model.tokenize("Once upon a time")
    assert session.model is model
    text = session.generate(max_tokens=32, temperature=0)
    assert text == STORY
    # The last token is not read.
    assert session.position == 5 + 31
    with bise.Model.builtin(sliding_window=0, n_ctx=100) as other:
        session = other.session()
        session.feed("Once upon a time")
        assert (session.n_ctx, session.room) == (100, 95)


def test_logits_are_numpy_arrays_without_a_copy(model: bise.Model) -> None:
    session = model.session()
    with pytest.raises(ValueError, match="no logits"):
        session.logits()
    session.feed("Once upon a time")
    logits = session.logits()
    assert (logits.shape, logits.dtype) == ((4096,), np.float32)
    assert model.detokenize([int(logits.argmax())]) == ","
    assert not logits.flags.writeable and not logits.flags.owndata
    # The same memory, not a copy.
    assert session.logits().ctypes.data == logits.ctypes.data
    with pytest.raises(ValueError):
        logits[0] = 1


def test_logits_that_are_in_use_stay_as_they_are(model: bise.Model) -> None:
    session = model.session()
    session.feed("Once upon a time")
    views, copies = [], []
    for _ in range(8):
        views.append(session.logits())
        copies.append(views[-1].copy())
        session.feed([int(views[-1].argmax())])
    assert all((view == copy).all() for view, copy in zip(views, copies))
    assert len({view.ctypes.data for view in views}) == 8
    # They outlive their session.
    last = session.logits()[::2]
    kept = last.copy()
    session.close()
    del session
    gc.collect()
    np.testing.assert_array_equal(last, kept)
    # Where nobody looks, memory is used again.
    session = model.session()
    session.feed("Once")
    place = session.logits().ctypes.data
    session.feed([500])
    assert session.logits().ctypes.data == place


def test_logits_do_not_depend_on_how_tokens_are_fed(model: bise.Model) -> None:
    tokens = model.tokenize("The little dog ran to the pond and saw a duck.")
    whole, single = model.session(), model.session()
    rows = whole.score(tokens)
    assert rows.shape == (len(tokens), 4096) and not rows.flags.writeable
    for row, token in zip(rows, tokens):
        single.feed([token])
        assert (single.logits() == row).all()


def test_saving(model: bise.Model, tmp_path: Path) -> None:
    path = tmp_path / "story.session"
    session = model.session()
    session.feed("Once upon a time")
    session.save(path)
    logits = session.logits()
    with model.restore(path) as restored:
        assert restored.tokens == session.tokens and (restored.logits() == logits).all()
        assert restored.generate(max_tokens=32, temperature=0) == STORY
    with pytest.raises(bise.SessionFileError, match="cache"):
        model.restore(path, cache_type_k="q8_0")
    with bise.Model.builtin(sliding_window=0) as other, pytest.raises(bise.SessionFileError):
        other.restore(path)
    saved = path.read_bytes()
    for wrong in (saved[:-1], b"", saved[:100], b"GGUF" + saved, bytes([saved[0] ^ 1]) + saved[1:]):
        path.write_bytes(wrong)
        with pytest.raises(bise.SessionFileError, match="story.session"):
            model.restore(path)
    with pytest.raises(FileNotFoundError):
        model.restore(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        session.save(tmp_path / "no" / "folder")


def test_rewinding(model: bise.Model) -> None:
    session = model.session()
    session.feed("Once upon a time")
    logits = session.logits().copy()
    session.feed("there was a fox")
    session.rewind(4)
    assert session.position == 4
    with pytest.raises(ValueError, match="no logits"):
        session.logits()
    session.feed([model.tokenize("Once upon a time")[4]])
    assert (session.logits() == logits).all()
    with pytest.raises(ValueError, match="cannot rewind to 9: the session is at 5"):
        session.rewind(9)
    session.clear()
    assert session.tokens == []


def test_a_prompt_that_is_empty(model: bise.Model) -> None:
    session = model.session()
    with pytest.raises(ValueError, match="no tokens"):
        session.generate([])
    session.feed([])
    assert session.position == 0


def test_tokens_outside_the_vocabulary(model: bise.Model) -> None:
    session = model.session()
    for wrong, error in (([4096], ValueError), ([-1], (OverflowError, TypeError)), (["x"], TypeError), (3, TypeError)):
        with pytest.raises(error):
            session.feed(wrong)
        with pytest.raises(error):
            list(session.generate(wrong, stream=True))
    assert session.position == 0


def test_the_window_and_cache_types() -> None:
    with bise.Model.builtin(sliding_window=32, cache_type_k="q8_0", cache_type_v="q4_0") as model:
        session = model.session(n_ctx=64)
        assert (model.sliding_window, session.room) == (32, None)
        text = session.generate("Once upon a time", max_tokens=100, temperature=0, ignore_eos=True)
        assert len(text.tokens) == 100
    with pytest.raises(ValueError, match="cache_type_k: unknown cache type 'f15'"):
        bise.Model.builtin(cache_type_k="f15")


def test_samplers(model: bise.Model) -> None:
    session = model.session()
    session.feed("Once upon a time")
    sampler = bise.Sampler(model.tokenizer, temperature=0)
    tokens = []
    for _ in range(8):
        tokens.append(sampler.sample(session.logits()))
        sampler.accept(tokens[-1])
        session.feed([tokens[-1]])
    assert STORY.startswith(model.detokenize(tokens))
    assert bise.Sampler(model.tokenizer, seed=3).seed == 3
    drawing = bise.Sampler(model.tokenizer, seed=3, temperature=2.0)
    first = [drawing.sample(session.logits()) for _ in range(20)]
    drawing.reset()
    assert [drawing.sample(session.logits()) for _ in range(20)] == first
    with pytest.raises(ValueError, match="3 logits"):
        sampler.sample([1.0, 2.0, 3.0])


def test_the_tokenizer(model: bise.Model) -> None:
    tokenizer = model.tokenizer
    assert (tokenizer.bos, tokenizer.eos, tokenizer.adds_bos) == (1, 2, True)
    assert model.detokenize(model.tokenize("Zoë's 🦊")) == "Zoë's 🦊"
    assert tokenizer.encode("</s>", add_special=False, parse_special=True) == [2]
    assert 2 not in tokenizer.encode("</s>")
    assert tokenizer.decode([1, 2], skip_special=False) == "<s></s>"
    assert tokenizer.token("</s>") == 2 and tokenizer.token("no such token") is None
    assert tokenizer.is_end(2) and tokenizer.is_control(1) and not tokenizer.is_end(500)
    assert tokenizer.piece(2) == b"</s>"
    for wrong in ([4096], [0, 99999]):
        with pytest.raises(ValueError, match="not in the vocabulary"):
            tokenizer.decode(wrong)
    with pytest.raises(ValueError, match="not in the vocabulary"):
        tokenizer.piece(4096)
    with pytest.raises(ValueError):
        tokenizer.infill("a", "b")
