"""openai's Python client against servers with the small model: openai_python.py URL TOOLS_URL KEY_URL.

The second server has a template that takes tools, the third asks for the key `secret`, answers one request at a time and lets none wait.
"""

import base64
import json
import math
import struct
import sys
import time
import urllib.request
from typing import Literal

import openai
from pydantic import BaseModel, ConfigDict, Field

url, tools_url, key_url = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)
caller = client.with_options(base_url=f"{tools_url}/v1")


def post(path, body):
    """llama-server's interface on the same server, to compare with."""
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))


def refused(call, kind, status, type_, words, **fields):
    """The error is of the client's own class, and its body has these fields."""
    try:
        call()
    except openai.APIStatusError as error:
        assert type(error) is kind and error.status_code == status, repr(error)
        assert error.type == type_ and words in error.body["message"], error.body
        assert error.response.headers["content-type"] == "application/json"
        for name, value in fields.items():
            assert error.body[name] == value, (name, error.body)
        return error
    raise AssertionError(f"nothing was wrong: {words}")


# Models.
listed = client.models.list().data
assert len(listed) == 1 and listed[0].object == "model" and listed[0].owned_by == "bise", listed
model = listed[0].id
assert client.models.retrieve(model) == listed[0] and 1_600_000_000 < listed[0].created <= time.time()
refused(lambda: client.models.retrieve("nobody"), openai.NotFoundError, 404, "not_found_error", "nobody")

# A chat. It is what llama-server's endpoints make of the rendered prompt.
messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me a story about a cat."}]
greedy = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 24}
whole = client.chat.completions.create(**greedy)
choice = whole.choices[0]
prompt = post("/apply-template", {"messages": messages})["prompt"]
raw = post("/completion", {"prompt": prompt, "n_predict": 24, "temperature": 0, "return_tokens": True})
assert whole.id.startswith("chatcmpl-") and whole.object == "chat.completion" and whole.model == model
assert choice.message.role == "assistant" and choice.message.content == raw["content"].removeprefix(" ") and choice.message.tool_calls is None
assert choice.finish_reason == "length" and choice.index == 0 and choice.logprobs is None
assert whole.usage.completion_tokens == 24 and whole.usage.prompt_tokens == raw["tokens_evaluated"]
assert whole.usage.total_tokens == whole.usage.prompt_tokens + 24
for same in [
    {"max_tokens": openai.omit, "max_completion_tokens": 24},
    {"messages": [{**messages[0], "role": "developer"}, {"role": "user", "content": [{"type": "text", "text": messages[1]["content"]}]}]},
    {"model": "gpt-4o", "user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "response_format": {"type": "text"}},
]:
    again = client.chat.completions.create(**{**greedy, **same})
    assert again.choices[0].message.content == choice.message.content and again.choices[0].finish_reason == "length", same
    assert again.model == same.get("model", model)
# All of the prompt but what is always read again was found.
assert client.chat.completions.create(**{**greedy, "messages": messages + [{"role": "assistant", "content": "A cat. " * 40}, messages[1]]}).usage
long = client.chat.completions.create(**{**greedy, "messages": messages + [{"role": "assistant", "content": "A cat. " * 40}, messages[1]]})
assert long.usage.prompt_tokens_details.cached_tokens >= 64, long.usage

# Streams say the same, with the usage in a chunk of its own.
chunks = list(client.chat.completions.create(**greedy, stream=True, stream_options={"include_usage": True}))
assert {(chunk.id, chunk.object, chunk.model) for chunk in chunks} == {(chunks[0].id, "chat.completion.chunk", model)}
assert chunks[0].choices[0].delta.role == "assistant" and not chunks[0].choices[0].delta.content
assert [len(chunk.choices) for chunk in chunks] == [1] * (len(chunks) - 1) + [0] and len(chunks) > 10
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == choice.message.content
assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
assert all(chunk.usage is None for chunk in chunks[:-1])
assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (whole.usage.prompt_tokens, 24)
assert all(chunk.usage is None for chunk in client.chat.completions.create(**greedy, stream=True))
word = choice.message.content.split()[4]
with client.chat.completions.stream(**greedy, stop=word) as stream:
    events = list(stream)
assert stream.get_final_completion().choices[0].message.content == choice.message.content.split(word)[0]
assert "".join(event.delta for event in events if event.type == "content.delta") == choice.message.content.split(word)[0]

# Several answers, seeds, words to stop at, biases.
hot = {**greedy, "temperature": 1.5, "seed": 7}
several = client.chat.completions.create(**hot, n=3)
texts = [choice.message.content for choice in several.choices]
assert [choice.index for choice in several.choices] == [0, 1, 2] and len(set(texts)) == 3, texts
assert several.usage.completion_tokens <= 72 and several.usage.prompt_tokens == whole.usage.prompt_tokens
streamed = ["", "", ""]
for chunk in client.chat.completions.create(**hot, n=3, stream=True):
    streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
assert streamed == texts and client.chat.completions.create(**hot).choices[0].message.content == texts[0]
assert client.chat.completions.create(**{**hot, "seed": 8}).choices[0].message.content != texts[0]
for stop in [word, ["never in it", word]]:
    stopped = client.chat.completions.create(**greedy, stop=stop).choices[0]
    assert stopped.finish_reason == "stop" and stopped.message.content == choice.message.content.split(word)[0], stopped
banned = raw["tokens"][0]
biased = client.chat.completions.create(**greedy, logit_bias={str(banned): -100}, logprobs=True)
assert biased.choices[0].logprobs.content[0].token not in choice.message.content[:1] + " "
assert banned not in [token.model_extra["id"] for token in biased.choices[0].logprobs.content]

# Log-probabilities.
told = client.chat.completions.create(**greedy, logprobs=True, top_logprobs=3).choices[0].logprobs.content
assert len(told) == 24 and "".join(token.token for token in told) == choice.message.content
for token in told:
    assert token.logprob == max(top.logprob for top in token.top_logprobs) <= 0 and len(token.top_logprobs) == 3
    assert bytes(token.bytes).decode() == token.token and token.top_logprobs[0].token == token.token
streamed = [chunk.choices[0].logprobs for chunk in client.chat.completions.create(**greedy, logprobs=True, top_logprobs=3, stream=True)]
streamed = [token for part in streamed if part and part.content for token in part.content]
assert [(token.token, token.logprob) for token in streamed] == [(token.token, token.logprob) for token in told]


# JSON by schema, also by a class.
class Pet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["cat", "dog"]
    legs: int = Field(ge=2, le=4)
    names: list[str] = Field(min_length=1, max_length=2)


for seed in range(3):
    wild = {**greedy, "temperature": 1.5, "seed": seed, "max_tokens": 300}
    schema = {"type": "json_schema", "json_schema": {"name": "pet", "strict": True, "schema": Pet.model_json_schema()}}
    answer = client.chat.completions.create(**wild, response_format=schema)
    if answer.choices[0].finish_reason == "stop":
        Pet.model_validate_json(answer.choices[0].message.content)
    answer = client.chat.completions.create(**wild, response_format={"type": "json_object"})
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)


