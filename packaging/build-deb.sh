#!/bin/sh
# Builds a Debian package of what is checked out, and prints its path.
# Needs a Rust toolchain and cargo-deb (cargo install cargo-deb --locked).
# PROFILE=dev packages an unoptimised build, for trying; BUILT=1 what is built already.
set -eu
cd "$(dirname "$0")/.."

profile=${PROFILE:-release}
target=${CARGO_TARGET_DIR:-target}
case $profile in
    # Hundreds of megabytes of it: to pack that well takes minutes.
    dev) built=$target/debug quick=--fast ;;
    *) built=$target/$profile quick= ;;
esac

[ -n "${BUILT:-}" ] || cargo build --quiet --locked --profile "$profile" --bin tidegate

# What Cargo.toml names as assets: made by the program itself, from its command line.
pages=target/package
rm -rf "$pages"
mkdir -p "$pages/man"
"$built/tidegate" man "$pages/man"
for shell in bash fish zsh; do
    "$built/tidegate" completions "$shell" >"$pages/tidegate.$shell"
done

cargo deb --quiet --no-build $quick --profile "$profile"
