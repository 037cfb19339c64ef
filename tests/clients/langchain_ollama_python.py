"""langchain-ollama against a server with the small model: langchain_ollama_python.py URL."""

import sys

import ollama
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

url = sys.argv[1]
model = ollama.Client(host=url).list().models[0].model.removesuffix(":latest")
options = {"model": model, "base_url": url, "temperature": 0, "num_predict": 16}

chat = ChatOllama(**options, validate_model_on_init=True)
answer = chat.invoke([("system", "Be brief."), ("human", "Tell me a story about a cat.")])
assert answer.content and answer.usage_metadata["output_tokens"] == 16, answer
assert answer.response_metadata["done_reason"] == "length"
assert "".join(chunk.content for chunk in chat.stream("Tell me a story about a cat."))
schema = {"title": "Pet", "type": "object", "properties": {"legs": {"enum": [2, 4]}}, "required": ["legs"], "additionalProperties": False}
pet = ChatOllama(model=model, base_url=url, temperature=1.5, seed=1).with_structured_output(schema, method="json_schema")
assert pet.invoke("A cat.")["legs"] in (2, 4)

assert OllamaLLM(**options).invoke("Once upon a time")

vectors = OllamaEmbeddings(model=model, base_url=url).embed_documents(["a cat", "a dog"])
assert len(vectors) == 2 and len(vectors[0]) == 256 and vectors[0] != vectors[1]
print("langchain-ollama: all is well")
