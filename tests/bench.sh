#!/usr/bin/env bash
# Runs the benchmarks and keeps their latest figures in tests/RESULTS.md, with the command and the machine.
set -euo pipefail
cd "$(dirname "$0")/.."

# What the benchmarks write goes with them, however they end.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT; trap 'exit 143' TERM
figures=$work/figures resources=$work/resources
cargo build --locked --release -p drover-sim -p drover-e2e --example bench --example resources
examples=${CARGO_TARGET_DIR:-target}/release/examples
"$examples/bench" | tee "$figures"
# It needs what `make kubernetes` builds.
TMPDIR=$work "$examples/resources" | tee "$resources"

{
  echo "# Figures"
  echo
  echo "The latest run of \`make bench\` (\`tests/bench.sh\`), which writes this file. No test asserts any of it."
  echo
  echo "## One realm, 1,000 machines"
  echo
  echo "The real operator and real agents' state machines on the cloud in memory, in virtual time (\`tests/sim/examples/bench.rs\`)."
  echo
  echo '```'
  cat "$figures"
  echo '```'
  echo
  echo "## 2,000 resources on an API server"
  echo
  echo "The operator's real loop, with its watches, publisher and election, against etcd and a kube-apiserver in real time; behind it the"
  echo "cloud in memory and the simulator's agents (\`tests/e2e/examples/resources\`). Left out: TLS and long polls to 2,000 agents, and calls"
  echo "to EC2 over a network. The operator's CPU is that of its threads, in which the cloud in memory answers too."
  echo
  echo '```'
  cat "$resources"
  echo '```'
  echo
  echo "## Measured with"
  echo
  echo "- commands: \`cargo run --locked --release -p drover-sim --example bench\`, \`... -p drover-e2e --example resources\`"
  echo "- date: $(date -u +%Y-%m-%d), commit $(git rev-parse --short HEAD)"
  echo "- cores: $(nproc), $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1)"
  echo "- memory: $(awk '/^MemTotal/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo)"
  echo "- kernel: $(uname -sr)"
  echo "- load when it ended: $(cut -d' ' -f1-3 /proc/loadavg)"
} > tests/RESULTS.md
