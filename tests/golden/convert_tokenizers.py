"""Makes small checkpoints' tokenizers of every kind, and the keys that llama.cpp's converter writes for them.

    python tests/golden/convert_tokenizers.py LLAMA_CPP            # writes convert_tokenizers.json.gz; LLAMA_CPP: its sources (b11434)
    python tests/golden/convert_tokenizers.py LLAMA_CPP FOLDER     # and the folders of mistral-common's real vocabularies with their keys, not committed

Needs torch, transformers, sentencepiece, protobuf, mistral-common. Keys come from the converter's own functions, ids of texts from sentencepiece,
tokenizers and mistral_common.
"""

import base64
import gzip
import io
import json
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LLAMA_CPP = Path(sys.argv[1])
sys.path[:0] = [str(LLAMA_CPP / "gguf-py"), str(LLAMA_CPP)]
os.environ["OMP_NUM_THREADS"] = "1"

import gguf
import mistral_common
import sentencepiece
import transformers
from conversion.llama import LlamaModel
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

DATA = Path(mistral_common.__file__).parent / "data"
CORPUS = [
    "The quick brown fox jumps over the lazy dog. The dog sleeps; the fox runs over the hills and far away.",
    "Once upon a time there was a little house by the sea, and in the house there lived a kind old woman.",
    "Le cœur a ses raisons que la raison ne connaît point. L'été, la mer est belle et le vent se lève.",
    "def f(x):\n    return x + 1\n\nfor i in range(10):\n    print(i, f(i))\n",
    "Numbers: 1, 22, 333, 4444, 55555. HELLO World! hello world. I've been told they're here; we'll see.",
] * 4
TEXTS = [
    "The quick brown fox",
    " leading and trailing ",
    "two  spaces,   three,    four\n\n\tand tabs",
    "def f(x):\n        return x + 22\n",
    "l'été à la mer: 日本 🦀 ñ",
    "HELLO World 12345 I've we'll",
    "",
    "Hello[REF]x",
]
TEKKEN = json.load(open(DATA / "tekken_240911.json"))["config"]["pattern"]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"


def sentence_piece(size, **options):
    """A SentencePiece model as Mistral's are: BPE with bytes, text as it is."""
    model = io.BytesIO()
    options = {
        "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True, "num_threads": 1, "minloglevel": 2, "split_digits": True, **options,
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=size, **options
    )
    return model.getvalue()


def byte_level(split, n_merges, special, **options):
    """A byte-level tokenizer, trained after `split`."""
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + n_merges + len(special), special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def after_bos(tokenizer, bos):
    id = tokenizer.token_to_id(bos)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B:1", special_tokens=[(bos, id)]
    )
    return tokenizer


def compact(tokenizer):
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))


def tekken(n_merges, n_special, version, special=None):
    """The first tokens of a real tekken.json."""
    real = json.load(open(DATA / "tekken_240911.json"))
    file = {
        "config": {
            "pattern": TEKKEN, "num_vocab_tokens": 256 + n_merges, "default_vocab_size": 256 + n_merges - 10 + n_special,
            "default_num_special_tokens": n_special, "version": version,
        },
        "vocab": real["vocab"][: 256 + n_merges],
    }
    if special is not None:
        file["special_tokens"] = [
            {"rank": i, "token_str": text, "is_control": True} for i, text in enumerate(special)
        ]
    return json.dumps(file, ensure_ascii=False, separators=(",", ":"))


LATER = [token["token_str"] for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS] + [
    f"<SPECIAL_{i}>" for i in range(20, 32)
] + ["[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"]


def config(rows, **fields):
    return {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "vocab_size": rows, **fields}


