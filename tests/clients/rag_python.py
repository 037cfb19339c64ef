"""examples/rag against a server with the small model: rag_python.py URL."""

import subprocess
import sys
from pathlib import Path

example = Path(__file__).resolve().parents[2] / "examples" / "rag"
sys.path.insert(0, str(example))
import rag

url = sys.argv[1]

# The small model finds what shares words with a question.
questions = {
    "When does the old harbour close in the evening?": "The old harbour of Tarn",
    "Who lights the big lamp when the fog comes, and rings a bell?": "The lighthouse keeper",
    "The library has a cat. Where does the cat sleep?": "The library has a cat",
    "You can borrow books at the library. For how many weeks?": "You can borrow five books",
    "On Sundays the bakery is closed. What does the baker play?": "On Sundays the bakery",
    "The bakery on Mill Street sells bread. When does the baker get up at night?": "The bakery on Mill Street",
    "The children of the school grow carrots and a pumpkin. How heavy was the pumpkin?": "The children of the school",
    "In winter the bus does not go to the lake. Why?": "In winter the bus",
    "Bus number seven goes from the station to the lake. What does a ticket cost?": "Bus number seven",
    "Who made the clock that runs backwards, and why did she want more time to play?": "The museum shows a clock",
}
texts = rag.passages(example / "texts")
assert len(texts) == 11 and not any(text.page_content.startswith("#") for text in texts)
first = {}
for through in ["openai", "ollama"]:
    chat, embeddings = rag.connect(url, through)
    found = rag.retriever(example / "texts", embeddings, 2)
    for question, beginning in questions.items():
        passages = [passage.page_content for passage in found.invoke(question)]
        assert len(passages) == 2 and passages[0].startswith(beginning), (through, question, passages)
    # The passages are in the prompt: with them it is longer by their tokens at least.
    def n_read(passages):
        message = (rag.PROMPT | chat).invoke({"passages": passages, "question": question})
        return message.usage_metadata["input_tokens"]
    n_words = len(passages[0].split())
    assert n_read(passages[0]) >= n_read("") + n_words
    first[through] = embeddings.embed_query(question)
assert max(abs(x - y) for x, y in zip(first["openai"], first["ollama"], strict=True)) < 1e-6

for through in ["openai", "ollama"]:
    command = [sys.executable, example / "rag.py", "--url", url, "--through", through, "The library has a cat. Where does the cat sleep?"]
    answer, *sources = subprocess.run(command, check=True, capture_output=True, text=True).stdout.rstrip("\n").rsplit("\n", 2)
    assert answer.strip() and sources[0].startswith("  from library.md: The library has a cat."), (answer, sources)
print("examples/rag: the right texts are found")
