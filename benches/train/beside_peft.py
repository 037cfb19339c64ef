#!/usr/bin/env python3
"""How fast PEFT trains on this CPU, and in how much memory: steps over one row of random tokens, with the weights of a GGUF file dequantized to F32.

    pip install torch transformers peft gguf numpy accelerate sentencepiece protobuf
    benches/train/beside_peft.py model.gguf [--tokens 512] [--steps 3] [--threads 2]

Beside it: `bise train -m model.gguf --data rows.jsonl --dropout 0 --batch-size 1 --iters 3 --report-every 1 -o out`, where --rows writes rows.jsonl
of that many tokens and more (--max-seq-length cuts them).
"""

import argparse
import os
import resource
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "train"))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("model")
    arguments.add_argument("--tokens", type=int, default=512)
    arguments.add_argument("--steps", type=int, default=3)
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    arguments.add_argument("--rows", help="write rows for bise train to this file, and end")
    args = arguments.parse_args()
    if args.rows:
        with open(args.rows, "w", encoding="utf-8") as out:
            for i in range(8):
                words = " ".join(f"{(i * 7919 + j * 104729) % 100003}" for j in range(args.tokens))
                out.write(f'{{"text": "{words}"}}\n')
        return
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch
    from make_curve import load
    from peft import LoraConfig, get_peft_model

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = load(args.model)
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ids = torch.randint(3, model.config.vocab_size, (1, args.tokens))
    for step in range(args.steps):
        start = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        took = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"step {step + 1}: loss {loss.item():.4f}, {args.tokens / took:.1f} tokens/s, {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
