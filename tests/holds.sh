#!/usr/bin/env bash
# Tries what SECURITY.md promises as often as it says, and writes tests/HOLDS.md from what came
# of it: tests/holds.sh [TEST...]. With names of tests only those are tried, and the page is of
# them alone. It takes an hour or more, and a machine that does nothing else: its figures are times.
#
#   HOLDS_PROFILE   how to build, default --release
#   HOLDS_BENCHES   benches to run after the tests; default those that write rows, "" for none
#   HOLDS_ROWS      a file to which rows are added, so that several runs make one page
#   HOLDS_PAGE      where the page goes, default tests/HOLDS.md
#
# It fails where a test, a bench or a row does; the page is written all the same.
set -uo pipefail
cd "$(dirname "$0")/.."

profile=${HOLDS_PROFILE---release}
benches=${HOLDS_BENCHES-$(grep -l table::record benches/*.rs | xargs -r -n 1 basename -s .rs)}
page=${HOLDS_PAGE:-tests/HOLDS.md}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rows=${HOLDS_ROWS:-$work/rows}
touch "$rows"
TIDEGATE_HOLDS=$(realpath "$rows")
export TIDEGATE_HOLDS

failed=0
# One test at a time, so that none is slow because of another.
# shellcheck disable=SC2086  # the profile may be no argument at all
cargo test --locked $profile --lib --test it -- --test-threads=1 --nocapture "$@" 2>&1 |
    tee "$work/log" || failed=1
for bench in $benches; do
    cargo bench --locked --bench "$bench" 2>&1 | tee -a "$work/log" || {
        failed=1
        echo "test bench $bench ... FAILED" >>"$work/log"
    }
done

commit=$(git rev-parse --short HEAD)
git diff --quiet HEAD -- . ':!tests/HOLDS.md' || commit="$commit and changes that are not committed"
python3 - "$rows" "$work/log" "$page" "$commit" "$profile" <<'PYTHON' || failed=1
import datetime, json, os, platform, re, subprocess, sys

rows_path, log_path, page_path, commit, profile = sys.argv[1:]
rows = [json.loads(line) for line in open(rows_path) if line.strip()]
# Where something was tried again, with HOLDS_ROWS, the last time counts.
rows = list({(row["part"], row["tried"]): row for row in rows}.values())
rows.sort(key=lambda row: (row["part"], row["tried"]))

log = open(log_path, errors="replace").read()
# Output may stand between a test's name and its result, so the list at the end is what counts.
broken = set(re.findall(r"^test (bench \S+) \.\.\. FAILED$", log, re.M))
for listed in re.findall(r"^failures:\n((?: {4}\S+\n)+)", log, re.M):
    broken.update(listed.split())
untested = sorted(set(re.findall(r"!!! (NOT TESTED.*)", log)))
if not re.search(r"^test result: ", log, re.M):
    broken.add("(the tests did not run to their end)")

def first(pattern, path):
    try:
        return re.search(pattern, open(path).read(), re.M).group(1).strip()
    except (OSError, AttributeError):
        return "unknown"

def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")

memory = int(first(r"MemTotal:\s+(\d+)", "/proc/meminfo").replace("unknown", "0")) / 2**20
rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.strip()
failures = [row for row in rows if not row["pass"]]

out = ["# What holds", ""]
out += ["Written by `tests/holds.sh`, which tries each of these against a real guest, client or fault.", ""]
out += [f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, commit {commit}, built with "
        f"`{profile or 'the dev profile'}` by {rustc}, on {os.cpu_count()} cores "
        f"({first(r'model name[ 	]*: (.*)', '/proc/cpuinfo')}), {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}.", ""]
out += [f"{len(rows) - len(failures)} of {len(rows)} hold."]
part = None
for row in rows:
    if row["part"] != part:
        part = row["part"]
        out += ["", f"## {part}", "", "| tried | times | promised | figure | |", "|---|--:|---|---|---|"]
    verdict = "holds" if row["pass"] else "**FAILS**"
    out += [f"| {cell(row['tried'])} | {row['times']:,} | {cell(row['bound'])} | {cell(row['figure'])} | {verdict} |"]
for title, lines in [("Tests that failed", sorted(broken)), ("Not tested on this machine", untested)]:
    if lines:
        out += ["", f"## {title}", ""] + [f"- {cell(line)}" for line in lines]
with open(page_path, "w") as page:
    page.write("\n".join(out) + "\n")

print(f"{page_path}: {len(rows)} rows, {len(failures)} fail, {len(broken)} tests failed, {len(untested)} could not be tried")
sys.exit(1 if failures or broken or not rows else 0)
PYTHON
exit "$failed"
