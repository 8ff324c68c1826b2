#!/usr/bin/env bash
# Kubernetes' own programs for the tests, at the versions that go.mod here pins, built from Go modules once and kept.
#
#   build.sh [--cluster] [--find] [CACHE]   prints the directory that holds them
#
#   --cluster  those of a node too: kubelet, kube-proxy, kube-scheduler, containerd, runc
#   --find     builds nothing: says how to, where something is missing
#   CACHE      DROVER_KUBERNETES_CACHE, or /var/cache/drover-kubernetes
#
# What KUBEBUILDER_ASSETS holds is taken from there (envtest's etcd, kube-apiserver and kubectl); only the rest is built. Needs Go and,
# for runc, libseccomp's headers; a Go that is too old fetches a newer one. GOPROXY and the rest of Go's own settings are as they are, but its
# caches: where GOMODCACHE or GOCACHE is not in the environment, one in CACHE serves until everything is built, so that gigabytes do not
# stay. A build that was broken off is gone on with.
set -euo pipefail
export LC_ALL=C
umask 022

containerd=v2.4.2
runc=v1.5.2
go_wanted=1.26
# What is fetched where Go is too old to fetch by itself what each of these asks for: containerd, 1.26.6.
go_fetched=1.26.8
cni=/usr/lib/cni
# While building, in MiB: 1 GiB of modules, up to 4.5 GiB of what Go compiles, and the programs.
room=7168
# One bound over each step: a proxy that hangs fails the build instead of holding it.
limit=3600

control_plane=(etcd kube-apiserver kube-controller-manager kubectl helm kubeconform)
cluster=(kube-scheduler kubelet kube-proxy containerd containerd-shim-runc-v2 ctr runc)

say() { echo "kubernetes: $*" >&2; }
die() { say "$*"; exit 1; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
wanted=("${control_plane[@]}") cache=${DROVER_KUBERNETES_CACHE:-/var/cache/drover-kubernetes} find=
for word in "$@"; do
  case $word in
    --cluster) wanted+=("${cluster[@]}") ;;
    --find) find=1 ;;
    -*) die "there is no option $word: build.sh [--cluster] [--find] [CACHE]" ;;
    *) cache=$word ;;
  esac
done

mkdir -p "$cache" || die "cannot make $cache: name another directory in DROVER_KUBERNETES_CACHE"
cache=$(cd "$cache" && pwd)
version=$(sed -n 's/^\tk8s.io\/kubernetes v//p' "$here/go.mod")
key=$(cd "$here" && { uname -m; sha256sum go.mod go.sum tools.go build.sh; } | sha256sum | cut -c1-16)
dir=$cache/$key
assets=${KUBEBUILDER_ASSETS:-}

missing() { # program...: those that are neither given nor built
  local name
  for name in "$@"; do
    [ -n "$assets" ] && [ -x "$assets/$name" ] || [ -x "$dir/$name" ] || echo "$name"
  done
}

# The one directory that is asked for: the built one, or one of links to the given and the built.
answer() {
  [[ " ${wanted[*]} " != *" kubelet "* ]] || [ -x "$cni/ptp" ] ||
    die "there are no network plugins in $cni: tests/setup.sh --kubernetes installs containernetworking-plugins"
  if [ -z "$assets" ]; then echo "$dir"; return; fi
  local mixed name given
  assets=$(cd "$assets" && pwd)
  if [ -z "$find" ]; then
    given=$("$assets/kube-apiserver" --version)
    [[ $given == "Kubernetes v$version"* ]] || say "KUBEBUILDER_ASSETS has $given; the rest is v$version"
  fi
  mixed=$dir-$(sha256sum <<<"$assets" | cut -c1-8)
  mkdir -p "$mixed"
  for name in "${wanted[@]}"; do
    if [ -x "$assets/$name" ]; then ln -sfn "$assets/$name" "$mixed/$name"; else ln -sfn "$dir/$name" "$mixed/$name"; fi
  done
  echo "$mixed"
}

if [ -n "$assets" ]; then
  [ -x "$assets/kube-apiserver" ] || die "KUBEBUILDER_ASSETS is $assets, where there is no kube-apiserver: unset it, or name envtest's directory"
