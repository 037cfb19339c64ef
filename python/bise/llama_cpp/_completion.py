"""Completions as the dictionaries of OpenAI's API."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import numpy as np

from bise.generation import Token

if TYPE_CHECKING:
    from bise import _bise, Tokenizer
    from bise.generation import Stream

Json = Dict[str, Any]


class Prompt(NamedTuple):
    """What is continued."""

    text: str
    """As it is echoed, and counted in offsets."""
    tokens: List[int]
    logprobs: Optional[Json] = None
    """Those of its tokens, where they are echoed."""


def stop_criterion(
    processor: Optional[Callable[..., Any]], criteria: Optional[Callable[..., bool]]
) -> Optional[Callable[..., Any]]:
    """A processor that also ends the text where a criterion says so."""
    if criteria is None:
        return processor

    def process(input_ids: Any, scores: Any) -> Any:
        processed = scores if processor is None else processor(input_ids, scores.copy())
        return None if criteria(input_ids, scores) else processed

    return process


def head(model: str) -> Json:
    """What all chunks of a completion have."""
    return {
        "id": f"cmpl-{uuid.uuid4()}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
    }


def completion(
    stream: Stream, prompt: Prompt, tokenizer: Tokenizer, model: str, logprobs: Optional[int], echo: bool, after: str
) -> Json:
    """The whole of a completion."""
    written = stream.read()
    tokens = without_end(written.tokens, tokenizer)
    found: Optional[Json] = None
    if logprobs is not None:
        found = log_probabilities(tokens, tokenizer, 0 if echo and not prompt.logprobs else len(prompt.text))
        if echo and prompt.logprobs is not None:
            found = {key: prompt.logprobs[key] + found[key] for key in found}
    text = (prompt.text if echo else "") + written + after
    choice = {"text": text, "index": 0, "logprobs": found, "finish_reason": written.finish_reason}
    usage = {
        "prompt_tokens": len(prompt.tokens),
        "completion_tokens": len(tokens),
        "total_tokens": len(prompt.tokens) + len(tokens),
    }
    return {**head(model), "choices": [choice], "usage": usage}


def chunks(
    stream: Stream, prompt: Prompt, tokenizer: Tokenizer, model: str, logprobs: Optional[int]
) -> Iterator[Json]:
    """A completion as it comes. The last chunk has no text, and says why it ended."""
    common = head(model)

    def chunk(text: str, found: Optional[Json], finish_reason: Optional[str]) -> Json:
        choice = {"text": text, "index": 0, "logprobs": found, "finish_reason": finish_reason}
        return {**common, "choices": [choice]}

    offset = len(prompt.text)
    with stream:
        for piece in stream:
            found = None
            if logprobs is not None:
                found = log_probabilities(without_end(piece.tokens, tokenizer), tokenizer, offset)
            offset += len(piece)
            yield chunk(str(piece), found, None)
        yield chunk("", None, stream.finish_reason)


def without_end(tokens: List[Token], tokenizer: Tokenizer) -> List[Token]:
    """The tokens of a text, less the one that ended it."""
    return tokens[:-1] if tokens and tokenizer.is_end(tokens[-1].id) else tokens


def log_probabilities(tokens: List[Token], tokenizer: Tokenizer, offset: int) -> Json:
    """Log-probabilities of the tokens of a text that begins at ``offset``."""

    def text(token: int) -> str:
        return tokenizer.piece(token).decode("utf-8", "ignore")

    found: Json = {"tokens": [], "text_offset": [], "token_logprobs": [], "top_logprobs": []}
    for token in tokens:
        spelled = text(token.id)
        found["tokens"].append(spelled)
        found["text_offset"].append(offset)
        found["token_logprobs"].append(token.logprob)
        top = {text(other): logprob for other, logprob in token.top}
        if token.logprob is not None:
            top[spelled] = token.logprob
        found["top_logprobs"].append(top)
        offset += len(spelled)
    return found


def prompt_log_probabilities(session: _bise.Session, tokens: List[int], tokenizer: Tokenizer, n: int) -> Json:
    """Reads all ``tokens`` but the last in an empty session; all but BOS with their log-probabilities. The first has none."""
    rows = session.score(tokens[:-1])
    begins = int(bool(tokens) and tokens[0] == tokenizer.bos)
    judged = []
    for place, token in enumerate(tokens[begins:], begins):
        if place == 0:
            judged.append(Token(token, None, []))
            continue
        logprobs = logits_to_logprobs(rows[place - 1])
        likeliest = np.argsort(-logprobs, kind="stable")[:n]
        judged.append(Token(token, float(logprobs[token]), [(int(i), float(logprobs[i])) for i in likeliest]))
    found = log_probabilities(judged, tokenizer, 0)
    # As in OpenAI's API.
    if judged:
        found["token_logprobs"][0] = found["top_logprobs"][0] = None
    return found


def logits_to_logprobs(logits: Any, axis: int = -1) -> Any:
    """Natural logarithms of the probabilities that logits stand for."""
    logits = np.asarray(logits, dtype=np.single)
    largest = np.amax(logits, axis=axis, keepdims=True)
    shifted = logits - np.where(np.isfinite(largest), largest, np.single(0))
    with np.errstate(divide="ignore"):
        return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
