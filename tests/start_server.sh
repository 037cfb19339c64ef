# Sourced by scripts that try `bise serve`, with the repository in $root and the program in $bise. Servers end with the script, and so does
# its folder for files, $work.

work=$(mktemp -d)
servers=()
trap 'for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done; rm -rf "$work"' EXIT

# Starts a server with these flags; its address is in $url.
start() {
    local log=$work/server${#servers[@]}.log
    : >"$log"
    "$bise" serve --model "$root/models/tiny/bise-tiny.Q4_K_M.gguf" --port 0 "$@" 2>"$log" &
    servers+=($!)
    for _ in {1..200}; do
        url=$(sed -n 's/^listening on //p' "$log")
        if [[ -n $url ]] && curl --silent --fail "$url/health" >"$work/health"; then return; fi
        sleep 0.05
    done
    cat "$log" >&2
    exit 1
}
