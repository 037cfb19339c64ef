from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from conftest import MODEL_PATH, STORY

pytest.importorskip("langchain_core")

from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore

import bise
from bise.langchain import BiseChat, BiseEmbeddings, BiseLLM, to_message, to_template
from bise.generation import Completion, Token

ANSWER = "Once upon a time, there was a kind boy named Dudley"


def test_a_language_model(model: bise.Model) -> None:
    llm = BiseLLM(model_path=str(MODEL_PATH), model_options={"n_ctx": 512}, max_tokens=32, temperature=0)
    assert llm.invoke("Once upon a time") == STORY
    assert "".join(llm.stream("Once upon a time")) == STORY
    assert llm.batch(["Once upon a time"] * 2) == [STORY] * 2
    assert llm.invoke("Once upon a time", stop=[" roof"]) == STORY[: STORY.index(" roof")]
    assert BiseLLM(model=model, max_tokens=3, temperature=0).invoke("Once upon a time") == ", a kind"
    assert (PromptTemplate.from_template("Once upon a {what}") | llm).invoke({"what": "time"}) == STORY
    assert llm.get_num_tokens("Once upon a time") == 5
    drawn = BiseLLM(model=model, seed=3, max_tokens=16, sampling={"top_k": 10, "temperature": 1.2})
    assert drawn.invoke("The cat") == drawn.invoke("The cat")


def test_a_language_model_in_a_loop(model: bise.Model) -> None:
    llm = BiseLLM(model=model, max_tokens=32, temperature=0)

    async def main() -> tuple[str, str]:
        return "".join([piece async for piece in llm.astream("Once upon a time")]), await llm.ainvoke("Once upon a time")

    assert asyncio.run(main()) == (STORY, STORY)


def test_a_chat_model(model: bise.Model) -> None:
    chat = BiseChat(model=model, max_tokens=12, temperature=0)
    answer = chat.invoke("Tell me a story.")
    assert isinstance(answer, AIMessage) and answer.content == ANSWER
    assert answer.response_metadata["finish_reason"] == "length"
    assert answer.usage_metadata == {"input_tokens": 12, "output_tokens": 12, "total_tokens": 24}
    pieces = list(chat.stream("Tell me a story."))
    assert len(pieces) > 5 and all(isinstance(piece, AIMessageChunk) for piece in pieces)
    whole = sum(pieces[1:], pieces[0])
    assert whole.content == ANSWER and whole.usage_metadata == answer.usage_metadata

    async def main() -> tuple[str, Any]:
        return "".join([piece.content async for piece in chat.astream("Tell me a story.")]), await chat.ainvoke(
            "Tell me a story."
        )

    streamed, invoked = asyncio.run(main())
    assert streamed == ANSWER == invoked.content
    prompt = ChatPromptTemplate.from_messages([("human", "Tell me a {what}.")])
    assert (prompt | chat | StrOutputParser()).invoke({"what": "story"}) == ANSWER


@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


SPY = "{{ tools | tojson if tools }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}{% endfor %}"


def test_tools(model: bise.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    answered = model.chat

    def spy(messages: Any, **options: Any) -> Any:
        seen.append({"messages": messages, **options})
        return answered(messages, **options)

    monkeypatch.setattr(bise.Model, "chat", lambda self, messages, **options: spy(messages, **options))
    chat = BiseChat(model=model, chat_template=SPY, max_tokens=4, temperature=0).bind_tools([add])
    called = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "1"}])
    chat.invoke([SystemMessage("Sum."), HumanMessage("1+2?"), called, ToolMessage("3", tool_call_id="1", name="add")])
    (request,) = seen
    assert request["tools"][0]["function"]["name"] == "add" and request["special"]
    assert [message["role"] for message in request["messages"]] == ["system", "user", "assistant", "tool"]
    assert request["messages"][2]["tool_calls"][0]["function"]["arguments"] == {"a": 1, "b": 2}
    assert request["messages"][3] == {"role": "tool", "content": "3", "tool_call_id": "1", "name": "add"}
    with pytest.raises(NotImplementedError, match="tool_choice"):
        BiseChat(model=model).bind_tools([add], tool_choice="any")

    written = '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1, "b": 2}, "id": "abcdefghi"}]'
    message = to_message(Completion(written, [Token(1, None, [])], "stop", 9, 0), True)
    assert message.tool_calls == [{"name": "add", "args": {"a": 1, "b": 2}, "id": "abcdefghi", "type": "tool_call"}]
    assert message.content == "" and message.response_metadata["finish_reason"] == "tool_calls"
    assert to_template(HumanMessage("Hi")) == {"role": "user", "content": "Hi"}


def test_a_call_as_it_comes(model: bise.Model) -> None:
    call = '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'
    tokens = [*model.tokenize("Well. " + call, add_special=False), model.tokenizer.eos]
    n_read: list[int] = []

    def write(read: Any, logits: Any) -> Any:
        n_read.append(len(read))
        logits[:] = -math.inf
        logits[tokens[len(read) - n_read[0]]] = 0
        return logits

    chat = BiseChat(model=model, sampling={"logits_processor": write}).bind_tools([add])
    pieces = list(chat.stream("1+2?"))
    whole = sum(pieces[1:], pieces[0])
    assert whole.content.strip() == "Well."
    (made,) = whole.tool_calls
    assert (made["name"], made["args"]) == ("add", {"a": 1, "b": 2})
    assert whole.response_metadata["finish_reason"] == "tool_calls"


def test_embeddings(model: bise.Model) -> None:
    embeddings = BiseEmbeddings(model, pooling="mean")
    texts = ["The cat sat by the fire.", "It rained all day."]
    vectors = embeddings.embed_documents(texts)
    assert vectors == model.embed(texts, pooling="mean") and embeddings.embed_query(texts[0]) == vectors[0]
    store = InMemoryVectorStore.from_texts(texts, embeddings)
    assert store.similarity_search(texts[1], k=1)[0].page_content == texts[1]
    assert asyncio.run(embeddings.aembed_query(texts[0])) == vectors[0]
    assert BiseEmbeddings(model, query_prefix="query: ").embed_query("x") == model.embed("query: x")


def test_a_model_is_needed(model: bise.Model) -> None:
    for options in ({}, {"model": model, "model_path": "x.gguf"}):
        with pytest.raises(ValueError, match="either model="):
            BiseLLM(**options)
    with pytest.raises(FileNotFoundError):
        BiseLLM(model_path="/no/such/file.gguf")
