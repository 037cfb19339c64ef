#!/usr/bin/env python3
"""What llama-imatrix sums over imatrix.txt with the built-in model in halves: imatrix.gguf, as it writes it, for two layers and the output.

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
KEPT = ("blk.0.", "blk.5.", "output.", "token_embd.")


def main(quantize, imatrix):
    with tempfile.TemporaryDirectory() as folder:
        model, out = f"{folder}/f16.gguf", f"{folder}/imatrix.gguf"
        subprocess.run([quantize, "--allow-requantize", MODEL, model, "F16"], check=True, capture_output=True)
        command = [imatrix, "-m", model, "-f", "imatrix.txt", "-o", out, "-c", "64", "-b", "64", "--process-output", "--no-ppl", "-t", "1"]
        subprocess.run(command, check=True, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        theirs = gguf.GGUFReader(out)
        writer = gguf.GGUFWriter(HERE / "imatrix.gguf", "")
        writer.add_string("general.type", "imatrix")
        writer.add_array("imatrix.datasets", theirs.get_field("imatrix.datasets").contents())
        for key in "imatrix.chunk_count", "imatrix.chunk_size":
            writer.add_uint32(key, theirs.get_field(key).contents())
        writer.add_array("imatrix.stats_schema", theirs.get_field("imatrix.stats_schema").contents())
        for tensor in theirs.tensors:
            if tensor.name.startswith(KEPT):
                writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
