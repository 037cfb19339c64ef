"""Quantized Mistral models on a CPU: exact, small and fast.

>>> import bise
>>> model = bise.Model.builtin()  # or bise.Model("mistral-7b.Q4_K_M.gguf")
>>> for piece in model.generate("Once upon a time", max_tokens=12, temperature=0, stream=True):
...     print(piece, end="")
, a kind boy named Hugo lived in a cottage with a

``bise.llama_cpp`` has the interface of llama-cpp-python, and ``bise.langchain`` adapters for LangChain.
"""

from bise._bise import Adapter, Sampler, Tokenizer, __version__
from bise.errors import (
    BiseError,
    BusyError,
    CancelledError,
    ChatTemplateError,
    ClosedError,
    ContextFullError,
    ModelError,
    SessionFileError,
)
from bise.generation import Completion, Piece, Stream, Token
from bise.model import Model, Session

__all__ = [
    "Adapter",
    "BiseError",
    "BusyError",
    "CancelledError",
    "ChatTemplateError",
    "ClosedError",
    "Completion",
    "ContextFullError",
    "Model",
    "ModelError",
    "Piece",
    "Sampler",
    "Session",
    "SessionFileError",
    "Stream",
    "Token",
    "Tokenizer",
    "__version__",
]
