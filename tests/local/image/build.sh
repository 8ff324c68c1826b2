#!/usr/bin/env bash
# Builds the machine image of drover-local: a Debian root file system with systemd, cloud-init and mysqld, as an AMI would hold it.
#
#   build.sh CACHE      prints the directory of the image, CACHE/<key>, building it when it is not there (about 2 minutes, 1 GB while
#                       building). The key is the hash of this recipe and of what overrides it, so a changed recipe is another image.
#
#   CACHE/<key>/base            the root file system
#   CACHE/<key>/without-mysqld  a layer over it that hides mysqld
#   CACHE/<key>/other-mysql     a layer over it whose mysqld says that it is version 9.6.0
#   CACHE/<key>/mysql-version   the version that base's mysqld states
#
# Needs root, debootstrap and a Debian mirror. DROVER_IMAGE_MIRROR names another mirror than debootstrap's own choice;
# http_proxy and https_proxy are honoured, and so is a proxy that the host's apt is configured with. Once Debian has gone on to another
# series of MySQL, DROVER_IMAGE_SNAPSHOT=YYYYMMDDT000000Z builds from snapshot.debian.org as of that day.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
umask 022

cache=${1:?usage: build.sh CACHE}
series=9.7 # what the demo and the tests ask for
suite=sid # the one Debian suite that has mysqld of this series
snapshot=${DROVER_IMAGE_SNAPSHOT:-}
mirror=${DROVER_IMAGE_MIRROR:-http://deb.debian.org/debian}
[ -z "$snapshot" ] || mirror=http://snapshot.debian.org/archive/debian/$snapshot
# One bound over every step: a mirror that hangs fails the build instead of holding it.
limit=1200

die() { echo "build.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "needs root: it runs debootstrap and chroot"
for tool in debootstrap chroot flock setpriv sha256sum timeout unshare; do
    command -v "$tool" >/dev/null || die "needs $tool (apt-get install debootstrap coreutils util-linux)"
done
# Its own PID and mount namespaces: however this ends, no process, no mount and nothing that a package's script started is left.
if [ -z "${DROVER_IMAGE_INSIDE:-}" ]; then
    DROVER_IMAGE_INSIDE=1 exec timeout --foreground --kill-after=10 "$limit" setpriv --pdeathsig KILL \
        unshare --pid --fork --kill-child --mount --mount-proc --propagation private bash "$0" "$@"
fi

mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
key=$({ cat "$0"; echo "$suite $(dpkg --print-architecture) $snapshot"; } | sha256sum | cut -c1-16)
done_dir=$cache/$key
# Two builders at once wait for each other; the second finds the image made.
exec 9>"$cache/.lock"
flock 9
if [ -d "$done_dir" ]; then echo "$done_dir"; exit 0; fi

free_kib=$(df --output=avail -k "$cache" | tail -n 1)
[ "$free_kib" -ge $((2 * 1024 * 1024)) ] || die "needs 2 GiB free in $cache, there are $((free_kib / 1024)) MiB"

tmp=$cache/$key.tmp
rm -rf "$tmp"
mkdir -p "$tmp"
root=$tmp/base

proxy=$(apt-config shell proxy Acquire::http::Proxy 2>/dev/null | sed -n "s/^proxy='\(.*\)'$/\1/p" || true)
if [ -n "$proxy" ]; then export http_proxy=${http_proxy:-$proxy}; fi

echo "bootstrapping $suite from ${mirror##*@}" >&2
debootstrap --variant=minbase "$suite" "$root" "$mirror" >&2 || die "debootstrap failed, see above; the mirror was ${mirror##*@}"

# debootstrap cannot resolve virtual packages, which cloud-init's dependencies need; apt can. Documentation and translations never
# reach the disk, and nothing is started in the chroot.
cat >"$root/etc/dpkg/dpkg.cfg.d/trim" <<'TRIM'
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/lintian/*
force-unsafe-io
TRIM
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
# Signatures are checked; the age of the list is not (debootstrap does not either), so a snapshot serves as a mirror too.
apt=(chroot "$root" apt-get -qq -y -o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false)
"${apt[@]}" update >&2
# A mirror has one version of a package at a time, so there is nothing to pin: another series is refused before anything is installed.
offered=$(chroot "$root" apt-cache policy mysql-server-core | sed -n 's/^ *Candidate: //p')
case ${offered#*:} in
    "$series".*) ;;
    *) die "${mirror##*@} offers mysqld '$offered' and this image wants $series: name a mirror that has it (DROVER_IMAGE_MIRROR), or a day when Debian had it (DROVER_IMAGE_SNAPSHOT=YYYYMMDDT000000Z, which needs snapshot.debian.org)" ;;
esac
# netcat-openbsd: cloud-init's units speak to its one process through `nc -U`; without it every stage succeeds and nothing runs.
"${apt[@]}" --no-install-recommends install \
    systemd systemd-sysv dbus cloud-init netcat-openbsd iproute2 procps iputils-ping \
    mysql-server-core mysql-client-core curl ca-certificates openssl e2fsprogs >&2
# mysql-server-core leaves these to the package that would also start mysqld: its user, and the default of secure_file_priv.
chroot "$root" useradd --system --user-group --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin mysql
chroot "$root" install -d -m 750 -o mysql -g mysql /var/lib/mysql-files
rm "$root/usr/sbin/policy-rc.d" "$root/etc/dpkg/dpkg.cfg.d/trim"

# cloud-init as on an AMI: the Ec2 data source and no other, found by the platform's uuid and asked by IMDSv2. The network is the host's
# work, as a container's is: without a DHCP client cloud-init goes on at once where it would wait 30 s for a lease.
rm -f "$root/usr/sbin/dhcpcd"
echo 'policy: enabled' >"$root/etc/cloud/ds-identify.cfg"
cat >"$root/etc/cloud/cloud.cfg.d/90-ec2.cfg" <<'CLOUD'
datasource_list: [ Ec2 ]
datasource: {Ec2: {strict_id: true, metadata_urls: [ "http://169.254.169.254" ], max_wait: 30, timeout: 5}}
network: {config: disabled}
disable_root: true
manage_etc_hosts: false
preserve_hostname: false
# Only what user data needs: no ssh keys, users, packages or disks to prepare here.
cloud_init_modules: [seed_random, write_files, set_hostname, update_hostname]
cloud_config_modules: [runcmd]
cloud_final_modules: [write_files_deferred, scripts_vendor, scripts_per_once, scripts_per_boot, scripts_per_instance, scripts_user, final_message]
CLOUD
chroot "$root" systemctl -q preset cloud-init-local.service cloud-init-main.service cloud-init-network.service cloud-config.service \
    cloud-final.service
chroot "$root" systemctl -q set-default multi-user.target
# A machine here has neither consoles to log in at, nor devices, swap or kernel file systems of its own.
chroot "$root" systemctl -q mask console-getty.service getty.target getty-static.service systemd-networkd.service systemd-networkd.socket \
    systemd-networkd-wait-online.service systemd-resolved.service systemd-timesyncd.service systemd-udevd.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount dev-hugepages.mount \
    proc-sys-fs-binfmt_misc.automount systemd-remount-fs.service systemd-firstboot.service ldconfig.service \
    systemd-journal-catalog-update.service systemd-update-done.service cloud-init-hotplugd.socket \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRuntimeMaxUse=16M\n' >"$root/etc/systemd/journald.conf.d/bounded.conf"

# An image is nobody yet: identity, keys, caches and logs are made at first boot.
"${apt[@]}" clean
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/* "$root"/var/log/* "$root"/var/lib/cloud "$root"/tmp/* "$root"/var/tmp/* \
    "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/info/* "$root"/usr/share/locale/* "$root"/root/.[!.]* \
    "$root"/etc/ssh/ssh_host_* "$root"/var/lib/dbus/machine-id "$root"/etc/apt/apt.conf.d/*proxy* "$root"/usr/share/mysql/mysql-test
: >"$root/etc/machine-id"
: >"$root/etc/resolv.conf"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
rm -f "$root/etc/hostname"
umount "$root/proc" "$root/sys"
rm -rf "$root"/run/* "$root"/dev/*

version=$(chroot "$root" mysqld --version | sed -n 's/.* Ver \([0-9.]*\).*/\1/p')
[ -n "$version" ] || die "mysqld of the new image does not state its version"
echo "$version" >"$tmp/mysql-version"
mkdir -p "$root/etc/drover-image"
echo "$version" >"$root/etc/drover-image/mysql-version"

# Overlay layers for tests: a character device 0:0 hides the file below it.
mkdir -p "$tmp/without-mysqld/usr/sbin" "$tmp/without-mysqld/etc/drover-image" "$tmp/other-mysql/usr/sbin" "$tmp/other-mysql/etc/drover-image"
mknod "$tmp/without-mysqld/usr/sbin/mysqld" c 0 0
mknod "$tmp/without-mysqld/etc/drover-image/mysql-version" c 0 0
cat >"$tmp/other-mysql/usr/sbin/mysqld" <<'MYSQLD'
#!/bin/sh
# Stands for an image with another MySQL: it states its version and can do no more.
if [ "${1:-}" = --version ]; then echo "/usr/sbin/mysqld  Ver 9.6.0 for Linux on x86_64 ((Debian))"; exit 0; fi
echo "mysqld: this image only states a version" >&2
exit 1
MYSQLD
chmod 755 "$tmp/other-mysql/usr/sbin/mysqld"
echo 9.6.0 >"$tmp/other-mysql/etc/drover-image/mysql-version"

mv "$tmp" "$done_dir"
echo "image with mysqld $version: $(du -sm "$done_dir" | cut -f1) MiB" >&2
echo "$done_dir"
