#!/usr/bin/env python3
"""Whether a bise gives what every other one gives.

    .ci/same.py NAME [RUNNER...] BISE

Compares the built-in model's text, greedily, and the golden fingerprints of 96 tokens' logits, from the model inside the program and from its
file, for each type of cache: all of them are those of tests/golden.rs. A machine that does not have the instructions of BISE_ISA is said
to be left out.
"""
import pathlib
import re
import subprocess
import sys
import tempfile
import time

name, *bise = sys.argv[1:]
root = pathlib.Path(__file__).parent.parent
golden = root.joinpath("tests/golden.rs").read_text()
model = "models/tiny/bise-tiny.Q4_K_M.gguf"


def run(*args):
    ran = subprocess.run([*bise, *args], capture_output=True, text=True, cwd=root)
    if "error: this machine cannot run" in ran.stderr:
        print(f"{name}: left out, this machine does not have it")
        sys.exit()
    assert ran.returncode == 0, f"{' '.join([*bise, *args])}: exit code {ran.returncode}: {ran.stderr}"
    return ran.stdout


def fnv(data):
    hash = 0xCBF2_9CE4_8422_2325
    for byte in data:
        hash = (hash ^ byte) * 0x100_0000_01B3 & 0xFFFF_FFFF_FFFF_FFFF
    return hash


start = time.monotonic()
prompt = re.search(r'const STORY: &str = "(.*)";', golden)[1]
story = re.sub(r"\\\n\s*", "", re.search(r'assert_eq!\(\s*text,\s*"([^"]*)"', golden)[1])
story_args = ["-p", prompt, "-n", "32", "--temp", "0", "--no-display-prompt", "-no-cnv"]
text = run(*story_args).rstrip("\n")
assert text == story, f"{name}: wrote {text!r}, expected {story!r}"
# What is free is known on every system, in what is left of the addresses where those have 32 bits.
assert run(*story_args, "--max-memory", "auto").rstrip("\n") == story, f"{name}: --max-memory auto changes the text"

# The tokens of tests/golden.rs.
tokens, state = [1], 1
for _ in range(95):
    state = (state * 1_664_525 + 1_013_904_223) % 2**32
    tokens.append(260 + (state >> 8) % (4096 - 260))
expected = {
    cache.lower(): int(bits.replace("_", ""), 16)
    for cache, bits in re.findall(r"\(CacheType::(\w+), 0x([0-9a-f_]+)\)", golden)
}
assert len(expected) == 3, expected
found = []
with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder, "logits.npy")
    for cache, bits in expected.items():
        source = ["-m", model] if cache == "f16" else []
        tokens_list = ",".join(map(str, tokens))
        run("logits", *source, "--tokens", tokens_list, "-ctk", cache, "-ctv", cache, "-o", str(out))
        npy = out.read_bytes()
        assert npy[:8] == b"\x93NUMPY\x01\x00" and b"'<f4'" in npy[:128], npy[:128]
        logits = npy[10 + int.from_bytes(npy[8:10], "little") :]
        assert len(logits) == 4 * 96 * 4096, len(logits)
        hash = fnv(logits)
        assert hash == bits, f"{name}: with a cache of {cache}, the logits' fingerprint is {hash:#x}, expected {bits:#x}"
        found.append(f"{cache} {hash:016x}")
print(f"{name}: the same text, and logits {', '.join(found)} ({time.monotonic() - start:.1f} s)")
