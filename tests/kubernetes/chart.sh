#!/usr/bin/env bash
# Holds the chart to what Helm and an API server's description of its kinds say: helm lint, helm template with each of values/*.yaml, every
# object of it checked strictly by kubeconform, exactly the objects that values/expected/*.txt lists, each as promises.py wants it; and each
# of values/bad/*.yaml refused with the words that its first line says.
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

for program in helm kubeconform kubectl; do
  [ -x "$bin/$program" ] || fail "$bin has no $program"
done
openapi=${2:-}
if [ -z "$openapi" ]; then
  openapi=$work/openapi.json
  "$bin/kubectl" get --raw /openapi/v2 >"$openapi" || fail "no description of the API: set KUBECONFIG, or give a file with it"
fi
python3 "$here/schemas.py" "$openapi" "$work/schemas"
mkdir "$work/rendered"

# The Prometheus operator's kinds are not an API server's own: what the chart uses of them is described here.
conforms() { # file
  local name={{.ResourceKind}}{{.KindSuffix}}.json
  "$bin/kubeconform" -strict -summary -schema-location "$work/schemas/$name" -schema-location "$here/schemas/$name" "$1"
}

# As JSON, untouched: a local patch that changes nothing asks no API server.
as_json() { # file
  KUBECONFIG=/dev/null "$bin/kubectl" patch --local --type=json --patch='[]' --output=json --filename="$1"
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
  as_json "$work/$name.yaml" >"$work/rendered/$name.json"
  "$bin/helm" install drover "$chart" --namespace drover-system --dry-run=client --values "$values" >"$work/said" || fail "$name: helm install fails"
  sed '1,/^NOTES:$/d' "$work/said" >"$work/rendered/$name.notes"
  python3 -B "$here/rendered.py" "$work/rendered/$name.json" >"$work/names"
  diff --unified --label "values/expected/$name.txt" --label "what the chart makes" "$here/values/expected/$name.txt" "$work/names" >&2 ||
    fail "$name: other objects than expected: correct the chart, or the list where the change is meant"
  say "$name: $summary"
done
for list in "$here"/values/expected/*.txt; do
  [ -f "$work/rendered/$(basename "$list" .txt).json" ] || fail "$list belongs to no file of values"
done
python3 -B "$here/promises.py" "$work/rendered" || fail "the chart breaks its promises"
# A misspelt field of those kinds is as wrong as any other.
"$bin/helm" template drover "$chart" --values "$here/values/everything.yaml" --show-only 'templates/prometheusrule.yaml' \
  --show-only 'templates/servicemonitor.yaml' >"$work/monitoring.yaml"
for misspelt in scrapeTimeout namespaceSelector for annotations; do
  sed "s/^\( *\)$misspelt:/\1${misspelt}s:/" "$work/monitoring.yaml" >"$work/wrong.yaml"
  if conforms "$work/wrong.yaml" >"$work/said" 2>&1; then fail "the schemas do not refuse ${misspelt}s for $misspelt"; fi
  grep -q "'${misspelt}s' not allowed" "$work/said" || fail "${misspelt}s is refused for another reason: $(cat "$work/said")"
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
