#!/usr/bin/env python3
"""Times bise beside its peers: in turn, several rounds, one table of medians and ratios.

    side_by_side.py -m MODEL.gguf [--rounds 3] [--tests TEST,TEST,…] NAME='COMMAND' NAME='COMMAND' …

    side_by_side.py -m m7b.gguf --tests pp512,tg64,par8,start bise='target/release/bise bench' \\
        llama='llama.cpp/bin/llama-bench' llama-mmap='llama.cpp/bin/llama-bench --repack 0'

Tests: `ppN` reads N tokens, `tgN` writes N; `@D` behind either puts D tokens before it; `parN` lets N sequences write 16 tokens
together; `start` takes the time from start to the first token after a prompt of two. Commands speak llama-bench's flags;
`benches/candle` teaches them to candle. Where the help has no `-d` (ik_llama.cpp), `tgN@D` is `-gp D,N`, and `ppN@D` is the step at
D (a multiple of N) of the llama-sweep-bench beside it, which reads N tokens a step. For `parN` and `start` the programs beside
llama-bench are used (llama-batched-bench, llama-completion) with the flags that the command has, and `bise` in place of
`bise bench`. A command without these sits the test out; so does one that fails, unless it is the first: that ends the run.

The ratio is that of the first command's speed to each other's: above 1 the first is faster. Peak memory is the process's own
(ru_maxrss; GB = 1e9 bytes). Quote ratios and spreads of one run, with nothing else running.
"""
import argparse
import functools
import json
import math
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
            raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), " ".join(command))
        out.seek(0)
        return out.read().decode(errors="replace"), seconds, usage.ru_maxrss * 1024 / 1e9


def beside(command, name):
    """The program `name` beside llama-bench, or None."""
    program = os.path.join(os.path.dirname(command[0]), name)
    return program if shutil.which(program) else None


def flags_beside(command):
    """The command's flags as the programs beside llama-bench spell them."""
    return " ".join(command[1:]).replace("--repack 0", "--no-repack").replace("-rtr 1", "-rtr").split()


@functools.cache
def offers(flag, *command):
    """Whether the command's help names the flag."""
    text = subprocess.run([*command, "--help"], capture_output=True, text=True).stdout
    return re.search(rf"(?<![\w-]){flag}(?![\w-])", text) is not None


def sweep(command, common, n, depth):
    """Reads `n` tokens at `depth` by llama-sweep-bench, or None."""
    program = beside(command, "llama-sweep-bench")
    if not program or depth % n:
        return None
    sizes = ["-c", str(depth + n), "-b", str(n), "-ub", str(n), "-n", "1"]
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "sweep")
        flags = [*flags_beside(command), *common, *sizes, "--output-format", "jsonl", "--log-file", log]
        _, _, peak = run([program, *flags])
        with open(f"{log}.log") as lines:
            rows = [json.loads(line[line.index("{") :]) for line in lines if "speed_pp" in line]
    return next(row["speed_pp"] for row in rows if row["n_kv"] == depth), peak


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
        _, seconds, peak = run([program, *flags_beside(command), *common, *ask, "--no-warmup", "-c", "512"])
        return 1 / seconds, peak
    kind, n, depth = re.fullmatch(r"(pp|tg|par)(\d+)(?:@(\d+))?", test).groups()
    if kind == "par" and not bise:
        program = beside(command, "llama-batched-bench")
        if not program:
            return None
        sizes = ["-c", "2048", "-npp", "1", "-ntg", "16", "-npl", n]
        out, _, peak = run([program, *flags_beside(command), *common, *sizes])
        cells = [line.split("|") for line in out.splitlines() if line.startswith("|")]
        column = [cell.strip() for cell in cells[0]].index("S_TG t/s")
        return float(cells[-1][column]), peak
    n_prompt, n_gen = (n, "0") if kind == "pp" else ("0", n)
    flags = ["-p", n_prompt, "-n", n_gen, "-r", "1", "-o", "json"]
    if kind == "par":
        flags = ["-p", "0", "-n", "16", "-r", "1", "-o", "json", "--parallel", n]
    if depth and offers("-d", *command):
        flags += ["-d", depth]
    elif depth and kind == "pp":
        return sweep(command, common, int(n), int(depth))
    elif depth and offers("-gp", *command):
        flags = ["-p", "0", "-n", "0", "-gp", f"{depth},{n}", "-r", "1", "-o", "json"]
    elif depth:
        return None
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
    first = next(iter(commands))
    seen, peaks = {}, {}
    for i in range(a.rounds):
        for test in a.tests:
            for name, command in commands.items():
                try:
                    found = measure(command, a.model, a.threads, test)
                except subprocess.CalledProcessError as failed:
                    if name == first:
                        sys.exit(failed)
                    print(f"{name} sits out {test}: {failed}", file=sys.stderr)
                    continue
                if found:
                    seen.setdefault(test, {}).setdefault(name, []).append(found[0])
                    peaks[name] = max(peaks.get(name, 0), found[1])
        print(f"round {i + 1} done", file=sys.stderr)
    print(f"| test | program | median | min | max | {first} / it |\n|---|---|---:|---:|---:|---:|")
    for test, by_name in seen.items():
        for name, speeds in by_name.items():
            ratio = statistics.median(by_name.get(first, [math.nan])) / statistics.median(speeds)
            numbers = [statistics.median(speeds), min(speeds), max(speeds)]
            if test == "start":
                numbers = [1 / numbers[0], 1 / numbers[2], 1 / numbers[1]]
            cells = " | ".join(f"{x:.2f}{' s' if test == 'start' else ''}" for x in numbers)
            print(f"| {test} | {name} | {cells} | {ratio:.2f} |")
    for name, peak in peaks.items():
        print(f"| peak memory, GB | {name} | {peak:.2f} | | | |")


main()
