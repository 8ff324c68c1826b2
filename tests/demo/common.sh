# Shared by the demo's scripts: where things are, and how it ends.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$root/target/debug
home=${DROVER_DEMO_DIR:-/var/lib/drover-demo}
local_dir=$home/cloud
state=$home/operator
log=$home/log
export DROVER_IMAGE_CACHE=${DROVER_IMAGE_CACHE:-/var/cache/drover-local}
export DROVER_CONFIG=$root/tests/demo/drover.yaml DROVER_MANIFESTS=$home/manifests DROVER_STATE=$state

drover() { "$bin/drover" "$@"; }
drover_local() { "$bin/drover-local" --dir "$local_dir" "$@"; }

# Ends a process that this demo started, by the pid it wrote down, and only while that pid is still the same program.
end() { # file with the pid, name, signal
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 0
  if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]; then
    kill -"${3:-TERM}" "$pid"
    for _ in $(seq 100); do
      [ -e "/proc/$pid" ] || break
      sleep 0.1 # Another session's child cannot be waited for; this polls its end, for ten seconds at most.
    done
  fi
  rm -f "$1"
}

# Ends everything of a demo, running, left or crashed.
demo_down() {
  end "$home/operator.pid" drover
  end "$home/cloud.pid" drover-local
  [ ! -d "$local_dir" ] || [ ! -x "$bin/drover-local" ] || drover_local down >/dev/null
  rm -rf "$home"
}
