#!/usr/bin/env bash
# Checks, builds and tests for systems other than the one at hand, on an x86-64 Debian with rustup.
#
#   .ci/targets.sh install TARGET...   standard libraries (rustup), linkers and emulators (apt), wasmtime (PyPI)
#   .ci/targets.sh check TARGET...     type-checks library, command line and C interface
#   .ci/targets.sh build TARGET...     a release build: target/cross/TARGET/release/bise, and its size
#   .ci/targets.sh same TARGET...      builds it, runs it (by qemu or wasmtime, once for each set of instructions), and compares its text
#                                      and the bits of its logits with the golden ones
#   .ci/targets.sh test TARGET...      the tests of reading model files, which must hold where sizes have 32 bits
#   .ci/targets.sh all                 everything that is promised for other systems, and what was left out
#
# FEATURES (default cli,builtin-model): cargo features of what is built. PROFILE: another profile than release.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/cross}
features=${FEATURES:-cli,builtin-model}
profile=${PROFILE:-release}
tools=target/cross-tools

# Those whose libc is in Rust's own standard library need no other linker than Rust's.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
export CARGO_TARGET_I686_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc
# LLVM makes vectors of the scalar kernels' loops; the bits are the same, as it may not reorder sums of floats.
export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS=-Ctarget-feature=+simd128

run_targets=(x86_64-unknown-linux-musl aarch64-unknown-linux-musl armv7-unknown-linux-gnueabihf wasm32-wasip1)
tested_targets=(i686-unknown-linux-musl)
checked_targets=(aarch64-apple-darwin x86_64-pc-windows-msvc x86_64-pc-windows-gnu)

has_target() { [[ -d $(rustc --print sysroot)/lib/rustlib/$1/lib ]]; }

# PROGRAM=PACKAGE: installs Debian's packages for programs that are not there.
need() {
    local packages=() tool
    for tool; do type -P "${tool%%=*}" >/dev/null || packages+=("${tool#*=}"); done
    [[ ${#packages[@]} == 0 ]] && return
    apt-get update --quiet
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "${packages[@]}"
}

install() {
    local target
    for target; do
        has_target "$target" || rustup target add "$target"
        case $target in
            aarch64-unknown-linux-musl) need qemu-aarch64=qemu-user ;;
            armv7-unknown-linux-gnueabihf)
                need qemu-arm=qemu-user arm-linux-gnueabihf-gcc=gcc-arm-linux-gnueabihf
                [[ -d /usr/arm-linux-gnueabihf/include ]] || apt-get install --yes --quiet --no-install-recommends libc6-dev-armhf-cross ;;
            wasm32-wasip1)
                [[ -x $tools/bin/python ]] && "$tools/bin/python" -c 'import wasmtime' 2>/dev/null && continue
                python3 -m venv "$tools" || { need venv=python3-venv && python3 -m venv "$tools"; }
                "$tools/bin/pip" install --quiet wasmtime ;;
        esac
    done
}

check() {
    cargo check --quiet --target "$1" -p bise --no-default-features --features "$features"
    cargo check --quiet --target "$1" -p bise --no-default-features
    cargo check --quiet --target "$1" -p bise-capi
    echo "library, command line and C interface: no errors"
}

program() {
    local path=$CARGO_TARGET_DIR/$1/${profile/#dev/debug}/bise
    [[ $1 != wasm32-* ]] || path=$path.wasm
    echo "$path"
}

build() {
    cargo build --quiet --target "$1" -p bise --bin bise --no-default-features --features "$features" --profile "$profile"
    local path
    path=$(program "$1")
    echo "$path: $(stat -c %s "$path") bytes"
    # A static program must not ask for a loader.
    [[ $1 != *-musl ]] || ! readelf --program-headers "$path" | grep -q INTERP || { echo "$path is not static" >&2; return 1; }
}

same() {
    local path isa cpu
    build "$1"
    path=$(program "$1")
    case $1 in
        x86_64-*)
            for isa in scalar avx2 avxvnni avx512vnni amx; do
                BISE_ISA=$isa .ci/same.py "$isa" "$path"
            done ;;
        aarch64-*)
            for cpu in cortex-a72 cortex-a76 max; do
                .ci/same.py "qemu $cpu" qemu-aarch64 -cpu $cpu "$path"
            done ;;
        armv7-*) .ci/same.py qemu qemu-arm -L /usr/arm-linux-gnueabihf "$path" ;;
        wasm32-*) .ci/same.py wasmtime $tools/bin/python .ci/wasi.py "$path" ;;
        *) echo "$1: nothing here runs its programs" >&2; return 1 ;;
    esac
}

test() {
    cargo test --quiet --target "$1" -p bise-models --lib --test gguf_defects --test gguf_files --test gguf_splits
}

all() {
    local left_out=() target command
    for target in "${run_targets[@]}" "${tested_targets[@]}" "${checked_targets[@]}"; do
        command=check
        [[ " ${run_targets[*]} " != *" $target "* ]] || command=same
        [[ " ${tested_targets[*]} " != *" $target "* ]] || command=test
        if ! install "$target"; then
            left_out+=("$target: rustup or apt did not give what it needs")
            continue
        fi
        echo "== $command $target"
        $command "$target"
    done
    if ((${#left_out[@]})); then
        echo "== left out"
        printf '%s\n' "${left_out[@]}"
    fi
    echo "left out by name: the server (tokio), hub and grammar features; the Python package, which maturin builds per system"
}

case ${1:-} in
    install) install "${@:2}" ;;
    check | build | same | test)
        for target in "${@:2}"; do
            echo "== $1 $target"
            $1 "$target"
        done ;;
    all) all ;;
    *) sed -n '2,13s/^# \?//p' "$0" >&2; exit 2 ;;
esac
