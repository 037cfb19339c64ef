"""The interface of llama-cpp-python, so that programs written for it move by one import::

    from bise.llama_cpp import Llama  # was: from llama_cpp import Llama

Arguments, methods and the dictionaries that they return are those of llama-cpp-python 0.3. What the engine does not have yet (grammars,
JSON schemas, adapters, images) raises ``NotImplementedError``, which names it; what concerns graphics cards is accepted and does nothing.
The C functions (``llama_cpp.llama_decode`` and so on) are not here.
"""

from bise.llama_cpp._constants import *  # noqa: F403
from bise.llama_cpp._constants import __all__ as _names
from bise.llama_cpp.llama import Llama, LlamaState
from bise.llama_cpp.llama_cache import LlamaCache, LlamaDiskCache, LlamaRAMCache
from bise.llama_cpp.llama_grammar import LlamaGrammar
from bise.llama_cpp.llama_tokenizer import LlamaTokenizer
from bise.llama_cpp.processors import (
    LogitsProcessor,
    LogitsProcessorList,
    MinTokensLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
)

__all__ = [
    "Llama",
    "LlamaCache",
    "LlamaDiskCache",
    "LlamaGrammar",
    "LlamaRAMCache",
    "LlamaState",
    "LlamaTokenizer",
    "LogitsProcessor",
    "LogitsProcessorList",
    "MinTokensLogitsProcessor",
    "StoppingCriteria",
    "StoppingCriteriaList",
    *_names,
]
