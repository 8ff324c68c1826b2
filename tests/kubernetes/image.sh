#!/usr/bin/env bash
# Holds the operator's image to what it is to be: nothing but the binary and what it needs, which runs as user 65532 on a read-only root and
# resolves names; the same files make the same image.
#
#   tests/kubernetes/image.sh BINARY    as root
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$here/../../operator/image/build.sh
binary=$(realpath "${1:?usage: image.sh BINARY}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SOURCE_DATE_EPOCH=1760000000

fail() { echo "image: $*" >&2; exit 1; }

"$build" --binary "$binary" --agent "arm64=$binary" --root "$work/root"
found=$(cd "$work/root" && find . -type f | sed 's|^\./lib.*/lib[a-z_]*\.so\.[0-9]*$|a library|; s|^\./lib64/ld-linux.*|the loader|; s|^\./lib/ld-linux.*|the loader|' | LC_ALL=C sort -u)
expected='./agents/arm64/drover
./drover
./etc/group
./etc/nsswitch.conf
./etc/passwd
./etc/ssl/certs/ca-certificates.crt
a library
the loader'
[ "$found" = "$expected" ] || fail "other files than expected: $found"

# In a mount namespace of its own, which ends with it.
unshare --mount bash -euc '
  mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"
  ! touch "$1/file" 2>/dev/null || { echo "the root can be written" >&2; exit 1; }
  exec chroot --userspec 65532:65532 "$1" /drover --version' - "$work/root" | grep -q '^drover ' || fail "the binary does not run as 65532 on a read-only root"

unshare --net env AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b AWS_REGION=eu-central-1 AWS_ENDPOINT_URL=http://bucket.example:8080 \
  python3 "$here/names.py" "$work/root" /drover plan --realm test --bucket records --manifests /etc

for n in 1 2; do
  "$build" --binary "$binary" --tag "localhost/drover-check:$$" --archive "$work/$n.tar" >"$work/said"
  tar -xOf "$work/$n.tar" index.json >"$work/index.$n"
done
if command -v buildah >/dev/null; then STORAGE_DRIVER=${STORAGE_DRIVER:-vfs} buildah rmi "localhost/drover-check:$$" >/dev/null 2>&1 || true; fi
if grep -q ' by buildah,' "$work/said"; then
  cmp -s "$work/index.1" "$work/index.2" || fail "the same files make another image the second time: $(cat "$work"/index.?)"
fi
sed "s|localhost/drover-check:$$|built|; s|$work/2.tar|as an archive|" "$work/said"
