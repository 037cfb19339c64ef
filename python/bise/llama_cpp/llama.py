"""``Llama``, as in llama-cpp-python."""

from __future__ import annotations

import os
import random
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Generator, List, NoReturn, Optional, Sequence, Union

import numpy as np

from bise import Sampler, _bise
from bise.errors import ContextFullError
from bise.llama_cpp import _chat, _completion
from bise.llama_cpp import _constants as c
from bise.llama_cpp._opening import POOLING, check_unsupported, open_model, refuse
from bise.llama_cpp.llama_cache import LlamaRAMCache
from bise.llama_cpp.llama_grammar import LlamaGrammar, no_grammar
from bise.llama_cpp.llama_tokenizer import LlamaTokenizer
from bise.llama_cpp.processors import LogitsProcessorList, StoppingCriteriaList

if TYPE_CHECKING:
    import numpy.typing as npt

    from bise import Model, Session, Stream

__all__ = ["Llama", "LlamaState"]

Json = Dict[str, Any]
Stop = Union[None, str, List[str]]


class LlamaState:
    """What :meth:`Llama.save_state` has saved: the tokens read. Keys and values come back when they are read again."""

    def __init__(self, input_ids: npt.NDArray[np.intc], n_tokens: int, seed: int) -> None:
        self.input_ids = input_ids
        self.n_tokens = n_tokens
        self.seed = seed


