#!/usr/bin/env python3
"""Draws how speed changes with the context and with threads: growth.svg. Needs matplotlib.

    growth.py -m MODEL.gguf -o docs/growth.svg 'target/release/bise bench'

MODEL has a sliding window; it is measured with and without it, reading 512 tokens and writing 16 after 0 to 16,384 others, and then with
one thread more at a time at the beginning of a text.
"""
import argparse
import json
import os
import subprocess

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

DEPTHS = [0, 512, 1024, 2048, 4096, 8192, 16384]


def bench(command, *flags):
    """[(depth, tokens a second)] of reading and of writing."""
    flags = ["-p", "512", "-n", "16", "-r", "1", "-o", "json", *flags]
    rows = json.loads(subprocess.run([*command, *flags], check=True, stdout=subprocess.PIPE).stdout)
    reading = [(row["n_depth"], row["avg_ts"]) for row in rows if row["n_prompt"]]
    writing = [(row["n_depth"], row["avg_ts"]) for row in rows if row["n_gen"]]
    return reading, writing


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("-m", "--model", required=True)
    ap.add_argument("-o", "--out", required=True)
    ap.add_argument("command")
    a = ap.parse_args()
    command = [*a.command.split(), "-m", a.model]
    figure, (reading, writing, threads) = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for label, window in [("window of the file", []), ("no window", ["--sliding-window", "0"])]:
        for axis, points in zip((reading, writing), bench(command, "-d", ",".join(map(str, DEPTHS)), *window)):
            axis.plot(*zip(*points), marker="o", label=label)
            print(label, points)
    counts = list(range(1, (os.cpu_count() or 1) + 1))
    for which, label in [(0, "reading 512"), (1, "writing 16")]:
        speeds = [bench(command, "-t", str(n))[which][0][1] for n in counts]
        threads.plot(counts, [speed / speeds[0] for speed in speeds], marker="o", label=label)
        print(label, speeds)
    for axis, title in [(reading, "reading 512 tokens"), (writing, "writing 16 tokens")]:
        axis.set(title=title, xlabel="tokens before them", ylabel="tokens/s")
        axis.set_xscale("symlog", linthresh=DEPTHS[1])
        axis.set_xticks(DEPTHS)
        axis.set_xticklabels([f"{depth // 1024}k" if depth >= 1024 else depth for depth in DEPTHS])
        axis.minorticks_off()
    threads.set(title="threads", xlabel="threads", ylabel="speed over one thread's", xticks=counts)
    for axis in (reading, writing, threads):
        axis.set_ylim(bottom=0)
        axis.legend()
    figure.savefig(a.out, metadata={"Date": None})


main()
