"""Adapters for LangChain: a language model, a chat model and embeddings. They need ``langchain-core``: ``pip install bise[langchain]``.

>>> from bise.langchain import BiseChat
>>> chat = BiseChat(model_path="mistral-7b-instruct.Q4_K_M.gguf", temperature=0)  # doctest: +SKIP
>>> chat.invoke("Hello!")  # doctest: +SKIP
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Iterator, Mapping, Optional, Sequence, Union

try:
    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import LLM, BaseChatModel, LanguageModelInput
    from langchain_core.messages import (
        AIMessage,
        AIMessageChunk,
        BaseMessage,
        ToolCallChunk,
        ToolMessage,
        convert_to_openai_messages,
    )
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, GenerationChunk
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool
    from langchain_core.utils.function_calling import convert_to_openai_tool
except ImportError as error:
    raise ImportError("bise.langchain needs langchain-core: pip install bise[langchain]") from error

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from bise import Model
from bise.generation import Completion, Piece, Stream
from bise.tool_calls import could_begin_call, parse_tool_calls

__all__ = ["BiseChat", "BiseEmbeddings", "BiseLLM"]


class _WithModel(BaseModel):
    """A model, and how its tokens are chosen."""

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    model: Optional[Model] = Field(default=None, exclude=True, repr=False)
    """A model that is open; several adapters may share it. In place of ``model_path``."""
    model_path: Optional[str] = None
    """The GGUF file."""
    model_options: dict[str, Any] = Field(default_factory=dict)
    """Options of :class:`bise.Model`, such as ``n_ctx`` and ``threads``."""
    max_tokens: Optional[int] = None
    """Tokens at most; None is no limit but that of the context."""
    temperature: Optional[float] = None
    """0 always takes the likeliest token; None is llama.cpp's default."""
    seed: Optional[int] = None
    """Of the random numbers."""
    stop: Optional[list[str]] = None
    """Texts that end an answer."""
    sampling: dict[str, Any] = Field(default_factory=dict)
    """More sampling parameters, such as ``top_k``."""

    _opened: Model = PrivateAttr()

    @model_validator(mode="after")
    def _open(self) -> Any:
        if (self.model is None) == (self.model_path is None):
            raise ValueError("expected either model= with a bise.Model, or model_path= with a GGUF file")
        self._opened = self.model if self.model is not None else Model(self.model_path, **self.model_options)
        return self

    def _options(self, stop: Optional[list[str]], given: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            **self.sampling,
            **given,
            "stop": stop if stop is not None else self.stop,
        }

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model": self.model_path or (self._opened.name if not self._opened.closed else None),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "stop": self.stop,
            **self.sampling,
        }


