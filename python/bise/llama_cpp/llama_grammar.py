"""Grammars, which the engine does not have yet."""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["LlamaGrammar"]


class LlamaGrammar:
    """Not there yet: every way to make one raises ``NotImplementedError``."""

    def __init__(self, *_: Any, **__: Any) -> None:
        no_grammar("LlamaGrammar")

    @classmethod
    def from_string(cls, *_: Any, **__: Any) -> NoReturn:
        no_grammar("LlamaGrammar.from_string")

    @classmethod
    def from_file(cls, *_: Any, **__: Any) -> NoReturn:
        no_grammar("LlamaGrammar.from_file")

    @classmethod
    def from_json_schema(cls, *_: Any, **__: Any) -> NoReturn:
        no_grammar("LlamaGrammar.from_json_schema")


def no_grammar(what: str) -> NoReturn:
    """Says that there are no grammars, and what there is."""
    raise NotImplementedError(
        f"{what}: bise has no grammars yet. To choose between fixed texts, use bise.Model.generate(choices=[…])"
    )
