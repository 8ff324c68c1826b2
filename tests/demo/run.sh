#!/usr/bin/env bash
# The demo: a MySQL replica set on machines of this box, from nothing; then what Drover is for, one heading after another.
#
#   make demo            ends at Ctrl-C, and takes everything away
#   make demo DETACH=1   leaves it running; make demo-down ends it
#
# DROVER_DEMO_UNATTENDED=1 ends after the last heading, for tests.
set -euo pipefail
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/start.sh"

# --- Starting ---

start_cloud() {
  start cloud "$bin/drover-local" --dir "$local_dir" up --image-cache "$DROVER_IMAGE_CACHE"
  await 900 "drover-local is up" drover_local machines
  # For people: one line that points every tool, drover's and AWS's, at this demo.
  (
    umask 077
    drover_local env
    printf 'export %s=%q\n' PATH "$bin:$PATH" DROVER_CONFIG "$DROVER_CONFIG" DROVER_STATE "$DROVER_STATE" \
      DROVER_MANIFESTS "$DROVER_MANIFESTS" DROVER_LOCAL_DIR "$local_dir"
  ) >"$home/env"
  . "$home/env"
}

start_operator() { start operator "$bin/drover" run; }

show() { drover status; }

# --- Looking ---

report() { drover status quickstart --json 2>/dev/null; }
field() { python3 -c 'import json,sys; d=json.load(sys.stdin); r=d["sets"][0]; print('"$1"')'; }
# By the word of the operator that acts: while it waits for the lock, `drover status` looks for itself.
is_ready() { [ "$(report | field 'd["lock"]["ours"] and r["ready"]')" = True ]; }
has_ready() { [ "$(report | field 'd["lock"]["ours"] and r["ready"] and len(r["members"])')" = "$1" ]; }
machine_of() { report | field '[m["instance"] for m in r["members"] if m["slot"] == "'"$1"'"][0]'; }
members() { report | field '" ".join(m["slot"] + "=" + str(m["instance"]) for m in r["members"])'; }
query() { local instance=$1; shift; drover_local exec "$instance" -- mysql -S /run/drover-mysqld/mysqld.sock -NBe "$*"; }

# The table, drawn anew until the condition holds.
watch_until() { # seconds, what, command...
  local end=$((SECONDS + $1)) what=$2 lines=0 text
  shift 2
  while :; do
    text=$(drover status quickstart 2>&1 || true)
    if [ -t 1 ] && [ "$lines" -gt 0 ]; then printf '\e[%dA\e[J' "$lines"; fi
    if [ -t 1 ]; then printf '%s\n' "$text"; lines=$(wc -l <<<"$text"); fi
    "$@" >/dev/null 2>&1 && break
    [ "$SECONDS" -lt "$end" ] || die "gave up waiting until $what (logs: $log)"
    sleep 0.5
  done
  [ -t 1 ] || drover status quickstart
}

