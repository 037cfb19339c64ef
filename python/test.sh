#!/usr/bin/env bash
# Builds the package, installs its wheel and runs its tests in a virtual environment of its own, all under target/.
#
#   python/test.sh [--manylinux] [PYTEST'S ARGS...]
#
# --manylinux: the wheel is for any Linux with glibc 2.17 or later, built with zig's C library and examined by auditwheel.
set -euo pipefail
cd "$(dirname "$0")"
manylinux=
[[ ${1:-} != --manylinux ]] || { manylinux=1; shift; }
target=$(cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
python=${PYTHON:-python3}
command -v "$python" >/dev/null || { apt-get update -q && apt-get install -y -q python3; }

venv=$target/python/venv wheels=$target/python/wheels
rm -rf "$venv" "$wheels"
# Debian's python3 has a venv module that fails without the package python3-venv.
"$python" -m venv "$venv" || { apt-get update -q && apt-get install -y -q python3-venv && "$python" -m venv "$venv"; }
"$venv/bin/pip" install -q --disable-pip-version-check 'maturin>=1.9.4,<2' ${manylinux:+ziglang auditwheel}
# The profile of the tests: optimized where it counts, without the link-time optimization that a release waits for.
build=("$venv/bin/maturin" build --quiet --profile dev --strip -o "$wheels")
if [[ $manylinux ]]; then
    PATH="$venv/bin:$PATH" "${build[@]}" --zig --compatibility manylinux2014
    "$venv/bin/auditwheel" show "$wheels"/*.whl | tee "$target/python/auditwheel.txt"
    grep -q manylinux_2_17 "$target/python/auditwheel.txt"
else
    PATH="$venv/bin:$PATH" "${build[@]}" --compatibility linux
fi
"$venv/bin/pip" install -q --disable-pip-version-check "$(echo "$wheels"/*.whl)[test]"
# `pytest`, not `python -m pytest`: that would import the sources here, which have no compiled part.
"$venv/bin/pytest" -q "$@"
