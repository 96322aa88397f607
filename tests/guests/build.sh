#!/bin/sh
# Builds the sample apps and the test guests and puts each `.wasm` where it is
# committed. With --check it puts them in a temporary directory instead, compares
# them with the committed ones, and fails on any difference.
#
# Two ways to a wasm32-wasip2 standard library: rustup's own
# (rustup target add wasm32-wasip2), else Debian's toolchain, which builds one:
#   apt-get install rustc-web cargo-web rust-web-src rust-web-llvm lld-22 wasi-libc
# The committed files come from the toolchain named in toolchain.txt. Another
# one makes other bytes from the same source.
set -eu

guests=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$guests/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target/guests}
out=$root

check=
case ${1:-} in
    '') ;;
    --check)
        check=1
        out=$(mktemp -d)
        target=$out/target
        trap 'rm -rf "$out"' EXIT
        ;;
    *)
        echo "usage: $0 [--check]" >&2
        exit 2
        ;;
esac

# Paths that would otherwise end in panic messages.
registry=${CARGO_HOME:-$HOME/.cargo}
flags="--remap-path-prefix=$root=/tidegate --remap-path-prefix=$registry=/cargo"

if [ "${GUESTS_ROUTE:-}" != debian ] && rustup target list --installed 2>/dev/null | grep -qx wasm32-wasip2; then
    route=rustup
    rustc=rustc
    build() { RUSTFLAGS="$flags" cargo build "$@"; }
elif [ -x /usr/lib/llvm-22/bin/wasm-ld ] && [ -e /usr/lib/wasm32-wasi/libc.a ] && [ -e /usr/lib/rustlib/src/rust ]; then
    route=debian
    rustc=/usr/bin/rustc
    sources=$(cd /usr/lib/rustlib/src/rust && pwd -P)
    flags="$flags --remap-path-prefix=$sources=/rustc -Lnative=/usr/lib/wasm32-wasi"
    build() {
        RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" \
            PATH="/usr/lib/llvm-22/bin:/usr/bin:$PATH" \
            /usr/bin/cargo build -Zbuild-std=std,panic_abort "$@"
    }
else
    echo "no wasm32-wasip2 toolchain: rustup target add wasm32-wasip2, or the Debian packages named in $0" >&2
    exit 3
fi
toolchain="$route $($rustc --version)"

echo "building with $toolchain"
