"""The package as a whole: its README, its types, its docstrings."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MODEL_PATH

import bise
from bise import _bise, generation, model, tool_calls

ROOT = Path(__file__).parents[1]


def examples() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(examples())))
def test_examples_of_the_readme(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = examples()[number]
    if "langchain" in source:
        pytest.importorskip("langchain_core")
    # A small model stands for the files that are named.
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"[\w.-]+\.gguf", source):
        (tmp_path / name).symlink_to(MODEL_PATH)
    exec(compile(source, f"README.md, example {number}", "exec"), {"__name__": "__main__"})


def test_there_are_examples() -> None:
    assert len(examples()) >= 8


@pytest.mark.parametrize("module", [bise, generation, model, tool_calls])
def test_examples_in_docstrings(module: object) -> None:
    result = doctest.testmod(module, extraglobs={"bise": bise, "parse_tool_calls": tool_calls.parse_tool_calls})
    assert result.failed == 0


def test_everything_public_has_a_docstring() -> None:
    for thing in (getattr(bise, name) for name in bise.__all__ if name != "__version__"):
        assert inspect.getdoc(thing), thing
        for name, member in inspect.getmembers(thing):
            if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property)):
                assert inspect.getdoc(member), (thing, name)


def test_the_version_is_that_of_the_workspace() -> None:
    manifest = (ROOT.parent / "Cargo.toml").read_text()
    assert f'version = "{bise.__version__}"' in manifest


def test_types() -> None:
    pytest.importorskip("mypy")
    source = """
import asyncio
from typing import AsyncIterator, Iterator
import numpy as np
import numpy.typing as npt
import bise

model = bise.Model("x.gguf", n_ctx=4096)
text: bise.Completion = model.generate("x", max_tokens=3, temperature=0)
pieces: Iterator[bise.Piece] = model.generate("x", stream=True)
later: AsyncIterator[bise.Piece] = model.agenerate("x").__aiter__()
vector: list[float] = model.embed("x")
vectors: list[list[float]] = model.embed(["x"])
prompt: str = model.apply_chat_template("x")
tokens: list[int] = model.apply_chat_template("x", tokenize=True)
logits: npt.NDArray[np.float32] = model.session().logits()
answer: str = model.chat([{"role": "user", "content": "x"}])
"""
    wrong = "\nmodel.session().generate('x', temprature=1)\nmodel.session().feed(1.5)\n"
    for extra, wrong_lines in (("", []), (wrong, ["19", "20"])):
        result = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", "-c", source + extra],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        errors = {line.split(":")[1] for line in result.stdout.splitlines() if "error:" in line}
        assert sorted(errors) == wrong_lines, result.stdout + result.stderr


def test_stubs_are_those_of_the_library(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    # The library is where the package is installed, not beside the sources.
    if sys.version_info < (3, 10):
        pytest.skip("the last langchain-core for Python 3.9 declares other types")
    for command, folder in ((["mypy"], ROOT), (["mypy.stubtest", "bise._bise"], tmp_path)):
        result = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=folder)
        assert result.returncode == 0, result.stdout + result.stderr


def test_every_exception_is_one_of_bise() -> None:
    names = [name for name in bise.__all__ if name.endswith("Error")]
    assert len(names) == 8
    assert all(issubclass(getattr(bise, name), bise.BiseError) for name in names)
    assert issubclass(bise.ModelError, ValueError) and issubclass(bise.BusyError, RuntimeError)


def test_free_threading_is_not_claimed() -> None:
    # Where there is no GIL, importing the module brings it back.
    assert getattr(sys, "_is_gil_enabled", lambda: True)()
    assert _bise.__version__ == bise.__version__
