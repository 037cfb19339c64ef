from __future__ import annotations

import json
import math
import pickle
from typing import Any, Iterator

import numpy as np
import pytest
from conftest import MODEL_PATH, STORY

from bise import ClosedError, ContextFullError, tool_calls
from bise.llama_cpp import (
    GGML_TYPE_Q8_0,
    LLAMA_POOLING_TYPE_LAST,
    Llama,
    LlamaCache,
    LlamaGrammar,
    LlamaRAMCache,
    LogitsProcessorList,
    MinTokensLogitsProcessor,
    StoppingCriteriaList,
)

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def llm() -> Iterator[Llama]:
    llm = Llama(model_path=str(MODEL_PATH), n_ctx=512, verbose=False)
    yield llm
    llm.close()


def test_a_completion(llm: Llama) -> None:
    output = llm(PROMPT, max_tokens=32, temperature=0)
    assert output.pop("id").startswith("cmpl-") and output.pop("created") > 1_700_000_000
    assert output == {
        "object": "text_completion",
        "model": str(MODEL_PATH),
        "choices": [{"text": STORY, "index": 0, "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 32, "total_tokens": 37},
    }
    # Tokens are as good as their text, and the default is 16 of them.
    short = llm.create_completion(llm.tokenize(PROMPT.encode()), temperature=0, model="mine")
    assert short["model"] == "mine" and short["usage"]["completion_tokens"] == 16
    assert STORY.startswith(short["choices"][0]["text"])


def test_echo_suffix_and_stop(llm: Llama) -> None:
    def text(**arguments: Any) -> str:
        return llm(PROMPT, max_tokens=32, temperature=0, **arguments)["choices"][0]["text"]

    assert text(echo=True) == PROMPT + STORY
    assert text(suffix=" The end.") == STORY + " The end."
    assert text(stop=" roof") == text(stop=[" roof", "xyz"]) == STORY[: STORY.index(" roof")]
    stopped = llm(PROMPT, temperature=0, stop=["cottage"])["choices"][0]
    assert (stopped["text"], stopped["finish_reason"]) == (", a kind boy named Hugo lived in a ", "stop")
    ended = llm(PROMPT, max_tokens=None, temperature=0)
    assert ended["choices"][0]["finish_reason"] == "stop"
    assert ended["usage"]["completion_tokens"] > 32 and "</s>" not in ended["choices"][0]["text"]


def test_chunks_of_a_completion(llm: Llama) -> None:
    chunks = list(llm(PROMPT, max_tokens=32, temperature=0, stream=True))
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all(list(chunk) == ["id", "object", "created", "model", "choices"] for chunk in chunks)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == STORY
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "length"]
    assert chunks[-1]["choices"][0] == {"text": "", "index": 0, "logprobs": None, "finish_reason": "length"}


def test_logprobs(llm: Llama) -> None:
    found = llm(PROMPT, max_tokens=3, temperature=0, logprobs=2)["choices"][0]["logprobs"]
    assert found["tokens"] == [",", " a", " kind"]
    assert found["text_offset"] == [16, 17, 19]
    llm.reset()
    llm.eval(llm.tokenize(PROMPT.encode()))
    logits = llm.scores[-1]
    logprobs = Llama.logits_to_logprobs(logits)
    assert np.exp(logprobs.astype(np.float64)).sum() == pytest.approx(1, abs=1e-4)
    assert found["token_logprobs"][0] == pytest.approx(logprobs.max(), abs=1e-5)
    assert len(found["top_logprobs"][0]) == 2 and found["top_logprobs"][0][","] == found["token_logprobs"][0]
    chunks = list(llm(PROMPT, max_tokens=3, temperature=0, logprobs=2, stream=True))
    assert sum((chunk["choices"][0]["logprobs"]["tokens"] for chunk in chunks[:-1]), []) == found["tokens"]

    echoed = llm(PROMPT, max_tokens=3, temperature=0, logprobs=2, echo=True)["choices"][0]["logprobs"]
    assert "".join(echoed["tokens"]).lstrip() == PROMPT + ", a kind"
    assert echoed["token_logprobs"][0] is None and echoed["top_logprobs"][0] is None
    assert echoed["token_logprobs"][-3:] == found["token_logprobs"]
    tokens = llm.tokenize(PROMPT.encode())
    llm.reset()
    llm.eval(tokens[:2])
    assert echoed["token_logprobs"][1] == pytest.approx(Llama.logits_to_logprobs(llm.scores[-1])[tokens[2]], abs=1e-5)


def test_seeds() -> None:
    def write(of_model: int, **arguments: Any) -> list[str]:
        llm = Llama(MODEL_PATH, seed=of_model, verbose=False)
        return [llm(PROMPT, temperature=1.5, **arguments)["choices"][0]["text"] for _ in range(3)]

    first = write(42)
    assert write(42) == first != write(43)
    assert len(set(first)) > 1 and len(set(write(42, seed=5))) == 1


def test_prompts_go_on_from_what_was_read(llm: Llama) -> None:
    llm.reset()
    first = llm(PROMPT, max_tokens=8, temperature=0)
    assert llm.n_tokens == 5 + 7
    whole = PROMPT + first["choices"][0]["text"]
    assert llm(whole, max_tokens=24, temperature=0)["choices"][0]["text"] == STORY[len(first["choices"][0]["text"]) :]
    # Whatever was there before, a text is the same.
    llm("The cat", max_tokens=4)
    assert llm(PROMPT, max_tokens=32, temperature=0)["choices"][0]["text"] == STORY
    for cache in (LlamaCache(), LlamaRAMCache(capacity_bytes=1 << 20), None):
        llm.set_cache(cache)
        assert llm(PROMPT, max_tokens=32, temperature=0)["choices"][0]["text"] == STORY


def test_processors_and_criteria(llm: Llama) -> None:
    calls: list[tuple[int, int]] = []

    def never_a(input_ids: Any, scores: Any) -> Any:
        calls.append((len(input_ids), scores.shape[0]))
        scores[llm.tokenize(b" a", add_bos=False)[-1]] = -np.inf
        return scores

    text = llm(PROMPT, max_tokens=8, temperature=0, logits_processor=LogitsProcessorList([never_a]))
    assert " a " not in text["choices"][0]["text"]
    assert calls == [(5 + i, 4096) for i in range(8)]
    long = llm("Hello", temperature=0, max_tokens=400)["usage"]["completion_tokens"]
    least = LogitsProcessorList([MinTokensLogitsProcessor(long + 10, llm.token_eos())])
    assert llm("Hello", temperature=0, max_tokens=400, logits_processor=least)["usage"]["completion_tokens"] >= long + 10
    eight = StoppingCriteriaList([lambda input_ids, logits: len(input_ids) >= 8])
    stopped = llm(PROMPT, max_tokens=32, temperature=0, stopping_criteria=eight)["choices"][0]
    assert (stopped["text"], stopped["finish_reason"]) == (", a kind", "stop")

    def fail(input_ids: Any, scores: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        llm(PROMPT, logits_processor=LogitsProcessorList([fail]))
    assert llm(PROMPT, max_tokens=32, temperature=0)["choices"][0]["text"] == STORY
    comma = llm.tokenize(b"a,", add_bos=False)[-1]
    assert not llm(PROMPT, temperature=0, logit_bias={comma: -math.inf})["choices"][0]["text"].startswith(",")


def test_a_chat(llm: Llama) -> None:
    messages = [{"role": "user", "content": "Tell me a story."}]
    output = llm.create_chat_completion(messages, max_tokens=12, temperature=0)
    assert output.pop("id").startswith("chatcmpl-") and output.pop("created") > 1_700_000_000
    assert output == {
        "object": "chat.completion",
        "model": str(MODEL_PATH),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Once upon a time, there was a kind boy named Dudley"},
                "logprobs": None,
                "finish_reason": "length",
            }
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 12, "total_tokens": 24},
    }
    chunks = list(llm.create_chat_completion(messages, max_tokens=12, temperature=0, stream=True))
    assert all(chunk["object"] == "chat.completion.chunk" and chunk["id"].startswith("chatcmpl-") for chunk in chunks)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant"} and deltas[-1] == {}
    assert "".join(delta["content"] for delta in deltas[1:-1]) == output["choices"][0]["message"]["content"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "length"]
    judged = llm.create_chat_completion(messages, max_tokens=2, temperature=0, logprobs=True, top_logprobs=2)
    entry = judged["choices"][0]["logprobs"]["content"][0]
    assert entry["token"].strip() == "Once" and len(entry["top_logprobs"]) == 2


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def writing(llm: Llama, text: str) -> LogitsProcessorList:
    """Has the model write ``text``, and end."""
    tokens = [*llm.tokenize(text.encode(), add_bos=False, special=True), llm.token_eos()]
    n_read: list[int] = []

    def force(input_ids: Any, scores: Any) -> Any:
        n_read.append(len(input_ids))
        scores[:] = -np.inf
        scores[tokens[len(input_ids) - n_read[0]]] = 0
        return scores

    return LogitsProcessorList([force])


