#!/usr/bin/env python3
"""Writes data/ (questions of our own in the formats that datasets are published in) and expected.json: what lm-evaluation-harness says about them.

    reference.py

pip install lm_eval==0.4.13 torch transformers==5.24.0 sentencepiece protobuf gguf==0.19.0 pyarrow

The model is models/tiny's, its weights dequantized, run by transformers in F32. lm_eval reads the files below data/ in place of the datasets of the
Hugging Face Hub; nothing is downloaded.

    RUN.tasks, n_shots, chat…   what was run
    RUN.results, groups, n-shot, versions, n-samples, group_subtasks   of lm_eval's results
    RUN.samples                 of each question: log-likelihoods (or the text), scores, and the FNV-1a of what was asked
"""

import json
import os
import random
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

import datasets
import gguf
import lm_eval
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import make_table
from sentencepiece import sentencepiece_model_pb2 as sp
from transformers import LlamaTokenizer, MistralConfig, MistralForCausalLM

HERE = Path(__file__).resolve().parent
TINY = HERE.parents[1] / "models/tiny/bise-tiny.Q4_K_M.gguf"
HUB, ORIGINAL = HERE / "data/hub", HERE / "data/original"

# ---- The model ---------------------------------------------------------------------------------------------------------------------------


def checkpoint(folder):
    """models/tiny as a checkpoint of transformers, in F32."""
    file = gguf.GGUFReader(TINY)
    key = lambda name: file.fields[name].contents()
    n_heads, n_kv, width = key("llama.attention.head_count"), key("llama.attention.head_count_kv"), key("llama.embedding_length")
    config = MistralConfig(
        vocab_size=key("llama.vocab_size"), hidden_size=width, intermediate_size=key("llama.feed_forward_length"),
        num_hidden_layers=key("llama.block_count"), num_attention_heads=n_heads, num_key_value_heads=n_kv,
        head_dim=key("llama.rope.dimension_count"), max_position_embeddings=key("llama.context_length"),
        rms_norm_eps=key("llama.attention.layer_norm_rms_epsilon"), sliding_window=key("llama.attention.sliding_window"),
        rope_parameters={"rope_type": "default", "rope_theta": key("llama.rope.freq_base")},
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    )
    tensors = {t.name: torch.from_numpy(np.array(gguf.dequantize(t.data, t.tensor_type), dtype=np.float32)) for t in file.tensors}
    tensors = {t.name: tensors[t.name].reshape([int(n) for n in reversed(t.shape)]) for t in file.tensors}

    def halves(weight, heads):
        """GGUF rotates neighbouring pairs of a head, Hugging Face its halves."""
        return weight.reshape(heads, weight.shape[0] // heads // 2, 2, -1).transpose(1, 2).reshape(weight.shape)

    state = {"model.embed_tokens.weight": tensors["token_embd.weight"], "model.norm.weight": tensors["output_norm.weight"]}
    state["lm_head.weight"] = tensors.get("output.weight", tensors["token_embd.weight"])
    names = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }
    for i in range(config.num_hidden_layers):
        for ours, theirs in names.items():
            weight = tensors[f"blk.{i}.{ours}.weight"]
            weight = halves(weight, n_heads) if ours == "attn_q" else halves(weight, n_kv) if ours == "attn_k" else weight
            state[f"model.layers.{i}.{theirs}.weight"] = weight
    model = MistralForCausalLM(config)
    model.load_state_dict(state)
    model.save_pretrained(folder)

    vocabulary = sp.ModelProto()
    kinds = {1: 1, 2: 2, 3: 3, 4: 4, 6: 6}
    for text, score, kind in zip(key("tokenizer.ggml.tokens"), key("tokenizer.ggml.scores"), key("tokenizer.ggml.token_type")):
        vocabulary.pieces.add(piece=text, score=score, type=kinds[kind])
    vocabulary.trainer_spec.model_type = 2
    vocabulary.trainer_spec.byte_fallback = True
    vocabulary.trainer_spec.vocab_size = len(vocabulary.pieces)
    vocabulary.trainer_spec.unk_id, vocabulary.trainer_spec.bos_id, vocabulary.trainer_spec.eos_id = 0, 1, 2
    vocabulary.normalizer_spec.add_dummy_prefix = True
    vocabulary.normalizer_spec.remove_extra_whitespaces = False
    vocabulary.normalizer_spec.name = "identity"
    Path(folder, "tokenizer.model").write_bytes(vocabulary.SerializeToString())
    settings = {
        "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True, "add_eos_token": False,
        "legacy": True, "clean_up_tokenization_spaces": False, "chat_template": key("tokenizer.chat_template"),
    }
    Path(folder, "tokenizer_config.json").write_text(json.dumps(settings))


# ---- The questions -----------------------------------------------------------------------------------------------------------------------

