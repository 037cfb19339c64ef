"""Answers questions about a folder of texts with one `bise serve`, which embeds them and writes the answer.

    rag.py [--url URL] [--through openai|ollama] [--texts FOLDER] [--passages N] QUESTION
"""

import argparse
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.embeddings import Embeddings
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.vectorstores import InMemoryVectorStore

HERE = Path(__file__).parent

PROMPT = ChatPromptTemplate.from_messages(
    [
        ("system", "Answer in one sentence, from these passages alone:\n\n{passages}"),
        ("human", "{question}"),
    ]
)


def connect(url: str, through: str) -> tuple[BaseChatModel, Embeddings]:
    """The chat model and the embeddings of a server, by one of its two interfaces."""
    if through == "openai":
        from langchain_openai import ChatOpenAI, OpenAIEmbeddings

        options = {"base_url": f"{url}/v1", "api_key": "none", "model": "any"}
        # Texts are sent as they are. By default they would be cut into tokens here, with the vocabulary of another model.
        return ChatOpenAI(**options, temperature=0, max_tokens=80), OpenAIEmbeddings(**options, check_embedding_ctx_length=False)
    from langchain_ollama import ChatOllama, OllamaEmbeddings
    from ollama import Client

    options = {"base_url": url, "model": Client(host=url).list().models[0].model}
    return ChatOllama(**options, temperature=0, num_predict=80), OllamaEmbeddings(**options)


def passages(folder: Path) -> list[Document]:
    """The paragraphs of the texts, but for their titles, with the name of the file each comes from."""
    documents = []
    for path in sorted(folder.glob("*.md")):
        for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
            if not paragraph.startswith("#"):
                documents.append(Document(paragraph.strip(), metadata={"file": path.name}))
    return documents


def retriever(folder: Path, embeddings: Embeddings, n: int):
    """Finds the passages of a folder that are closest to a question."""
    store = InMemoryVectorStore(embeddings)
    store.add_documents(passages(folder))
    return store.as_retriever(search_kwargs={"k": n})


def main() -> None:
    parser = argparse.ArgumentParser(description="Answers questions about a folder of texts.")
    parser.add_argument("question")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="where bise serve listens")
    parser.add_argument("--through", choices=["openai", "ollama"], default="openai", help="the interface")
    parser.add_argument("--texts", type=Path, default=HERE / "texts", help="a folder of Markdown files")
    parser.add_argument("--passages", type=int, default=2, metavar="N", help="how many passages the model reads")
    args = parser.parse_args()

    chat, embeddings = connect(args.url, args.through)
    found = retriever(args.texts, embeddings, args.passages).invoke(args.question)
    chain = PROMPT | chat | StrOutputParser()
    for piece in chain.stream({"passages": "\n\n".join(passage.page_content for passage in found), "question": args.question}):
        print(piece, end="", flush=True)
    print()
    for passage in found:
        print(f"  from {passage.metadata['file']}: {passage.page_content.splitlines()[0]}")


if __name__ == "__main__":
    main()
