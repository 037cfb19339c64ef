"""What a generation brings: pieces of text as they come, or a whole completion."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, AsyncIterator, Iterable, Iterator, NamedTuple, Optional, Union

from bise import _bise

__all__ = ["Completion", "Piece", "Stream", "Token"]


class Token(NamedTuple):
    """A token that was chosen."""

    id: int
    """The token."""
    logprob: Optional[float]
    """The natural logarithm of its probability by the model, before any sampler; None unless ``logprobs`` was given."""
    top: list[tuple[int, float]]
    """The likeliest tokens and their log-probabilities, the likeliest first."""


class Piece(str):
    """A piece of text, as soon as it can be shown. It never ends within a character."""

    tokens: list[Token]
    """The tokens chosen since the last piece. Usually the piece is their text."""

    def __new__(cls, text: str, tokens: Iterable[Token]) -> Piece:
        piece = super().__new__(cls, text)
        piece.tokens = list(tokens)
        return piece

    def __reduce__(self) -> tuple[Any, ...]:
        return (Piece, (str(self), self.tokens))


class Completion(str):
    """A text that a model wrote."""

    tokens: list[Token]
    """The tokens chosen, the one that ended the text included."""
    finish_reason: str
    """``"stop"`` where the model ended the text, or a stop text did; ``"length"`` where it has as many tokens as were asked for,
    or the context is full."""
    n_prompt: int
    """Tokens of the prompt."""
    seed: int
    """The seed of the random numbers: the one that was drawn, if none was given."""

    def __new__(cls, text: str, tokens: Iterable[Token], finish_reason: str, n_prompt: int, seed: int) -> Completion:
        completion = super().__new__(cls, text)
        completion.tokens = list(tokens)
        completion.finish_reason = finish_reason
        completion.n_prompt = n_prompt
        completion.seed = seed
        return completion

    def __reduce__(self) -> tuple[Any, ...]:
        return (Completion, (str(self), self.tokens, self.finish_reason, self.n_prompt, self.seed))


class Stream(Iterator[Piece]):
    """A generation under way: an iterator over its pieces, for ``for`` and ``async for``.

    The prompt is read when the first piece is asked for. With ``async for``, passes run in a thread, and the event loop goes on.
    """

    def __init__(self, steps: _bise.Stream) -> None:
        self._steps = steps
        self._unseen: list[Token] = []
        self.finish_reason: Optional[str] = None
        """Why the generation is over; None while it goes on. See :attr:`Completion.finish_reason`."""

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece:
        while True:
            step = self._steps.step()
            if step is None:
                raise StopIteration
            text, tokens, self.finish_reason = step
            self._unseen.extend(Token(*token) for token in tokens)
            # Tokens without a text are left for the piece that follows, or for `read`.
            if text:
                piece, self._unseen = Piece(text, self._unseen), []
                return piece

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Piece]:
        # A thread of its own: the loop's are few, and shared with whatever else is slow.
        with_none = functools.partial(next, self, None)
        executor = ThreadPoolExecutor(1, "bise")
        try:
            loop = asyncio.get_running_loop()
            while (piece := await loop.run_in_executor(executor, with_none)) is not None:
                yield piece
        finally:
            # Where the task was cancelled, a pass is still under way.
            self.close()
            executor.shutdown(wait=False)

    def read(self) -> Completion:
        """The rest of the text, all at once."""
        pieces = list(self)
        tokens = [token for piece in pieces for token in piece.tokens] + self._unseen
        self._unseen = []
        return Completion("".join(pieces), tokens, self.finish_reason or "stop", self.n_prompt, self.seed)

    @property
    def last_tokens(self) -> list[Token]:
        """Tokens chosen since the last piece: those without a text, such as the one that ended the generation."""
        return list(self._unseen)

    @property
    def n_prompt(self) -> int:
        """Tokens of the prompt."""
        return self._steps.n_prompt

    @property
    def seed(self) -> int:
        """The seed of the random numbers: the one that was drawn, if none was given."""
        return self._steps.seed

    def close(self) -> None:
        """Ends the generation. If another thread waits for a piece, it gets :class:`bise.CancelledError` there."""
        self._steps.cancel()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Union[str, tuple[Any, ...]]:
        raise TypeError("a bise.Stream cannot be pickled: it belongs to an open model")
