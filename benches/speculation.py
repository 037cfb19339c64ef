#!/usr/bin/env python3
"""Times bise with and without speculation: in turn, several rounds, one table of medians and ratios.

    speculation.py -m MODEL.gguf [--rounds 3] [-n 256] [--bise target/release/bise] [PROMPT.txt …] [-- FLAG …]

    speculation.py -m smollm2.gguf                           the prompts of benches/prompts: three that quote, one story
    speculation.py -m smollm2.gguf story.txt -- --temp 0.8 -s 1

Prompts are read as they stand, control tokens included; the files of benches/prompts are in ChatML, as SmolLM2 was taught. Texts are
greedy unless the flags behind `--` say otherwise, and the same both ways, which is checked. The speed is that of writing alone
(`eval time`). Quote ratios and spreads of one run, with nothing else running.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPTS = [os.path.join(HERE, "prompts", f"{name}.txt") for name in ("rename", "typo", "answer", "story")]


def write(a, prompt, kind):
    """The text, tokens a second, and (drafted, accepted, passes saved, passes in all)."""
    command = [a.bise, "-m", a.model, "-t", a.threads, "-no-cnv", "-f", prompt, "-n", a.tokens, "--no-display-prompt"]
    command += ["--temp", "0", *a.flags, "--spec-type", kind]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    report = ran.stderr.decode(errors="replace")
    if ran.returncode:
        sys.exit(f"failed ({ran.returncode}): {' '.join(command)}\n{report}")
    speed = re.search(r"^ +eval time .* ([\d.]+) tokens per second", report, re.M).group(1)
    drafts = re.search(r"drafted (\d+), accepted (\d+) .* (\d+) of (\d+) passes saved", report)
    return ran.stdout, float(speed), tuple(map(int, drafts.groups())) if drafts else (0, 0, 0, 0)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("-m", "--model", required=True)
    ap.add_argument("-t", "--threads", default=str(os.cpu_count()))
    ap.add_argument("-n", "--tokens", default="256")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--bise", default="target/release/bise")
    ap.add_argument("prompts", nargs="*", metavar="PROMPT.txt", default=PROMPTS)
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    a = ap.parse_args(sys.argv[1:at])
    a.flags = sys.argv[at + 1 :]
    seen = {}
    for i in range(a.rounds):
        for prompt in a.prompts:
            plain, plain_speed, _ = write(a, prompt, "none")
            text, speed, drafts = write(a, prompt, "ngram")
            if text != plain:
                sys.exit(f"{prompt}: the text is not the same with and without speculation")
            seen.setdefault(prompt, []).append((plain_speed, speed, drafts))
        print(f"round {i + 1} done", file=sys.stderr)
    print("| prompt | plain, t/s | speculating, t/s | ratio | min | max | drafted | accepted | passes saved |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for prompt, rounds in seen.items():
        plain, speeds, drafts = zip(*rounds)
        ratios = [b / a for a, b in zip(plain, speeds)]
        drafted, accepted, saved, passes = map(statistics.median_low, zip(*drafts))
        numbers = [statistics.median(plain), statistics.median(speeds)]
        cells = [f"{x:.2f}" for x in (*numbers, statistics.median(ratios), min(ratios), max(ratios))]
        right = f"{100 * accepted / drafted:.0f} %" if drafted else "-"
        cells += [str(drafted), right, f"{saved} of {passes}"]
        print(f"| {os.path.splitext(os.path.basename(prompt))[0]} | {' | '.join(cells)} |")


main()
