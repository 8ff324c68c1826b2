#!/usr/bin/env bash
# The end-to-end scenarios, some side by side: they wait for boots most of the time, and each has a cloud of its own.
#
#   tests/e2e/run.sh [SCENARIO ...]      without names: all of them
#
# DROVER_SIDE_BY_SIDE says how many at a time: 3 unless said otherwise or there is memory for fewer, and at most 4, for drover-local has
# that many networks to choose from. What each prints is shown when it ends, and kept in target/e2e.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
export logs=$target/e2e
# What runs must not change under the scenarios when somebody builds.
export DROVER_BIN=$logs/bin

# The largest has ten machines; the demo asks for 6 GiB to be free beside whatever runs.
fitting() {
  awk '/^MemAvailable/ { n = 1 + int(($2 / 1048576 - 6) / 4); print (n < 1 ? 1 : (n > 3 ? 3 : n)) }' /proc/meminfo
}
side_by_side=${DROVER_SIDE_BY_SIDE:-$(fitting)}

# The longest first, so that none of them begins when the others are done. What is not named here comes after them.
longest=(kubernetes_sets kubernetes_pod lost fleet faults seeding volumes demo users mistakes kubernetes_asked hang crash)

scenarios() {
  local name
  for name in "${longest[@]}"; do echo "$name"; done
  for name in "$here"/tests/*.rs; do
    name=$(basename "$name" .rs)
    [[ " ${longest[*]} " == *" $name "* ]] || echo "$name"
  done
}

# Named one by one within the workspace: `-p drover-e2e` alone would select other features of the dependencies, and build them all again.
# Another package may have a test of that name.
programs() { # scenario...
  local names=("${@/#/--test=}")
  cargo test --locked --workspace --no-run --message-format=json "${names[@]}" | python3 -c '
import json, sys
found = {}
for line in sys.stdin:
    message = json.loads(line)
    if message["reason"] == "compiler-artifact" and message["executable"] and "/tests/e2e#" in message["package_id"]:
        found[message["target"]["name"]] = message["executable"]
for name in sys.argv[1:]:
    if name not in found:
        sys.exit(f"e2e: there is no scenario {name}")
    print(name, found[name])
' "$@"
}

scenario() { # name, program
  local log=$logs/$1.log begun=$SECONDS status=0
  setpriv --pdeathsig TERM "$2" --test-threads=1 --nocapture >"$log" 2>&1 || status=$?
  # One write, so that no two are mixed.
  { printf '%s\n' "--- e2e $1: exit code $status after $((SECONDS - begun)) s"; cat "$log"; } >"$log.shown"
  flock "$logs" cat "$log.shown"
  rm "$log.shown"
  [ "$status" = 0 ] || { echo "$1" >>"$logs/failed"; }
}

if [ $# = 0 ]; then
  mapfile -t all < <(scenarios)
  set -- "${all[@]}"
fi
begun=$SECONDS
mkdir -p "$target"
exec 9>"$target/e2e.lock"
flock --nonblock 9 || { echo "e2e: another run is under way in this checkout" >&2; exit 1; }
rm -rf "$logs" && mkdir -p "$DROVER_BIN"
: >"$logs/failed"
cargo build --locked --workspace --bins
listed=$(programs "$@")
cp "$target"/debug/{drover,drover-local,demo-kubernetes} "$DROVER_BIN"
export -f scenario
cd "$here"
# Whoever ends this script ends them all.
setpriv --pdeathsig TERM xargs -P "$side_by_side" -L 1 setpriv --pdeathsig TERM bash -euc 'scenario "$@"' scenario <<<"$listed" 9>&-
failed=$(sort "$logs/failed" | tr '\n' ' ')
if [ -n "$failed" ]; then
  (cd "$logs" && grep --no-filename '^failed: ' *.log) || true
  echo "e2e: failed: $failed($logs/NAME.log)"
  exit 1
fi
echo "e2e: $# scenarios passed in $((SECONDS - begun)) s, $side_by_side at a time"