def cases():
    """Name, layout, rows of the embedding, files, and the rule for splitting where the converter knows no such vocabulary."""
    decoder = lambda *tokens: {
        str(id): {"content": text, "special": special, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
        for id, text, special in tokens
    }
    spm = sentence_piece(400)
    tokens = decoder((0, "<unk>", True), (1, "<s>", True), (2, "</s>", True), (400, "<|im_start|>", False), (401, "▁<tool>", False))
    yield "sentence-piece", "hf", 410, {
        "tokenizer.model": spm,
        "config.json": config(410, bos_token_id=1, eos_token_id=2),
        "added_tokens.json": {"<|im_start|>": 400, "▁<tool>": 401, "<extra>": 402},
        "tokenizer_config.json": {
            "add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": tokens, "bos_token": "<s>", "eos_token": "</s>",
            "unk_token": "<unk>", "pad_token": None, "chat_template": TEMPLATE, "tokenizer_class": "LlamaTokenizer", "legacy": True,
        },
    }, None
    yield "sentence-piece-bare", "hf", 400, {"tokenizer.model": spm, "config.json": config(400)}, None
    yield "sentence-piece-cut", "hf", 390, {
        "tokenizer.model": spm,
        "config.json": config(390, bos_token_id=1, eos_token_id=2, pad_token_id=0),
        "tokenizer_config.json": {"add_prefix_space": False, "add_bos_token": False, "tokenizer_class": "LlamaTokenizer"},
        "chat_template.json": {"chat_template": TEMPLATE},
    }, None
    controls = ["[INST]", "[/INST]", "[TOOL_CALLS]", "[control_1]"]
    for version, more in [("v1", {}), ("v3", {"control_symbols": controls, "user_defined_symbols": ["[REF]"]}), ("v7m1", {"control_symbols": controls, "pad_id": 3})]:
        yield f"native-sentence-piece-{version}", "mistral", 400, {
            f"tokenizer.model.{version}": sentence_piece(400, **more),
        }, None
    yield "native-tokenizer-model", "mistral", 400, {"tokenizer.model": spm, "tokenizer.model.bak": b"x"}, None

    with tempfile.TemporaryDirectory() as folder:
        # As transformers write it, and a file of today's with pairs as merges.
        write(folder, {
            "tokenizer.model": spm, "config.json": config(400),
            "tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": True},
        })
        fast = transformers.AutoTokenizer.from_pretrained(folder)
        fast.add_tokens([AddedToken("<|im_end|>", special=True), AddedToken("<think>", special=False)])
        fast.save_pretrained(folder)
        files = {name: json.load(open(Path(folder, name))) for name in ("tokenizer.json", "tokenizer_config.json")}
    size = len(fast)
    yield "sentence-piece-json", "hf", size, {
        **files, "config.json": config(size, bos_token_id=1, eos_token_id=2),
    }, None

    byte = pre_tokenizers.ByteLevel
    whole = byte(add_prefix_space=False, use_regex=False)
    tekken_json = after_bos(
        byte_level([pre_tokenizers.Split(Regex(TEKKEN), "isolated"), whole], 60, ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>"], ignore_merges=True), "<s>"
    )
    yield "tekken-json", "hf", 330, {
        "tokenizer.json": compact(tekken_json),
        "config.json": config(330, bos_token_id=1, eos_token_id=2),
        "tokenizer_config.json": {
            "add_prefix_space": False, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 1000,
        },
        "chat_template.jinja": TEMPLATE,
        "additional_chat_templates/tool-use.jinja": TEMPLATE + "T",
    }, "tekken"
    llama = byte_level([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), whole], 60, [], ignore_merges=True)
    llama.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    llama.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    llama = after_bos(llama, "<|begin_of_text|>")
    strings = json.loads(compact(llama))
    strings["model"]["merges"] = [" ".join(pair) for pair in strings["model"]["merges"]]
    yield "llama-3", "hf", 320, {
        "tokenizer.json": json.dumps(strings, ensure_ascii=False, separators=(",", ":")),
        "config.json": {**config(320, bos_token_id=316, eos_token_id=[317, 318]), "architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        "tokenizer_config.json": {
            "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": [{"name": "default", "template": TEMPLATE}, {"name": "rag", "template": TEMPLATE + "R"}],
        },
    }, "llama-bpe"
    yield "smollm", "hf", 322, {
        "tokenizer.json": compact(byte_level(
            [pre_tokenizers.Digits(individual_digits=True), byte(add_prefix_space=False, use_regex=True)], 60, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        )),
        "config.json": {**config(322, bos_token_id=1, eos_token_id=2), "architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        "tokenizer_config.json": {
            "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>", "pad_token": "<|im_end|>",
            "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE,
        },
    }, "smollm"

    for version, special in [("v3", None), ("v7", None), ("v11", LATER), ("v13", LATER)]:
        yield f"tekken-{version}", "mistral", 256 + 30 + 40, {"tekken.json": tekken(40, 40, version, special)}, None
    yield "tekken-hf", "hf", 256 + 30 + 40, {
        "tekken.json": tekken(40, 40, "v3"), "config.json": config(326, bos_token_id=1, eos_token_id=2),
    }, None
    yield "tekken-own-template", "mistral", 326, {
        "tekken.json": tekken(40, 40, "v13", LATER), "chat_template.jinja": TEMPLATE, "params.json": {},
    }, None


def write(folder, files):
    for name, content in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))


def reference_keys(folder, layout, rows, pre):
    """What the converter's own `set_vocab` writes."""
    class Model(LlamaModel):
        model_arch = LlamaModel.model_arch

        def __init__(self):
            self.dir_model = Path(folder)
            self.is_mistral_format = layout == "mistral"
            self.disable_mistral_community_chat_template = False
            self.hparams = {} if self.is_mistral_format else json.load(open(Path(folder, "config.json")))
            self.hparams.setdefault("vocab_size", rows)
            self.origin_hf_arch = None
            self.gguf_writer = gguf.GGUFWriter(None, "llama")

        if pre:
            def get_vocab_base_pre(self, tokenizer):
                return pre

    model = Model()
    model.set_vocab()
    keys = {}
    for part in model.gguf_writer.kv_data:
        for key, value in part.items():
            if key.startswith("tokenizer."):
                keys[key] = {"type": value.type.name, "value": plain(value.value)}
                if value.type == gguf.GGUFValueType.ARRAY:
                    keys[key]["of"] = gguf.GGUFValueType.get_type(value.value[0]).name
    return keys