class Llama:
    """A model with the interface of llama-cpp-python.

    Arguments are those of llama-cpp-python. Of them, ``n_gpu_layers``, ``split_mode``, ``main_gpu``, ``tensor_split``, ``offload_kqv``,
    ``op_offload``, ``flash_attn``, ``swa_full``, ``numa`` and ``no_perf`` are accepted and change nothing: there is no graphics card, and
    attention never keeps its scores. What cannot be obeyed raises ``NotImplementedError``.
    """

    def __init__(
        self,
        model_path: Union[str, os.PathLike[str]],
        *,
        n_gpu_layers: int = 0,
        split_mode: int = c.LLAMA_SPLIT_MODE_LAYER,
        main_gpu: int = 0,
        tensor_split: Optional[List[float]] = None,
        vocab_only: bool = False,
        use_mmap: bool = True,
        use_mlock: bool = False,
        kv_overrides: Optional[Dict[str, Union[bool, int, float, str]]] = None,
        seed: int = c.LLAMA_DEFAULT_SEED,
        n_ctx: int = 512,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_threads: Optional[int] = None,
        n_threads_batch: Optional[int] = None,
        rope_scaling_type: Optional[int] = c.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED,
        pooling_type: int = c.LLAMA_POOLING_TYPE_UNSPECIFIED,
        attention_type: int = -1,
        rope_freq_base: float = 0.0,
        rope_freq_scale: float = 0.0,
        yarn_ext_factor: float = -1.0,
        yarn_attn_factor: float = 1.0,
        yarn_beta_fast: float = 32.0,
        yarn_beta_slow: float = 1.0,
        yarn_orig_ctx: int = 0,
        logits_all: bool = False,
        embedding: bool = False,
        offload_kqv: bool = True,
        flash_attn: bool = False,
        op_offload: Optional[bool] = None,
        swa_full: Optional[bool] = None,
        no_perf: bool = False,
        last_n_tokens_size: int = 64,
        lora_base: Optional[str] = None,
        lora_scale: float = 1.0,
        lora_path: Optional[str] = None,
        numa: Union[bool, int] = False,
        chat_format: Optional[str] = None,
        chat_handler: Optional[Callable[..., Any]] = None,
        draft_model: Any = None,
        tokenizer: Any = None,
        type_k: Optional[int] = None,
        type_v: Optional[int] = None,
        spm_infill: bool = False,
        verbose: bool = True,
    ) -> None:
        arguments = dict(locals())
        check_unsupported(arguments)
        self.verbose = verbose
        self.model: Model = open_model(model_path, arguments)
        """The model underneath, with the interface of bise."""
        if n_gpu_layers and verbose:
            print(f"n_gpu_layers={n_gpu_layers}: bise computes on the CPU", file=sys.stderr)
        self.model_path = os.fspath(model_path)
        self.metadata: Dict[str, str] = {
            key: str(value) for key, value in self.model.metadata.items() if not isinstance(value, list)
        }
        self.chat_format = chat_format
        self.chat_handler = chat_handler
        self.cache: Optional[LlamaRAMCache] = None
        self.n_batch = n_batch
        self.last_n_tokens_size = last_n_tokens_size
        if chat_format is None and chat_handler is None and "tokenizer.chat_template" not in self.metadata:
            # llama-cpp-python's choice for models without a template.
            self._chat_template: Optional[str] = "llama2"
        else:
            self._chat_template = None
        self._draft_tokens: Optional[int] = None if draft_model is None else draft_model.num_pred_tokens
        self._embedding = embedding
        self._pooling_type = pooling_type
        self._pooling = POOLING[pooling_type]
        self._logits_all = logits_all
        self._rows: List[npt.NDArray[np.single]] = []
        self._tokenizer = LlamaTokenizer(self)
        self._session: Session = self.model.session()
        self.set_seed(seed)

    # Tokens.

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> List[int]:
        """The tokens of UTF-8 ``text``. With ``special``, what spells a control token becomes that token."""
        return self._tokenizer.tokenize(text, add_bos, special)

    def detokenize(self, tokens: List[int], prev_tokens: Optional[List[int]] = None, special: bool = False) -> bytes:
        """The text of ``tokens``."""
        return self._tokenizer.detokenize(tokens, prev_tokens, special)

    def tokenizer(self) -> LlamaTokenizer:
        """The tokenizer."""
        return self._tokenizer

    def token_bos(self) -> int:
        """The token that begins a text; -1 where there is none."""
        token = self.model.tokenizer.bos
        return -1 if token is None else token

    def token_eos(self) -> int:
        """The token that ends a text; -1 where there is none."""
        token = self.model.tokenizer.eos
        return -1 if token is None else token

    def token_nl(self) -> int:
        """The token of a line break."""
        return self.model.tokenizer.encode("\n", add_special=False)[-1]

    def n_ctx(self) -> int:
        """Tokens of the context."""
        return self.model.n_ctx

    def n_embd(self) -> int:
        """Numbers in an embedding."""
        return self.model.n_embd

    def n_vocab(self) -> int:
        """Tokens in the vocabulary."""
        return self.model.n_vocab

    def pooling_type(self) -> int:
        """How a text's tokens become one embedding: the number that was given."""
        return self._pooling_type

    # Reading and sampling, step by step.

    @property
    def n_tokens(self) -> int:
        """Tokens read."""
        return self._session.position

    @property
    def input_ids(self) -> npt.NDArray[np.intc]:
        """The tokens read."""
        return np.array(self._session.tokens, dtype=np.intc)

    @property
    def scores(self) -> npt.NDArray[np.single]:
        """The logits after each token read with ``logits_all``, and otherwise those after the last, as rows."""
        if self._logits_all:
            # Those of texts are not kept while they are written, but read again here.
            rest = self._session.tokens[len(self._rows) :]
            if rest:
                self._session.rewind(len(self._rows))
                self._rows.extend(self._session.score(rest))
            return np.stack(self._rows) if self._rows else np.zeros((0, self.n_vocab()), np.single)
        return self._session.logits()[np.newaxis]

    _input_ids = input_ids
    _scores = scores

    @property
    def eval_tokens(self) -> Deque[int]:
        """The tokens read."""
        return deque(self._session.tokens, maxlen=self.n_ctx())

    @property
    def eval_logits(self) -> Deque[List[float]]:
        """:attr:`scores` as lists."""
        return deque(self.scores.tolist(), maxlen=self.n_ctx() if self._logits_all else 1)

    def reset(self) -> None:
        """Forgets what was read."""
        self._session.clear()
        self._rows.clear()

    def eval(self, tokens: Sequence[int]) -> None:
        """Reads ``tokens`` after those read before."""
        if self._logits_all:
            self._rows.extend(self._session.score(list(tokens)))
        else:
            self._session.feed(list(tokens))

    def set_seed(self, seed: int) -> None:
        """Sets the seed that those of later texts come from."""
        self._seed = seed
        self._seeds = random.Random(None if seed in (c.LLAMA_DEFAULT_SEED, -1) else seed)

    def set_cache(self, cache: Optional[LlamaRAMCache]) -> None:
        """Accepted: what was read last is always gone on from, as far as the next prompt begins with it."""
        self.cache = cache

    def sample(
        self,
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_eta: float = 0.1,
        mirostat_tau: float = 5.0,
        penalize_nl: bool = True,
        logits_processor: Optional[LogitsProcessorList] = None,
        grammar: Optional[LlamaGrammar] = None,
        idx: Optional[int] = None,
    ) -> int:
        """A token by the logits after the last token read (with ``logits_all``, after the ``idx``-th)."""
        arguments = dict(locals())
        sampler = self._sampler(arguments)
        logits = self._session.logits() if idx is None else self.scores[idx]
        return self._choose(sampler, logits, logits_processor)

    def _sampler(self, arguments: Json) -> Sampler:
        """A sampler that has seen the tokens read."""
        sampler = Sampler(self.model.tokenizer, **self._sampling(arguments, arguments["temp"], None))
        for token in self._session.tokens:
            sampler.accept(token)
        return sampler

    def _choose(self, sampler: Sampler, logits: Any, logits_processor: Optional[LogitsProcessorList]) -> int:
        if logits_processor is not None:
            logits = logits_processor(self.input_ids, np.array(logits))
        return sampler.sample(logits)

    def _sampling(self, arguments: Json, temperature: float, seed: Optional[int]) -> Json:
        """The arguments of a text as sampling parameters."""
        if arguments.get("grammar") is not None:
            no_grammar("grammar")
        if arguments["tfs_z"] != 1.0:
            refuse("tfs_z", "llama.cpp and bise have no tail-free sampling: leave it at 1.0")
        names = ("top_k", "top_p", "min_p", "typical_p", "repeat_penalty", "frequency_penalty", "presence_penalty")
        return {
            **{name: arguments[name] for name in names},
            "temperature": temperature,
            "mirostat": arguments["mirostat_mode"],
            "mirostat_tau": arguments["mirostat_tau"],
            "mirostat_eta": arguments["mirostat_eta"],
            "repeat_last_n": self.last_n_tokens_size,
            "logit_bias": arguments.get("logit_bias"),
            "seed": self._seeds.randrange(c.LLAMA_DEFAULT_SEED) if seed is None else seed,
        }

    def generate(
        self,
        tokens: Sequence[int],
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        reset: bool = True,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        penalize_nl: bool = True,
        logits_processor: Optional[LogitsProcessorList] = None,
        stopping_criteria: Optional[StoppingCriteriaList] = None,
        grammar: Optional[LlamaGrammar] = None,
    ) -> Generator[int, Optional[Sequence[int]], None]:
        """Reads ``tokens`` and yields those that follow, without end: end tokens are yielded, too. Tokens that are sent to the generator are
        read after the one that it yielded last."""
        arguments = dict(locals())
        unread = self._go_on(list(tokens)) if reset else list(tokens)
        sampler: Optional[Sampler] = None
        while True:
            if unread:
                self.eval(unread)
            if sampler is None:
                sampler = self._sampler(arguments)
            logits = self._session.logits()
            token = self._choose(sampler, logits, logits_processor)
            sampler.accept(token)
            if stopping_criteria is not None and stopping_criteria(self.input_ids, np.array(logits)):
                return
            sent = yield token
            unread = [token, *(sent or [])]

    def _go_on(self, tokens: List[int]) -> List[int]:
        """Forgets what was read, but for what ``tokens`` begin with; returns the others of them, at least one."""
        read = self._session.tokens
        n = min(self.longest_token_prefix(read, tokens), len(tokens) - 1)
        n = max(n, 0)
        self._session.rewind(n)
        del self._rows[n:]
        return tokens[n:]

    # Texts.

    def create_completion(
        self,
        prompt: Union[str, List[int]],
        suffix: Optional[str] = None,
        max_tokens: Optional[int] = 16,
        temperature: float = 0.8,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        logprobs: Optional[int] = None,
        echo: bool = False,
        stop: Stop = [],
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        top_k: int = 40,
        stream: bool = False,
        seed: Optional[int] = None,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: Optional[str] = None,
        stopping_criteria: Optional[StoppingCriteriaList] = None,
        logits_processor: Optional[LogitsProcessorList] = None,
        grammar: Optional[LlamaGrammar] = None,
        logit_bias: Optional[Dict[int, float]] = None,
    ) -> Any:
        """Continues ``prompt``: a dictionary of OpenAI's text completions, or an iterator over their chunks where ``stream``.

        ``max_tokens`` of None, 0 or less is no limit but that of the context. With ``suffix``, the text between ``prompt`` and it is asked for
        where the vocabulary has tokens for that; elsewhere it is put behind the text. ``echo`` puts the prompt in front of the text, but
        not where it is streamed.
        """
        arguments = dict(locals())
        tokenizer = self.model.tokenizer
        after = ""
        if isinstance(prompt, str):
            tokens = tokenizer.encode(prompt, parse_special=True)
            if suffix is not None:
                try:
                    tokens = tokenizer.infill(prompt, suffix)
                except ValueError:
                    after = suffix
            text = prompt
        else:
            tokens = list(prompt)
            text, after = tokenizer.decode(tokens), suffix or ""
        if not tokens:
            tokens = [token for token in (tokenizer.bos,) if token is not None]
        asked = _completion.Prompt(text, tokens)
        if echo and logprobs is not None and not stream:
            self.reset()
            found = _completion.prompt_log_probabilities(self._session, tokens, tokenizer, logprobs)
            asked = asked._replace(logprobs=found)
        name = self.model_path if model is None else model
        generation = self._stream(asked.tokens, arguments, max_tokens, special=False, starts_text=not text)
        if stream:
            return _completion.chunks(generation, asked, tokenizer, name, logprobs)
        return _completion.completion(generation, asked, tokenizer, name, logprobs, echo, after)

    __call__ = create_completion

    def _stream(
        self, tokens: List[int], arguments: Json, max_tokens: Optional[int], special: bool, starts_text: bool
    ) -> Stream:
        """A text after ``tokens``, of which those that the session has read are not read again."""
        if len(tokens) >= self.n_ctx():
            raise ContextFullError(f"Requested tokens ({len(tokens)}) exceed context window of {self.n_ctx()}")
        stop: Stop = arguments["stop"]
        sampling = self._sampling(arguments, arguments["temperature"], arguments["seed"])
        logprobs = arguments["logprobs"]
        return self._session.generate(
            self._go_on(tokens),
            stream=True,
            max_tokens=max_tokens if max_tokens is not None and max_tokens > 0 else None,
            stop=[stop] if isinstance(stop, str) else [text for text in stop or [] if text],
            logprobs=None if logprobs is None else int(logprobs),
            logits_processor=_completion.stop_criterion(
                arguments["logits_processor"], arguments.get("stopping_criteria")
            ),
            draft_tokens=self._draft_tokens,
            special=special,
            starts_text=starts_text,
            **sampling,
        )

    def create_chat_completion(
        self,
        messages: List[Json],
        functions: Optional[List[Json]] = None,
        function_call: Union[None, str, Json] = None,
        tools: Optional[List[Json]] = None,
        tool_choice: Union[None, str, Json] = None,
        temperature: float = 0.2,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        stream: bool = False,
        stop: Stop = [],
        seed: Optional[int] = None,
        response_format: Optional[Json] = None,
        max_tokens: Optional[int] = None,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: Optional[str] = None,
        logits_processor: Optional[LogitsProcessorList] = None,
        grammar: Optional[LlamaGrammar] = None,
        logit_bias: Optional[Dict[int, float]] = None,
        logprobs: Optional[bool] = None,
        top_logprobs: Optional[int] = None,
    ) -> Any:
        """Answers ``messages``: a dictionary of OpenAI's chat completions, or an iterator over their chunks where ``stream``.

        Tools go into the prompt by the model's template, and calls of them are found in the answer.
        """
        arguments = dict(locals())
        if self.chat_handler is not None:
            del arguments["self"]
            return self.chat_handler(llama=self, **arguments)
        _chat.check_format(response_format)
        for message in messages:
            refuse_images(message)
        given = _chat.tools_of(tools, tool_choice, functions, function_call)
        tokens = self.model.apply_chat_template(
            messages, tokenize=True, tools=given, chat_template=self._chat_template
        )
        arguments["logprobs"] = (top_logprobs or 0) if logprobs else None
        tokenizer = self.model.tokenizer
        name = self.model_path if model is None else model
        asked = _completion.Prompt("", tokens)
        # Control tokens are shown where calls of tools begin with one.
        generation = self._stream(tokens, arguments, max_tokens, special=bool(given), starts_text=True)
        if stream:
            chunks = _completion.chunks(generation, asked, tokenizer, name, arguments["logprobs"])
            return _chat.answer_chunks(chunks, bool(given))
        completion = _completion.completion(generation, asked, tokenizer, name, arguments["logprobs"], False, "")
        return _chat.answer(completion, bool(given))

    def create_chat_completion_openai_v1(self, *args: Any, **kwargs: Any) -> Any:
        """:meth:`create_chat_completion` in the classes of the ``openai`` package, which has to be installed."""
        try:
            from openai.types.chat import ChatCompletion, ChatCompletionChunk
        except ImportError:
            raise ImportError("create_chat_completion_openai_v1 needs the openai package: pip install openai") from None
        answer = self.create_chat_completion(*args, **kwargs)
        if kwargs.get("stream", False):
            return (ChatCompletionChunk(**chunk) for chunk in answer)
        return ChatCompletion(**answer)

    # Embeddings.

    def create_embedding(self, input: Union[str, List[str]], model: Optional[str] = None) -> Json:
        """Embeddings as a dictionary of OpenAI's API."""
        inputs = input if isinstance(input, list) else [input]
        embeddings, n_tokens = self.embed(inputs, return_count=True)
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "embedding": embedding, "index": index}
                for index, embedding in enumerate(embeddings)
            ],
            "model": self.model_path if model is None else model,
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        }

    def embed(
        self, input: Union[str, List[str]], normalize: bool = False, truncate: bool = True, return_count: bool = False
    ) -> Any:
        """The vector of a text, or those of several. Without pooling, in the file or as ``pooling_type``, a vector for each token."""
        if not self._embedding:
            raise RuntimeError("Llama model must be created with embedding=True to call this method")
        inputs = [input] if isinstance(input, str) else list(input)
        tokens = [self.tokenize(text.encode()) for text in inputs]
        for text in tokens:
            if len(text) > self.n_batch and not truncate:
                raise ValueError(f"Requested tokens ({len(text)}) exceed batch size of {self.n_batch}")
        tokens = [text[: self.n_batch] for text in tokens]
        pooling = self._pooling or self._file_pooling()
        embeddings: List[Any]
        if pooling == "none":
            embeddings = [_bise._hidden_states(self.model, text, normalize) for text in tokens]
        else:
            embeddings = _bise._embed(self.model, tokens, pooling, normalize)
        output = embeddings[0] if isinstance(input, str) else embeddings
        return (output, sum(map(len, tokens))) if return_count else output

    def _file_pooling(self) -> Optional[str]:
        kind = self.metadata.get(f"{self.metadata['general.architecture']}.pooling_type", "0")
        return "none" if kind == "0" else None

    # State.

    def save_state(self) -> LlamaState:
        """What was read, to go back to it."""
        return LlamaState(input_ids=self.input_ids, n_tokens=self.n_tokens, seed=self._seed)

    def load_state(self, state: LlamaState) -> None:
        """Goes back to what was saved. Tokens that were forgotten since then are read again, which gives the same logits."""
        tokens = [int(token) for token in state.input_ids[: state.n_tokens]]
        if not tokens:
            self.reset()
        elif tokens != self._session.tokens:
            self.eval(self._go_on(tokens))
        self.set_seed(state.seed)

    def close(self) -> None:
        """Gives back the model's memory."""
        self.model.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Llama cannot be pickled: it holds an open model. Open the file again in the other process")

    @staticmethod
    def logits_to_logprobs(logits: Any, axis: int = -1) -> Any:
        """Natural logarithms of the probabilities that logits stand for."""
        return _completion.logits_to_logprobs(logits, axis)

    @staticmethod
    def longest_token_prefix(a: Sequence[int], b: Sequence[int]) -> int:
        """The number of tokens that both begin with."""
        n = 0
        for one, other in zip(a, b):
            if one != other:
                break
            n += 1
        return n

    @classmethod
    def from_pretrained(cls, repo_id: str, filename: Optional[str] = None, *_: Any, **__: Any) -> NoReturn:
        """Not there: bise downloads nothing. Raises ``NotImplementedError``, which says what to do."""
        pattern = filename or "FILE.gguf"
        raise NotImplementedError(
            f"Llama.from_pretrained: bise downloads nothing. Get the file first (pip install huggingface_hub; hf download {repo_id} "
            f"--include {pattern!r} --local-dir .), then open it: Llama(model_path=…)"
        )


def refuse_images(message: Json) -> None:
    """Refuses parts of a message that are not text."""
    content = message.get("content")
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict) and part.get("type") not in (None, "text"):
            refuse(f"messages with parts of type {part['type']!r}", "bise runs the text part of a model alone")

