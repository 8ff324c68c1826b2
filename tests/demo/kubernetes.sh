#!/usr/bin/env bash
# The demo in Kubernetes: a whole cluster of one node on this box, the operator in it as the chart's own Pods, its machines on drover-local.
#
#   make demo-kubernetes            ends at Ctrl-C, and takes everything away
#   make demo-kubernetes DETACH=1   leaves it running; make demo-kubernetes-down ends it
#
# DROVER_DEMO_UNATTENDED=1 ends after the last heading, for tests.
set -euo pipefail
. "$(dirname "$0")/common.sh" kubernetes
. "$(dirname "$0")/start.sh"

parts=$root/tests/demo/kubernetes
tools() { "$root/tests/kubernetes/tools/build.sh" --cluster "$@" "$kubernetes_cache"; }
kubernetes_cache=${DROVER_KUBERNETES_CACHE:-/var/cache/drover-kubernetes}
kubeconfig=$home/kubernetes/admin.kubeconfig

# What a person would type, and what comes of it.
see() {
  local word line='$'
  for word in "$@"; do
    case $word in
      *[\ \;]*) line+=" \"$word\"" ;;
      *) line+=" $word" ;;
    esac
  done
  printf '%s%s%s\n' "$bold" "$line" "$plain"
  "$@"
}
# Of this demo's cluster, and of no other.
show() { [ ! -e "$home/env" ] || kubectl --kubeconfig "$kubeconfig" --request-timeout=10s get drover,pods -A; }

# Asked before anything is installed: whether the first run is a long one, and can be.
first_time() {
  [ -z "$(are_built)" ] || return 0
  echo "Kubernetes' programs are built first, once, from Go modules: about 15 minutes on 2 cores; they are kept in $kubernetes_cache."
}
# Something, or nothing. What else may be missing is a Debian package.
are_built() { tools --find 2>&1 | grep -q 'not built yet' || echo yes; }
# MiB, while they are built.
kubernetes_mib() { if [ -n "$(are_built)" ]; then echo 0; else left_of 7168 "$kubernetes_cache"; fi; }

# As `make image` makes it, of the build that `make test` uses, which is there sooner than a release build. buildah needs no daemon, and
# what it stores goes with the demo.
image() {
  heading "The operator's image"
  local storage=$home/storage
  mkdir -p "$storage"
  strip -o "$storage/drover" "$bin/drover"
  printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/graph"\nrunroot = "%s/run"\n' "$storage" "$storage" >"$storage/storage.conf"
  CONTAINERS_STORAGE_CONF=$storage/storage.conf "$root/operator/image/build.sh" --with buildah --binary "$storage/drover" \
    --tag drover.test/drover:demo --archive "$home/drover.tar"
  rm -rf "$storage"
}

start_cluster() {
  heading "drover-local, and a Kubernetes of one node"
  ln -sf ../drover-local.log "$log/cloud.log"
  start kubernetes env DROVER_BIN="$bin" "$bin/demo-kubernetes" up "$home" "$home/drover.tar"
  await 300 "cloud and cluster are up" test -e "$home/ready"
  # For people: one line that points every tool at this demo.
  (
    umask 077
    drover_local env
    printf 'export %s=%q\n' PATH "$(tools --find):$bin:$PATH" KUBECONFIG "$kubeconfig" KUBECACHEDIR "$home/home" HELM_CACHE_HOME "$home/home" \
      HELM_CONFIG_HOME "$home/home" HELM_DATA_HOME "$home/home"
  ) >"$home/env"
  . "$home/env"
  kubectl get nodes
}

install() {
  heading "The operator is installed by its chart"
  kubectl create namespace drover
  # Not as arguments, which are for everyone to see.
  kubectl create secret generic drover-local --namespace drover --from-env-file=<(
    for name in AWS_REGION AWS_ENDPOINT_URL_{EC2,S3,SERVICE_QUOTAS} AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; do
      printf '%s=%s\n' "$name" "${!name}"
    done
  )
  see helm install drover charts/drover --namespace drover --values tests/demo/kubernetes/values.yaml --wait --timeout 240s --hide-notes ||
    { kubectl describe pods --namespace drover; kubectl logs --namespace drover deployment/drover --tail=30; die "the operator did not become ready"; } >&2
  kubectl get pods --namespace drover
}

serve() {
  heading "A set is applied, and becomes ready"
  see kubectl apply -f tests/demo/kubernetes/shop.yaml
  see kubectl wait --for=condition=Ready --timeout=300s mrs/shop ||
    { kubectl describe mrs/shop; die "the set did not become ready (logs: $log)"; } >&2
  see kubectl get drover -A
  # The Secret follows what MySQL took.
  see kubectl wait --for=create --timeout=60s secret/shop-app
}

use() {
  heading "An application's Pod writes through shop-primary and reads through shop-replicas"
  see kubectl apply -f tests/demo/kubernetes/app.yaml
  see kubectl wait --for=condition=Ready --timeout=60s pod/app
  see kubectl exec app -c primary -- /mysql -e "CREATE TABLE orders (what TEXT); INSERT INTO orders VALUES ('the first'); SELECT *, @@hostname FROM orders"
  # Another replica may answer each time: the one that is behind has no table yet.
  await 60 "a replica has the row" has_row
  for _ in $(seq 10); do
    see kubectl exec app -c replicas -- /mysql -e "SELECT *, @@hostname FROM orders" && return
    sleep 1
  done
  die "the replicas do not have the row"
}
has_row() { [ "$(kubectl exec app -c replicas -- /mysql -Ne 'SELECT COUNT(*) FROM orders')" -ge 1 ]; }

connect() {
  heading "It is yours"
  cat <<TEXT
kubeconfig: $kubeconfig

  . $home/env    points kubectl, helm, drover-local and AWS's tools at this demo; then
  kubectl get drover -A -o wide                      how it is; -w to watch
  kubectl describe mrs/shop                          its events tell the story
  kubectl scale mrs/shop --replicas=2                read replicas; an HPA can do it too
  kubectl exec -it app -c primary -- /mysql          a MySQL prompt through shop-primary; -c replicas for shop-replicas
  kubectl get secret shop-app -o yaml                how an application connects
  kubectl exec -n drover deploy/drover -- /drover ready      what the operator waits for; helm test asks it too
  helm uninstall drover -n drover                    machines and sets run on; the same helm install adopts them
  drover-local fault kill i-...                      break something; drover-local machines lists them, fault --help has more
  logs: $log and $home/kubernetes
TEXT
}

must_be_root_on_linux demo-kubernetes
# Only the programs of an earlier build can sweep; where they are gone, the build comes first.
[ ! -x "$bin/demo-kubernetes" ] || sweep
needs 6144 "$(build_mib)" "the build" "$root" "$(kubernetes_mib)" "Kubernetes' programs" "$kubernetes_cache" \
  $(($(machines_mib) + 2048)) "machines and cluster" "$home"
first_time
"$root/tests/setup.sh" --kubernetes
build
heading "Kubernetes' programs (built once, kept in $kubernetes_cache)"
tools >/dev/null
sweep
begin
machine_image
image
start_cluster
cd "$root"
install
serve
use
connect
stay
