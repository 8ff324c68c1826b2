#!/usr/bin/env bash
# Installs what building, testing and the demo need, where it is missing: Debian packages, each named in the README.
#
#   tests/setup.sh                installs
#   tests/setup.sh --kubernetes   and what the tests on real Kubernetes need besides
#   tests/setup.sh --check        says what is missing and changes nothing
set -euo pipefail

# Command or file that shows it is there, and the package that brings it.
needs=(
  "cc build-essential"            # linking, and the C parts of the TLS library
  "debootstrap debootstrap"       # the machine image
  "ip iproute2"                   # the machines' network
  "nft nftables"                  # cutting it one way
  "losetup mount"                 # data volumes as loop devices
  "mkfs.ext4 e2fsprogs"           # their file systems
  "nsenter util-linux"            # entering a machine
  "setpriv util-linux"            # servers that end with their test
  "openssl openssl"               # looking at certificates in tests
  "curl curl"                     # the demo's looks at the load balancer endpoints
  "python3 python3"               # the contract suite
  "python:ensurepip python3-venv"
)
for_kubernetes=(
  "pkg-config pkg-config"         # finding what runc is built with
  "/usr/include/seccomp.h libseccomp-dev"
  "/usr/lib/cni/ptp containernetworking-plugins" # the pods' network
  "buildah buildah"               # the operator's image, without a daemon
  "go golang-go"                  # building Kubernetes' programs; one that is too old fetches a newer one
)
check=
for word in "$@"; do
  case $word in
    --check) check=1 ;;
    --kubernetes) needs+=("${for_kubernetes[@]}") ;;
    *) echo "setup: there is no option $word" >&2; exit 1 ;;
  esac
done

missing=()
for need in "${needs[@]}"; do
  read -r what package <<<"$need"
  case $what in
    python:*) python3 -c "import ${what#python:}" 2>/dev/null || missing+=("$package") ;;
    /*) [ -e "$what" ] || missing+=("$package") ;;
    *) command -v "$what" >/dev/null || missing+=("$package") ;;
  esac
done
command -v cargo >/dev/null || { echo "setup: there is no cargo on the PATH of $(id -un): install Rust from https://rustup.rs, or put it on the PATH, then try again" >&2; exit 1; }
[ ${#missing[@]} -eq 0 ] && exit 0
if [ -n "$check" ]; then
  echo "setup: missing Debian packages: ${missing[*]}" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "setup: run as root, or install these Debian packages yourself: ${missing[*]}" >&2
  exit 1
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