R = random.Random(7)
NAMES = ["Lily", "Tom", "Hugo", "Mia", "Zoë", "Ben", "Anna", "Max", "Sara", "Sam"]
ANIMALS = ["cat", "dog", "bird", "frog", "horse", "fox", "owl", "mouse", "bear", "duck"]
PLACES = ["park", "garden", "forest", "kitchen", "river", "school", "old barn", "café", "hill", "beach"]
THINGS = ["ball", "kite", "red hat", "small boat", "cake", "drum", "lamp", "book", "shiny stone", "basket"]
DEEDS = ["ran to the {p}", "found a {t}", "saw a {a}", "sat down and cried", "gave the {t} to the {a}", "said \"thank you\" and smiled", "went home to sleep", "played with the {a} all day"]


def fill(text):
    return text.format(n=R.choice(NAMES), a=R.choice(ANIMALS), p=R.choice(PLACES), t=R.choice(THINGS))


def deed():
    return fill(R.choice(DEEDS))


def hellaswag(n, split):
    rows = []
    for i in range(n):
        name = R.choice(NAMES)
        wiki = i % 3 == 2
        a = fill(f"{name} and the {{a}} went to the {{p}}.") if not wiki else fill("[header] How to find a {t} [title] Ask a  {a}. [step] Walk to the {p}.")
        b = R.choice([name, "then she", "HE", "", "the Old man"])
        ends = [f"{deed()}." for _ in range(4)]
        if wiki:
            ends = [f"{deed()}. [substeps] Then {deed()}  again." for _ in range(4)]
        if i % 5 == 4:
            ends[1] += " "
            ends[2] = "wait…  what? ß İ"
        rows.append({
            "ind": i, "activity_label": R.choice(["Playing outside", "Baking a cake", " Finding things"]), "ctx_a": a, "ctx_b": b, "ctx": f"{a} {b}",
            "endings": ends, "source_id": f"story~{split}{i}", "split": split, "split_type": "indomain", "label": str(R.randrange(4)),
        })
    return rows


def arc(n, name, split):
    rows = []
    for i in range(n):
        k = [4, 4, 3, 5][i % 4]
        labels = list("12345"[:k] if i % 3 == 1 else "ABCDE"[:k])
        question = R.choice(["What did the {a} find in the {p}?", "Where does the {a} sleep", "Who has the {t}?  ", "Which animal gave {n} the {t}?"])
        rows.append({
            "id": f"{name}_{split}_{i}", "question": fill(question),
            "choices": {"text": [fill(R.choice(["a {t}", "the {a}", "in the {p}", "{n}", "nothing at all"])) for _ in labels], "label": labels},
            "answerKey": R.choice(labels),
        })
    return rows


def winogrande(n):
    rows = []
    forms = [
        "{n} gave {o} the {t} because _ was kind to the {a}.", "The {a} did not fit in the {p} because the _ was too big.", "_ wanted the {t} of {n}.",
        "{n} liked the {a} more than the {t}, so she took the _ .", "{n} hid the {t} and {o} looked for the _",
    ]
    for i in range(n):
        options = R.sample(NAMES, 2) if i % 2 == 0 else [R.choice(ANIMALS), R.choice(THINGS)]
        sentence = fill(forms[i % len(forms)].replace("{o}", R.choice(NAMES)))
        rows.append({"sentence": sentence, "option1": options[0], "option2": options[1], "answer": str(R.randrange(1, 3))})
    return rows


def trivia(n, split):
    rows = []
    for i in range(n):
        question = fill(R.choice(["What did {n} see in the {p}", "Who found the {t}, the {a} or {n}", "What is the name of the {a}", "Where did the {a} go, and why"]))
        answers = [fill(R.choice(["A {t}", "The {a}!", "{n}", "St. {n}'s {p}", "a {a} in the {p}"])) for _ in range(3)]
        rows.append({
            "question": question, "question_id": f"{split}_{i}", "question_source": "self-written", "entity_pages": {"doc_source": [], "filename": [], "title": [], "wiki_context": []},
            "search_results": {"description": [], "filename": [], "rank": [], "title": [], "url": [], "search_context": []},
            "answer": {
                "aliases": answers, "normalized_aliases": [a.lower() for a in answers], "matched_wiki_entity_name": "", "normalized_matched_wiki_entity_name": "",
                "normalized_value": answers[0].lower(), "type": "WikipediaEntity", "value": answers[0],
            },
        })
    return rows


def mmlu(subject, n):
    rows = []
    for i in range(n):
        question = fill(R.choice(["Which one is a {a}?", "What can {n} do with a {t}? ", "In the {p}, the {a} is _______.", " What is\nin the {p}?"]))
        rows.append({
            "question": question, "subject": subject, "choices": [fill(R.choice(["a {t}", "the {a}", "{n}", "the {p}"])) for _ in range(4)], "answer": R.randrange(4),
        })
    return rows


