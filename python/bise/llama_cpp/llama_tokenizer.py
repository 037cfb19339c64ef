"""The tokenizer under llama-cpp-python's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Protocol

if TYPE_CHECKING:
    from bise import Model

__all__ = ["LlamaTokenizer"]


class _HasModel(Protocol):
    """A ``Llama``, as far as it matters here."""

    @property
    def model(self) -> Model: ...


class LlamaTokenizer:
    """The tokenizer of a ``Llama``, in bytes."""

    def __init__(self, llama: _HasModel) -> None:
        self._tokenizer = llama.model.tokenizer

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> List[int]:
        """The tokens of UTF-8 ``text``."""
        return self._tokenizer.encode(text.decode("utf-8", "ignore"), add_special=add_bos, parse_special=special)

    def detokenize(self, tokens: List[int], prev_tokens: Optional[List[int]] = None, special: bool = False) -> bytes:
        """The text of ``tokens``, perhaps with a part of a character at its ends. Control tokens are shown if ``special``.

        As in llama-cpp-python, the space that a text begins with is left out where BOS is the first of ``tokens``.
        """
        tokenizer = self._tokenizer
        shown = (token for token in tokens if special or not tokenizer.is_control(token))
        text = b"".join(tokenizer.piece(token) for token in shown)
        begins = len(tokens) > 0 and tokens[0] == tokenizer.bos and not prev_tokens
        return text[1:] if begins and text.startswith(b" ") else text

    def encode(self, text: str, add_bos: bool = True, special: bool = True) -> List[int]:
        """The tokens of ``text``."""
        return self.tokenize(text.encode("utf-8", "ignore"), add_bos, special)

    def decode(self, tokens: List[int]) -> str:
        """The text of ``tokens``."""
        return self.detokenize(tokens).decode("utf-8", "ignore")