def plain(value):
    if isinstance(value, (bytes, bytearray)):
        return value.decode()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def ids(folder, files, layout):
    """The ids of the texts, without special tokens, by the tokenizer that the checkpoint is for."""
    name = next((name for name in files if ".model" in name and not name.endswith("bak")), None)
    if name is not None:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(Path(folder, name)))
        return [processor.encode(text) for text in TEXTS]
    if "tokenizer.json" in files:
        tokenizer = Tokenizer.from_file(str(Path(folder, "tokenizer.json")))
        return [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    tokenizer = Tekkenizer.from_file(Path(folder, "tekken.json"))
    return [tokenizer.encode(text, bos=False, eos=False) for text in TEXTS]


def stored(content):
    if isinstance(content, bytes):
        return {"base64": base64.b64encode(content).decode()}
    return {"text": content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(",", ":"))}


def main():
    written = []
    for name, layout, rows, files, pre in cases():
        with tempfile.TemporaryDirectory() as folder:
            write(folder, files)
            print(name, flush=True)
            # As the texts come with a version of the reference that has −1000 for every score.
            written.append({
                "name": name, "layout": layout, "rows": rows, "files": {name: stored(content) for name, content in files.items()},
                "keys": reference_keys(folder, layout, rows, pre), "ids": ids(folder, files, layout),
            })
    data = json.dumps({"texts": TEXTS, "cases": written}, ensure_ascii=False, separators=(",", ":")).encode()
    data = gzip.compress(data, 9, mtime=0)
    (HERE / "convert_tokenizers.json.gz").write_bytes(data)
    print(len(written), "cases,", len(data), "bytes")

    if len(sys.argv) > 2:
        real(Path(sys.argv[2]))


def real(root):
    """Real vocabularies: those of mistral-common, and two of them as tokenizer.json, which the converter knows by their ids."""
    def case(name, layout, rows, files):
        folder = root / name
        write(folder, files)
        try:
            keys = reference_keys(folder, layout, rows, None)
        except ValueError as error:
            return print(name, error)
        case = {"layout": layout, "rows": rows, "keys": keys, "texts": TEXTS, "ids": ids(folder, files, layout)}
        (folder / "expected.json").write_text(json.dumps(case))
        print(name, keys.get("tokenizer.ggml.pre", {}).get("value"), flush=True)

    for file in sorted(DATA.glob("*.model.*")):
        rows = sentencepiece.SentencePieceProcessor(model_file=str(file)).vocab_size()
        case(file.name, "mistral", rows, {file.name: file.read_bytes()})
    for file in sorted(DATA.glob("tekken*.json")):
        case(file.name, "mistral", 131072, {"tekken.json": file.read_bytes()})

    keys = json.load(open(root / "tekken_240718.json" / "expected.json"))["keys"]
    tokens, merges = (keys[f"tokenizer.ggml.{name}"]["value"] for name in ("tokens", "merges"))
    json_of = lambda tokens, merges, n_special, split, **options: (tokenizer := Tokenizer(models.BPE(
        {token: id for id, token in enumerate(tokens)}, [tuple(merge.split(" ")) for merge in merges], **options
    )), setattr(tokenizer, "pre_tokenizer", pre_tokenizers.Sequence(split)), setattr(tokenizer, "decoder", decoders.ByteLevel()),
        tokenizer.add_special_tokens(tokens[:n_special]))[0]
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    nemo = json_of(tokens, merges, 1000, [pre_tokenizers.Split(Regex(TEKKEN), "isolated"), whole], ignore_merges=True)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "PreTrainedTokenizerFast"}
    case("nemo", "hf", 131072, {
        "tokenizer.json": after_bos(nemo, "<s>").to_str(), "tokenizer_config.json": special,
        "config.json": config(131072, bos_token_id=1, eos_token_id=2),
    })
    smollm = json.load(gzip.open(HERE.parent.parent / "models/tests/golden/smollm.json.gz"))
    ranked = [smollm["tokens"][17 + rank] for rank in smollm["merge_ranks"]]
    merges = [" ".join(pair) for pair in zip(ranked[::2], ranked[1::2])]
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    case("smollm2", "hf", 49152, {
        "tokenizer.json": json_of(smollm["tokens"], merges, 17, split).to_str(),
        "tokenizer_config.json": {**special, "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"},
        "config.json": {**config(49152, bos_token_id=1, eos_token_id=2), "architectures": ["LlamaForCausalLM"], "model_type": "llama"},
    })


if __name__ == "__main__":
    main()
