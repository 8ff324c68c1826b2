#!/usr/bin/env bash
# Holds the operator's image to what it is to be: nothing but the binary and what it needs, small, which runs as user 65532 on a read-only
# root and resolves names; the same files make the same image.
#
#   tests/kubernetes/image.sh BINARY    as root
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$here/../../operator/image/build.sh
binary=$(realpath "${1:?usage: image.sh BINARY}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SOURCE_DATE_EPOCH=1760000000
# In bytes, an agent for another architecture left out. A debug build makes an image of 77 MB, and a release build one of 45 MB; what is
# beside the binary, glibc and certificates, is 3.4 MB. There is room for some growth; whoever needs more finds out here, and says why.
whole_max=100000000
beside_max=5000000

fail() { echo "image: $*" >&2; exit 1; }

# A debug build's symbols would only take time.
strip -o "$work/drover" "$binary"
binary=$work/drover
case $(uname -m) in
  aarch64) own=arm64 other=x86_64 number='\76' ;;
  *) own=x86_64 other=arm64 number='\267' ;;
esac
# Of the other architecture by its file's word alone (elf(5), e_machine): nothing runs it here.
cp "$binary" "$work/other"
printf "$number\\0" | dd of="$work/other" bs=1 seek=18 conv=notrunc status=none
"$build" --binary "$binary" --agent "$other=$work/other" --root "$work/root"
cmp -s "$work/other" "$work/root/agents/$other/drover" || fail "the agent for $other is another file in the image"
agents=$(sed -n 's/^const AGENTS: &str = "\(.*\)";$/\1/p' "$here/../../operator/cli/src/commands/run.rs")
[ -n "$agents" ] && [ -e "$work/root$agents/$other/drover" ] || fail "drover looks for agents in '$agents', and there are none in the image"
if said=$("$build" --binary "$binary" --agent "$other=$binary" --root "$work/refused" 2>&1); then fail "an agent for $own is taken for one for $other"; fi
[[ $said == *"it is no program for $other"* ]] || fail "what is wrong with the agent is not said: $said"
found=$(cd "$work/root" && find . -type f | sed 's|^\./lib.*/lib[a-z_]*\.so\.[0-9]*$|a library|; s|^\./lib64/ld-linux.*|the loader|; s|^\./lib/ld-linux.*|the loader|' | LC_ALL=C sort -u)
expected="./agents/$other/drover
./drover
./etc/group
./etc/nsswitch.conf
./etc/passwd
./etc/ssl/certs/ca-certificates.crt
a library
the loader"
[ "$found" = "$expected" ] || fail "other files than expected: $found"
whole=$(du --summarize --bytes --exclude=agents "$work/root" | cut -f1)
beside=$((whole - $(stat -c %s "$work/root/drover")))
[ "$whole" -le "$whole_max" ] || fail "the image is $whole bytes, and is to be $whole_max at most"
[ "$beside" -le "$beside_max" ] || fail "what is beside the binary is $beside bytes, and is to be $beside_max at most"

# In a mount namespace of its own, which ends with it.
unshare --mount bash -euc '
  mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"
  ! touch "$1/file" 2>/dev/null || { echo "the root can be written" >&2; exit 1; }
  exec chroot --userspec 65532:65532 "$1" /drover --version' - "$work/root" | grep -q '^drover ' || fail "the binary does not run as 65532 on a read-only root"

unshare --net env AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b AWS_REGION=eu-central-1 AWS_ENDPOINT_URL=http://bucket.example:8080 \
  python3 "$here/names.py" "$work/root" /drover plan --realm test --bucket records --manifests /etc

# buildah needs no daemon, and what it stores goes with this.
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/graph"\nrunroot = "%s/run"\n' "$work" "$work" >"$work/storage.conf"
for n in 1 2; do
  CONTAINERS_STORAGE_CONF=$work/storage.conf "$build" --with buildah --binary "$binary" --tag localhost/drover-check:1 --archive "$work/$n.tar" >"$work/said"
  tar -xOf "$work/$n.tar" index.json >"$work/index.$n"
done
# Who it is, and what it does (image-spec, config.md).
python3 - "$work/1.tar" <<'CHECK' || fail "the image does not run /drover as 65532"
import json, sys, tarfile
archive = tarfile.open(sys.argv[1])
blob = lambda digest: json.load(archive.extractfile("blobs/" + digest.replace(":", "/")))
manifest = blob(json.load(archive.extractfile("index.json"))["manifests"][0]["digest"])
config = blob(manifest["config"]["digest"])["config"]
sys.exit((config.get("User"), config.get("Entrypoint")) != ("65532:65532", ["/drover"]))
CHECK
cmp -s "$work/index.1" "$work/index.2" || fail "the same files make another image the second time: $(cat "$work"/index.?)"
sed "s|localhost/drover-check:1|built|; s|$work/2.tar|as an archive|" "$work/said"

# Which tool builds it, of those that are there; and that it is asked for the image. Nothing of the host's own is on this PATH.
mkdir "$work/path"
cp --symbolic-link /usr/sbin/* /usr/bin/* /sbin/* /bin/* "$work/path" 2>/dev/null || true
chooses() { # the words of the answer, then the tools that are there; docker! has no daemon
  local expected=$1 tool said
  shift
  rm -f "$work"/path/{docker,podman,buildah} "$work/asked"
  for tool in "$@"; do
    printf '#!/bin/sh\necho "%s $*" >>%s/asked\n[ "%s $1" != "docker! version" ] || exit 1\n[ "$2" != inspect ] || echo 1000000\n' \
      "${tool%!}" "$work" "$tool" >"$work/path/${tool%!}"
    chmod +x "$work/path/${tool%!}"
  done
  said=$(PATH=$work/path "$build" --binary "$binary" --tag localhost/drover-check:1 2>&1) || true
  [[ $said == *"$expected"* ]] || fail "with '$*' it is not '$expected': $said"
  [ $# = 0 ] || grep -qE "^${expected#by } (build|bud) .*--tag localhost/drover-check:1 " "$work/asked" || fail "${expected#by } was not asked: $(cat "$work/asked")"
}
chooses "by docker" docker podman buildah
chooses "by podman" docker! podman buildah
chooses "by buildah" buildah
chooses "install one of them"
