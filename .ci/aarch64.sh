#!/usr/bin/env bash
# Builds and tests for 64-bit Arm on an x86-64 Debian 12: Debian's own Rust with the arm64 standard library, run by qemu.
#
#   .ci/aarch64.sh install             installs compiler, linker and emulator (as root; does nothing the second time)
#   .ci/aarch64.sh cargo ARGS...       cargo for aarch64-unknown-linux-gnu, e.g. `cargo test -p bise-kernels`
#   .ci/aarch64.sh all ARGS...         `cargo ARGS...` once for each CPU below
#
# ARM_CPU chooses the emulated core: cortex-a72 (NEON), cortex-a76 (and dotprod), max (and i8mm; the default).
# A rustup toolchain on PATH is not touched. qemu gets no -L: its programs find Debian's arm64 libraries by themselves, and two versions
# of libc in one process hang at the first thread.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
# Each CPU, and the instruction set whose kernels must be tested on it.
cpus=(cortex-a72 cortex-a76 max)
declare -A isas=([cortex-a72]=neon [cortex-a76]=neon-dotprod [max]=neon-i8mm)

install() {
    if [[ -x /usr/bin/rustc && -d /usr/lib/rustlib/$target ]] && type -P qemu-aarch64 aarch64-linux-gnu-gcc >/dev/null; then
        return
    fi
    export DEBIAN_FRONTEND=noninteractive
    dpkg --add-architecture arm64
    apt-get update --quiet
    # One version for compiler and both standard libraries: the archive offers several.
    local version
    version=$(apt-cache policy rustc-web | sed -n 's/^ *Candidate: //p')
    apt-get install --yes --quiet --no-install-recommends gcc-aarch64-linux-gnu g++-aarch64-linux-gnu qemu-user \
        {rustc-web,cargo-web,libstd-rust-web-dev,libstd-rust-web-dev:arm64}="$version"
}

run_cargo() {
    BISE_EMULATED=1 BISE_TEST_ISAS=${isas[${ARM_CPU:-max}]:-neon} RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc CARGO_BUILD_TARGET=$target CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/arm} \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu ${ARM_CPU:-max}" \
    CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++ \
    AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar /usr/bin/cargo "$@"
}

case "${1:-}" in
    install) install ;;
    cargo) run_cargo "${@:2}" ;;
    all)
        for cpu in "${cpus[@]}"; do
            echo "== $cpu"
            ARM_CPU=$cpu run_cargo "${@:2}"
        done ;;
    *) sed -n '2,10s/^# \?//p' "$0" >&2; exit 2 ;;
esac
