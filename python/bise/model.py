"""Models and sessions."""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, Callable, Iterable, Literal, Mapping, Optional, Sequence, Union, overload

from bise import _bise
from bise._sampling import Sampling
from bise.generation import Completion, Stream, Token

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    if sys.version_info >= (3, 11):
        from typing import Unpack
    else:
        from typing_extensions import Unpack

    LogitsProcessor = Callable[
        ["npt.NDArray[np.intc]", "npt.NDArray[np.float32]"],
        Union["npt.NDArray[np.floating[Any]]", Sequence[float], None],
    ]

__all__ = ["Model", "Session"]

Prompt = Union[str, Sequence[int]]
Adapters = Sequence[Union[_bise.Adapter, tuple[_bise.Adapter, float]]]


class Session(_bise.Session):
    """One text, read and continued. Made by :meth:`Model.session`.

    A session belongs to one thread at a time: a second one that reads or generates with it meanwhile gets
    :class:`bise.BusyError`.
    """

    @overload
    def generate(
        self,
        prompt: Prompt = "",
        *,
        stream: Literal[False] = False,
        max_tokens: Optional[int] = None,
        stop: Union[None, str, Sequence[str]] = None,
        logprobs: Optional[int] = None,
        choices: Optional[Sequence[str]] = None,
        logits_processor: Optional[LogitsProcessor] = None,
        draft_tokens: Optional[int] = None,
        special: bool = False,
        starts_text: bool = False,
        parse_special: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Completion: ...

    @overload
    def generate(
        self,
        prompt: Prompt = "",
        *,
        stream: Literal[True],
        max_tokens: Optional[int] = None,
        stop: Union[None, str, Sequence[str]] = None,
        logprobs: Optional[int] = None,
        choices: Optional[Sequence[str]] = None,
        logits_processor: Optional[LogitsProcessor] = None,
        draft_tokens: Optional[int] = None,
        special: bool = False,
        starts_text: bool = False,
        parse_special: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Stream: ...

    @overload
    def generate(
        self,
        prompt: Prompt = "",
        *,
        stream: bool,
        max_tokens: Optional[int] = None,
        stop: Union[None, str, Sequence[str]] = None,
        logprobs: Optional[int] = None,
        choices: Optional[Sequence[str]] = None,
        logits_processor: Optional[LogitsProcessor] = None,
        draft_tokens: Optional[int] = None,
        special: bool = False,
        starts_text: bool = False,
        parse_special: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Union[Completion, Stream]: ...

    def generate(
        self,
        prompt: Prompt = "",
        *,
        stream: bool = False,
        max_tokens: Optional[int] = None,
        stop: Union[None, str, Sequence[str]] = None,
        logprobs: Optional[int] = None,
        choices: Optional[Sequence[str]] = None,
        logits_processor: Optional[LogitsProcessor] = None,
        draft_tokens: Optional[int] = None,
        special: bool = False,
        starts_text: bool = False,
        parse_special: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Union[Completion, Stream]:
        """Reads ``prompt`` after what was read before, and continues it.

        The token that was chosen last is not read: a later prompt comes after the one before it.

        Args:
            prompt: Text or tokens. It may be empty once something was read.
            stream: Return an iterator over pieces of text (``for`` or ``async for``) in place of the whole text.
            max_tokens: Tokens at most; None is no limit but that of the context.
            stop: Texts that end the generation, and are no part of it.
            logprobs: Compute the log-probability of each token, and of so many of the likeliest: see ``.tokens`` of the result.
            choices: Write one of these texts, and nothing else.
            logits_processor: ``f(tokens, logits) -> logits``, called before each token is chosen with NumPy arrays: all tokens
                read so far, and the logits after them, which it may change. None ends the text there. An exception ends the
                generation and is raised.
            draft_tokens: Tokens to read ahead at most, where the text repeats what was there before; 0 turns that off. The result is the
                same.
            special: Show control tokens, rather than leave them out.
            starts_text: The text is one of its own, such as an answer, and not the continuation of its prompt: it does not begin with
                the space that many vocabularies put before a word.
            parse_special: Take what spells a control token in a prompt, such as ``[INST]``, for that token.
            **sampling: ``temperature``, ``top_k``, ``top_p``, ``min_p``, ``repeat_penalty``, ``seed`` and whatever else llama.cpp
                knows, with its names and defaults. ``temperature=0`` always takes the likeliest token.
        """
        stops = [stop] if isinstance(stop, str) else list(stop or [])
        if max_tokens is not None and max_tokens < 0:
            raise ValueError(f"max_tokens is {max_tokens}: expected 0 or more, or None for no limit")
        steps = self._stream(
            prompt,
            max_tokens,
            stops,
            logprobs,
            None if choices is None else list(choices),
            special,
            starts_text,
            parse_special,
            logits_processor,
            draft_tokens,
            dict(sampling),
        )
        generation = Stream(steps)
        return generation if stream else generation.read()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Model(_bise.Model):
    """A GGUF model, open and ready to run.

    Args:
        path: The file, or the first part of a split one.
        n_ctx: Tokens that a session may hold; 0 is what the model was trained for. Memory is taken as a session grows.
        threads: Threads to compute with; None is one for each performance core that this process may use.
        cache_type_k: How keys are kept: ``"f16"``, ``"f32"``, ``"q8_0"`` or ``"q4_0"``.
        cache_type_v: How values are kept.
        n_ubatch: Tokens read in one pass at most. The results are the same.
        sliding_window: Attend to so many of the last tokens only, in place of what the file says; 0 turns the window off.
        mmap: Map the file, rather than read it into memory. A mapped file must not change while it is in use.
        mlock: Keep the file in memory.
        max_memory: The most memory that the process may take, in bytes or as in ``"5G"``, or ``"auto"`` for what is free. A model that does
            not fit with one session whose context is full raises MemoryError, which says what would.
        stream_weights: Read the weights from the file again in each pass, which takes less memory and more time.
        isa: The instruction set, such as ``"avx2"``; None is the best of this machine.
        metadata: Metadata in place of the file's.
        chat_template: The source of a template for conversations, or the name of one, such as ``"mistral-v3"``; None is the file's.
        adapters: Files and folders of adapters (LoRA) that act on all that is given no others, each as it is or with a factor on its scale:
            ``["a.gguf", ("b/", 0.5)]``. See :meth:`load_adapter`.

    Threads may share a model: each call of :meth:`generate` has a session of its own. A process that is forked
    while no pass runs may go on with it: it starts threads of its own.
    """

    @classmethod
    def builtin(cls, **options: Any) -> Model:
        """The small model inside this package: 8 million weights that tell stories. For trying things out, and for tests."""
        return cls(None, **options)

    def session(self, **options: Any) -> Session:
        """A new text. ``n_ctx``, ``n_ubatch``, ``cache_type_k`` and ``cache_type_v`` may differ from the model's.

        ``adapters`` act on it: ``[adapter, (other, 0.5)]``, as :meth:`load_adapter` loads them, the second at half of its strength.
        """
        return Session(self, **options)

    def restore(self, path: Union[str, os.PathLike[str]], **options: Any) -> Session:
        """A session that :meth:`Session.save` has saved, with this model and the same cache types and window. It goes on as if it had
        never been away. Options are those of :meth:`session`."""
        return Session(self, saved=path, **options)

    @overload
    def generate(
        self, prompt: Prompt, *, stream: Literal[False] = False, adapters: Optional[Adapters] = None, **options: Any
    ) -> Completion: ...

    @overload
    def generate(
        self, prompt: Prompt, *, stream: Literal[True], adapters: Optional[Adapters] = None, **options: Any
    ) -> Stream: ...

    @overload
    def generate(
        self, prompt: Prompt, *, stream: bool, adapters: Optional[Adapters] = None, **options: Any
    ) -> Union[Completion, Stream]: ...

    def generate(
        self, prompt: Prompt, *, stream: bool = False, adapters: Optional[Adapters] = None, **options: Any
    ) -> Union[Completion, Stream]:
        """Continues ``prompt`` in a session of its own, with ``adapters`` as for :meth:`session`. Options are those of
        :meth:`Session.generate`.

        >>> bise.Model.builtin().generate("Once upon a time", max_tokens=12, temperature=0)
        ', a kind boy named Hugo lived in a cottage with a'
        """
        return self.session(adapters=adapters).generate(prompt, stream=stream, **options)

    def agenerate(self, prompt: Prompt, *, adapters: Optional[Adapters] = None, **options: Any) -> Stream:
        """:meth:`generate` with ``stream=True``, for ``async for``: the event loop goes on while passes run."""
        return self.generate(prompt, stream=True, adapters=adapters, **options)

    @overload
    def chat(
        self, messages: Union[str, Iterable[Mapping[str, Any]]], *, stream: Literal[False] = False, **options: Any
    ) -> Completion: ...

    @overload
    def chat(
        self, messages: Union[str, Iterable[Mapping[str, Any]]], *, stream: Literal[True], **options: Any
    ) -> Stream: ...

    @overload
    def chat(
        self, messages: Union[str, Iterable[Mapping[str, Any]]], *, stream: bool, **options: Any
    ) -> Union[Completion, Stream]: ...

    def chat(
        self,
        messages: Union[str, Iterable[Mapping[str, Any]]],
        *,
        stream: bool = False,
        tools: Optional[Iterable[Mapping[str, Any]]] = None,
        documents: Optional[Iterable[Mapping[str, Any]]] = None,
        chat_template: Optional[str] = None,
        chat_template_kwargs: Optional[Mapping[str, Any]] = None,
        continue_final_message: bool = False,
        **options: Any,
    ) -> Union[Completion, Stream]:
        """Answers a conversation.

        Args:
            messages: ``[{"role": "user", "content": "…"}, …]``; a text is one message of the user. What messages say stays text,
                even if it spells a control token.
            stream: As in :meth:`Session.generate`, as are all other options.
            tools: Tools that the model may call, as ``{"type": "function", "function": {…}}``. The answer is the text that the model
                wrote; give ``special=True`` to see the control tokens around a call.
            documents: Documents for templates that know them.
            chat_template: A template, or the name of one, in place of the model's.
            chat_template_kwargs: More variables for the template, such as ``enable_thinking``.
            continue_final_message: Continue what the last message says.
        """
        tokens = self.apply_chat_template(
            messages,
            tokenize=True,
            tools=tools,
            documents=documents,
            chat_template=chat_template,
            chat_template_kwargs=chat_template_kwargs,
            add_generation_prompt=not continue_final_message,
            continue_final_message=continue_final_message,
        )
        options.setdefault("starts_text", not continue_final_message)
        return self.generate(tokens, stream=stream, **options)

    def achat(self, messages: Union[str, Iterable[Mapping[str, Any]]], **options: Any) -> Stream:
        """:meth:`chat` with ``stream=True``, for ``async for``: the event loop goes on while passes run."""
        return self.chat(messages, stream=True, **options)

    @overload
    def apply_chat_template(
        self,
        messages: Union[str, Iterable[Mapping[str, Any]]],
        *,
        tokenize: Literal[False] = False,
        tools: Optional[Iterable[Mapping[str, Any]]] = None,
        documents: Optional[Iterable[Mapping[str, Any]]] = None,
        chat_template: Optional[str] = None,
        chat_template_kwargs: Optional[Mapping[str, Any]] = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> str: ...

    @overload
    def apply_chat_template(
        self,
        messages: Union[str, Iterable[Mapping[str, Any]]],
        *,
        tokenize: Literal[True],
        tools: Optional[Iterable[Mapping[str, Any]]] = None,
        documents: Optional[Iterable[Mapping[str, Any]]] = None,
        chat_template: Optional[str] = None,
        chat_template_kwargs: Optional[Mapping[str, Any]] = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> list[int]: ...

    def apply_chat_template(
        self,
        messages: Union[str, Iterable[Mapping[str, Any]]],
        *,
        tokenize: bool = False,
        tools: Optional[Iterable[Mapping[str, Any]]] = None,
        documents: Optional[Iterable[Mapping[str, Any]]] = None,
        chat_template: Optional[str] = None,
        chat_template_kwargs: Optional[Mapping[str, Any]] = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> Union[str, list[int]]:
        """The prompt that a conversation becomes, as text or as tokens. See :meth:`chat`.

        Tokens are what to feed a session: in the text, a message that spells a control token can no longer be told from the token.
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        text, tokens, notes = self._render(
            json.dumps(list(messages)),
            json.dumps(list(tools or [])),
            json.dumps(list(documents or [])),
            json.dumps(dict(chat_template_kwargs or {})),
            chat_template,
            add_generation_prompt,
            continue_final_message,
        )
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return tokens if tokenize else text

    def generate_many(
        self,
        prompts: Iterable[Prompt],
        *,
        max_tokens: Optional[int] = None,
        stop: Union[None, str, Sequence[str]] = None,
        logprobs: Optional[int] = None,
        special: bool = False,
        starts_text: bool = False,
        parse_special: bool = False,
        n_parallel: int = 8,
        on_piece: Optional[Callable[[int, str], object]] = None,
        adapters: Optional[Adapters] = None,
        **sampling: Unpack[Sampling],
    ) -> list[Completion]:
        """Continues several prompts together, ``n_parallel`` of them at a time, in passes that all of them share.

        That takes much less time than one after the other, and each text is the one that :meth:`generate` writes alone. Ctrl-C ends
        all of them. Options are those of :meth:`Session.generate`.

        Args:
            prompts: Texts, or lists of tokens.
            n_parallel: Texts under way at a time. Each takes memory for its keys and values.
            on_piece: ``f(i, piece)`` is called with pieces of the text of prompt ``i`` as they come. An exception ends all and is
                raised.
            adapters: What acts on all of them, as for :meth:`session`.
        """
        written = _bise._generate_many(
            self,
            list(prompts),
            max_tokens,
            [stop] if isinstance(stop, str) else list(stop or []),
            logprobs,
            special,
            starts_text,
            parse_special,
            n_parallel,
            on_piece,
            None if adapters is None else list(adapters),
            dict(sampling),
        )
        return [
            Completion(text, (Token(*token) for token in tokens), reason, n_prompt, seed)
            for text, tokens, reason, n_prompt, seed in written
        ]

    # A text is an iterable of texts as well, its characters; the first overload is the one that counts.
    @overload
    def embed(  # type: ignore[overload-overlap]
        self, text: str, *, pooling: Optional[str] = None, normalize: bool = True
    ) -> list[float]: ...

    @overload
    def embed(
        self, text: Iterable[Prompt], *, pooling: Optional[str] = None, normalize: bool = True
    ) -> list[list[float]]: ...

    def embed(
        self, text: Union[str, Iterable[Prompt]], *, pooling: Optional[str] = None, normalize: bool = True
    ) -> Union[list[float], list[list[float]]]:
        """The vector of a text, ``n_embd`` numbers; or those of several texts, which are read together.

        Args:
            text: A text, or several: texts or lists of tokens.
            pooling: How a text's tokens become one vector: ``"mean"``, ``"first"`` or ``"last"``; None is what the file says, or the
                mean.
            normalize: Scale each vector to length 1, so that the dot product of two is their cosine similarity.
        """
        if isinstance(text, str):
            return _bise._embed(self, [text], pooling, normalize)[0]
        return _bise._embed(self, list(text), pooling, normalize)

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """The tokens of ``text``: see :meth:`Tokenizer.encode`."""
        return self.tokenizer.encode(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of ``tokens``: see :meth:`Tokenizer.decode`."""
        return self.tokenizer.decode(tokens, skip_special=skip_special)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
