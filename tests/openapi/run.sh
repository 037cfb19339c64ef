#!/usr/bin/env bash
# schemathesis reads /openapi.json of `bise serve` with the small model, and tries what it describes: valid and invalid requests of its own
# making, by fixed seeds. Anything but the statuses, types and schemas that are described is a failure, and so is any status from 500 on.
#
#   tests/openapi/run.sh [N]     N requests of each operation besides those at the bounds of its types (default 60)
#
# BISE names the program (default: target/debug/bise); schemathesis is kept in ${XDG_CACHE_HOME:-~/.cache}/bise-schemathesis.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
bise=${BISE:-$root/target/debug/bise}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/bise-schemathesis
n=${1:-60}

[[ -e $cache/bin/python ]] || python3 -m venv "$cache"
"$cache/bin/pip" install --quiet --disable-pip-version-check schemathesis==4.32.5

source "$root/tests/start_server.sh"
mkdir "$work/adapters"
small=(--alias bise-tiny --ctx-size 512 --predict 8 --lora-dir "$work/adapters")

try() {
    (cd "$work" && "$cache/bin/st" run "$url/openapi.json" --phases examples,coverage,fuzzing --continue-on-failure --request-timeout 60 \
        --no-color "$@")
}

echo "== every operation"
# Whether a valid request is accepted is tried below, where a schema can say all that matters: not what is a grammar, which tokens the
# vocabulary has, how many answers all prompts have together, or which adapters are loaded.
start "${small[@]}" --props --parallel 4
try --max-examples "$n" --seed 1 --exclude-checks positive_data_acceptance

echo "== what a schema says all about"
try --max-examples "$n" --seed 2 --checks all \
    --include-path-regex '^/(health|v1/health|openapi.json|slots|metrics|props|v1/models|models|api/(version|tags|ps))$'

echo "== with a key"
start "${small[@]}" --api-key secret --parallel 4
try --max-examples 5 --seed 3 --header 'Authorization: Bearer secret' --exclude-checks positive_data_acceptance

# Whatever it was asked, it is there.
curl --silent --fail "$url/health" >"$work/health"
