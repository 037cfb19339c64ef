"""Calls of tools in what a model wrote."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, Optional

__all__ = ["ToolCall", "could_begin_call", "parse_tool_calls"]

MARKERS = ("[TOOL_CALLS]", "<tool_call>")
"""What stands before a call: Mistral's control token, and the tag of Hermes and its kin."""


class ToolCall(NamedTuple):
    """A call of a tool."""

    name: str
    arguments: str
    """JSON."""
    id: Optional[str] = None
    """An id, where the model gave one."""


def parse_tool_calls(text: str) -> tuple[str, list[ToolCall]]:
    """What a model said, and the tools it called.

    Known are Mistral's ``[TOOL_CALLS] [{"name": …, "arguments": {…}}]`` and, since v11, ``[TOOL_CALLS]name[ARGS]{…}``, and
    ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``. The text has to be generated with ``special=True``, or the control token is
    not in it. What looks like a call and is not one is left in the text.

    >>> parse_tool_calls('[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}]')
    ('', [ToolCall(name='add', arguments='{"a": 1}', id=None)])
    """
    for marker, parse in zip(MARKERS, (_mistral, _tagged)):
        start = text.find(marker)
        if start >= 0:
            calls = parse(text[start:])
            if calls:
                return text[:start].strip(), calls
    return text, []


def could_begin_call(text: str) -> int:
    """The place from which on ``text`` may turn out to be a call; its length where nothing may.

    >>> could_begin_call("Let me see. <tool"), could_begin_call("1 < 2")
    (12, 5)
    """
    places = [text.find(marker) for marker in MARKERS]
    for marker in MARKERS:
        for n in range(min(len(marker), len(text)), 0, -1):
            if text.endswith(marker[:n]):
                places.append(len(text) - n)
                break
    return min((place for place in places if place >= 0), default=len(text))


def _mistral(text: str) -> list[ToolCall]:
    parts = [part.strip() for part in text.split(MARKERS[0])[1:]]
    calls: list[ToolCall] = []
    for part in parts:
        if part.startswith(("[", "{")):
            found = _from_json(part)
        else:
            named = re.match(r"([\w.-]+)(?:\[CALL_ID\]([\w-]+))?(?:\[ARGS\])?\s*(\{.*)", part, re.DOTALL)
            arguments = _json(named[3]) if named else None
            found = [ToolCall(named[1], json.dumps(arguments, ensure_ascii=False), named[2])] if named and isinstance(arguments, dict) else []
        if not found:
            return []
        calls.extend(found)
    return calls


def _tagged(text: str) -> list[ToolCall]:
    calls: list[ToolCall] = []
    for part in re.findall(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|$)", text, re.DOTALL):
        found = _from_json(part)
        if not found:
            return []
        calls.extend(found)
    return calls


def _from_json(text: str) -> list[ToolCall]:
    found = _json(text)
    calls: list[ToolCall] = []
    for call in found if isinstance(found, list) else [found]:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            return []
        arguments = call.get("arguments", call.get("parameters", {}))
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        call_id = call.get("id")
        calls.append(ToolCall(call["name"], arguments, call_id if isinstance(call_id, str) else None))
    return calls


def _json(text: str) -> Any:
    """The value at the start of a text; None if there is none."""
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except ValueError:
        return None