# Subjects of MMLU with examples.
SHOWN = ("anatomy", "marketing")
TEXT, TEXTS = pa.string(), pa.list_(pa.string())
SCHEMAS = {
    "hellaswag": pa.schema([("ind", pa.int32()), ("activity_label", TEXT), ("ctx_a", TEXT), ("ctx_b", TEXT), ("ctx", TEXT), ("endings", TEXTS), ("source_id", TEXT), ("split", TEXT), ("split_type", TEXT), ("label", TEXT)]),
    "arc": pa.schema([("id", TEXT), ("question", TEXT), ("choices", pa.struct([("text", TEXTS), ("label", TEXTS)])), ("answerKey", TEXT)]),
    "winogrande": pa.schema([("sentence", TEXT), ("option1", TEXT), ("option2", TEXT), ("answer", TEXT)]),
    "mmlu": pa.schema([("question", TEXT), ("subject", TEXT), ("choices", TEXTS), ("answer", pa.int64())]),
    "trivia": pa.schema([
        ("question", TEXT), ("question_id", TEXT), ("question_source", TEXT),
        ("entity_pages", pa.struct([("doc_source", TEXTS), ("filename", TEXTS), ("title", TEXTS), ("wiki_context", TEXTS)])),
        ("search_results", pa.struct([("description", TEXTS), ("filename", TEXTS), ("rank", pa.list_(pa.int32())), ("title", TEXTS), ("url", TEXTS), ("search_context", TEXTS)])),
        ("answer", pa.struct([("aliases", TEXTS), ("normalized_aliases", TEXTS), ("matched_wiki_entity_name", TEXT), ("normalized_matched_wiki_entity_name", TEXT), ("normalized_value", TEXT), ("type", TEXT), ("value", TEXT)])),
    ]),
}


def parquet(path, kind, rows, compression="snappy", parts=1, group=100):
    size = -(-len(rows) // parts)
    for i in range(parts):
        file = path.with_name(f"{path.name}-{i:05}-of-{parts:05}.parquet")
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows[i * size : (i + 1) * size], SCHEMAS[kind]), file, compression=compression, row_group_size=group)


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def subjects():
    folder = Path(lm_eval.__file__).parent / "tasks/mmlu/default"
    return sorted(path.stem.removeprefix("mmlu_") for path in folder.glob("mmlu_*.yaml"))


def write_questions():
    """data/hub: as the Hub has them; data/original: as they were first published; data/empty: without rows."""
    shutil.rmtree(HERE / "data", ignore_errors=True)
    rows = {"train": hellaswag(14, "train"), "validation": hellaswag(11, "val")}
    # A question that is among the examples, several times.
    rows["train"][3:7] = [rows["validation"][0]] * 4
    for split, name in [("train", "train"), ("validation", "val")]:
        parquet(HUB / f"hellaswag/data/{split}", "hellaswag", rows[split], group=8)
        parquet(HERE / f"data/empty/winogrande_xl/{split}", "winogrande", [])
        lines(ORIGINAL / f"hellaswag_{name}.jsonl", [{**row, "label": int(row["label"])} for row in rows[split]])
    for name, n_parts, compression in [("ARC-Challenge", 2, "zstd"), ("ARC-Easy", 1, "snappy")]:
        for split, n in [("train", 12), ("test", 10)]:
            rows = arc(n, name, split)
            parquet(HUB / f"ai2_arc/{name}/{split}", "arc", rows, compression, n_parts)
            original = lambda row: {
                "id": row["id"], "question": {"stem": row["question"], "choices": [{"text": t, "label": l} for t, l in zip(row["choices"]["text"], row["choices"]["label"])]}, "answerKey": row["answerKey"],
            }
            lines(ORIGINAL / f"ARC-V1-Feb2018-2/{name}/{name}-{split.capitalize()}.jsonl", map(original, rows))
    for split, n, name in [("train", 15, "train_xl"), ("validation", 10, "dev")]:
        rows = winogrande(n)
        parquet(HUB / f"winogrande/winogrande_xl/{split}", "winogrande", rows, "none")
        lines(ORIGINAL / f"winogrande_1.1/{name}.jsonl", [{"qID": f"{name}-{i}", **row} for i, row in enumerate(rows)])
    parquet(HUB / "trivia_qa/rc.nocontext/train", "trivia", trivia(12, "train"))
    parquet(HUB / "trivia_qa/rc.nocontext/validation", "trivia", trivia(8, "validation"))
    for split, n in [("dev", 5), ("test", 2)]:
        rows = {subject: mmlu(subject, n + (3 if split == "test" and subject in SHOWN else 0)) for subject in subjects()}
        kept = [rows[subject] for subject in subjects() if split == "test" or subject in SHOWN]
        parquet(HUB / f"mmlu/all/{split}", "mmlu", sum(kept, []))
        for subject in SHOWN:
            parquet(ORIGINAL / f"mmlu/{subject}/{split}", "mmlu", rows[subject])


