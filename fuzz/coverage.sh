#!/bin/sh
# For RUSTC_WORKSPACE_WRAPPER: compiles what is ours with what cargo-fuzz passes to rustc for
# coverage, but for its optimisation, which takes ten minutes. What we are linked with is compiled
# as for the tests. The sanitizers need nightly and are left out.
exec "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