fi
mapfile -t lacking < <(missing "${wanted[@]}")
if [ ${#lacking[@]} = 0 ]; then answer; exit; fi
[ -z "$find" ] || die "${lacking[*]} not built yet: make kubernetes"

# Two builders at once wait for each other; the second finds everything made.
exec 9>"$cache/.lock"
flock --nonblock 9 || { say "waiting for another build in $cache"; flock 9; }
mapfile -t lacking < <(missing "${wanted[@]}")
if [ ${#lacking[@]} = 0 ]; then answer; exit; fi

lacks() { [[ " ${lacking[*]} " == *" $1 "* ]]; }

# Everything of a build is below one directory, so that one that was killed leaves nothing elsewhere.
work=$cache/.work

# Go before 1.21, as Debian 12 has it, knows of no newer one. It fetches modules, and Go's own toolchains are modules too.
toolchain() {
  local minor module fetched=$work/toolchain
  minor=$(cd / && go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
  [ -n "$minor" ] && [ "$minor" -lt 21 ] || return 0
  module=golang.org/toolchain@v0.0.1-go$go_fetched.$(cd / && go env GOOS)-$(cd / && go env GOARCH)
  say "Go 1.$minor is too old; fetching Go $go_fetched for this build"
  mkdir -p "$fetched"
  printf 'module fetched\n' >"$fetched/go.mod"
  # It ends with this script, and holds the lock until it has.
  (cd "$fetched" && GOWORK=off GOFLAGS=-modcacherw GOMODCACHE=$fetched setpriv --pdeathsig TERM timeout --foreground "$limit" \
    go mod download "$module") || die "go cannot fetch $module: $advice"
  # As in every module, no file in it is a program.
  chmod +x "$fetched/$module"/bin/* "$fetched/$module"/pkg/tool/*/*
  PATH=$fetched/$module/bin:$PATH
}

advice="install Go $go_wanted or newer from https://go.dev/dl and put it on the PATH, or name built programs in KUBEBUILDER_ASSETS"
command -v go >/dev/null || die "there is no go on the PATH of $(id -un): $advice"
free=$(($(df --output=avail -k "$cache" | tail -n 1) / 1024))
[ "$free" -ge "$room" ] || die "building needs $room MiB free in $cache, there are $free"
toolchain
# Asked where go.mod stands: a Go that fetches newer ones of itself does so.
found=$(cd "$here" && GOWORK=off go env GOVERSION 2>&1) || die "go does not take go.mod: $found; $advice"
found=${found##*go}
[ "$(printf '%s\n' "$go_wanted" "$found" | sort -V | head -n 1)" = "$go_wanted" ] || die "go is $found: $advice"
if lacks runc; then
  command -v pkg-config >/dev/null && pkg-config --exists libseccomp && command -v cc >/dev/null ||
    die "runc needs cc, pkg-config and libseccomp-dev: tests/setup.sh --kubernetes installs them"
fi

own_modules=${GOMODCACHE:-}
export GOMODCACHE=${GOMODCACHE:-$work/modules} GOCACHE=${GOCACHE:-$work/builds} GOTMPDIR=$work/tmp GOBIN=$work/bin GOWORK=off
rm -rf "$GOTMPDIR" "$GOBIN"
mkdir -p "$dir" "$GOTMPDIR" "$GOBIN"
# Directories of modules can be removed like any others.
flags=(-trimpath -buildvcs=false)
[ -n "$own_modules" ] || flags+=(-modcacherw)

step() { # title, command...: says how long it took, and the end of what it said where it failed
  local title=$1 begun=$SECONDS log=$work/build.log
  shift
  say "building $title"
  # It ends with this script, and holds the lock until it has.
  setpriv --pdeathsig TERM timeout --foreground --kill-after=10 "$limit" "$@" >"$log" 2>&1 ||
    { tail -n 30 "$log" >&2; die "building $title failed after $((SECONDS - begun)) s"; }
  say "built $title in $((SECONDS - begun)) s; $(du -sm "$work" | cut -f1) MiB are in use in $work"
}

# A program is in the directory once it is whole.
keep() { # file, name
  mv "$GOBIN/$1" "$GOBIN/.$2"
  mv "$GOBIN/.$2" "$dir/$2"
}

# What one step compiled serves none of the next.
compiled() {
  [ "$GOCACHE" != "$work/builds" ] || rm -rf "$GOCACHE"
}

begun=$SECONDS
packages=() titles=()
for name in "${lacking[@]}"; do
  case $name in
    etcd) packages+=(go.etcd.io/etcd/server/v3) ;;
    helm) packages+=(helm.sh/helm/v4/cmd/helm) ;;
    kubeconform) packages+=(github.com/yannh/kubeconform/cmd/kubeconform) ;;
    kube*) packages+=("k8s.io/kubernetes/cmd/$name") ;;
    *) continue ;;
  esac
  titles+=("$name")
done
if [ ${#packages[@]} != 0 ]; then
  IFS=. read -r major minor _ <<<"$version"
  at=k8s.io/component-base/version
  say "this is done once and takes about 15 minutes on 2 cores"
  # Without its version, kubectl and helm take an API server for one of another age.
  CGO_ENABLED=0 step "${titles[*]}" go build -C "$here" -mod=readonly "${flags[@]}" -o "$GOBIN/" \
    -ldflags "-s -w -X $at.gitVersion=v$version -X $at.gitMajor=$major -X $at.gitMinor=$minor" "${packages[@]}"
  for package in "${packages[@]}"; do
    case $package in
      */etcd/server/v3) keep server etcd ;;
      *) keep "${package##*/}" "${package##*/}" ;;
    esac
  done
  compiled
fi
if lacks containerd || lacks containerd-shim-runc-v2 || lacks ctr; then
  at=github.com/containerd/containerd/v2/cmd
  CGO_ENABLED=0 step "containerd $containerd" go install "${flags[@]}" -ldflags '-s -w' \
    "$at/containerd@$containerd" "$at/containerd-shim-runc-v2@$containerd" "$at/ctr@$containerd"
  for name in containerd containerd-shim-runc-v2 ctr; do keep "$name" "$name"; done
fi
if lacks runc; then
  CGO_ENABLED=1 step "runc $runc" go install "${flags[@]}" -ldflags '-s -w' -tags seccomp "github.com/opencontainers/runc@$runc"
  keep runc runc
fi
say "$(du -sm "$dir" | cut -f1) MiB are in $dir; all took $((SECONDS - begun)) s"
rm -rf "$work"
answer
