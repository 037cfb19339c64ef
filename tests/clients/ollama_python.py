"""ollama-python against a server with the small model: ollama_python.py URL."""

import sys
from datetime import datetime, timezone

import ollama

client = ollama.Client(host=sys.argv[1])
greedy = {"temperature": 0, "num_predict": 24}

# Models.
listed = client.list().models
model = listed[0].model
assert model.endswith(":latest"), model
short = model.removesuffix(":latest")
assert listed[0].details.family == "llama" and listed[0].size > 5_000_000, listed[0]
assert listed[0].modified_at < datetime.now(timezone.utc)
shown = client.show(short)
assert shown.modelinfo["general.architecture"] == "llama"
assert shown.modelinfo["llama.context_length"] == 2048
assert shown.details.quantization_level == "Q4_K_M" and shown.details.parameter_size == "8.13M", shown.details
assert "completion" in shown.capabilities and "[INST]" in shown.template
loaded = client.ps().models
assert loaded[0].model == model and loaded[0].context_length > 0
assert loaded[0].expires_at > datetime.now(timezone.utc)

# A chat, whole and streamed, says the same.
messages = [{"role": "user", "content": "Tell me a story about a cat."}]
whole = client.chat(short, messages, options=greedy)
assert whole.message.role == "assistant" and whole.message.content
assert whole.done and whole.done_reason == "length" and whole.eval_count == 24
assert whole.prompt_eval_count > 5 and whole.total_duration > whole.eval_duration > 0
parts = list(client.chat(model, messages, options=greedy, stream=True))
assert len(parts) > 5 and [part.done for part in parts[:-1]] == [False] * (len(parts) - 1)
assert "".join(part.message.content for part in parts) == whole.message.content
assert parts[-1].done_reason == "length" and parts[-1].eval_count == 24

# A text, with its conversation remembered.
first = client.generate(model, "Who is Tim?", options=greedy)
assert first.response and first.context
second = client.generate(model, "And then?", context=first.context, options=greedy)
assert second.prompt_eval_count > first.prompt_eval_count
raw = client.generate(model, "Once upon a time", raw=True, options=greedy, logprobs=True, top_logprobs=2)
assert raw.response and not raw.context
assert len(raw.logprobs) == 24 and len(raw.logprobs[0].top_logprobs) == 2
assert raw.logprobs[0].logprob == max(top.logprob for top in raw.logprobs[0].top_logprobs) <= 0
stopped = client.generate(model, "Once upon a time", raw=True, options={**greedy, "stop": ["time", " a"]})
assert stopped.done_reason in ("stop", "length") and " a" not in stopped.response

# Seeds.
hot = {"temperature": 1.5, "seed": 7, "num_predict": 16}
assert len({client.generate(model, "Once", raw=True, options=hot).response for _ in range(3)}) == 1

# JSON, by word and by schema.
schema = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
import json

answer = client.chat(model, messages, format=schema, options={"temperature": 1.5, "seed": 3, "num_predict": 200})
person = json.loads(answer.message.content)
assert set(person) == {"name", "age"} and 0 <= person["age"] <= 9 and len(person["name"]) <= 8, person

# Embeddings.
embedded = client.embed(model, ["a cat", "a dog", "a cat"])
assert len(embedded.embeddings) == 3 and embedded.prompt_eval_count > 3
assert embedded.embeddings[0] == embedded.embeddings[2] != embedded.embeddings[1]
assert abs(sum(x * x for x in embedded.embeddings[0]) - 1) < 1e-4
assert len(client.embed(model, "a cat", dimensions=16).embeddings[0]) == 16
assert len(client.embeddings(model, "a cat").embedding) == len(embedded.embeddings[0])

# Loading and unloading.
assert client.chat(model, []).done_reason == "load"
assert client.generate(model, keep_alive=0).done_reason == "unload"
assert client.generate(model, "Once", raw=True, options=greedy, keep_alive="5m").response

# What goes wrong.
for call, status, words in [
    (lambda: client.chat("nobody", messages), 404, "model 'nobody' not found"),
    (lambda: client.chat(model, messages, think=True), 400, "does not support thinking"),
    (lambda: client.generate(model, "x", suffix="y"), 400, "does not support insert"),
    (lambda: client.generate(model, "x", options={"top_k": "many"}), 400, "top_k"),
    (lambda: client.generate(model, "cat " * 5000, raw=True), 400, "context"),
    (lambda: client.chat(model, [{"role": "user", "content": "?", "images": [b"\x89PNG"]}]), 400, "image"),
]:
    try:
        call()
    except ollama.ResponseError as error:
        assert error.status_code == status and words in error.error, (error.status_code, error.error)
    else:
        raise AssertionError(f"nothing was wrong: {words}")

print(f"ollama-python: {model} is well")
