from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from conftest import MODEL_PATH, STORY

import bise


def test_files_that_are_not_there_or_no_models(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        bise.Model(tmp_path / "none.gguf")
    assert missing.value.filename == str(tmp_path / "none.gguf")
    with pytest.raises((IsADirectoryError, bise.ModelError)):
        bise.Model(tmp_path)
    text = tmp_path / "text.gguf"
    text.write_text("Hello, I am no model.")
    with pytest.raises(bise.ModelError, match="expected a GGUF model"):
        bise.Model(text)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(MODEL_PATH.read_bytes()[:100_000])
    with pytest.raises(bise.ModelError, match="cut.gguf"):
        bise.Model(cut)
    empty = tmp_path / "empty.gguf"
    empty.touch()
    with pytest.raises(ValueError, match="empty.gguf"):
        bise.Model(empty)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="paths are Unicode on this system")
def test_paths_that_are_not_utf_8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/m\xff\xfe.gguf")
    os.symlink(MODEL_PATH, path)
    for given in (path, Path(path)):
        with bise.Model(given) as model:
            assert model.generate("Once upon a time", max_tokens=32, temperature=0) == STORY
    with pytest.raises(FileNotFoundError):
        bise.Model(path + "x")


class Pathlike:
    def __fspath__(self) -> str:
        return str(MODEL_PATH)


def test_kinds_of_paths() -> None:
    bise.Model(Pathlike()).close()
    for wrong in (3, ["x"]):
        with pytest.raises(TypeError):
            bise.Model(wrong)
    with pytest.raises((ValueError, OSError)):
        bise.Model("with\0nul")


def test_options() -> None:
    for options, error, message in (
        ({"threads": 0}, ValueError, "threads is 0"),
        ({"threads": -1}, OverflowError, "negative"),
        ({"n_ubatch": 0}, ValueError, "n_ubatch is 0"),
        ({"isa": "mmx"}, ValueError, "isa: .*mmx"),
        ({"metadata": {"llama.context_length": object()}}, TypeError, "metadata"),
        ({"metadata": {"llama.block_count": 99}}, bise.ModelError, "block_count|blk"),
        ({"no_such_option": 1}, TypeError, "no_such_option"),
        # Which argument it is stands in a note, where Python has those.
        ({"n_ctx": "long"}, TypeError, "n_ctx" if sys.version_info >= (3, 11) else "integer"),
    ):
        with pytest.raises(error, match=message):
            bise.Model.builtin(**options)


def test_a_context_beyond_memory(model: bise.Model) -> None:
    # Memory is taken as a session grows, so this one is fine until it does.
    session = model.session(n_ctx=2**40)
    session.feed("Once upon a time")
    assert session.n_ctx == 2**40
    with pytest.raises(OverflowError):
        model.session(n_ctx=2**70)
    with pytest.raises(OverflowError):
        model.session(n_ctx=-1)


def test_texts_that_are_not_unicode(model: bise.Model) -> None:
    for use in (model.tokenize, model.generate, model.embed):
        with pytest.raises((UnicodeError, TypeError)):
            use("\ud800")
    # Escaped in JSON, half a character is one that is not known.
    with pytest.raises((UnicodeError, ValueError)):
        model.chat("\ud800")


def test_a_ceiling_on_memory() -> None:
    for ceiling in ("2G", 2 << 30, "auto"):
        with bise.Model.builtin(max_memory=ceiling) as model:
            assert model.generate("Once upon a time", max_tokens=32, temperature=0) == STORY
    with pytest.raises(MemoryError, match="context|cache|fit"):
        bise.Model.builtin(max_memory="1M", sliding_window=0, n_ctx=100_000)
    for wrong in ("much", 0, -1, 1.5):
        with pytest.raises(ValueError, match="max_memory: found"):
            bise.Model.builtin(max_memory=wrong)
    with bise.Model(MODEL_PATH, stream_weights=True) as model:
        assert model.generate("Once upon a time", max_tokens=32, temperature=0) == STORY


def test_memory_is_foretold(model: bise.Model) -> None:
    assert 4 << 20 < model.memory(16) < model.memory() < 1 << 30
