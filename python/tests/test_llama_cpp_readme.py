"""The examples that llama-cpp-python's README has, written by hand with our import. The built-in model stands for the files named there, and
answers are short."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import MODEL_PATH

import bise.llama_cpp as llama_cpp
from bise.llama_cpp import Llama
from bise.llama_cpp.llama_speculative import LlamaPromptLookupDecoding

MODEL = str(MODEL_PATH)


def test_text_completion(capsys: pytest.CaptureFixture[str]) -> None:
    llm = Llama(
        model_path=MODEL,
        n_gpu_layers=-1,
        seed=1337,
        n_ctx=2048,
    )
    output = llm(
        "Q: Name the planets in the solar system? A: ",
        max_tokens=32,
        stop=["Q:", "\n"],
        echo=True,
    )
    print(output)
    assert capsys.readouterr().out.startswith("{'id': 'cmpl-")
    assert set(output) == {"id", "object", "created", "model", "choices", "usage"}
    assert output["object"] == "text_completion" and output["model"] == MODEL
    choice = output["choices"][0]
    assert set(choice) == {"text", "index", "logprobs", "finish_reason"}
    assert choice["text"].startswith("Q: Name the planets in the solar system? A: ")
    assert choice["logprobs"] is None and choice["finish_reason"] in ("stop", "length")
    usage = output["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_models_from_the_hub_say_what_to_do() -> None:
    with pytest.raises(NotImplementedError, match="hf download lmstudio-community/Qwen3.5-0.8B-GGUF"):
        Llama.from_pretrained(
            repo_id="lmstudio-community/Qwen3.5-0.8B-GGUF",
            filename="*Q8_0.gguf",
            verbose=False,
        )


def test_chat_completion() -> None:
    llm = Llama(model_path=MODEL, chat_format="llama-2", verbose=False)
    answer = llm.create_chat_completion(
        messages=[
            {"role": "system", "content": "You are an assistant who perfectly describes images."},
            {"role": "user", "content": "Describe this image in detail please."},
        ],
        max_tokens=8,
    )
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["role"] == "assistant"


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_object"},
        {
            "type": "json_object",
            "schema": {
                "type": "object",
                "properties": {"team_name": {"type": "string"}},
                "required": ["team_name"],
            },
        },
    ],
)
def test_json_mode_is_refused_by_name(response_format: dict[str, Any]) -> None:
    llm = Llama(model_path=MODEL, chat_format="chatml", verbose=False)
    with pytest.raises(NotImplementedError, match="response_format of type 'json_object'"):
        llm.create_chat_completion(
            messages=[
                {"role": "system", "content": "You are a helpful assistant that outputs in JSON."},
                {"role": "user", "content": "Who won the world series in 2020"},
            ],
            response_format=response_format,
            temperature=0.7,
        )


def test_function_calling() -> None:
    user_detail = {
        "type": "function",
        "function": {
            "name": "UserDetail",
            "parameters": {
                "type": "object",
                "title": "UserDetail",
                "properties": {
                    "name": {"title": "Name", "type": "string"},
                    "age": {"title": "Age", "type": "integer"},
                },
                "required": ["name", "age"],
            },
        },
    }
    messages = [
        {"role": "system", "content": "The assistant calls functions with appropriate input when necessary"},
        {"role": "user", "content": "Extract Jason is 25 years old"},
    ]
    llm = Llama(model_path=MODEL, verbose=False)
    # The model has never seen a tool, so all that shows is that it may answer.
    with pytest.warns(UserWarning, match="no system role"):
        answer = llm.create_chat_completion(messages=messages, tools=[user_detail], tool_choice="auto", max_tokens=8)
    assert answer["choices"][0]["message"]["role"] == "assistant"
    with pytest.raises(NotImplementedError, match="tool_choice"):
        llm.create_chat_completion(
            messages=messages,
            tools=[user_detail],
            tool_choice={"type": "function", "function": {"name": "UserDetail"}},
        )
    with pytest.raises(NotImplementedError, match="chat_format: 'chatml-function-calling'"):
        Llama(model_path=MODEL, chat_format="chatml-function-calling")


def test_images_are_refused_by_name() -> None:
    llm = Llama(model_path=MODEL, n_ctx=2048, verbose=False)
    with pytest.raises(NotImplementedError, match="image_url"):
        llm.create_chat_completion(
            messages=[
                {"role": "system", "content": "You are an assistant who perfectly describes images."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What's in this image?"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
                    ],
                },
            ]
        )


def test_speculative_decoding() -> None:
    llama = Llama(model_path=MODEL, draft_model=LlamaPromptLookupDecoding(num_pred_tokens=10), verbose=False)
    plain = Llama(model_path=MODEL, verbose=False)
    assert llama("The cat", temperature=0)["choices"] == plain("The cat", temperature=0)["choices"]


def test_embeddings() -> None:
    llm = llama_cpp.Llama(model_path=MODEL, embedding=True, verbose=False)
    embeddings = llm.create_embedding("Hello, world!")
    assert len(embeddings["data"]) == 1
    embeddings = llm.create_embedding(["Hello, world!", "Goodbye, world!"])
    assert len(embeddings["data"]) == 2


def test_the_context_window() -> None:
    llm = Llama(model_path=MODEL, n_ctx=2048, verbose=False)
    assert llm.n_ctx() == 2048