class BiseLLM(_WithModel, LLM):
    """A model that continues texts."""

    @property
    def _llm_type(self) -> str:
        return "bise"

    def _call(
        self,
        prompt: str,
        stop: Optional[list[str]] = None,
        run_manager: Optional[CallbackManagerForLLMRun] = None,
        **kwargs: Any,
    ) -> str:
        return str(self._opened.generate(prompt, **self._options(stop, kwargs)))

    def _stream(
        self,
        prompt: str,
        stop: Optional[list[str]] = None,
        run_manager: Optional[CallbackManagerForLLMRun] = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        with self._opened.generate(prompt, stream=True, **self._options(stop, kwargs)) as pieces:
            for piece in pieces:
                chunk = GenerationChunk(text=str(piece))
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: Optional[list[str]] = None,
        run_manager: Optional[AsyncCallbackManagerForLLMRun] = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        async for piece in self._opened.agenerate(prompt, **self._options(stop, kwargs)):
            chunk = GenerationChunk(text=str(piece))
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def get_num_tokens(self, text: str) -> int:
        """The tokens of ``text``."""
        return len(self._opened.tokenize(text))


class BiseChat(_WithModel, BaseChatModel):
    """A model that answers conversations, by the chat template in its file."""

    chat_template: Optional[str] = None
    """A template, or the name of one, in place of the model's."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """More variables for the template."""

    @property
    def _llm_type(self) -> str:
        return "bise-chat"

    def bind_tools(
        self,
        tools: Sequence[Union[dict[str, Any], type, Callable[..., Any], BaseTool]],
        *,
        tool_choice: Optional[str] = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Tells the model about tools by its template; calls of them are in ``tool_calls`` of the answer.

        ``tool_choice`` may be ``"auto"`` or ``"none"``: to make a model call a tool takes grammars, which bise does not have yet.
        """
        if tool_choice not in (None, "auto", "none"):
            raise NotImplementedError(f"tool_choice={tool_choice!r} needs grammars: expected \"auto\" or \"none\"")
        schemas = [] if tool_choice == "none" else [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=schemas, **kwargs)

    def _chat(self, messages: list[BaseMessage], stop: Optional[list[str]], given: Mapping[str, Any]) -> Stream:
        given = dict(given)
        tools = given.pop("tools", None) or None
        options = self._options(stop, given)
        if tools:
            # Control tokens are shown, since calls of tools begin with one.
            options["special"] = True
        return self._opened.chat(
            [to_template(message) for message in messages],
            stream=True,
            tools=tools,
            chat_template=self.chat_template,
            chat_template_kwargs=self.chat_template_kwargs,
            **options,
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: Optional[list[str]] = None,
        run_manager: Optional[CallbackManagerForLLMRun] = None,
        **kwargs: Any,
    ) -> ChatResult:
        written = self._chat(messages, stop, kwargs).read()
        message = to_message(written, bool(kwargs.get("tools")))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: Optional[list[str]] = None,
        run_manager: Optional[CallbackManagerForLLMRun] = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with self._chat(messages, stop, kwargs) as pieces:
            chunks = Chunks(pieces, bool(kwargs.get("tools")))
            for piece in pieces:
                for chunk in chunks.piece(piece):
                    if run_manager is not None:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk
            yield from chunks.end()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: Optional[list[str]] = None,
        run_manager: Optional[AsyncCallbackManagerForLLMRun] = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        pieces = self._chat(messages, stop, kwargs)
        chunks = Chunks(pieces, bool(kwargs.get("tools")))
        async for piece in pieces:
            for chunk in chunks.piece(piece):
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        for chunk in chunks.end():
            yield chunk

    def get_num_tokens(self, text: str) -> int:
        """The tokens of ``text``."""
        return len(self._opened.tokenize(text))


class BiseEmbeddings(Embeddings):
    """Embeddings by a model: of one that is open, or of a GGUF file."""

    def __init__(
        self,
        model: Union[Model, str],
        *,
        pooling: Optional[str] = None,
        normalize: bool = True,
        query_prefix: str = "",
        **model_options: Any,
    ) -> None:
        """``query_prefix`` is put before queries, as some models ask for."""
        self.model = model if isinstance(model, Model) else Model(model, **model_options)
        self.pooling = pooling
        self.normalize = normalize
        self.query_prefix = query_prefix

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text."""
        return self.model.embed(texts, pooling=self.pooling, normalize=self.normalize)

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        return self.model.embed(self.query_prefix + text, pooling=self.pooling, normalize=self.normalize)


class Chunks:
    """Makes chunks of a message from pieces of text, holding back what may be a call of a tool."""

    def __init__(self, stream: Stream, with_tools: bool) -> None:
        self._stream = stream
        self._with_tools = with_tools
        self._held = ""
        self._n_tokens = 0

    def piece(self, piece: Piece) -> Iterator[ChatGenerationChunk]:
        self._n_tokens += len(piece.tokens)
        text = str(piece)
        if self._with_tools:
            self._held += text
            shown = could_begin_call(self._held)
            text, self._held = self._held[:shown], self._held[shown:]
        if text:
            yield ChatGenerationChunk(message=AIMessageChunk(content=text))

    def end(self) -> Iterator[ChatGenerationChunk]:
        n_output = self._n_tokens + len(self._stream.last_tokens)
        n_input = self._stream.n_prompt
        text, calls = parse_tool_calls(self._held)
        finish_reason = "tool_calls" if calls else self._stream.finish_reason
        message = AIMessageChunk(
            content=text,
            tool_call_chunks=[
                ToolCallChunk(name=call.name, args=call.arguments, id=call.id or f"call_{i}", index=i, type="tool_call_chunk")
                for i, call in enumerate(calls)
            ],
            response_metadata={"finish_reason": finish_reason},
            usage_metadata={"input_tokens": n_input, "output_tokens": n_output, "total_tokens": n_input + n_output},
        )
        yield ChatGenerationChunk(message=message, generation_info={"finish_reason": finish_reason})


def to_message(written: Completion, with_tools: bool) -> AIMessage:
    """An answer as a message."""
    text, calls = parse_tool_calls(written) if with_tools else (str(written), [])
    finish_reason = "tool_calls" if calls else written.finish_reason
    n_output = len(written.tokens)
    made, broken = [], []
    for i, call in enumerate(calls):
        call_id = call.id or f"call_{i}"
        try:
            made.append({"name": call.name, "args": json.loads(call.arguments), "id": call_id, "type": "tool_call"})
        except ValueError as error:
            broken.append(
                {"name": call.name, "args": call.arguments, "id": call_id, "error": str(error), "type": "invalid_tool_call"}
            )
    return AIMessage(
        content=text,
        tool_calls=made,
        invalid_tool_calls=broken,
        response_metadata={"finish_reason": finish_reason},
        usage_metadata={
            "input_tokens": written.n_prompt,
            "output_tokens": n_output,
            "total_tokens": written.n_prompt + n_output,
        },
    )


def to_template(message: BaseMessage) -> dict[str, Any]:
    """A message as chat templates know it."""
    converted = convert_to_openai_messages(message)
    assert isinstance(converted, dict)
    fields = {key: value for key, value in converted.items() if value is not None}
    if isinstance(message, ToolMessage) and message.name:
        fields["name"] = message.name
    for call in fields.get("tool_calls", []):
        # Templates take arguments as objects.
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return fields
