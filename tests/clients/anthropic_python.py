"""anthropic's Python client against a server with the small model: anthropic_python.py URL."""

import sys

import anthropic

client = anthropic.Anthropic(base_url=sys.argv[1], api_key="none", max_retries=0)
model = "bise"
messages = [{"role": "user", "content": "Tell me a story about a cat."}]
# This client has left temperature out of what it knows.
greedy = {"model": model, "max_tokens": 24, "messages": messages, "extra_body": {"temperature": 0}}

# Whole, and streamed, which says the same.
whole = client.messages.create(**greedy)
assert whole.id.startswith("msg_") and whole.role == "assistant" and whole.model == model
assert whole.content[0].type == "text" and whole.content[0].text
assert whole.stop_reason == "max_tokens" and whole.usage.output_tokens == 24, whole
with client.messages.stream(**greedy) as stream:
    texts = list(stream.text_stream)
    final = stream.get_final_message()
assert len(texts) > 5 and "".join(texts) == whole.content[0].text == final.content[0].text
assert final.stop_reason == "max_tokens" and final.usage.output_tokens == 24
types = [event.type for event in client.messages.create(**greedy, stream=True)]
assert types[:2] == ["message_start", "content_block_start"], types
assert types[-3:] == ["content_block_stop", "message_delta", "message_stop"], types

# Tokens are counted, read and found again.
n = client.messages.count_tokens(model=model, messages=messages).input_tokens
assert n == whole.usage.input_tokens + whole.usage.cache_read_input_tokens > 5
long = [{"role": "user", "content": "The cat sat by the fire. " * 30}]
for i in range(2):
    usage = client.messages.create(model=model, max_tokens=1, messages=long).usage
assert usage.cache_read_input_tokens >= 64 and usage.input_tokens > 0, usage

# A system prompt as a text and as blocks, a conversation, and words to stop at.
text = client.messages.count_tokens(model=model, messages=messages, system="Be brief.").input_tokens
blocks = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
assert client.messages.count_tokens(model=model, messages=messages, system=blocks).input_tokens == text > n
talk = [*messages, {"role": "assistant", "content": "A cat sat."}, {"role": "user", "content": [{"type": "text", "text": "And then?"}]}]
assert client.messages.create(**{**greedy, "messages": talk}).content[0].text
word = whole.content[0].text.split()[3]
stopped = client.messages.create(**greedy, stop_sequences=[word])
assert stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == word, stopped
assert word not in stopped.content[0].text

# Tools: a call made long ago and its result go through the template; a call can be asked for.
tool = {
    "name": "add",
    "description": "Adds two numbers.",
    "input_schema": {
        "type": "object",
        "properties": {"a": {"type": "integer", "maximum": 9, "minimum": 0}, "b": {"enum": [1, 2]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
}
talk = [
    {"role": "user", "content": "What is 1 and 2?"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_01", "name": "add", "input": {"a": 1, "b": 2}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_01", "content": "3"}]},
]
assert client.messages.create(**{**greedy, "messages": talk}, tools=[tool]).content
if len(sys.argv) > 2:
    # The server was started with a template that takes tools.
    for choice in [{"type": "any"}, {"type": "tool", "name": "add"}]:
        choice["disable_parallel_tool_use"] = True
        request = {**greedy, "max_tokens": 200, "tools": [tool], "tool_choice": choice}
        called = client.messages.create(**request)
        block = called.content[-1]
        assert called.stop_reason == "tool_use" and block.type == "tool_use" and block.name == "add", called
        assert set(block.input) == {"a", "b"} and 0 <= block.input["a"] <= 9 and block.input["b"] in (1, 2), block
        with client.messages.stream(**request) as stream:
            streamed = stream.get_final_message().content[-1]
        assert (streamed.name, streamed.input) == (block.name, block.input)

# Models, in this interface's form.
listed = client.models.list()
assert len(listed.data) == 1 and not listed.has_more and listed.first_id == listed.last_id == listed.data[0].id
assert listed.data[0].type == "model" and listed.data[0].lifecycle == "active" and listed.data[0].max_input_tokens == 2048
assert client.models.retrieve(listed.data[0].id) == listed.data[0]
try:
    client.models.retrieve("nobody")
    raise AssertionError("there is no such model")
except anthropic.NotFoundError as error:
    assert error.body["type"] == "error" and error.body["error"]["type"] == "not_found_error" and error.request_id

# What goes wrong.
image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
for request, kind, words in [
    ({"max_tokens": -1}, anthropic.BadRequestError, "max_tokens"),
    ({"extra_body": {"mcp_servers": [{"type": "url", "url": "http://x", "name": "x"}]}}, anthropic.BadRequestError, "mcp_servers"),
    ({"extra_body": {"temperature": "hot"}}, anthropic.BadRequestError, "temperature"),
    ({"messages": [{"role": "user", "content": "cat " * 5000}]}, anthropic.BadRequestError, "context"),
    ({"messages": [{"role": "robot", "content": "x"}]}, anthropic.BadRequestError, "robot"),
    ({"messages": [{"role": "user", "content": [image]}]}, anthropic.InternalServerError, "image input is not supported"),
]:
    try:
        client.messages.create(**{**greedy, **request})
    except anthropic.APIStatusError as error:
        assert isinstance(error, kind) and words in error.body["error"]["message"], error
        assert error.body["type"] == "error" and error.response.headers["x-should-retry"] == "false"
    else:
        raise AssertionError(f"nothing was wrong: {words}")

print("anthropic: all is well")
