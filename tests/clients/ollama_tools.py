"""ollama-python calls tools on a server whose template takes them (--chat-template mistral-v3): ollama_tools.py URL."""

import sys

import ollama

client = ollama.Client(host=sys.argv[1])
model = client.list().models[0].model


def add(a: int, b: int) -> int:
    """Adds two numbers.

    Args:
      a: The first.
      b: The second.
    """
    return a + b


assert "tools" in client.show(model).capabilities
messages = [{"role": "user", "content": "What is 1 and 2?"}]
options = {"temperature": 0, "num_predict": 16}
answer = client.chat(model, messages, tools=[add], options=options)
assert answer.done
# The small model knows no tools: the way there and back is tested with calls it might have made.
call = {"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
messages += [{"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "tool_name": "add", "content": "3"}]
again = client.chat(model, messages, tools=[add], options=options)
assert again.prompt_eval_count > answer.prompt_eval_count
print("ollama-python: tools are taken")