def test_calls_of_tools(llm: Llama) -> None:
    messages = [{"role": "user", "content": "1+1?"}]
    call = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'

    def ask(text: str, **arguments: Any) -> Any:
        return llm.create_chat_completion(messages, tools=[TOOL], logits_processor=writing(llm, text), **arguments)

    choice = ask("I add. " + call)["choices"][0]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] == "I add."
    (made,) = choice["message"]["tool_calls"]
    assert made["id"].startswith("call_") and made["type"] == "function"
    assert made["function"] == {"name": "add", "arguments": '{"a": 1}'}
    chunks = list(ask("I add. " + call, stream=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas).strip() == "I add."
    assert [delta["tool_calls"][0]["function"] for delta in deltas if "tool_calls" in delta] == [made["function"]]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    plain = ask("1 < 2.")["choices"][0]
    assert (plain["message"], plain["finish_reason"]) == ({"role": "assistant", "content": "1 < 2."}, "stop")
    assert "".join(
        chunk["choices"][0]["delta"].get("content", "") for chunk in ask("1 < 2 <tool", stream=True)
    ) == "1 < 2 <tool"
    assert "tool_calls" not in ask(call, tool_choice="none")["choices"][0]["message"]


def test_forms_of_calls() -> None:
    parse = tool_calls.parse_tool_calls
    add = tool_calls.ToolCall("add", '{"a": 1}')
    assert parse('[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}]') == ("", [add])
    assert parse('[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}, "id": "abcdefghi"}]') == (
        "",
        [add._replace(id="abcdefghi")],
    )
    assert parse('Well. [TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]sub[ARGS]{}') == (
        "Well.",
        [add, tool_calls.ToolCall("sub", "{}")],
    )
    assert parse('[TOOL_CALLS]add[CALL_ID]123456789[ARGS]{"a": 1}') == ("", [add._replace(id="123456789")])
    two = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    assert parse(two + two) == ("", [add, add])
    for text in ("", "Hello", "[TOOL_CALLS] add", "<tool_call>{}</tool_call>", "[TOOL_CALLS][{}]", "<tool_call>{"):
        assert parse(text) == (text, [])
    for text, place in (("a [TOOL", 2), ("a [TOOL_CALLS] b", 2), ("a [", 2), ("<b>", 3), ("", 0)):
        assert tool_calls.could_begin_call(text) == place


def test_step_by_step(llm: Llama) -> None:
    tokens = llm.tokenize(PROMPT.encode())
    assert tokens[0] == llm.token_bos() and llm.detokenize(tokens) == PROMPT.encode()
    assert llm.tokenize(b"</s>", add_bos=False, special=True) == [llm.token_eos()]
    assert (llm.n_vocab(), llm.n_ctx(), llm.n_embd()) == (4096, 512, llm.model.n_embd)
    llm.reset()
    llm.eval(tokens)
    assert llm.n_tokens == 5 and list(llm.eval_tokens) == tokens and len(llm.eval_logits) == 1
    assert llm.detokenize([llm.sample(temp=0)]) == b","
    written = []
    for token in llm.generate(tokens, temp=0):
        written.append(token)
        if len(written) == 32:
            break
    assert llm.detokenize(written).decode() == STORY
    generator = llm.generate(tokens, temp=0)
    first = next(generator)
    then = llm.tokenize(b" the", add_bos=False)
    generator.send(then)
    assert list(llm.input_ids) == [*tokens, first, *then]


def test_states(llm: Llama) -> None:
    tokens = llm.tokenize(PROMPT.encode())
    llm.reset()
    llm.eval(tokens)
    logits = llm.scores[-1].copy()
    state = llm.save_state()
    llm.eval(llm.tokenize(b"there was", add_bos=False))
    llm.load_state(state)
    assert llm.n_tokens == 5 and (llm.scores[-1] == logits).all()
    llm.reset()
    llm.load_state(state)
    assert (llm.scores[-1] == logits).all()


def test_all_logits() -> None:
    llm = Llama(MODEL_PATH, logits_all=True, verbose=False)
    tokens = llm.tokenize(PROMPT.encode())
    llm.eval(tokens)
    assert llm.scores.shape == (5, 4096)
    other = Llama(MODEL_PATH, verbose=False)
    for row, token in zip(llm.scores, tokens):
        other.eval([token])
        assert (other.scores[-1] == row).all()
    llm(PROMPT, max_tokens=4, temperature=0)
    assert llm.scores.shape == (8, 4096)
    assert llm.detokenize([int(llm.scores[4].argmax())]) == b","
    assert llm.sample(temp=0, idx=4) == llm.scores[4].argmax()


def test_embeddings() -> None:
    llm = Llama(MODEL_PATH, embedding=True, pooling_type=LLAMA_POOLING_TYPE_LAST, verbose=False)
    response = llm.create_embedding(["Hello, world!", "Goodbye, world!"])
    n = sum(len(llm.tokenize(text)) for text in (b"Hello, world!", b"Goodbye, world!"))
    assert list(response) == ["object", "data", "model", "usage"] and response["object"] == "list"
    assert response["usage"] == {"prompt_tokens": n, "total_tokens": n}
    assert [(e["object"], e["index"], len(e["embedding"])) for e in response["data"]] == [
        ("embedding", 0, llm.n_embd()),
        ("embedding", 1, llm.n_embd()),
    ]
    vector = llm.embed("Hello, world!")
    assert vector == response["data"][0]["embedding"] == llm.model.embed("Hello, world!", pooling="last", normalize=False)
    assert math.hypot(*llm.embed("Hello, world!", normalize=True)) == pytest.approx(1, abs=1e-5)
    # Without pooling, a vector for each token.
    tokens = Llama(MODEL_PATH, embedding=True, verbose=False).embed("Hello, world!")
    assert len(tokens) == len(llm.tokenize(b"Hello, world!")) and tokens[-1] == vector
    with pytest.raises(RuntimeError, match="embedding=True"):
        Llama(MODEL_PATH, verbose=False).embed("x")


def test_options_that_are_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    llm = Llama(
        MODEL_PATH,
        n_ctx=0,
        n_threads=2,
        n_gpu_layers=-1,
        type_k=GGML_TYPE_Q8_0,
        flash_attn=True,
        use_mmap=False,
        kv_overrides={"llama.attention.sliding_window": 0},
        rope_freq_base=20000.0,
    )
    assert "n_gpu_layers=-1: bise computes on the CPU" in capsys.readouterr().err
    assert llm.n_ctx() == 2048 and llm.model.sliding_window is None and llm.model.n_threads == 2
    assert llm.metadata["llama.rope.freq_base"] == "20000.0"
    assert llm(PROMPT, max_tokens=4)["usage"]["completion_tokens"] == 4
    formatted = Llama(MODEL_PATH, chat_format="mistral-instruct", verbose=False)
    assert formatted.model.apply_chat_template("Hi") == "<s>[INST] Hi [/INST]"
    handled = Llama(MODEL_PATH, chat_handler=lambda llama, messages, **_: (llama.n_ctx(), messages), verbose=False)
    assert handled.create_chat_completion([]) == (512, [])


@pytest.mark.parametrize(
    "options",
    [
        {"lora_base": "x.gguf"},
        {"tokenizer": object()},
        {"draft_model": object()},
        {"attention_type": 1},
        {"pooling_type": 4},
        {"type_v": 12},
        {"yarn_ext_factor": 1.0},
        {"chat_format": "functionary-v2"},
        {"rope_scaling_type": 9},
    ],
)
def test_options_that_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError, match=next(iter(options))):
        Llama(MODEL_PATH, verbose=False, **options)