class Short(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["cat", "dog"]
    legs: Literal[2, 4]


roomy = {**greedy, "max_tokens": 200}
parsed = client.chat.completions.parse(**roomy, response_format=Short).choices[0].message
assert parsed.parsed == Short.model_validate_json(parsed.content), parsed
with client.chat.completions.stream(**roomy, response_format=Short) as stream:
    assert stream.get_final_completion().choices[0].message.parsed == parsed.parsed
try:
    client.chat.completions.parse(**{**greedy, "max_tokens": 3}, response_format=Short)
    raise AssertionError("an answer that was cut is no answer")
except openai.LengthFinishReasonError as error:
    assert error.completion.usage.completion_tokens == 3

# Tools.
add = {"type": "object", "properties": {"a": {"enum": [1, 2]}, "b": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["a", "b"], "additionalProperties": False}
say = {"type": "object", "properties": {"word": {"enum": ["hello", "bye"]}}, "required": ["word"], "additionalProperties": False}
tools = [
    {"type": "function", "function": {"name": "add", "description": "Adds two numbers.", "parameters": add, "strict": True}},
    {"type": "function", "function": {"name": "say", "description": "Says a word.", "parameters": say}},
]
ask = {**greedy, "messages": messages[1:], "max_tokens": 400, "tools": tools}


def check(calls):
    assert len({call.id for call in calls}) == len(calls)
    for call in calls:
        assert call.type == "function" and len(call.id) == 9 and call.id.isalnum(), call
        arguments = json.loads(call.function.arguments)
        if call.function.name == "add":
            assert set(arguments) == {"a", "b"} and arguments["a"] in (1, 2) and 0 <= arguments["b"] <= 9, call
        else:
            assert call.function.name == "say" and set(arguments) == {"word"} and arguments["word"] in ("hello", "bye"), call


def named(calls):
    return [(call.function.name, call.function.arguments) for call in calls]


def collect(stream):
    """Puts a stream's calls together as programs do by hand: by index, ids and names once, arguments in pieces."""
    calls, reasons, said, pieces = {}, [], "", 0
    for chunk in stream:
        part = chunk.choices[0]
        said += part.delta.content or ""
        reasons += [part.finish_reason] if part.finish_reason else []
        for call in part.delta.tool_calls or []:
            if call.index not in calls:
                assert call.id and call.type == "function" and call.function.name, call
                calls[call.index] = [call.id, call.function.name, ""]
            else:
                assert call.id is None and call.function.name is None, call
            calls[call.index][2] += call.function.arguments or ""
            pieces += 1
    assert list(calls) == list(range(len(calls)))
    return list(calls.values()), reasons, said, pieces


for choice, names in [
    ({"type": "function", "function": {"name": "add"}}, {"add"}),
    ({"type": "function", "function": {"name": "say"}}, {"say"}),
    ("required", {"add", "say"}),
]:
    single = {**ask, "tool_choice": choice, "parallel_tool_calls": False}
    answer = caller.chat.completions.create(**single).choices[0]
    calls = answer.message.tool_calls
    assert answer.finish_reason == "tool_calls" and len(calls) == 1 and calls[0].function.name in names, answer
    assert answer.message.content is None
    check(calls)
    got, reasons, said, pieces = collect(caller.chat.completions.create(**single, stream=True))
    assert [tuple(call[1:]) for call in got] == named(calls) and reasons == ["tool_calls"] and not said, got
    assert len(got[0][0]) == 9 and pieces > 3
    with caller.chat.completions.stream(**single) as stream:
        assert named(stream.get_final_completion().choices[0].message.tool_calls) == named(calls)
# Several in one answer. At this temperature some seed makes more than one.
counts = []
for seed in range(8):
    many = {**ask, "tool_choice": "required", "temperature": 1.5, "seed": seed}
    answer = caller.chat.completions.create(**many).choices[0]
    calls = answer.message.tool_calls
    if answer.finish_reason != "tool_calls":
        continue
    check(calls)
    counts.append(len(calls))
    if len(calls) > 1:
        got, reasons, said, _ = collect(caller.chat.completions.create(**many, stream=True))
        assert [tuple(call[1:]) for call in got] == named(calls) and reasons == ["tool_calls"] and not said
        break
assert counts and counts[-1] > 1, counts
# A call that is cut is no text, and not complete.
cut = {**ask, "tool_choice": {"type": "function", "function": {"name": "add"}}}
for n in range(1, 24, 4):
    answer = caller.chat.completions.create(**{**cut, "max_tokens": n}).choices[0]
    assert answer.finish_reason in ("length", "tool_calls") and not answer.message.content, (n, answer)
    got, reasons, said, _ = collect(caller.chat.completions.create(**{**cut, "max_tokens": n}, stream=True))
    assert not said and reasons == [answer.finish_reason], (n, got, said)
    assert [tuple(call[1:]) for call in got] == named(answer.message.tool_calls or []), (n, got, answer)
none = caller.chat.completions.create(**{**ask, "tool_choice": "none", "max_tokens": 24})
assert none.choices[0].message.content and none.choices[0].message.tool_calls is None
# There and back: the result is read, and calls whose ids another service made are taken.
first = caller.chat.completions.create(**{**ask, "tool_choice": {"type": "function", "function": {"name": "add"}}, "parallel_tool_calls": False})
talk = [*messages[1:], first.choices[0].message, {"role": "tool", "tool_call_id": first.choices[0].message.tool_calls[0].id, "content": "3"}]
after = caller.chat.completions.create(**{**ask, "messages": talk, "tool_choice": "none", "max_tokens": 8})
assert after.choices[0].message.content and after.usage.prompt_tokens > none.usage.prompt_tokens + 10
foreign = {"id": "call_abcdefghijklmnop", "type": "function", "function": {"name": "say", "arguments": '{"word": "bye"}'}}
talk = [*messages[1:], {"role": "assistant", "tool_calls": [foreign]}, {"role": "tool", "tool_call_id": foreign["id"], "content": [{"type": "text", "text": "ok"}]}]
assert caller.chat.completions.create(**{**ask, "messages": talk, "tool_choice": "none", "max_tokens": 8}).choices[0].message.content
parsed = caller.chat.completions.parse(
    **{**ask, "tools": [openai.pydantic_function_tool(Short, name="short")], "tool_choice": "required", "parallel_tool_calls": False}
)
assert isinstance(parsed.choices[0].message.tool_calls[0].function.parsed_arguments, Short)

# Embeddings. This client asks for base64 of itself, and gives floats.
batch = ["a cat", "a dog", "a cat"]
embedded = client.embeddings.create(model=model, input=batch)
vectors = [item.embedding for item in embedded.data]
assert [item.index for item in embedded.data] == [0, 1, 2] and {len(vector) for vector in vectors} == {256}
assert vectors[0] == vectors[2] != vectors[1] and abs(math.hypot(*vectors[0]) - 1) < 1e-5
floats = client.embeddings.create(model=model, input=batch, encoding_format="float")
assert all(math.isclose(x, y, abs_tol=1e-7) for a, b in zip(vectors, floats.data) for x, y in zip(a, b.embedding, strict=True))
assert floats.usage.prompt_tokens == floats.usage.total_tokens == embedded.usage.total_tokens
raw = client.embeddings.with_raw_response.create(model=model, input="a cat", encoding_format="base64")
packed = json.loads(raw.text)["data"][0]["embedding"]
assert list(struct.unpack("<256f", base64.b64decode(packed))) == vectors[0]
tokens = post("/tokenize", {"content": "a cat", "add_special": True})["tokens"]
for same in ["a cat", ["a cat"], tokens, [tokens]]:
    assert client.embeddings.create(model=model, input=same).data[0].embedding == vectors[0], same
ollama = post("/api/embed", {"model": model, "input": "a cat"})["embeddings"][0]
assert all(math.isclose(x, y, abs_tol=1e-6) for x, y in zip(ollama, vectors[0], strict=True))
assert len(client.embeddings.create(model=model, input=["word"] * 100).data) == 100
assert len(client.embeddings.create(model=model, input="a cat", dimensions=256).data[0].embedding) == 256

# Texts.
text = {"model": model, "prompt": "Once upon a time", "temperature": 0, "max_tokens": 12}
plain = client.completions.create(**text)
assert plain.id.startswith("cmpl-") and plain.object == "text_completion" and plain.choices[0].finish_reason == "length"
assert plain.choices[0].text == post("/completion", {"prompt": text["prompt"], "n_predict": 12, "temperature": 0})["content"]
assert "".join(chunk.choices[0].text for chunk in client.completions.create(**text, stream=True)) == plain.choices[0].text
assert client.completions.create(**text, echo=True).choices[0].text == text["prompt"] + plain.choices[0].text
nothing = client.completions.create(**{**text, "max_tokens": 0}, echo=True)
assert nothing.choices[0].text == text["prompt"] and nothing.usage.completion_tokens == 0
batch = client.completions.create(**{**text, "prompt": ["Once upon a time", "The dog", post("/tokenize", {"content": text["prompt"], "add_special": True})["tokens"]], "n": 2})
assert [choice.index for choice in batch.choices] == [0, 1, 2, 3, 4, 5]
texts = [choice.text for choice in batch.choices]
assert texts[0] == texts[1] == texts[4] == texts[5] == plain.choices[0].text and texts[2] == texts[3] != texts[0]
word = plain.choices[0].text.split()[2]
stopped = client.completions.create(**text, stop=[word]).choices[0]
assert stopped.finish_reason == "stop" and stopped.text == plain.choices[0].text.split(word)[0]
told = client.completions.create(**text, logprobs=2).choices[0].logprobs
assert "".join(told.tokens) == plain.choices[0].text and len(told.token_logprobs) == len(told.top_logprobs) == 12
assert told.text_offset == [sum(map(len, told.tokens[:i])) for i in range(12)]
assert all(max(top.values()) == logprob <= 0 and len(top) == 2 for top, logprob in zip(told.top_logprobs, told.token_logprobs))

# With echo the prompt's tokens have theirs, too; the first has none. What is read is as likely, to the bit, as when it was written.
both = client.completions.create(**text, logprobs=2, echo=True).choices[0].logprobs
n = len(both.tokens) - 12
assert both.token_logprobs[0] is None and both.top_logprobs[0] is None and "".join(both.tokens[:n]) == text["prompt"]
assert both.tokens[n:] == told.tokens and both.token_logprobs[n:] == told.token_logprobs
assert both.text_offset == [sum(map(len, both.tokens[:i])) for i in range(n + 12)]
ids = post("/tokenize", {"content": text["prompt"], "add_special": True})["tokens"] + [token["id"] for token in both.model_extra["content"][n - 1 :]]
read = client.completions.create(**{**text, "prompt": ids, "max_tokens": 0}, logprobs=2, echo=True)
assert read.choices[0].text == text["prompt"] + plain.choices[0].text and read.usage.completion_tokens == 0
assert read.choices[0].logprobs == both and len(both.tokens) == read.usage.prompt_tokens == len(ids)
chunks = [chunk.choices[0] for chunk in client.completions.create(**text, logprobs=2, echo=True, stream=True)]
assert chunks[0].text == text["prompt"] and "".join(chunk.text for chunk in chunks) == text["prompt"] + plain.choices[0].text
assert [x for chunk in chunks if chunk.logprobs for x in chunk.logprobs.token_logprobs] == both.token_logprobs
alone = client.completions.create(**{**text, "prompt": [ids[0]], "max_tokens": 0}, logprobs=1, echo=True).choices[0].logprobs
assert alone.token_logprobs == [None] and alone.top_logprobs == [None] and alone.text_offset == [0]

# Responses.
reply = client.responses.create(model=model, instructions="Be brief.", input=messages[1]["content"], temperature=0, max_output_tokens=24)
assert reply.id.startswith("resp_") and reply.object == "response" and reply.status == "incomplete"
assert reply.incomplete_details.reason == "max_output_tokens" and reply.error is None
assert reply.output_text == whole.choices[0].message.content and reply.output[0].type == "message"
assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens) == (
    whole.usage.prompt_tokens, 24, whole.usage.prompt_tokens + 24)
asked = {"model": model, "instructions": "Be brief.", "input": [messages[1]], "temperature": 0, "max_output_tokens": 24}
events = list(client.responses.create(**asked, stream=True))
assert [event.sequence_number for event in events] == list(range(len(events)))
assert [event.type for event in events[:4]] == [
    "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == reply.output_text
assert events[-1].response.output_text == reply.output_text and events[-1].response.usage.output_tokens == 24
with client.responses.stream(**asked) as stream:
    assert "".join(event.delta for event in stream if event.type == "response.output_text.delta") == reply.output_text
    assert stream.get_final_response().output_text == reply.output_text
assert client.responses.parse(**{**asked, "max_output_tokens": 200}, text_format=Short).output_parsed.kind in ("cat", "dog")
function = {"type": "function", "name": "add", "parameters": add, "strict": True}
called = caller.responses.create(model=model, input="1 and 2?", tools=[function], tool_choice="required", parallel_tool_calls=False, temperature=0)
call = called.output[0]
assert call.type == "function_call" and call.name == "add" and set(json.loads(call.arguments)) == {"a", "b"}, called
events = caller.responses.create(
    model=model, input="1 and 2?", tools=[function], tool_choice={"type": "function", "name": "add"}, parallel_tool_calls=False, temperature=0, stream=True
)
assert "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta") == call.arguments
talk = [{"role": "user", "content": "1 and 2?"}, call, {"type": "function_call_output", "call_id": call.call_id, "output": "3"}]
after = caller.responses.create(model=model, input=talk, tools=[function], tool_choice="none", temperature=0, max_output_tokens=8)
assert after.output_text and after.usage.input_tokens > client.responses.input_tokens.count(model=model, input="1 and 2?").input_tokens + 10
refused(lambda: client.responses.create(model=model, input="x", previous_response_id="resp_1"),
        openai.BadRequestError, 400, "invalid_request_error", "nothing is stored", param="previous_response_id")
refused(lambda: client.responses.retrieve("resp_1"), openai.NotFoundError, 404, "not_found_error", "/v1/responses/resp_1")

# What goes wrong.
image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}
for change, param, words in [
    ({"temperature": "hot"}, "temperature", "temperature"),
    ({"n": 0}, "n", "n: found 0"),
    ({"max_tokens": "many"}, "max_tokens", "max_tokens"),
    ({"top_logprobs": 3}, "top_logprobs", "logprobs"),
    ({"messages": []}, "messages", "an empty list"),
    ({"messages": [image]}, "messages[0].content[0]", "does not see images"),
    ({"response_format": {"type": "sound"}}, "response_format.type", "sound"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "animal"}}}}, None, "animal"),
    ({"tools": tools, "tool_choice": {"type": "function", "function": {"name": "nobody"}}}, "tool_choice", "nobody"),
    ({"tool_choice": "required"}, "tool_choice", "without tools"),
    ({"modalities": ["text", "audio"]}, "modalities", "audio"),
    ({"audio": {"voice": "alloy", "format": "wav"}}, "audio", "answers are text"),
    ({"extra_body": {"functions": [{"name": "f"}]}}, "functions", "tools"),
    ({"web_search_options": {}}, "web_search_options", "web_search_options"),
]:
    error = refused(lambda: client.chat.completions.create(**{**greedy, **change}),
                    openai.BadRequestError, 400, "invalid_request_error", words, code=400)
    assert error.param == param, (error.param, param)
