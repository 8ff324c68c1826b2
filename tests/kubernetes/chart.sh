#!/usr/bin/env bash
# Holds the chart to what Helm and an API server's description of its kinds say: helm lint, helm template with each of values/*.yaml, every
# object of it checked strictly by kubeconform, and each of values/bad/*.yaml refused with the words that its first line says.
#
#   tests/kubernetes/chart.sh BIN_DIR [OPENAPI]
#
# BIN_DIR holds helm, kubeconform and kubectl. OPENAPI is a file with what GET /openapi/v2 of an API server answers; where it is left out
# the API server of KUBECONFIG is asked.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
chart=$here/../../charts/drover
bin=${1:?usage: chart.sh BIN_DIR [OPENAPI]}
# The oldest that the chart allows.
oldest=1.31.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { echo "chart: $*"; }
fail() { echo "chart: $*" >&2; exit 1; }

for program in helm kubeconform; do
  [ -x "$bin/$program" ] || fail "$bin has no $program"
done
openapi=${2:-}
if [ -z "$openapi" ]; then
  openapi=$work/openapi.json
  "$bin/kubectl" get --raw /openapi/v2 >"$openapi" || fail "no description of the API: set KUBECONFIG, or give a file with it"
fi
python3 "$here/schemas.py" "$openapi" "$work/schemas"

# kubeconform is told nothing of the Prometheus operator's kinds, whose definitions are not Kubernetes' own.
conforms() {
  "$bin/kubeconform" -strict -summary -skip ServiceMonitor,PrometheusRule \
    -schema-location "$work/schemas/{{.ResourceKind}}{{.KindSuffix}}.json" "$1"
}

# A schema that lets everything through would let every chart through.
cat >"$work/wrong.yaml" <<END
apiVersion: apps/v1
kind: Deployment
metadata: {name: wrong}
spec: {replica: 2, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}}
END
if conforms "$work/wrong.yaml" >"$work/said" 2>&1; then fail "the schemas do not refuse an unknown field"; fi
grep -q "'replica' not allowed" "$work/said" || fail "the schemas refuse a Deployment for another reason: $(cat "$work/said")"

for values in "$here"/values/*.yaml; do
  name=$(basename "$values" .yaml)
  "$bin/helm" lint --strict --quiet --kube-version "$oldest" --values "$values" "$chart" || fail "$name: helm lint refuses the chart"
  "$bin/helm" template drover "$chart" --namespace drover-system --kube-version "$oldest" --values "$values" >"$work/$name.yaml" \
    || fail "$name: helm template fails"
  "$bin/helm" template drover "$chart" --namespace drover-system --kube-version "$oldest" --values "$values" | cmp -s - "$work/$name.yaml" \
    || fail "$name: the same values make other objects the second time"
  summary=$(conforms "$work/$name.yaml" 2>&1) || fail "$name: $summary"
  say "$name: $summary"
done
if "$bin/helm" template drover "$chart" --kube-version 1.30.9 --values "$here/values/minimal.yaml" >/dev/null 2>"$work/said"; then
  fail "Kubernetes 1.30 is not refused"
fi
grep -q 'incompatible with Kubernetes' "$work/said" || fail "Kubernetes 1.30 is refused with other words: $(cat "$work/said")"

for values in "$here"/values/bad/*.yaml; do
  name=$(basename "$values" .yaml)
  expected=$(sed -n '1s/^# expect: //p' "$values")
  [ -n "$expected" ] || fail "bad/$name does not say what it expects"
  if "$bin/helm" template drover "$chart" --values "$values" >/dev/null 2>"$work/said"; then fail "bad/$name is taken"; fi
  grep -qF -- "$expected" "$work/said" || fail "bad/$name is refused with other words: $(cat "$work/said")"
done
say "refused as they should be: $(ls "$here/values/bad" | wc -l) files"
