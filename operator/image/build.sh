#!/usr/bin/env bash
# Builds the operator's image from a binary that is there already, with docker, podman or buildah, whichever is there.
#
#   operator/image/build.sh [--binary FILE] [--agent ARCH=FILE]... [--tag TAG] [--archive FILE] [--with BUILDER] [--root DIRECTORY]
#
#   --binary   the operator; target/release/drover where it is not said
#   --agent    the same for machines of another architecture, x86_64 or arm64: /agents/ARCH/drover in the image
#   --tag      the image's name; localhost/drover:VERSION where it is not said
#   --archive  also written to this file, as an OCI archive; with docker it is what `docker save` writes
#   --with     docker, podman or buildah; the first of them that works where it is not said
#   --root     only puts the image's files together, there
#
# The image holds the binary with the libraries that it is linked with, CA certificates and the user 65532. Names are resolved by glibc itself
# (2.34 and later have its dns and files parts inside libc). The same files make the same layer: every time in it is SOURCE_DATE_EPOCH, that of the latest commit
# where it is not set.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
certificates=/etc/ssl/certs/ca-certificates.crt

fail() { echo "image: $*" >&2; exit 1; }

binary=$repository/target/release/drover
agents=()
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$repository/Cargo.toml")
tag=localhost/drover:$version
archive='' only_root='' with=''
while [ $# -gt 0 ]; do
  [ $# -gt 1 ] || fail "$1 needs a value"
  case $1 in
    --binary) binary=$2 ;;
    --agent) agents+=("$2") ;;
    --tag) tag=$2 ;;
    --archive) archive=$(realpath -m "$2") ;;
    --with) with=$2 ;;
    --root) only_root=$(realpath -m "$2") ;;
    *) fail "$1 is not an option: --binary, --agent, --tag, --archive, --with, --root" ;;
  esac
  shift 2
done
[ -x "$binary" ] || fail "$binary is not there: build it with 'cargo build --release --locked -p drover-cli', or name one with --binary"
[ -f "$certificates" ] || fail "$certificates is not there: install the Debian package ca-certificates"
: "${SOURCE_DATE_EPOCH:=$(git -C "$repository" log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH

# Puts the image's files together in $1.
stage() {
  local root=$1 library path agent architecture
  mkdir -p "$root"
  install -m 755 "$binary" "$root/drover"
  # "name => path (address)", or the loader's path by itself; the kernel's own page has none.
  while read -r library path; do
    [ "$path" != "not found" ] || fail "$binary needs $library, which is not on this machine"
    install -D -m 755 "$(realpath "$path")" "$root$library"
  done < <(libraries)
  install -D -m 644 "$certificates" "$root$certificates"
  mkdir -p "$root/etc"
  echo 'drover:x:65532:65532::/:' >"$root/etc/passwd"
  echo 'drover:x:65532:' >"$root/etc/group"
  # Without it glibc asks DNS before /etc/hosts, which kubelet writes.
  echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
  for agent in ${agents[@]+"${agents[@]}"}; do
    architecture=${agent%%=*}
    case $architecture in
      x86_64 | arm64) ;;
      *) fail "--agent $agent: the architecture is x86_64 or arm64, as in --agent arm64=FILE" ;;
    esac
    [ -f "${agent#*=}" ] || fail "--agent $agent: there is no such file"
    [ "$(machine "${agent#*=}")" = "$architecture" ] || fail "--agent $agent: it is no program for $architecture"
    install -D -m 755 "${agent#*=}" "$root/agents/$architecture/drover"
  done
  chmod -R u=rwX,go=rX "$root"
  find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
}

# What a program's file says it runs on (elf(5), e_machine).
machine() {
  case $(od -An -tu2 -j18 -N2 "$1" | tr -d ' ') in
    62) echo x86_64 ;;
    183) echo arm64 ;;
  esac
}

# Each library that the binary is linked with: where the loader looks for it, and where it is here.
libraries() {
  local loader
  loader=$(ldd "$binary" | sed -n 's|^\s*\(/[^ ]*ld-linux[^ ]*\) (.*|\1|p')
  [ -n "$loader" ] || fail "$binary is not linked with glibc's loader: $(ldd "$binary" 2>&1 | head -1)"
  echo "$loader $loader"
  ldd "$binary" | sed -n 's|^\s*\([^ /]*\) => \(not found\)$|\1 \2|p; s|^\s*[^ ]* => \(/[^ ]*\) (.*|\1 \1|p'
}

# The one that works: a client without its daemon builds nothing.
builder() {
  if command -v docker >/dev/null && docker version >/dev/null 2>&1; then echo docker
  elif command -v podman >/dev/null; then echo podman
  elif command -v buildah >/dev/null; then echo buildah
  else fail "no docker with its daemon, no podman, no buildah: install one of them, for example the Debian package buildah"
  fi
}

if [ -n "$only_root" ]; then
  [ ! -e "$only_root" ] || fail "$only_root is there already: name a directory that is not"
  stage "$only_root"
  exit 0
fi

case ${with:=$(builder)} in
  docker | podman | buildah) ;;
  *) fail "--with $with: it is docker, podman or buildah" ;;
esac
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$here/Dockerfile" "$context/"
stage "$context/root"
touch --date="@$SOURCE_DATE_EPOCH" "$context/root"

# buildah alone needs neither a daemon nor a kernel's overlay: nothing runs while the image is built.
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot} STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}
case $with in
  docker)
    docker build --quiet --tag "$tag" "$context" >/dev/null
    [ -z "$archive" ] || docker save --output "$archive" "$tag"
    size=$(docker image inspect --format '{{.Size}}' "$tag")
    ;;
  podman)
    podman build --quiet --timestamp "$SOURCE_DATE_EPOCH" --tag "$tag" "$context" >/dev/null
    [ -z "$archive" ] || podman save --quiet --format oci-archive --output "$archive" "$tag"
    size=$(podman image inspect --format '{{.Size}}' "$tag")
    ;;
  buildah)
    buildah bud --quiet --timestamp "$SOURCE_DATE_EPOCH" --tag "$tag" "$context" >/dev/null
    [ -z "$archive" ] || buildah push --quiet "$tag" "oci-archive:$archive:$tag"
    size=$(du -sb "$context/root" | cut -f1)
    ;;
esac
echo "image: $tag by $with, $((size / 1000000)) MB$([ -z "$archive" ] || echo ", and $archive, $(($(stat -c %s "$archive") / 1000000)) MB")"