refused(lambda: client.chat.completions.create(**{**greedy, "messages": [{"role": "user", "content": "cat " * 3000}]}, stream=True),
        openai.BadRequestError, 400, "exceed_context_size_error", "3", n_ctx=2048)
refused(lambda: client.embeddings.create(model=model, input="cat " * 3000), openai.BadRequestError, 400, "exceed_context_size_error", "context", n_ctx=2048)
refused(lambda: client.embeddings.create(model=model, input="a", dimensions=7), openai.BadRequestError, 400, "invalid_request_error", "256", param="dimensions")
refused(lambda: client.embeddings.create(model=model, input=[]), openai.BadRequestError, 400, "invalid_request_error", "empty list", param="input")
refused(lambda: client.completions.create(**text, suffix=" end"), openai.BadRequestError, 400, "invalid_request_error", "fill in the middle", param="suffix")
refused(lambda: client.completions.create(**text, best_of=2), openai.BadRequestError, 400, "invalid_request_error", "best_of", param="best_of")
refused(lambda: client.images.generate(prompt="a cat"), openai.NotFoundError, 404, "not_found_error", "/v1/images/generations")
refused(lambda: client.moderations.create(input="a cat"), openai.NotFoundError, 404, "not_found_error", "/v1/moderations")
assert client.chat.completions.with_raw_response.create(**greedy).headers["x-request-id"]

