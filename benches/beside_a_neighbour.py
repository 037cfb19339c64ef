#!/usr/bin/env python3
"""How much two threads lose to a program that is busy on one of their cores, which leaves it at half speed.

    beside_a_neighbour.py -m MODEL.gguf [-r ROUNDS] NAME='target/release/bise bench' ...

Linux. Each round runs every command with one thread, with two, and with two beside a loop that is bound to the first core and then to the
second. Printed is the best of the rounds, and what was reached beside the neighbour as a part of one thread's rate and a half.
"""
import argparse
import json
import multiprocessing
import os
import shlex
import subprocess
import time


def busy(cpu):
    os.sched_setaffinity(0, {cpu})
    while True:
        pass


def rates(command, model, threads, neighbour=None):
    """Tokens a second of prefill and of decode."""
    loop = None
    if neighbour is not None:
        loop = multiprocessing.Process(target=busy, args=(neighbour,), daemon=True)
        loop.start()
        time.sleep(0.2)
    try:
        flags = ["-m", model, "-t", str(threads), "-p", "128", "-n", "32", "-r", "1", "-o", "json"]
        rows = json.loads(subprocess.run([*command, *flags], check=True, stdout=subprocess.PIPE).stdout)
    finally:
        if loop:
            loop.kill()
            loop.join()
    return {"prefill" if row["n_prompt"] else "decode": row["avg_ts"] for row in rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("commands", nargs="+", metavar="NAME=COMMAND")
    args = parser.parse_args()
    commands = dict(command.split("=", 1) for command in args.commands)
    cpus = sorted(os.sched_getaffinity(0))[:2]
    settings = {"1 thread": (1, None), "2 threads": (2, None), **{f"busy cpu {cpu}": (2, cpu) for cpu in cpus}}
    best = {}
    for _ in range(args.rounds):
        for setting, (threads, neighbour) in settings.items():
            for name, command in commands.items():
                for phase, rate in rates(shlex.split(command), args.model, threads, neighbour).items():
                    key = (name, phase, setting)
                    best[key] = max(rate, best.get(key, 0))
    for name in commands:
        for phase in ["prefill", "decode"]:
            one = best[name, phase, "1 thread"]
            cells = [f"{setting} {best[name, phase, setting]:.1f}" for setting in settings]
            worst = min(best[name, phase, setting] for setting in settings if "busy" in setting)
            print(f"{name} {phase}: {', '.join(cells)}; beside a neighbour {worst / (1.5 * one):.2f} of the sum")


if __name__ == "__main__":
    main()