# ---- lm_eval -----------------------------------------------------------------------------------------------------------------------------


def local(path, name=None, **_):
    """datasets.load_dataset, from data/hub."""
    folder = {
        "Rowan/hellaswag": "hellaswag/data", "allenai/ai2_arc": f"ai2_arc/{name}", "allenai/winogrande": "winogrande/winogrande_xl",
        "mandarjoshi/trivia_qa": "trivia_qa/rc.nocontext", "cais/mmlu": "mmlu/all",
    }[path]
    kind = {"Rowan/hellaswag": "hellaswag", "allenai/ai2_arc": "arc", "allenai/winogrande": "winogrande", "mandarjoshi/trivia_qa": "trivia", "cais/mmlu": "mmlu"}[path]
    splits = {}
    for file in sorted((HUB / folder).glob("*.parquet")):
        splits.setdefault(file.name.split("-")[0], []).extend(pq.read_table(file).to_pylist())
    if path == "cais/mmlu":
        splits = {split: [row for row in rows if row["subject"] == name] for split, rows in splits.items()}
    return datasets.DatasetDict({split: datasets.Dataset(pa.Table.from_pylist(rows, SCHEMAS[kind])) for split, rows in splits.items()})


def fnv(text):
    """FNV-1a, 64 bits."""
    number = 0xCBF29CE484222325
    for byte in text.encode():
        number = (number ^ byte) * 0x100000001B3 % 2**64
    return f"{number:016x}"


def run(lm, tasks, n_shots=None, limit=None, **chat):
    found = lm_eval.simple_evaluate(lm, tasks=tasks, num_fewshot=n_shots, limit=limit, task_manager=TaskManager(), batch_size=1, **chat)
    kept = {key: found[key] for key in ("results", "groups", "group_subtasks", "versions", "n-shot", "n-samples") if key in found}
    samples = {}
    for task, rows in found["samples"].items():
        samples[task] = []
        for row in sorted(rows, key=lambda row: row["doc_id"]):
            asked = [a[0] + "\0" + (a[1] if isinstance(a[1], str) else "") for a in row["arguments"]]
            got = row["filtered_resps"] if task == "triviaqa" else [[round(float(l), 5), bool(g)] for l, g in row["filtered_resps"]]
            scores = {name: float(row[name]) for name in row["metrics"]}
            samples[task].append({"asked": fnv("\1".join(asked)), "got": got, **scores})
    print(make_table(found))
    return {"tasks": tasks, "n_shots": n_shots, "limit": limit, **chat, **kept, "samples": samples}


def give_right_answers(lm):
    """Some of the questions of TriviaQA get an answer that the model gives, with other case and punctuation."""
    got = run(lm, ["triviaqa"], 0)["samples"]["triviaqa"]
    file = HUB / "trivia_qa/rc.nocontext/validation-00000-of-00001.parquet"
    rows = pq.read_table(file).to_pylist()
    for i, (row, sample) in enumerate(zip(rows, got)):
        text = sample["got"][0]
        if i % 3 == 0:
            row["answer"]["aliases"][i % 2 + 1] = text.upper() + "!"
        elif i % 3 == 1:
            row["answer"]["aliases"][0] = text + "s"
    parquet(HUB / "trivia_qa/rc.nocontext/validation", "trivia", rows)


def main():
    write_questions()
    datasets.load_dataset = local
    with tempfile.TemporaryDirectory() as folder:
        checkpoint(folder)
        tokenizer = LlamaTokenizer.from_pretrained(folder)
        model = MistralForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu")
        give_right_answers(lm)
        all_tasks = ["hellaswag", "arc_challenge", "arc_easy", "winogrande", "triviaqa"]
        runs = {
            "zero_shot": run(lm, [*all_tasks, "mmlu"]),
            "few_shot": run(lm, [*all_tasks, "mmlu_anatomy", "mmlu_marketing"], 3),
            "five_shot_limit": run(lm, ["mmlu_anatomy", "triviaqa", "arc_easy"], 5, limit=0.35),
            "chat": run(lm, ["arc_easy", "winogrande", "mmlu_anatomy", "triviaqa"], 2, limit=4, apply_chat_template=True, fewshot_as_multiturn=True),
            "chat_one_turn": run(lm, ["hellaswag", "mmlu_anatomy"], 2, limit=4, apply_chat_template=True, fewshot_as_multiturn=False),
        }
    (HERE / "expected.json").write_text(json.dumps(runs, ensure_ascii=False, separators=(",", ":")) + "\n")


main()
