#!/usr/bin/env python3
"""Trains as README.md says, and counts right answers: at least 90% of the questions about the facts that training has not seen, and of heldout_qa.jsonl
at least 95% of what the model answers right without the adapter. It takes some minutes.

    examples/facts/check.py target/release/bise [ADAPTER.gguf]
"""

import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def rows(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def n_right(bise, questions, flags):
    def is_right(row):
        command = [bise, *flags, "-p", row["prompt"], "-st", "--temp", "0", "-t", "1", "-n", "64", "--log-disable"]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
        lines = [line for line in ran.stdout.splitlines() if line.strip()]
        return lines[-1].strip() == row["completion"]

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(is_right, questions))


def main(bise, adapter=None):
    subprocess.run([sys.executable, os.path.join(HERE, "make_facts.py")], check=True)
    facts, held_out = rows("data/test.jsonl"), rows("heldout_qa.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        if adapter is None:
            with open(os.path.join(HERE, "README.md"), encoding="utf-8") as text:
                flags = next(line for line in text if line.startswith("bise train ")).split()[1:]
            flags = [os.path.join(HERE, "data") if word == "data" else word for word in flags]
            subprocess.run([bise, *flags], cwd=folder, check=True)
            adapter = os.path.join(folder, "facts", "adapter.gguf")
        use = ["--lora", adapter]
        learned, kept, before = n_right(bise, facts, use), n_right(bise, held_out, use), n_right(bise, held_out, [])
    print(f"facts: {learned} of {len(facts)} questions right; held out: {kept} of {len(held_out)}, without the adapter {before}")
    assert learned >= 0.9 * len(facts) and kept >= 0.95 * before


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]), *map(os.path.abspath, sys.argv[2:]))
