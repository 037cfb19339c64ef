#!/usr/bin/env python3
"""Writes tasks/ (questions of our own in llama-perplexity's formats) and llama_perplexity.txt: what llama-perplexity b11434 prints about them.

    bise quantize --allow-requantize models/tiny/bise-tiny.Q4_K_M.gguf f32.gguf F32
    LLAMA_PERPLEXITY=…/llama-perplexity llama_perplexity.py f32.gguf

Without flash attention, which rounds to halves.
"""

import os
import random
import re
import struct
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TASKS = HERE / "tasks"
R = random.Random(11)
NAMES = ["Lily", "Tom", "Hugo", "Mia", "Zoë", "Ben"]
ANIMALS = ["cat", "dog", "bird", "frog", "horse", "fox"]
PLACES = ["park", "garden", "forest", "kitchen", "river", "old barn"]
THINGS = ["ball", "kite", "red hat", "small boat", "cake", "drum"]
DEEDS = ["ran to the {p}.", "found a {t}.", "saw a {a} and laughed.", "sat down and cried.", "gave the {t} to the {a}.", "went home to sleep in the {p}."]


def fill(text):
    return text.format(n=R.choice(NAMES), a=R.choice(ANIMALS), p=R.choice(PLACES), t=R.choice(THINGS))


def hellaswag(n):
    text = ""
    for _ in range(n):
        ends = R.sample(DEEDS, 4)
        text += fill("Playing: {n} and the {a} went to the {p}. Then {n}") + f"\n{R.randrange(4)}\n" + "".join(fill(end) + "\n" for end in ends)
    return text


def winogrande(n):
    forms = [
        "{n} gave {o} the {t} because _ was kind to the {a}.", "\"The {a} did not fit in the {p}, because the _ was too big.\"", "_ wanted the {t} of {n}.",
        "{n} liked the {a} more than the {t} so she took the _ .", "{n} hid the {t} and then {o} looked for the _", "In the {p} there was a _ .",
    ]
    text = ""
    for i in range(n):
        options = R.sample(NAMES, 2) if i % 3 == 0 else [R.choice(ANIMALS), R.choice(["small green boat", "ball", "red hat in the river"])]
        text += f"{i},{fill(forms[i % len(forms)].replace('{o}', R.choice(NAMES)))},{options[0]},{options[1]},{R.randrange(1, 3)}\n"
    return text


def multiple_choice(n):
    def answers(texts, right):
        packed = struct.pack("<I", len(texts))
        for text in texts:
            packed += struct.pack("<I", len(text.encode())) + text.encode()
        return packed + struct.pack(f"<{len(texts)}i", *[int(i == right) for i in range(len(texts))])

    tasks = []
    for i in range(n):
        question = fill(R.choice(["Question: Who has the {t}?\nAnswer:", "What did {n} see in the {p}?", "The {a} lives in the"]))
        texts = R.sample([f"the {a}" for a in ANIMALS] + [f"a {t}" for t in THINGS] + NAMES, [4, 3, 5, 2][i % 4])
        question = question.encode()
        tasks.append(struct.pack("<I", len(question)) + question + answers(texts, R.randrange(len(texts))) + answers([], 0))
    at, positions = 4 + 4 * n, []
    for task in tasks:
        positions.append(at)
        at += len(task)
    return struct.pack(f"<{n + 1}I", n, *positions) + b"".join(tasks)


# Flags, and the lines that are printed.
RUNS = [
    (["--hellaswag", "-f", "hellaswag.txt"], 15),
    (["--hellaswag", "-f", "hellaswag.txt", "--hellaswag-tasks", "5"], 6),
    (["--winogrande", "-f", "winogrande.csv"], 17),
    (["--winogrande", "-bf", "winogrande.csv"], 18),
    (["--winogrande", "-f", "winogrande.csv", "--winogrande-tasks", "6"], 6),
    (["--multiple-choice", "-bf", "multiple_choice.bin", "-np", "8"], 16),
    (["--multiple-choice", "-bf", "multiple_choice.bin", "-np", "8", "--multiple-choice-tasks", "7"], 10),
]


def printed(run, n_lines):
    """What a run prints. The program may end before its last lines are written: it runs until all are there."""
    command = [os.environ["LLAMA_PERPLEXITY"], "-m", os.path.abspath(sys.argv[1]), "-ctk", "f32", "-ctv", "f32", "-fa", "off", "-t", "2", *run]
    for _ in range(40):
        ran = subprocess.run(command, cwd=TASKS, capture_output=True, text=True, check=True)
        lines = [line for line in ran.stdout.splitlines() if line.strip(" .") not in ("", "done")]
        for line in ran.stderr.splitlines():
            lines += re.findall(r"(?:Final|Random chance).*", line)
        if len(lines) == n_lines:
            return lines
    raise SystemExit(f"{run}: found {len(lines)} lines, expected {n_lines}: {lines}")


def main():
    TASKS.mkdir(exist_ok=True)
    (TASKS / "hellaswag.txt").write_text(hellaswag(14))
    (TASKS / "winogrande.csv").write_text(winogrande(18))
    (TASKS / "multiple_choice.bin").write_bytes(multiple_choice(13))
    out = ""
    for run, n_lines in RUNS:
        out += "$ " + " ".join(run) + "\n" + "".join(line + "\n" for line in printed(run, n_lines))
    (HERE / "llama_perplexity.txt").write_text(out)


main()
