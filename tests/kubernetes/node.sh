#!/usr/bin/env bash
# The first process of a node's namespaces: makes them a place of its own, then waits until it is killed, and with it all that runs here.
#
#   node.sh DIR PROGRAMS    DIR/node: what the node keeps; DIR/node/ready: made when it is ready
set -euo pipefail
dir=$1 programs=$2
home=$dir/node
mkdir -p "$home"/{lib,log}

# Copies of mounts would keep other tests' network namespaces alive after they were deleted.
{ findmnt --raw --noheadings --types nsfs --output TARGET || true; } | xargs --no-run-if-empty umount

# What kubelet, containerd and the network plugins keep under /var/lib, /var/log and /run is the node's own. The two directories stay
# where they are, even below one of those: from here on they are found in /mnt alone.
mount -t tmpfs tmpfs /mnt
mkdir /mnt/dir /mnt/programs
mount --rbind "$dir" /mnt/dir
mount --rbind "$programs" /mnt/programs
mount --bind /mnt/dir/node/lib /var/lib
mount --bind /mnt/dir/node/log /var/log
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p "$dir" "$programs" /run/netns
mount --rbind /mnt/dir "$dir"
mount --rbind /mnt/programs "$programs"
umount -R /mnt

# kubelet sets these for the whole kernel where they are otherwise. It finds them as it wants them, and the kernel's stay as they are.
while read -r name value; do
  echo "$value" >"/run/$(basename "$name")"
  mount --bind "/run/$(basename "$name")" "/proc/sys/$name"
done <<'VALUES'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
VALUES

ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
touch "$home/ready"
# Waiting, it reaps what is left to it.
sleep infinity &
wait
