#!/usr/bin/env bash
# Holds tools/build.sh to what it says of KUBEBUILDER_ASSETS: what is there is taken from there, the rest is what was built, and what is in
# neither is named. It builds nothing: everything was built before.
#
#   tests/kubernetes/assets.sh [CACHE]    CACHE as tools/build.sh has it
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$here/tools/build.sh
# What Kubernetes' own envtest brings.
envtest=(etcd kube-apiserver kubectl)
rest=(kube-controller-manager helm kubeconform)
node=(kube-scheduler kubelet kube-proxy containerd containerd-shim-runc-v2 ctr runc)

fail() { echo "assets: $*" >&2; exit 1; }

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  echo "assets: not tried, for KUBEBUILDER_ASSETS names programs of yours, and this holds the built ones against others"
  exit 0
fi
built=$("$build" --cluster --find "$@")
key=$(basename "$built") key=${key%%-*}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

directory() { # path, program...: a directory of links to them
  local directory=$1 name
  shift
  mkdir -p "$directory"
  for name in "$@"; do ln -s "$(realpath "$built/$name")" "$directory/$name"; done
}

# Runs build.sh with such a cache, and keeps what it answers and says.
answers() { # cache, option...
  local cache=$work/$1
  shift
  "$build" "$@" "$cache" >"$work/answer" 2>"$work/said" || fail "$* is refused: $(cat "$work/said")"
  answer=$(cat "$work/answer")
  [ -d "$answer" ] || fail "$* answers no directory: $answer"
}

refuses() { # words, cache, option...
  local words=$1 cache=$work/$2
  shift 2
  if "$build" "$@" "$cache" >"$work/answer" 2>"$work/said"; then fail "$* is not refused, but answers $(cat "$work/answer")"; fi
  [ "$(cat "$work/said")" = "kubernetes: $words" ] || fail "$* is refused with other words: $(cat "$work/said")"
}

comes_from() { # directory, program...
  local directory=$1 name
  shift
  for name in "$@"; do
    [ "$(readlink "$answer/$name")" = "$directory/$name" ] || fail "$name is $(readlink "$answer/$name"), and not of $directory"
  done
}

# What is answered, and nothing else.
only() { # program...
  diff --unified --label wanted --label answered <(printf '%s\n' "$@" | sort) <(find "$answer" -mindepth 1 -printf '%f\n' | sort) >&2 ||
    fail "the directory holds other programs than were asked for"
}

directory "$work/envtest" "${envtest[@]}"
directory "$work/full/$key" "${envtest[@]}" "${rest[@]}" "${node[@]}"
mkdir "$work/empty"

# Without it: the built ones.
answers full
[ "$answer" = "$work/full/$key" ] || fail "without KUBEBUILDER_ASSETS the answer is $answer"

# With envtest's three, named from where one stands: these, and the rest as it was built.
cd "$work"
export KUBEBUILDER_ASSETS=envtest
for options in "" --find; do
  answers full $options
  comes_from "$work/envtest" "${envtest[@]}"
  comes_from "$work/full/$key" "${rest[@]}"
  only "${envtest[@]}" "${rest[@]}"
  [ ! -s "$work/said" ] || fail "programs of the same version are complained about: $(cat "$work/said")"
done
"$answer/kubectl" version --client >/dev/null || fail "the kubectl that is answered does not run"
answers full --cluster
comes_from "$work/envtest" "${envtest[@]}"
comes_from "$work/full/$key" "${rest[@]}" "${node[@]}"
only "${envtest[@]}" "${rest[@]}" "${node[@]}"

# Where nothing was built, exactly what envtest does not bring is missing.
refuses "${rest[*]} not built yet: make kubernetes" empty --find
refuses "${rest[*]} ${node[*]} not built yet: make kubernetes" empty --cluster --find

# One that holds everything needs nothing built.
directory "$work/everything" "${envtest[@]}" "${rest[@]}" "${node[@]}"
export KUBEBUILDER_ASSETS=$work/everything
answers empty --cluster
comes_from "$work/everything" "${envtest[@]}" "${rest[@]}" "${node[@]}"

# One without kubectl: the built one serves, and where there is none it is missing.
directory "$work/partly" etcd kube-apiserver
export KUBEBUILDER_ASSETS=$work/partly
answers full
comes_from "$work/partly" etcd kube-apiserver
comes_from "$work/full/$key" kubectl "${rest[@]}"
rm -r "$work/empty"
refuses "kube-controller-manager kubectl helm kubeconform not built yet: make kubernetes" empty --find

# One without an API server is somebody's mistake.
directory "$work/other" kubectl
export KUBEBUILDER_ASSETS=$work/other
refuses "KUBEBUILDER_ASSETS is $work/other, where there is no kube-apiserver: unset it, or name envtest's directory" full

# An API server of another version is taken, and told.
printf '#!/bin/sh\necho Kubernetes v1.30.0\n' >"$work/other/kube-apiserver"
chmod +x "$work/other/kube-apiserver"
answers full
comes_from "$work/other" kube-apiserver kubectl
wanted=$(sed -n 's|^\tk8s.io/kubernetes ||p' "$here/tools/go.mod")
[ "$(cat "$work/said")" = "kubernetes: KUBEBUILDER_ASSETS has Kubernetes v1.30.0; the rest is $wanted" ] ||
  fail "another version is not told: $(cat "$work/said")"
echo "assets: KUBEBUILDER_ASSETS serves in part, whole and not at all, as it should"
