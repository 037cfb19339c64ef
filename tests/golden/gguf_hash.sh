#!/usr/bin/env bash
# Has llama.cpp's gguf-hash hash models/tests/oracles/plain_f16.gguf: gguf_hash.txt.
#
#   tests/golden/gguf_hash.sh path/to/llama-gguf-hash
#
# Made with llama.cpp b11434 (target llama-gguf-hash of its CMake build).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "$1")
cd "$here/../../models/tests/oracles"
"$program" --all --uuid plain_f16.gguf >"$here/gguf_hash.txt"
