# Shared by the demos that start something: what they need, how a server is started and awaited, and how all is taken away.
# shellcheck shell=bash

bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
[ -t 1 ] || bold='' dim='' plain=''
heading() { printf '\n%s== %s%s\n' "$bold" "$1" "$plain"; }
note() { printf '%s%s%s\n' "$dim" "$1" "$plain"; }

must_be_root_on_linux() { # the demo's target
  [ "$(uname -s)" = Linux ] || die "it needs Linux: machines are namespaces"
  [ "$(id -u)" = 0 ] || die "it needs root: machines are namespaces, mounts and loop devices (become root, with Rust on the PATH: sudo -E env PATH=\"\$PATH\" make $1)"
}

# --- What it needs ---

free_mib() { df --output=avail -m "$1" | tail -n 1 | tr -d ' '; }
# The nearest directory above that is there: its file system is the one that will be used.
there() { local path=$1; until [ -d "$path" ]; do path=$(dirname "$path"); done; echo "$path"; }

# What is there already from an earlier run need not fit again.
left_of() { # MiB that it takes in all, where it is
  local here
  here=$(du -sm "$2" 2>/dev/null | cut -f1)
  echo $(($1 > ${here:-0} ? $1 - ${here:-0} : 0))
}

# Says what the demo needs and what is here, and ends where that is not enough.
needs() { # memory in MiB, then of each use of disk: MiB, what for, where
  local memory=$1 cores free wanted='' found='' device where
  local -A disk=() place=()
  shift
  while [ $# -gt 0 ]; do
    where=$(there "$3")
    device=$(stat -c %d "$where")
    wanted+=${wanted:+, }"$1 MiB for $2"
    found+=", $(free_mib "$where") MiB of disk in $where"
    disk[$device]=$((${disk[$device]:-0} + $1)) place[$device]=${place[$device]:-$where}
    shift 3
  done
  cores=$(nproc)
  free=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
  echo "The demo needs 2 cores, $memory MiB of free memory, and free disk: $wanted."
  echo "Here are $cores cores, $free MiB of memory$found."
  [ "$cores" -ge 2 ] || die "it needs 2 cores, and this machine has $cores"
  [ "$free" -ge "$memory" ] || die "it needs $memory MiB of free memory, and $free MiB are available: stop something, or take a larger machine"
  for device in "${!disk[@]}"; do
    where=${place[$device]}
    [ "$(free_mib "$where")" -ge "${disk[$device]}" ] ||
      die "it needs ${disk[$device]} MiB of free disk in $where, and $(free_mib "$where") MiB are left: free some"
  done
}
build_mib() { echo $((1024 + $(left_of 6656 "$target"))); }
machines_mib() { echo $((6144 + $(left_of 1536 "$DROVER_IMAGE_CACHE"))); }

# What an earlier demo left takes memory, disk and a network.
sweep() {
  [ -d "$home" ] || return 0
  note "sweeping what an earlier demo left"
  demo_down
}

# --- Starting ---

# DROVER_BIN: where the programs are already, and nothing is built.
build() {
  heading "Building"
  [ -n "${DROVER_BIN:-}" ] || (cd "$root" && cargo build --locked --workspace --bins)
}

# From here on all goes when the script ends.
begin() {
  rm -rf "$home.failed"
  mkdir -p "$log"
  : >"$mark"
  trap take_away EXIT
  heed_signals
}

machine_image() {
  heading "The machine image (built once, kept in $DROVER_IMAGE_CACHE)"
  "$root/tests/local/image/build.sh" "$DROVER_IMAGE_CACHE"
}

# Starts a server in a session of its own: a terminal's Ctrl-C reaches this script, which ends it in order. A signal that comes
# before the pid is written down is heeded after that.
start() { # name, command...
  local name=$1 held='' self=${0##*/} pid comm
  shift
  trap 'held=129' HUP; trap 'held=130' INT; trap 'held=143' TERM
  setsid "$@" >>"$log/$name.log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$home/$name.pid"
  # Until it is the program, nobody could end it by its name. (Without substitutions of commands: bash 5.2 reads them wrongly where a
  # trap's signal comes in between.)
  for _ in {1..100}; do
    { read -r comm <"/proc/$pid/comm"; } 2>/dev/null || break
    case $comm in
      bash | setsid | env | "${self:0:15}") sleep 0.05 ;;
      *) break ;;
    esac
  done
  disown # It may be killed on purpose, and the shell need not announce that.
  heed_signals
  [ -z "$held" ] || exit "$held"
}
heed_signals() { trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM; }

# Polls a condition until it holds; a bounded wait that says what it waited for.
await() { # seconds, what, command...
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    must_run "it was awaited that $what"
    [ "$SECONDS" -lt "$end" ] || { show >&2 || true; die "gave up waiting until $what (logs: $log)"; }
    sleep 0.5
  done
}

# Ends where a server of the demo has ended by itself.
must_run() { # when
  local pid name
  for pid in "$home"/*.pid; do
    name=$(basename "$pid" .pid)
    if [ -e "$pid" ] && ! [ -e "/proc/$(cat "$pid")" ]; then
      tail -n 20 "$log/$name.log" >&2 || true
      die "the $name ended while $1 (its log: $log/$name.log)"
    fi
  done
}

# --- Ending ---

# A second Ctrl-C does not leave half of it behind.
take_away() {
  code=$?
  trap '' HUP INT TERM
  trap - EXIT
  if [ -z "${left_running:-}" ]; then
    # A signal is no failure.
    [ "$code" = 0 ] || [ "$code" -gt 128 ] || keep_logs
    echo "Taking everything away: processes, machines, namespaces, mounts, loop devices, $home ..."
    demo_down || { echo "demo: something is left; make $target_down tries again" >&2; code=1; }
  fi
  exit "$code"
}

# What a person looks at, or sends, when it did not work.
keep_logs() {
  mkdir -p "$home.failed"
  cp -r "$log" "$home"/*.log "$home"/kubernetes/*.log "$home.failed" 2>/dev/null || true
  echo "Its logs are kept in $home.failed" >&2
}

# The last word: left running, or until Ctrl-C.
stay() {
  if [ -n "${DETACH:-}" ]; then
    left_running=1
    echo "Left running; make $target_down ends it."
  elif [ -z "${DROVER_DEMO_UNATTENDED:-}" ]; then
    echo "Ctrl-C ends everything."
    while :; do
      must_run "nobody asked it to"
      sleep 1
    done
  fi
}