def test_requests_that_are_refused_by_name(llm: Llama) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    for use, name in (
        (lambda: llm(PROMPT, grammar=object()), "grammar"),
        (lambda: LlamaGrammar.from_string("root ::= x"), "LlamaGrammar.from_string"),
        (lambda: llm(PROMPT, tfs_z=0.5), "tfs_z"),
        (lambda: llm.create_chat_completion(messages, response_format={"type": "json_object"}), "response_format"),
        (lambda: llm.create_chat_completion(messages, tools=[TOOL], tool_choice="required"), "tool_choice"),
        (lambda: llm.create_chat_completion(messages, function_call={"name": "x"}), "function_call"),
        (lambda: llm.create_chat_completion(image), "image_url"),
        (lambda: Llama.from_pretrained("some/model", "*Q8_0.gguf"), "hf download some/model"),
    ):
        with pytest.raises(NotImplementedError, match=name):
            use()
    with pytest.raises(TypeError, match="n_gpus"):
        Llama(MODEL_PATH, n_gpus=1)
    with pytest.raises(ContextFullError, match=r"Requested tokens \(600\) exceed context window of 512"):
        llm([1] * 600)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(llm)


def test_dictionaries_are_json(llm: Llama) -> None:
    json.dumps(llm(PROMPT, logprobs=2, echo=True))
    json.dumps(list(llm.create_chat_completion([{"role": "user", "content": "Hi"}], max_tokens=3, stream=True)))
    json.dumps(Llama(MODEL_PATH, embedding=True, verbose=False).create_embedding("x"))


def test_closing() -> None:
    llm = Llama(MODEL_PATH, verbose=False)
    chunks = llm(PROMPT, stream=True)
    next(chunks)
    llm.close()
    with pytest.raises(ClosedError):
        next(chunks)
    with pytest.raises(ClosedError):
        llm(PROMPT)
