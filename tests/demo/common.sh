# Shared by the demos' scripts: where things are, and how a demo ends.
#
#   . common.sh [DEMO]    kubernetes; without it the one that has no cluster
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
# DROVER_BIN: where both programs are already, and nothing is built.
bin=${DROVER_BIN:-$target/debug}
home=${DROVER_DEMO_DIR:-/var/lib/drover-demo${1:+-$1}}
# What the Makefile calls its end.
target_down=demo${1:+-$1}-down
local_dir=$home/cloud
state=$home/operator
log=$home/log
# Only a directory that carries this is taken away.
mark=$home/.made-by-the-demo
export DROVER_IMAGE_CACHE=${DROVER_IMAGE_CACHE:-/var/cache/drover-local}
export DROVER_CONFIG=$root/tests/demo/drover.yaml DROVER_MANIFESTS=$home/manifests DROVER_STATE=$state

drover() { "$bin/drover" "$@"; }
drover_local() { "$bin/drover-local" --dir "$local_dir" "$@"; }
die() { printf 'demo: %s\n' "$1" >&2; exit 1; }

# Ends a process that this demo started, by the pid it wrote down, and only while that pid is still the same program: by the
# signal, and by SIGKILL where that takes too long.
end() { # file with the pid, name, signal
  local pid signal
  pid=$(cat "$1" 2>/dev/null) || return 0
  for signal in "$3" KILL; do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || break
    kill -"$signal" "$pid" || break
    for _ in $(seq 200); do
      [ -e "/proc/$pid" ] || break
      sleep 0.1 # Another session's child cannot be waited for; this polls its end, for 20 seconds at most.
    done
  done
  rm -f "$1"
}

# Ends everything of a demo, running, left or crashed. What cannot be swept keeps its directory, so that it can be later.
demo_down() {
  [ -d "$home" ] || return 0
  [ -e "$mark" ] || [ -z "$(ls -A "$home")" ] || die "$home was not made by the demo: it is left alone; name another directory with DROVER_DEMO_DIR"
  end "$home/operator.pid" drover TERM
  end "$home/kubernetes.pid" demo-kubernetes TERM
  if [ -d "$local_dir" ]; then
    # What the machines left in the kernel is found by the names in this directory: without the program it stays.
    [ -x "$bin/drover-local" ] || die "$bin/drover-local is gone, and only it can end the demo's machines: cargo build --locked -p drover-local, then try again"
    # A cloud that answers ends by itself; one that hangs is killed, and what it leaves is swept.
    drover_local down >/dev/null 2>&1 || { end "$home/cloud.pid" drover-local KILL; drover_local down >/dev/null || return; }
  fi
  if [ -d "$home/kubernetes" ]; then
    [ -x "$bin/demo-kubernetes" ] || die "$bin/demo-kubernetes is gone, and only it can end the demo's cluster: cargo build --locked --workspace --bins, then try again"
    DROVER_BIN=$bin "$bin/demo-kubernetes" sweep "$home" || return
  fi
  rm -rf "$home"
}
