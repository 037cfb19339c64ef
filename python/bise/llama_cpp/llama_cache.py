"""Caches of prompts. A :class:`Llama` always goes on from what it read last, as far as a prompt begins with that; so caches are accepted, and
have nothing to add."""

from __future__ import annotations

__all__ = ["LlamaCache", "LlamaDiskCache", "LlamaRAMCache"]


class LlamaRAMCache:
    """Accepted by :meth:`Llama.set_cache`."""

    def __init__(self, capacity_bytes: int = 2 << 30) -> None:
        self.capacity_bytes = capacity_bytes

    @property
    def cache_size(self) -> int:
        """0: nothing is kept here."""
        return 0


class LlamaDiskCache(LlamaRAMCache):
    """Accepted by :meth:`Llama.set_cache`."""

    def __init__(self, cache_dir: str = ".cache/llama_cache", capacity_bytes: int = 2 << 30) -> None:
        super().__init__(capacity_bytes)
        self.cache_dir = cache_dir


LlamaCache = LlamaRAMCache
