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

# Ends a process that this demo started, by the pid it wrote down, and only while that pid is still the same program: by the
# signal, and by SIGKILL where that takes too long.
end() { # file with the pid, name, signal
  local pid signal
  pid=$(cat "$1" 2>/dev/null) || return 0
  for signal in "${3:-TERM}" KILL; do
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
  end "$home/operator.pid" drover
  end "$home/cloud.pid" drover-local
  if [ -d "$local_dir" ] && ! drover_local down >/dev/null; then
    echo "demo: machines are left: after \`make build\`, \`make demo-down\` sweeps $local_dir" >&2
    return 1
  fi
  rm -rf "$home"
}
