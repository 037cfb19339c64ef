#!/usr/bin/env bash
# Real clients, from their registries, against `bise serve` with the small model.
#
#   tests/clients/run.sh [--all]
#
# Without --all: the Python packages of OpenAI, Ollama and Anthropic. With it, also LangChain's integrations, examples/rag and the npm packages
# of the three. BISE names the program (default: target/debug/bise); packages are kept in ${XDG_CACHE_HOME:-~/.cache}/bise-clients.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
bise=${BISE:-$root/target/debug/bise}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/bise-clients
all=${1:-}
[[ -z $all || $all == --all ]] || { echo "run.sh: found $all, expected --all or nothing" >&2; exit 2; }

packages=(openai==3.57.0 ollama==0.6.3 anthropic==2.14.0)
[[ -z $all ]] || packages+=(-r "$root/examples/rag/requirements.txt")
[[ -e $cache/venv/bin/python ]] || python3 -m venv "$cache/venv"
"$cache/venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"

source "$root/tests/start_server.sh"
python() { "$cache/venv/bin/python" "$@"; }

start --ctx-size 2048 --parallel 2 --kv-unified --sliding-window 0
python "$here/ollama_python.py" "$url"
python "$here/anthropic_python.py" "$url"
tiny=$url
start --ctx-size 2048 --parallel 2 --kv-unified --sliding-window 0 --chat-template mistral-v3
python "$here/ollama_tools.py" "$url"
python "$here/anthropic_python.py" "$url" tools
tools=$url
start --ctx-size 2048 --parallel 1 --max-queue 0 --sliding-window 0 --api-key secret
python "$here/openai_python.py" "$tiny" "$tools" "$url"

if [[ -n $all ]]; then
    python "$here/langchain_ollama_python.py" "$tiny"
    python "$here/langchain_openai_python.py" "$tiny" "$tools"
    python "$here/rag_python.py" "$tiny"
    mkdir -p "$cache/npm"
    (cd "$cache/npm" && npm install --silent --no-audit --no-fund --no-package-lock ollama@0.6.4 openai@7.59.0 @anthropic-ai/sdk@1.14.0)
    cp "$here"/*_node.mjs "$cache/npm/"
    node "$cache/npm/ollama_node.mjs" "$tiny"
    node "$cache/npm/openai_node.mjs" "$tiny" "$tools"
    node "$cache/npm/anthropic_node.mjs" "$tiny" "$tools"
fi
