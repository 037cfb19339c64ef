#!/usr/bin/env python3
"""Adapters that `bise` has written, in PEFT and in llama.cpp; prints how far logits are from those of the adapter that PEFT wrote.

    LLAMA_CPP=…/llama.cpp interop.py BISE [LLAMA_SERVER]

BISE and LLAMA_SERVER are programs; the packages are those of make_adapters.py. For each fixture here:

- `bise lora convert` makes a GGUF file of the folder, and a folder of that file; PEFT loads the new folder, and its logits are compared;
- llama-server loads the GGUF file with `--lora`, and the log-probabilities behind the last token are compared.

Ends with an error where a logit differs by more than 1e-3.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

bise, *server = sys.argv[1:]
sys.argv[1:] = ["nothing"]
with contextlib.redirect_stdout(io.StringIO()):
    sys.path.insert(0, str(Path(__file__).parent))
    import make_adapters as make

import numpy as np
from peft import PeftModel

PORT = 18473


def ask(path, body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", json.dumps(body).encode() if body else None, {"Content-Type": "application/json"})
    return json.loads(urllib.request.urlopen(request, timeout=60).read())


def llama_log_probs(model, adapter, ids):
    """How many of `ids` were read, and the logarithms of the probabilities of all tokens behind them, as llama-server gives them."""
    command = [server[0], "-m", model, "--port", str(PORT), "-c", "128", "-t", "1", "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--no-warmup"]
    if adapter:
        command += ["--lora", adapter]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            for _ in range(300):
                if process.poll() is not None:
                    raise SystemExit(f"llama-server ended: {process.stderr.read()[-600:]}")
                try:
                    ask("/health")
                    break
                except OSError:
                    time.sleep(0.1)
            # It gives none where the token that it draws ends the text.
            for n in range(len(ids), 0, -1):
                body = {"prompt": ids[:n], "n_predict": 1, "n_probs": 272, "temperature": 1.0, "samplers": ["temperature"], "cache_prompt": False}
                answer = ask("/completion", body)
                if "completion_probabilities" in answer:
                    break
        finally:
            process.kill()
    log_probs = np.full(272, np.nan)
    for entry in answer["completion_probabilities"][0]["top_logprobs"]:
        log_probs[entry["id"]] = entry["logprob"]
    return n, log_probs


ids = [(7 * i * i + 3 * i + 1) % 272 for i in range(make.N_IDS)]
worst = 0.0
for path in sorted(make.HERE.glob("*.json")):
    fixture = json.loads(path.read_text())
    if "refused" in fixture:
        continue
    base = str(make.ORACLES / f"{fixture['base']}.gguf")
    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: os.path.join(folder, name)
        os.mkdir(at("peft"))
        model = make.base_model(fixture["base"])
        plain = make.logits(model)
        make.folder_of(at("peft"), fixture, model)
        for source, target in (("peft", "a.gguf"), ("a.gguf", "again")):
            subprocess.run([bise, "lora", "convert", at(source), "-m", base, "-o", at(target), "--log-disable"], check=True)
        expected = make.logits(PeftModel.from_pretrained(model, at("peft")).eval())
        again = make.logits(PeftModel.from_pretrained(make.base_model(fixture["base"]), at("again")).eval())
        error = np.abs(again - expected).max()
        worst = max(worst, error)
        line = f"{path.stem:22} adapter changes logits by {np.abs(expected - plain).max():7.3f}; written by bise, in PEFT: {error:.1e}"
        # llama.cpp has no window in models of this architecture, and does not look at the output's adapter where the embedding is tied to it.
        if server and "embed" not in path.stem and "window" not in fixture["base"]:
            log_softmax = lambda x: x - np.log(np.exp(x - x.max()).sum()) - x.max()
            n, found = llama_log_probs(base, at("a.gguf"), ids)
            error = np.nanmax(np.abs(found - log_softmax(expected[n - 1].astype(np.float64))))
            worst = max(worst, error)
            line += f", in llama.cpp: {error:.1e} ({np.isfinite(found).sum()} tokens)"
        print(line, flush=True)
assert worst < 1e-3, worst
