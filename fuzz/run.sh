#!/usr/bin/env bash
# Runs each fuzz target, or the one that is named, for a fixed count of inputs from a fixed
# seed: fuzz/run.sh [RUNS] [TARGET]. It needs a C++ compiler and the stable toolchain only;
# `cargo +nightly fuzz run TARGET` works as well, for as long as you like.
set -euo pipefail
cd "$(dirname "$0")"

runs=${1:-100000}
targets=${2:-manifest host log_line cache_header byte_guard forwarded_headers}
# A run ends after this, whatever is left of it: a machine may be slow.
seconds=${FUZZ_SECONDS:-30}

RUSTC_WORKSPACE_WRAPPER="$PWD/coverage.sh" cargo build --locked --bins
programs=${CARGO_TARGET_DIR:-../target}/debug

found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
for target in $targets; do
    printf '\n--- fuzz %s\n' "$target"
    mkdir "$found/$target"
    # What is new goes to the first folder; what broke something is left beside this script.
    "$programs/$target" "$found/$target" "corpus/$target" \
        -runs="$runs" -seed=1 -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=4096 -artifact_prefix="$PWD/broken-$target-" -print_final_stats=1 2>&1 |
        grep -E 'ERROR|SUMMARY|panicked|assertion|number_of_executed|cov:|artifact|Done' | tail -12
done
