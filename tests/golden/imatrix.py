#!/usr/bin/env python3
"""What llama-imatrix sums over imatrix.txt, as it writes it: imatrix.gguf with the built-in model in halves, for two layers and the output, and
imatrix_experts.gguf with models/tests/oracles/mixtral_stacked.gguf, without .stats.

    pip install numpy gguf==0.19.0
    tests/golden/imatrix.py LLAMA_QUANTIZE LLAMA_IMATRIX    (of llama.cpp b11434)
"""
import pathlib
import subprocess
import sys
import tempfile

import gguf

HERE = pathlib.Path(__file__).parent
MODEL = HERE / "../../models/tiny/bise-tiny.Q4_K_M.gguf"
EXPERTS = HERE / "../../models/tests/oracles/mixtral_stacked.gguf"
KEPT = ("blk.0.", "blk.5.", "output.", "token_embd.")


def sums(imatrix, model, out, flags, is_kept):
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        command = [imatrix, "-m", model, "-f", "imatrix.txt", "-o", file.name, "-c", "64", "-b", "64", "--process-output", "--no-ppl", "-t", "1"]
        subprocess.run([*command, *flags], check=True, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        theirs = gguf.GGUFReader(file.name)
        writer = gguf.GGUFWriter(HERE / out, "")
        writer.add_string("general.type", "imatrix")
        writer.add_array("imatrix.datasets", theirs.get_field("imatrix.datasets").contents())
        for key in "imatrix.chunk_count", "imatrix.chunk_size":
            writer.add_uint32(key, theirs.get_field(key).contents())
        writer.add_array("imatrix.stats_schema", theirs.get_field("imatrix.stats_schema").contents())
        for tensor in theirs.tensors:
            if is_kept(tensor.name):
                writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def main(quantize, imatrix):
    with tempfile.TemporaryDirectory() as folder:
        model = f"{folder}/f16.gguf"
        subprocess.run([quantize, "--allow-requantize", MODEL, model, "F16"], check=True, capture_output=True)
        sums(imatrix, model, "imatrix.gguf", [], lambda name: name.startswith(KEPT))
    sums(imatrix, EXPERTS, "imatrix_experts.gguf", ["--chunks", "5"], lambda name: not name.endswith(".stats"))


if __name__ == "__main__":
    main(*sys.argv[1:])
