#!/usr/bin/env bash
# The chat page in a real browser: Debian's Chromium, driven by Playwright. Installs both.
#
#   tests/page/run.sh [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "$0")/../.."
type -P chromium >/dev/null || {
    apt-get update --quiet
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends chromium fonts-dejavu-core
}
venv=target/page/venv
[[ -e $venv/ready ]] || { python3 -m venv --clear "$venv"; "$venv/bin/pip" install -q pytest playwright; touch "$venv/ready"; }
cargo build --quiet --bin bise
BISE=${CARGO_TARGET_DIR:-target}/debug/bise "$venv/bin/python" -m pytest -q tests/page "$@"
