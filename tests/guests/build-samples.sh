#!/bin/sh
# Builds the samples in other languages into OUTDIR: hello-js.wasm and
# hello-py.wasm. Each carries its language's whole runtime, 10 MB and more, so
# they are not committed. The tools come from npm and PyPI into a temporary
# directory; exit code 3 means that they could not be had.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 OUTDIR" >&2
    exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
samples=$(cd "$(dirname "$0")/../../apps/samples" && pwd)
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

unavailable() {
    echo "=== THE SAMPLES WERE NOT BUILT: $1 could not be installed ===" >&2
    tail -n 20 "$tools/log" >&2
    exit 3
}

npm install --prefix "$tools/npm" --no-audit --no-fund @bytecodealliance/componentize-js@0.23.0 \
    >"$tools/log" 2>&1 || unavailable "componentize-js from npm"
{ python3 -m venv "$tools/venv" && "$tools/venv/bin/pip" install componentize-py==0.25.1; } \
    >"$tools/log" 2>&1 || unavailable "componentize-py from PyPI"

cd "$samples"
"$tools/npm/node_modules/.bin/componentize-js" hello.js --wit wit --world-name sample --out "$out/hello-js.wasm"
# From a copy, because it leaves compiled Python beside its source.
cp hello.py "$tools/hello.py"
"$tools/venv/bin/componentize-py" --quiet --wit-path wit --world sample \
    componentize hello --python-path "$tools" --output "$out/hello-py.wasm"
ls -l "$out/hello-js.wasm" "$out/hello-py.wasm"
