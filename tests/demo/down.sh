#!/usr/bin/env bash
# Ends a demo that was left running or that crashed: processes, machines, namespaces, mounts, loop devices, its directory.
#
#   down.sh [kubernetes]
set -euo pipefail
case "$*" in "" | kubernetes) ;; *) echo "demo: down.sh [kubernetes]" >&2; exit 1 ;; esac
. "$(dirname "$0")/common.sh" "$@"
demo_down
echo "The demo is gone."
