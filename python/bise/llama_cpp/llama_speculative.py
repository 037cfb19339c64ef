"""Drafts from the prompt, which the engine makes itself."""

from __future__ import annotations

__all__ = ["LlamaPromptLookupDecoding"]


class LlamaPromptLookupDecoding:
    """Says how many tokens to read ahead where the text repeats what was there before. The engine does so anyway, where it pays."""

    def __init__(self, max_ngram_size: int = 2, num_pred_tokens: int = 10) -> None:
        self.max_ngram_size = max_ngram_size
        self.num_pred_tokens = num_pred_tokens
