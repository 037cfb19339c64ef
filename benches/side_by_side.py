#!/usr/bin/env python3
"""Times bise beside its peers: in turn, several rounds, one table of medians and ratios.

    side_by_side.py -m MODEL.gguf [--rounds 3] [--tests TEST,TEST,…] NAME='COMMAND' NAME='COMMAND' …

    side_by_side.py -m m7b.gguf --tests pp512,tg64,par8,start bise='target/release/bise bench' \\
        llama='llama.cpp/bin/llama-bench' llama-mmap='llama.cpp/bin/llama-bench --repack 0'

Tests: `ppN` reads N tokens, `tgN` writes N; `@D` behind either puts D tokens before it; `parN` lets N sequences write 16 tokens
together; `start` takes the time from start to the first token after a prompt of two. Commands speak llama-bench's flags. For `parN`
and `start` the programs beside llama-bench are used (llama-batched-bench, llama-completion) with the flags that the command has,
and `bise` in place of `bise bench`; a command without them sits those tests out.

The ratio is that of the first command's speed to each other's: above 1 the first is faster. Peak memory is the process's own
(ru_maxrss; GB = 1e9 bytes). Quote ratios and spreads of one run, with nothing else running.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time


def run(command):
    """Output, seconds, and peak memory in GB."""
    with tempfile.TemporaryFile() as out:
        start = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        if status:
            sys.exit(f"failed ({status}): {' '.join(command)}")
        out.seek(0)
        return out.read().decode(errors="replace"), seconds, usage.ru_maxrss * 1024 / 1e9


def beside(command, name):
    """The program `name` beside llama-bench, or None."""
    program = os.path.join(os.path.dirname(command[0]), name)
    return program if shutil.which(program) else None


def measure(command, model, threads, test):
    """Tokens a second (starts a second for `start`) and peak memory, or None where the command cannot be tested so."""
    bise = command[-1] == "bench" or "bench" in command[1:2]
    common = ["-m", model, "-t", threads]
    if test == "start":
        ask = ["-p", "Hi", "-n", "1", "--temp", "0", "-no-cnv"]
        if bise:
            _, seconds, peak = run([command[0], *command[2:], *common, *ask])
            return 1 / seconds, peak
        program = beside(command, "llama-completion")
        if not program:
            return None
        flags = ["--no-repack" if flag == "--repack" else flag for flag in command[1:] if flag != "0"]
        _, seconds, peak = run([program, *flags, *common, *ask, "--no-warmup", "-c", "512"])
        return 1 / seconds, peak
    kind, n, depth = re.fullmatch(r"(pp|tg|par)(\d+)(?:@(\d+))?", test).groups()
    if kind == "par" and not bise:
        program = beside(command, "llama-batched-bench")
        if not program:
            return None
        flags = ["--no-repack" if flag == "--repack" else flag for flag in command[1:] if flag != "0"]
        out, _, peak = run([program, *flags, *common, "-c", "2048", "-npp", "1", "-ntg", "16", "-npl", n])
        cells = [line.split("|") for line in out.splitlines() if line.startswith("|")]
        column = [cell.strip() for cell in cells[0]].index("S_TG t/s")
        return float(cells[-1][column]), peak
    n_prompt, n_gen = (n, "0") if kind == "pp" else ("0", n)
    flags = ["-p", n_prompt, "-n", n_gen, "-r", "1", "-o", "json"]
    if kind == "par":
        flags = ["-p", "0", "-n", "16", "-r", "1", "-o", "json", "--parallel", n]
    if depth:
        flags += ["-d", depth]
    out, _, peak = run([*command, *common, *flags])
    return json.loads(out)[0]["avg_ts"], peak


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("-m", "--model", required=True)
    ap.add_argument("-t", "--threads", default=str(os.cpu_count()))
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--tests", default="pp512,tg64", type=lambda text: text.split(","))
    ap.add_argument("command", nargs="+", metavar="NAME='COMMAND'")
    a = ap.parse_args()
    commands = {}
    for command in a.command:
        name, _, words = command.partition("=")
        commands[name] = [os.path.expanduser(word) for word in words.split()]
    seen, peaks = {}, {}
    for i in range(a.rounds):
        for test in a.tests:
            for name, command in commands.items():
                found = measure(command, a.model, a.threads, test)
                if found:
                    seen.setdefault(test, {}).setdefault(name, []).append(found[0])
                    peaks[name] = max(peaks.get(name, 0), found[1])
        print(f"round {i + 1} done", file=sys.stderr)
    first = next(iter(commands))
    print(f"| test | program | median | min | max | {first} / it |\n|---|---|---:|---:|---:|---:|")
    for test, by_name in seen.items():
        for name, speeds in by_name.items():
            ratio = statistics.median(by_name[first]) / statistics.median(speeds)
            numbers = [statistics.median(speeds), min(speeds), max(speeds)]
            if test == "start":
                numbers = [1 / numbers[0], 1 / numbers[2], 1 / numbers[1]]
            cells = " | ".join(f"{x:.2f}{' s' if test == 'start' else ''}" for x in numbers)
            print(f"| {test} | {name} | {cells} | {ratio:.2f} |")
    for name, peak in peaks.items():
        print(f"| peak memory, GB | {name} | {peak:.2f} | | | |")


main()
