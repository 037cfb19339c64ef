#!/usr/bin/env python3
"""Has llama-perplexity write a base and compare a model with it: kl_divergence.base and kl_divergence.txt.

    tests/golden/kl_divergence.py path/to/llama-perplexity

The models are models/tests/oracles/plain_f32.gguf (the base) and rope_linear.gguf, the text the beginning of imatrix.txt. Needs no packages;
made with llama.cpp b11434.
"""

import subprocess
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
oracles = here.parent.parent / "models/tests/oracles"
base = here / "kl_divergence.base"
# One chunk a batch, on one thread: sums are then added in the order of the text.
common = [sys.argv[1], "-c", "24", "-b", "24", "-t", "1", "--kl-divergence-base", str(base)]
text = ["-f", str(here / "imatrix.txt"), "--chunks", "10"]
subprocess.run([*common, "-m", str(oracles / "plain_f32.gguf"), *text], check=True, capture_output=True)
command = [*common, "-m", str(oracles / "rope_linear.gguf"), "--kl-divergence"]
out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
(here / "kl_divergence.txt").write_text(out[out.index("chunk  ") :].strip() + "\n")
