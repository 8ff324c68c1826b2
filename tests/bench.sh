#!/usr/bin/env bash
# Runs the benchmarks and keeps their latest figures in tests/RESULTS.md, with the command and the machine.
set -euo pipefail
cd "$(dirname "$0")/.."

figures=$(mktemp)
trap 'rm -f "$figures"' EXIT
cargo build --locked --release -p drover-sim --example bench
"${CARGO_TARGET_DIR:-target}/release/examples/bench" | tee "$figures"

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
  echo "## Measured with"
  echo
  echo "- command: \`cargo run --locked --release -p drover-sim --example bench\`"
  echo "- date: $(date -u +%Y-%m-%d), commit $(git rev-parse --short HEAD)"
  echo "- cores: $(nproc), $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1)"
  echo "- memory: $(awk '/^MemTotal/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo)"
  echo "- kernel: $(uname -sr)"
  echo "- load when it ended: $(cut -d' ' -f1-3 /proc/loadavg)"
} > tests/RESULTS.md
