# Turns a process in fresh PID, mount, UTS, IPC and cgroup namespaces into a machine: mounts its root, makes its devices, becomes systemd.
# Every mount is made in the machine's own mount namespace, so all of them end with the machine and the host never sees one.
# In: HOME_DIR (upper/ work/ root/ boot_id), LOWER, NAME, HOSTS (a line of /etc/hosts), UUID, CONSOLE (a terminal of the host), DEVICES ("<minor> <node> <link>" lines), MEMORY_KIB (or nothing).
# Out: "ready" on standard output right before systemd takes over; what went wrong on standard error.
set -eu
hostname "$NAME"
root=$HOME_DIR/root
# index=on makes the kernel refuse a root that another mount still holds: the last boot's may be unmounting yet.
tries=0
until mount -t overlay -o "index=on,lowerdir=$LOWER,upperdir=$HOME_DIR/upper,workdir=$HOME_DIR/work" drover "$root" 2>"$HOME_DIR/mount.err"; do
    tries=$((tries + 1))
    if [ "$tries" -ge 1000 ]; then cat "$HOME_DIR/mount.err" >&2; exit 1; fi
    sleep 0.05
done
cd "$root"
# A VPC's DNS knows a machine's own name; here the first boot writes it down.
[ -e "$HOME_DIR/upper/etc/hosts" ] || echo "$HOSTS" >>etc/hosts
mount -t proc -o nosuid,nodev,noexec proc proc
# The kernel's settings are the host's, all but the network's: systemd-sysctl in a machine must not change them.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
if [ -e proc/sysrq-trigger ]; then
    mount --bind proc/sysrq-trigger proc/sysrq-trigger
    mount -o remount,bind,ro proc/sysrq-trigger
fi
mount --bind "$HOME_DIR/boot_id" proc/sys/kernel/random/boot_id
# A machine knows its own memory: what sizes its caches by it must not take the host's.
if [ -n "$MEMORY_KIB" ]; then
    sed -E "s/^(MemTotal|MemFree|MemAvailable): .*/\\1: $MEMORY_KIB kB/" proc/meminfo >"$HOME_DIR/meminfo"
    mount --bind "$HOME_DIR/meminfo" proc/meminfo
fi

# sysfs cannot hold a file of ours, and an EC2 guest is known by /sys/hypervisor/uuid: /sys is a small tmpfs with sysfs's directories in it.
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs mnt
mount -t tmpfs -o mode=755,size=64k,nosuid,nodev,noexec tmpfs sys
for d in mnt/*/; do
    d=$(basename "$d")
    [ "$d" = hypervisor ] || { mkdir "sys/$d"; mount --bind "mnt/$d" "sys/$d"; }
done
umount -l mnt
mkdir sys/hypervisor
echo "$UUID" >sys/hypervisor/uuid
mount -o remount,ro sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup

mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mount -t tmpfs -o mode=755,size=4m tmpfs dev
mkdir -p dev/pts dev/shm dev/disk/by-id
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o nosuid,nodev tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "dev/${node%:*}" c 1 "${node#*:}"; done
mknod -m 666 dev/tty c 5 0
printf '%s' "$DEVICES" | while read -r minor node link; do
    mknod -m 660 "dev/$node" b 7 "$minor"
    ln -s "../../$node" "dev/disk/by-id/$link"
done
: >dev/console
mount --bind "$CONSOLE" dev/console

pivot_root . mnt
umount -l /mnt
echo ready
# Neither are the clock, the modules and the ports: without these capabilities a machine's root cannot reach them.
exec env -i container=drover PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb \
    chroot . setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio \
    /lib/systemd/systemd --system --log-target=console </dev/console >/dev/console 2>&1
