#!/usr/bin/env bash
# Proves that a fresh clone works where nobody has prepared anything: makes a minimal Debian
# with git and make, clones the committed state of this folder into it, and runs a command
# there as root.
#
# Usage: packaging/setup/try-in-chroot.sh [COMMAND]      default: make demo && make test
#        packaging/setup/try-in-chroot.sh --only-base    only make what is kept
#
# Run it as root, with mmdebstrap installed.  Where this machine fetches packages from (apt,
# pip, npm, certificates) is taken over from it at run time.  The minimal system is kept in
# build/ for the next time; the copy that the command ran in is removed unless KEEP=1.
# RESULTS=FOLDER takes a copy of its build/ out; ASSENT_TEST_DATA=FOLDER takes test data in.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly base=build/minimal-debian.tar
readonly command=${1:-make demo && make test}
root=$(mktemp -d /tmp/chroot-assent-XXXXXX)
readonly root
trap '[[ ${KEEP:-} ]] && echo "kept: $root" || rm -rf --one-file-system "$root"' EXIT

main() {
  mkdir -p build
  [[ -f $base ]] || make_base
  if [[ $command == --only-base ]]; then return; fi
  tar -xf "$base" -C "$root"
  take_over_sources
  git clone --quiet --no-local . "$root/root/assent"
  [[ -z ${ASSENT_TEST_DATA:-} ]] || cp -r "$ASSENT_TEST_DATA" "$root/root/assent-data"
  local began=$SECONDS status=0
  enter "cd /root/assent && $command" || status=$?
  echo "try-in-chroot: exit $status after $((SECONDS - began)) s: $command"
  [[ -z ${RESULTS:-} ]] || cp -r "$root/root/assent/build" "$RESULTS"
  return "$status"
}

make_base() {
  local sources=(/etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources}) existing=() file
  for file in "${sources[@]}"; do [[ ! -f $file ]] || existing+=("$file"); done
  mmdebstrap --variant=minbase --include=git,make,ca-certificates \
    --aptopt=<(host_apt_options) bookworm "${base/.tar/.part.tar}" "${existing[@]}"
  mv "${base/.tar/.part.tar}" "$base"
}

# How this machine talks to its mirrors: proxies, and whether an old snapshot is one of them.
host_apt_options() {
  apt-config dump | grep -E '^Acquire::(https?::|ftp::|Check-|ForceIPv|AllowInsecure)'
}

take_over_sources() {
  local file
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  host_apt_options >"$root/etc/apt/apt.conf.d/00host" || true
  for file in /etc/pip.conf /root/.config/pip/pip.conf; do
    [[ ! -f $file ]] || install -D -m 644 "$file" "$root$file"
  done
  rm -rf "${root:?}"/var/lib/apt/lists/* # a minimal image has none
}

# Its own mounts and processes, all gone when the command ends.
enter() {
  local settings=(HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb) name
  for name in $(compgen -e | grep -E '^(PIP_CERT|PIP_DEFAULT_TIMEOUT|PIP_INDEX_URL|https?_proxy)$'); do
    settings+=("$name=${!name}")
  done
  settings+=(NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt)
  [[ -z ${ASSENT_TEST_DATA:-} ]] || settings+=(ASSENT_TEST_DATA=/root/assent-data)
  if command -v npm >/dev/null; then
    settings+=("npm_config_registry=$(npm config get registry 2>/dev/null)")
  fi
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare --mount --pid --ipc --fork --kill-child bash -euc '
    root=$1 && shift
    mount --make-rprivate /
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount -t tmpfs -o mode=755 dev "$root/dev"
    mkdir "$root/dev/shm" "$root/dev/pts"
    mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    for device in null zero full random urandom tty; do
      touch "$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device"
    done
    exec chroot "$root" /usr/bin/env --ignore-environment "$@"
  ' enter "$root" "${settings[@]}" bash -c "$1"
}

main
