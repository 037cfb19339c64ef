"""Adapters: loaded from files, given to sessions and texts, with scales."""

from __future__ import annotations

import json
import math
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import MODEL_PATH, STORY

import bise

PROMPT = "Once upon a time"
RANK, ALPHA = 4, 8.0


def shapes(model: bise.Model) -> dict[str, tuple[int, int]]:
    """Rows and columns of the matrices that get a part, by PEFT's names."""
    n_ff = model.metadata["llama.feed_forward_length"]
    return {
        f"model.layers.{layer}.{module}": shape
        for layer in range(model.n_layers)
        for module, shape in (
            ("self_attn.o_proj", (model.n_embd, model.n_embd)),
            ("mlp.up_proj", (n_ff, model.n_embd)),
            ("mlp.down_proj", (model.n_embd, n_ff)),
        )
    }


def write_peft(folder: Path, model: bise.Model, seed: int) -> None:
    """A folder as PEFT's ``save_pretrained`` writes it."""
    random = np.random.default_rng(seed)
    folder.mkdir()
    tensors: dict[str, np.ndarray] = {}
    for name, (n_rows, k) in shapes(model).items():
        a = random.uniform(-1, 1, (RANK, k)) / math.sqrt(k)
        b = random.uniform(-0.4, 0.4, (n_rows, RANK))
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.astype(np.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.astype(np.float32)
    header, data = {}, b""
    for name, tensor in tensors.items():
        offsets = [len(data), len(data) + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        data += tensor.tobytes()
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["o_proj", "up_proj", "down_proj"],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.fixture
def folder(model: bise.Model, tmp_path: Path) -> Path:
    write_peft(tmp_path / "a", model, 1)
    write_peft(tmp_path / "b", model, 2)
    return tmp_path


def test_texts_have_the_adapters_they_are_given(model: bise.Model, folder: Path) -> None:
    a, b = model.load_adapter(folder / "a"), model.load_adapter(folder / "b")
    assert a.name == str(folder / "a") and a.n_bytes > 1000 and repr(a) == f"<bise.Adapter {folder / 'a'}>"
    options = {"max_tokens": 32, "temperature": 0}
    mixes = [[a], [b], [(a, 0.5)], [a, (b, -0.5)]]
    texts = [model.generate(PROMPT, adapters=mix, **options) for mix in mixes]
    assert len({STORY, *texts}) == 5
    assert model.generate(PROMPT, **options) == STORY
    assert model.generate(PROMPT, adapters=[(a, 0), (b, 0.0)], **options) == STORY
    assert model.generate_many([PROMPT] * 2, adapters=mixes[3], **options) == [texts[3]] * 2
    assert model.generate_many([PROMPT], **options) == [STORY]
    for mix, text in zip(mixes, texts):
        session = model.session(adapters=mix)
        assert session.generate(PROMPT, **options) == text
    assert [(adapter.name, scale) for adapter, scale in session.adapters] == [(a.name, 1.0), (b.name, -0.5)]


def test_what_is_not_used_of_an_adapter_is_told(model: bise.Model, folder: Path) -> None:
    assert model.load_adapter(folder / "a").warnings == []
    path = folder / "a" / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"rank_pattern": {"up_prj": 8}}))
    line = f"{folder / 'a'}: no tensor belongs to 'up_prj' of rank_pattern"
    assert model.load_adapter(folder / "a").warnings == [line]
    with bise.Model.builtin(adapters=[folder / "a"]) as other:
        assert line in other.warnings


def test_a_model_may_have_adapters_of_its_own(model: bise.Model, folder: Path) -> None:
    a, b = (model.load_adapter(folder / name) for name in "ab")
    with bise.Model.builtin(adapters=[folder / "a", (str(folder / "b"), 0.5)]) as other:
        own = other.generate(PROMPT, max_tokens=32, temperature=0)
        assert own == model.generate(PROMPT, adapters=[a, (b, 0.5)], max_tokens=32, temperature=0) != STORY
        assert other.generate(PROMPT, adapters=[], max_tokens=32, temperature=0) == STORY
        assert other.embed(PROMPT) != model.embed(PROMPT)
    with pytest.raises(FileNotFoundError):
        bise.Model.builtin(adapters=["missing.gguf"])


def test_llama_cpp_has_one_for_the_whole_model(model: bise.Model, folder: Path) -> None:
    from bise.llama_cpp import Llama

    llm = Llama(MODEL_PATH, lora_path=str(folder / "a"), lora_scale=0.5, verbose=False)
    text = llm(PROMPT, max_tokens=32, temperature=0)["choices"][0]["text"]
    assert text == model.generate(PROMPT, adapters=[(model.load_adapter(folder / "a"), 0.5)], max_tokens=32, temperature=0)


def test_what_was_read_is_read_again_with_others(model: bise.Model, folder: Path) -> None:
    a = model.load_adapter(folder / "a")
    session = model.session()
    session.feed(PROMPT)
    plain, tokens = session.logits().copy(), session.tokens
    session.set_adapters([a])
    assert session.tokens == tokens
    other = model.session(adapters=[a])
    other.feed(PROMPT)
    np.testing.assert_array_equal(session.logits(), other.logits())
    assert (session.logits() != plain).any()
    session.set_adapters([])
    np.testing.assert_array_equal(session.logits(), plain)
    assert session.adapters == []


def test_an_adapter_is_what_it_adds(model: bise.Model, folder: Path) -> None:
    """Twice at half the scale is once, but for rounding; once more, and it has gone."""
    a = model.load_adapter(folder / "a")
    rows = []
    for mix in ([a], [(a, 0.5), (a, 0.5)], [], [(a, 1), (a, -1)]):
        session = model.session(adapters=mix)
        session.feed(PROMPT)
        rows.append(session.logits())
    # Activations are rounded to 8 bits in every layer.
    assert np.abs(rows[0] - rows[1]).mean() < 0.1
    assert np.abs(rows[2] - rows[3]).mean() < 0.1
    assert np.abs(rows[0] - rows[2]).mean() > 0.5


def test_what_makes_no_sense_is_an_exception(model: bise.Model, folder: Path) -> None:
    a = model.load_adapter(str(folder / "a"))
    for scale in (math.nan, math.inf):
        with pytest.raises(ValueError, match="expected a finite number"):
            model.session(adapters=[(a, scale)])
    for wrong in (["a.gguf"], [(a, "much")], [(a,)], a):
        with pytest.raises(TypeError):
            model.session(adapters=wrong)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        model.load_adapter(folder / "missing.gguf")
    with pytest.raises(bise.ModelError, match="general.type"):
        model.load_adapter(MODEL_PATH)
    config = folder / "b" / "adapter_config.json"
    config.write_text(config.read_text().replace('"bias"', '"use_dora": true, "bias"'))
    with pytest.raises(bise.ModelError, match="use_dora"):
        model.load_adapter(folder / "b")
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(a)
    with bise.Model.builtin() as closed:
        pass
    with pytest.raises(bise.ClosedError):
        closed.load_adapter(folder / "a")
