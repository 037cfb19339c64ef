#!/bin/sh
# Fuzz the GGUF reader for SECONDS (60 if not given), starting from the test fixtures.
# What it finds goes to models/fuzz/artifacts, and the exit code is not 0 then.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}

command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz

mkdir -p corpus/gguf_reader
# Sanitizers are an unstable flag of rustc; RUSTC_BOOTSTRAP lets the stable compiler take it.
export RUSTC_BOOTSTRAP=1
exec cargo fuzz run --fuzz-dir . gguf_reader corpus/gguf_reader ../tests/fixtures/gguf -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=256 -max_len=16384
