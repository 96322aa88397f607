#!/bin/sh
# Builds the sample apps and the test guests, and puts each `.wasm` where it is
# committed. With --check it builds everything afresh in a temporary directory,
# compares that with what is committed, and fails on any difference.
#
# Two ways to a standard library for wasm32-wasip2: rustup's
#   rustup target add wasm32-wasip2
# or, where that is not to be had, Debian's toolchain, which builds one:
#   apt-get install rustc-web cargo-web rust-web-src rust-web-llvm lld-22 wasi-libc
# rustup's is taken if both are there, unless GUESTS_ROUTE=debian.
#
# Another toolchain makes other bytes of the same source, so toolchain.txt says
# which one made the committed files.
set -eu

guests=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$guests/../.." && pwd)

case ${1:-} in
    '')
        check=
        out=$root
        target=${CARGO_TARGET_DIR:-$root/target/guests}
        ;;
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
export CARGO_TARGET_DIR="$target"

# Panic messages name source files; these keep this machine's paths out of them.
remap="--remap-path-prefix=$root=/tidegate --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"

if [ "${GUESTS_ROUTE:-}" != debian ] && rustup target list --installed 2>/dev/null | grep -qx wasm32-wasip2; then
    toolchain="rustup $(rustc --version)"
    native() { cargo "$@"; }
    component() {
        RUSTFLAGS="$remap --remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc" \
            cargo build --release --locked --target wasm32-wasip2
    }
elif [ -x /usr/lib/llvm-22/bin/wasm-ld ] && [ -e /usr/lib/wasm32-wasi/libc.a ] && [ -e /usr/lib/rustlib/src/rust ]; then
    toolchain="debian $(/usr/bin/rustc --version), $(/usr/lib/llvm-22/bin/wasm-ld --version)"
    native() { RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc /usr/bin/cargo "$@"; }
    component() {
        RUSTFLAGS="$remap --remap-path-prefix=/usr/lib/rustlib/src/rust=/rustc -Lnative=/usr/lib/wasm32-wasi" \
            RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1 PATH="/usr/lib/llvm-22/bin:/usr/bin:$PATH" \
            /usr/bin/cargo build --release --locked --target wasm32-wasip2 -Zbuild-std=std,panic_abort
    }
else
    echo "$0: no toolchain for wasm32-wasip2 (its first lines say where to get one)" >&2
    exit 3
fi

echo "building with $toolchain"
mkdir -p "$out/apps" "$out/tests/guests"
(cd "$root/apps" && component)
(cd "$guests" && component)
(cd "$guests" && native run --quiet --release --locked -p wat-to-wasm -- "$guests" "$out/tests/guests")

built=$target/wasm32-wasip2/release
for app in hello api; do
    cp "$built/$app.wasm" "$out/apps/$app.wasm"
done
for guest in hello_p3 hostile_p2 hostile_p3 kit_p2 kit_p3 mixed_p2 fetch_p2 fetch_p3 lines_p2 command; do
    cp "$built/$guest.wasm" "$out/tests/guests/$(echo "$guest" | tr _ -).wasm"
done
echo "$toolchain" >"$out/tests/guests/toolchain.txt"

if [ -n "$check" ]; then
    if ! cmp -s "$out/tests/guests/toolchain.txt" "$guests/toolchain.txt"; then
        echo "CANNOT COMPARE: the committed files were made by another toolchain" >&2
        echo "  theirs: $(cat "$guests/toolchain.txt")" >&2
        echo "  this:   $toolchain" >&2
        exit 4
    fi
    different=0
    for made in "$out"/apps/*.wasm "$out"/tests/guests/*.wasm; do
        name=${made#"$out"/}
        if ! cmp -s "$made" "$root/$name"; then
            echo "DIFFERENT: $name is not what its source builds" >&2
            different=1
        fi
    done
    [ "$different" = 0 ] && echo "all components are what their sources build"
    exit "$different"
fi
