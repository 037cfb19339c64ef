"""langchain-openai against servers with the small model: langchain_openai_python.py URL TOOLS_URL. The second has a template that takes tools."""

import math
import sys
from typing import Literal

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel, ConfigDict

url, tools_url = sys.argv[1:]
server = {"base_url": f"{url}/v1", "api_key": "none", "model": "mistral", "max_retries": 0}
greedy = {**server, "temperature": 0}

# Chats, whole and streamed, by both of OpenAI's interfaces.
messages = [SystemMessage("Be brief."), HumanMessage("Tell me a story about a cat.")]
chat = ChatOpenAI(**greedy, max_tokens=16, stream_usage=True)
answer = chat.invoke(messages)
assert answer.content and answer.response_metadata["finish_reason"] == "length", answer
assert answer.usage_metadata["output_tokens"] == 16 and answer.response_metadata["model_name"] == "mistral"
streamed = None
for chunk in chat.stream(messages):
    streamed = chunk if streamed is None else streamed + chunk
assert streamed.content == answer.content and streamed.usage_metadata["output_tokens"] == 16
assert streamed.usage_metadata["input_tokens"] == answer.usage_metadata["input_tokens"]
assert [text.content for text in chat.batch([messages] * 3)] == [answer.content] * 3
responses = ChatOpenAI(**greedy, max_tokens=16, use_responses_api=True)
assert responses.invoke(messages).text == answer.content
assert "".join(chunk.text for chunk in responses.stream(messages)) == answer.content
told = ChatOpenAI(**greedy, max_tokens=4, logprobs=True, top_logprobs=2).invoke(messages).response_metadata["logprobs"]["content"]
assert len(told) == 4 and all(token["logprob"] == token["top_logprobs"][0]["logprob"] for token in told)
word = answer.content.split()[2]
assert chat.invoke(messages, stop=[word]).content == answer.content.split(word)[0]
assert OpenAI(**greedy, max_tokens=8).invoke("Once upon a time")


# JSON by a class.
class Pet(BaseModel):
    """A pet."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["cat", "dog"]
    legs: Literal[2, 4]


for method, base in [("json_schema", url), ("function_calling", tools_url)]:
    wild = ChatOpenAI(**{**server, "base_url": f"{base}/v1"}, temperature=1.5, seed=1, max_tokens=400)
    pet = wild.with_structured_output(Pet, method=method).invoke("A cat.")
    assert isinstance(pet, Pet), (method, pet)
    raw = wild.with_structured_output(Pet, method=method, include_raw=True).invoke("A cat.")
    assert raw["parsed"] == pet and raw["parsing_error"] is None


# Tools.
@tool
def add(a: Literal[1, 2], b: Literal[3, 4]) -> int:
    """Adds two numbers."""
    return a + b


@tool
def say(word: Literal["hello", "bye"]) -> str:
    """Says a word."""
    return word


caller = ChatOpenAI(**{**greedy, "base_url": f"{tools_url}/v1"}, max_tokens=400)
for choice, strict in [("add", True), ("say", None), ("any", None)]:
    bound = caller.bind_tools([add, say], tool_choice=choice, strict=strict, parallel_tool_calls=False)
    answer = bound.invoke("What is 1 and 3?")
    (call,) = answer.tool_calls
    assert call["name"] in (["add", "say"] if choice == "any" else [choice]) and not answer.invalid_tool_calls, answer
    streamed = None
    for chunk in bound.stream("What is 1 and 3?"):
        streamed = chunk if streamed is None else streamed + chunk
    assert [(c["name"], c["args"]) for c in streamed.tool_calls] == [(call["name"], call["args"])]
    result = {"add": add, "say": say}[call["name"]].invoke(call)
    assert isinstance(result, ToolMessage)
    after = caller.bind_tools([add, say], tool_choice="none").invoke([HumanMessage("What is 1 and 3?"), answer, result], max_tokens=6)
    assert isinstance(after, AIMessage) and after.content and not after.tool_calls

# Embeddings.
embeddings = OpenAIEmbeddings(**server, check_embedding_ctx_length=False)
vectors = embeddings.embed_documents(["a cat", "a dog", "a cat"])
assert len(vectors) == 3 and len(vectors[0]) == 256 and vectors[0] == vectors[2] != vectors[1]
assert embeddings.embed_query("a cat") == vectors[0] and abs(math.hypot(*vectors[0]) - 1) < 1e-5

# What goes wrong.
for run, kind, words in [
    (lambda: chat.invoke("cat " * 3000), openai.BadRequestError, "context"),
    (lambda: chat.invoke(messages, response_format={"type": "sound"}), openai.BadRequestError, "sound"),
    (lambda: embeddings.embed_query("cat " * 3000), openai.BadRequestError, "context"),
]:
    try:
        run()
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"nothing was wrong: {words}")
print("langchain-openai: all is well")