# Everything that a restart of the operator must not change.
facts() {
  drover_local machines --json | sort
  # Any two answers have two request ids.
  ec2 DescribeTags | sed 's|<requestId>[^<]*</requestId>||'
  for pair in $(members); do
    local instance=${pair#*=}
    drover_local exec "$instance" -- sh -c 'echo "$(cat /proc/sys/kernel/random/boot_id) mysqld $(systemctl show -P MainPID drover-mysqld)"'
  done
}
# Machines that run or are about to.
alive() { drover_local machines --json | grep -c -E '"state":"(pending|running)"'; }
mutations() {
  local calls
  calls=$(drover_local calls --mutating --json) || die "drover-local does not tell its calls"
  grep -c '"service":"ec2"' <<<"$calls" || true
}

# --- The headings ---

rows() {
  heading "A row written on the primary, read on every other member"
  local primary pair instance slot
  primary=$(machine_of m0)
  query "$primary" "CREATE DATABASE IF NOT EXISTS shop; CREATE TABLE IF NOT EXISTS shop.orders (id INT AUTO_INCREMENT PRIMARY KEY, what TEXT);
    INSERT INTO shop.orders (what) VALUES ('$1')"
  echo "m0> INSERT INTO shop.orders (what) VALUES ('$1')"
  for pair in $(members); do
    slot=${pair%%=*} instance=${pair#*=}
    await 60 "$slot has the row" has_row "$instance" "$1"
    echo "$slot> SELECT ... WHERE what = '$1'   $(query "$instance" "SELECT id, what FROM shop.orders WHERE what = '$1'" | tr '\t' ' ')"
  done
}

has_row() { [ "$(query "$1" "SELECT COUNT(*) FROM shop.orders WHERE what = '$2'")" = 1 ]; }

replace() {
  heading "A replica's machine is destroyed; another takes its slot, its volume and its place"
  local lost
  lost=$(machine_of m1)
  note "terminate-instances $lost (m1)"
  terminate "$lost"
  watch_until 400 "m1 is replaced" eval '[ "$(machine_of m1)" != '"$lost"' ] && is_ready'
}

# Any EC2 client will do; curl signs requests too.
ec2() { # action, parameters...
  local action=$1 data=()
  shift
  for parameter in "$@"; do data+=(--data-urlencode "$parameter"); done
  curl -sSf -m 30 --aws-sigv4 "aws:amz:$AWS_REGION:ec2" -K <(printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY") \
    --data-urlencode "Action=$action" --data-urlencode Version=2016-11-15 "${data[@]}" "$AWS_ENDPOINT_URL_EC2"
}
terminate() {
  ec2 ModifyInstanceAttribute "InstanceId=$1" DisableApiTermination.Value=false >/dev/null
  ec2 TerminateInstances "InstanceId.1=$1" >/dev/null
}

scale() {
  heading "Read replicas 1 -> 3 -> 1"
  sed -i 's/readReplicas: .*/readReplicas: 3/' "$DROVER_MANIFESTS/quickstart.yaml"
  watch_until 400 "there are three read replicas" has_ready 6
  sed -i 's/readReplicas: .*/readReplicas: 1/' "$DROVER_MANIFESTS/quickstart.yaml"
  watch_until 400 "there is one read replica" has_ready 4
}

crash() {
  heading "The operator is killed in the middle of a launch, and started again"
  sed -i 's/readReplicas: .*/readReplicas: 2/' "$DROVER_MANIFESTS/quickstart.yaml"
  await 180 "the launch is on its way" eval '[ "$(alive)" -ge 5 ]'
  end "$home/operator.pid" drover KILL
  note "SIGKILL; machines now: $(alive)"
  start_operator
  watch_until 400 "the launch is done" has_ready 5
  [ "$(alive)" = 5 ] || die "there are $(alive) machines for 5 slots: drover-local --dir $local_dir machines"
  echo "machines: $(alive), one for each of 5 slots"
}

adopt() {
  heading "The operator is killed and its whole local state deleted; another adopts everything from tags"
  local before after calls
  before=$(facts) calls=$(mutations)
  end "$home/operator.pid" drover KILL
  rm -rf "$state"
  start_operator
  watch_until 400 "it is adopted" is_ready
  after=$(facts)
  [ "$before" = "$after" ] || { diff <(echo "$before") <(echo "$after") >&2; die "adoption changed something"; }
  [ "$(mutations)" = "$calls" ] || die "adoption sent mutating calls: drover-local --dir $local_dir calls --mutating"
  echo "instance ids, boot ids, mysqld pids and tags are what they were, and EC2 saw no mutating call"
}

connect() {
  heading "It is yours"
  cat <<TEXT
  . $home/env                      points drover, aws, boto3 and any SDK at this demo; then
  drover mysql quickstart                      a MySQL prompt on the primary; --replica for a replica
  drover status -w                             how it is
  drover-local fault --help                    what can be broken: freeze, cut, kill, fill, stall, throttle ...
  aws ec2 terminate-instances ...              any EC2 client acts on the same machines (unprotect one first: modify-instance-attribute)
  manifests: $DROVER_MANIFESTS   logs: $log
TEXT
}

must_be_root_on_linux demo
# Only the program of an earlier build can sweep; where it is gone, the build comes first.
[ ! -x "$bin/drover-local" ] || sweep
needs 6144 "$(build_mib)" "the build" "$root" "$(machines_mib)" "the machines" "$home"
"$root/tests/setup.sh"
build
sweep
begin
machine_image
heading "drover-local, and drover run --manifests with a copy of crds/samples/quickstart, for the demo changes it"
mkdir -p "$DROVER_MANIFESTS"
cp "$root/crds/samples/quickstart/"*.yaml "$DROVER_MANIFESTS/"
start_cloud
start_operator
await 180 "the operator has looked" report
watch_until 600 "the set is ready" has_ready 4
rows 'the first order'
replace
scale
crash
adopt
rows 'the last order'
connect
stay