# Keys: one that is wrong, and none.
for key in ["wrong", ""]:
    wrong = client.with_options(base_url=f"{key_url}/v1", api_key=key)
    refused(lambda: wrong.chat.completions.create(**greedy), openai.AuthenticationError, 401, "authentication_error", "API Key", code=401)
right = client.with_options(base_url=f"{key_url}/v1", api_key="secret")
assert right.chat.completions.create(**greedy).choices[0].message.content == whole.choices[0].message.content

# A busy server says when to try again, and this client does.
endless = {**greedy, "max_tokens": 1500, "extra_body": {"ignore_eos": True}}
busy = right.chat.completions.create(**endless, stream=True)
next(iter(busy))
error = refused(lambda: right.chat.completions.create(**greedy), openai.InternalServerError, 503, "unavailable_error", "maximum pending requests")
assert error.response.headers["retry-after"] == "1"
busy.close()
patient = right.with_options(max_retries=5)
assert patient.chat.completions.create(**greedy).choices[0].finish_reason == "length"


# Clients that go away: the work ends with them.
def predicted():
    lines = urllib.request.urlopen(f"{url}/metrics").read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("llamacpp:tokens_predicted_total "))


def idle():
    for _ in range(100):
        if not any(slot["is_processing"] for slot in json.load(urllib.request.urlopen(f"{url}/slots"))):
            return True
        time.sleep(0.02)


before = predicted()
stream = client.chat.completions.create(**endless, stream=True)
for chunk, _ in zip(stream, range(5)):
    pass
stream.close()
assert idle() and predicted() - before < 750, predicted() - before
before = predicted()
try:
    client.with_options(timeout=0.2).chat.completions.create(**endless, n=8)
    raise AssertionError("8 answers of 1500 tokens came in 0.2 s")
except openai.APITimeoutError:
    assert idle() and predicted() - before < 6000, predicted() - before

print(f"openai: {model} is well")
