"""Answers of a conversation as the dictionaries of OpenAI's API, made of completions."""

from __future__ import annotations

import uuid
from typing import Any, Dict, Iterator, List, NoReturn, Optional

from bise.llama_cpp._opening import refuse
from bise.tool_calls import ToolCall, could_begin_call, parse_tool_calls

Json = Dict[str, Any]


def check_format(response_format: Optional[Json]) -> None:
    """Refuses answers in JSON, which need a grammar."""
    kind = (response_format or {}).get("type", "text")
    if kind != "text":
        no_json(f"response_format of type {kind!r}")


def no_json(what: str) -> NoReturn:
    refuse(what, "bise has no grammars yet, so it cannot promise JSON. Ask for it in the messages, and check the answer")


def tools_of(
    tools: Optional[List[Json]], tool_choice: Any, functions: Optional[List[Json]], function_call: Any
) -> Optional[List[Json]]:
    """The tools that the template is given."""
    if functions is not None:
        tools = [{"type": "function", "function": function} for function in functions] + (tools or [])
    for name, choice in (("tool_choice", tool_choice), ("function_call", function_call)):
        if choice == "none":
            return None
        if choice not in (None, "auto"):
            refuse(name, f"{choice!r} needs grammars, which bise does not have yet: expected \"auto\" or \"none\"")
    return tools


def answer(completion: Json, with_tools: bool) -> Json:
    """The whole of an answer."""
    choice = completion["choices"][0]
    message: Json = {"role": "assistant", "content": choice["text"]}
    finish_reason = choice["finish_reason"]
    if with_tools:
        text, calls = parse_tool_calls(choice["text"])
        if calls:
            message["content"] = text or None
            message["tool_calls"] = [call_json(call) for call in calls]
            finish_reason = "tool_calls"
    return {
        "id": "chat" + completion["id"],
        "object": "chat.completion",
        "created": completion["created"],
        "model": completion["model"],
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": log_probabilities(choice["logprobs"]),
                "finish_reason": finish_reason,
            }
        ],
        "usage": completion["usage"],
    }


def answer_chunks(chunks: Iterator[Json], with_tools: bool) -> Iterator[Json]:
    """An answer as it comes: first the role, then pieces of text, and at last why it ended. A call of a tool comes as a whole."""
    is_first = True
    held = ""
    for chunk in chunks:
        choice = chunk["choices"][0]

        def part(delta: Json, logprobs: Optional[Json] = None, finish_reason: Optional[str] = None, chunk: Json = chunk) -> Json:
            return {
                "id": "chat" + chunk["id"],
                "model": chunk["model"],
                "created": chunk["created"],
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}],
            }

        if is_first:
            yield part({"role": "assistant"})
            is_first = False
        finish_reason = choice["finish_reason"]
        if finish_reason is None:
            text = choice["text"]
            if with_tools:
                held += text
                shown = could_begin_call(held)
                text, held = held[:shown], held[shown:]
                if not text:
                    continue
            yield part({"content": text}, log_probabilities(choice["logprobs"]))
            continue
        if held:
            text, calls = parse_tool_calls(held)
            if text:
                yield part({"content": text})
            if calls:
                yield part({"tool_calls": [{"index": i, **call_json(call)} for i, call in enumerate(calls)]})
                finish_reason = "tool_calls"
        yield part({}, None, finish_reason)


def call_json(call: ToolCall) -> Json:
    return {
        "id": call.id or f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def log_probabilities(found: Optional[Json]) -> Optional[Json]:
    """A completion's log-probabilities in the form of an answer's."""
    if found is None:
        return None

    def entry(token: str, logprob: float) -> Json:
        return {"token": token, "bytes": list(token.encode()), "logprob": logprob}

    content = [
        {**entry(token, logprob), "top_logprobs": [entry(*other) for other in top.items()]}
        for token, logprob, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"])
    ]
    return {"content": content, "refusal": None}
