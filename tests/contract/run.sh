#!/usr/bin/env bash
# The contract suite: boto3 and the AWS command line against drover-local's endpoint, and beside that against moto.
#
#   tests/contract/run.sh [drover|moto] [-- pytest arguments]
#
# Needs python3 with venv and pip (Debian: python3-venv), and for drover a built target/debug/drover-local.
# CONTRACT_VENV says where the Python environment is kept, DROVER_LOCAL which binary is on trial.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target_dir=${CARGO_TARGET_DIR:-$root/target}
venv=${CONTRACT_VENV:-$target_dir/contract-venv}
drover_local=${DROVER_LOCAL:-$target_dir/debug/drover-local}
server='' trial='' beside=''
declare -a targets=() arguments=()

# --- The Python environment, made once per requirements.txt ---

prepare_venv() {
    local wanted
    mkdir -p "$target_dir"
    exec 7>"$target_dir/contract-venv.lock"
    flock 7
    wanted=$(sha256sum <"$here/requirements.txt")
    [[ $(cat "$venv/made-from" 2>/dev/null) == "$wanted" ]] && exec 7>&- && return
    echo "contract: making the Python environment in $venv"
    rm -rf "$venv"
    python3 -m venv "$venv" || { echo "contract: python3 cannot make a venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    echo "$wanted" >"$venv/made-from"
    exec 7>&-
}

# --- The endpoint on trial. Like the trial itself it is a child that does not outlive this script, however that ends. ---

start() {
    local signal=$1
    shift
    setpriv --pdeathsig "$signal" "$@" >"$work/server.log" 2>&1 9>&- &
    server=$!
}

# Polls a command for two minutes; the server must not end meanwhile.
await() {
    local end=$((SECONDS + 120))
    until "$@" >"$work/await.log" 2>&1; do
        if ! kill -0 "$server" 2>/dev/null || ((SECONDS > end)); then
            echo "contract: the endpoint did not come up:" >&2
            tail -n 20 "$work/server.log" "$work/await.log" >&2
            return 1
        fi
        sleep 0.1
    done
}

up_drover() {
    export DROVER_LOCAL=$drover_local DROVER_LOCAL_DIR=$work/drover
    start TERM "$drover_local" --dir "$work/drover" up --no-machines --ec2-port 0 --s3-port 0 --speed 40
    await "$drover_local" --dir "$work/drover" env || return
    local exports
    exports=$("$drover_local" --dir "$work/drover" env)
    eval "$exports"
}

up_moto() {
    local port
    port=$("$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    start KILL "$venv/bin/moto_server" --host 127.0.0.1 --port "$port"
    export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_REGION=eu-central-1 AWS_DEFAULT_REGION=eu-central-1
    export AWS_ACCESS_KEY_ID=contract AWS_SECRET_ACCESS_KEY=contract
    await "$venv/bin/python" -c 'import boto3; boto3.client("ec2").describe_vpcs()'
}

end() {
    local child
    for child in "$trial" "$server"; do
        [[ -n $child ]] && kill "$child" 2>/dev/null && wait "$child" || true
    done
    server='' trial=''
}

sweep() {
    end
    if [[ -d $work/drover ]]; then
        "$drover_local" --dir "$work/drover" down >/dev/null || true
    fi
    rm -rf "$work"
}

# --- Both, side by side: each waits most of the time. What moto's says is shown when it ends. ---

both() {
    local log=$target_dir/contract-moto.log failed=0
    trap 'kill $beside $trial 2>/dev/null; exit 130' INT TERM HUP
    setpriv --pdeathsig TERM "$0" moto -- ${arguments[@]+"${arguments[@]}"} >"$log" 2>&1 &
    beside=$!
    setpriv --pdeathsig TERM "$0" drover -- ${arguments[@]+"${arguments[@]}"} &
    trial=$!
    wait "$trial" || failed=1
    wait "$beside" || failed=1
    cat "$log"
    exit "$failed"
}

# --- One trial ---

try() {
    local target=$1 status=0
    rm -rf "$work" && mkdir -p "$work"
    # Nothing of the user's own AWS settings, and nothing of an earlier trial, reaches this one.
    unset AWS_PROFILE AWS_SESSION_TOKEN "${!AWS_ENDPOINT_URL@}"
    export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true
    if "up_$target"; then
        exec 8> >(tee "$work/report" 9>&-)
        local tee=$!
        # In the background, so that a signal to this script is acted upon at once.
        setpriv --pdeathsig KILL "$venv/bin/python" -B -m pytest "$here" -q -p no:cacheprovider --target "$target" \
            "${arguments[@]}" >&8 8>&- 9>&- &
        trial=$!
        exec 8>&-
        wait "$trial" || status=$?
        trial=''
        wait "$tee"
    else
        status=1
    fi
    end
    echo "contract: $target: $(tail -n 1 "$work/report" 2>/dev/null || echo 'not tried')"
    if [[ -d $work/drover ]]; then
        "$drover_local" --dir "$work/drover" down
    fi
    return "$status"
}

while (($#)); do
    case $1 in
        drover | moto) targets+=("$1") ;;
        --) shift && arguments=("$@") && break ;;
        *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
    shift
done

prepare_venv
((${#targets[@]} == 1)) || both
work=$target_dir/contract-${targets[0]}
exec 9>"$work.lock"
flock --nonblock 9 || { echo "contract: another run is under way in this checkout" >&2; exit 1; }
trap sweep EXIT
trap 'exit 130' INT TERM HUP
sweep
try "${targets[0]}"
