#!/usr/bin/env bash
# Installs what a fresh Debian 12 lacks, in groups:
#
#   programs   Debian and Python packages that the programs load; links this folder
#   desktop    the virtual desktop of the demo and the end-to-end tests
#   checks     linters, type checker, test runner
#   interop    Node and Go, with which strangers open our frames and check our log
#   postgres   PostgreSQL, which the tests start themselves
#   nginx      the balancer in front of several collectors, for tests and benchmarks
#   ceph       a real S3 store, for the tests of batches that lie in one
#   clean      what makes a clean Debian, in which our packages are installed (as root only)
#
# Usage: packaging/setup/setup.sh GROUP...
#
# Debian packages are installed as root or with sudo; otherwise one line says which to
# install.  Everything else stays in this folder, under .venv and build.  It may be stopped
# at any point and called again; a group whose lists have not changed costs no time.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly here=packaging/setup
readonly python=/usr/bin/python3 # never the PATH's: gi is built for Debian's own
readonly venv=.venv
readonly log=build/setup.log
export PIP_DISABLE_PIP_VERSION_CHECK=1

main() {
  local group
  (($#)) || fail "say which groups: programs, desktop, checks, interop, postgres, nginx, ceph, clean"
  for group; do
    declare -F "set_up_$group" >/dev/null || fail "unknown group '$group'"
    if ! is_current "$group"; then set_up "$group"; fi
  done
}

# --- the groups -----------------------------------------------------------------------------

set_up_programs() {
  install_debian "what the programs load" "$here/apt-programs.txt"
  make_environment
  install_python "what the programs import" requirements/run.txt
  step "linking this folder" "$venv/bin/python" -m pip install --no-deps --no-index \
    --no-build-isolation --editable .
}

set_up_desktop() {
  install_debian "a virtual desktop" "$here/apt-desktop.txt"
}

set_up_checks() {
  make_environment
  install_python "linters and test runner" requirements/test.txt
}

set_up_interop() {
  # A Node from elsewhere brings its own npm; Debian's cannot be installed beside it.
  if ! command -v node npm >/dev/null; then install_debian "Node" "$here/apt-interop.txt"; fi
  rm -rf build/interop
  mkdir -p build/interop
  cp tests/e2e/interop/package*.json build/interop/
  step "npm packages" npm ci --prefix build/interop --ignore-scripts --no-audit --no-fund
  make_environment
  # Beside the environment, not in it: a whole tool chain that nothing of ours imports.
  step "Go" "$venv/bin/python" -m pip install --require-hashes --no-deps --only-binary :all: \
    --retries 5 --target build/interop/go --requirement requirements/interop.txt
}

set_up_postgres() {
  # Debian makes and starts a server of its own, unless it was told not to before.
  if ! compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null; then
    install_debian "PostgreSQL's settings" <(echo postgresql-common)
    as_root sed --in-place "s/^#*create_main_cluster.*/create_main_cluster = false/" \
      /etc/postgresql-common/createcluster.conf
  fi
  install_debian "PostgreSQL" "$here/apt-postgres.txt"
}

set_up_nginx() {
  # Debian starts what it installs; nobody asked for a web server on this machine.
  if ! command -v nginx >/dev/null && [[ -d /run/systemd/system ]]; then
    as_root systemctl mask nginx.service
  fi
  install_debian "a balancer" "$here/apt-nginx.txt"
}

set_up_ceph() {
  install_debian "a real S3 store" "$here/apt-ceph.txt"
}

set_up_clean() {
  # Only root can mount and chroot; for others the tests say that they were left out.
  if ((EUID)); then return 0; fi
  install_debian "what makes a clean Debian" "$here/apt-clean.txt"
}

# --- has anything changed since? ------------------------------------------------------------

is_current() {
  [[ -f $(stamp "$1") && $(inputs "$1") == "$(<"$(stamp "$1")")" ]] || return 1
  case $1 in # and what it made has not been cleaned away
    programs | checks) [[ -x $venv/bin/python ]] ;;
    interop) [[ -d build/interop/node_modules && -d build/interop/go ]] ;;
  esac
}

inputs() {
  local files=("$here/setup.sh")
  case $1 in
    programs) files+=("$here/apt-programs.txt" "$here/link.py" requirements/run.txt pyproject.toml) ;;
    desktop) files+=("$here/apt-desktop.txt") ;;
    checks) files+=(requirements/test.txt) ;;
    nginx) files+=("$here/apt-nginx.txt") ;;
    ceph) files+=("$here/apt-ceph.txt") ;;
    clean) files+=("$here/apt-clean.txt") ;;
    postgres) files+=("$here/apt-postgres.txt") ;;
    interop) files+=("$here/apt-interop.txt" requirements/interop.txt tests/e2e/interop/package*.json) ;;
  esac
  { place && cat -- "${files[@]}"; } | sha256sum
}

# An environment works only in the folder and with the interpreter it was made for.
place() { echo "$PWD $(readlink -f "$python")"; }

stamp() {
  case $1 in
    programs | checks) echo "$venv/assent-$1.sha256" ;; # goes when the environment goes
    *) echo "build/$1.sha256" ;;
  esac
}

set_up() {
  mkdir -p build
  exec 9>build/setup.lock
  flock --nonblock 9 || { say "another set-up is running; waiting" && flock 9; }
  if ! is_current "$1"; then # the other one can have done it
    rm -f -- "$(stamp "$1")"
    "set_up_$1"
    # Only now it counts as done; stopped before this line it is done again.
    inputs "$1" >"$(stamp "$1")"
  fi
  exec 9>&-
}

# --- steps ----------------------------------------------------------------------------------

# install_debian WHAT LIST
install_debian() {
  local missing
  mapfile -t missing < <(absent "$2")
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null ||
    fail "this is no Debian; install what these packages hold: ${missing[*]}"
  if ((EUID)); then
    sudo --non-interactive true 2>/dev/null || { [[ -t 0 ]] && sudo --validate; } || fail \
      "not root; first run: apt-get install --no-install-recommends ${missing[*]}"
  fi
  step "Debian packages: $1 (${#missing[@]} missing)" apt_install "${missing[@]}"
}

# Prints the packages of a list that are not installed.
absent() {
  local listed
  mapfile -t listed < <(sed 's/#.*//' "$1" | xargs -n 1)
  comm -23 <(printf '%s\n' "${listed[@]}" | sort -u) <(
    dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' "${listed[@]}" 2>/dev/null |
      sed -n 's/^installed //p' | sort -u
  )
}

apt_install() {
  # The package lists can be missing (a minimal image) or older than the mirror, and an
  # earlier run can have been cut short: mend that once, then try again.
  as_root apt-get --yes install --no-install-recommends "$@" || {
    as_root dpkg --configure -a && as_root apt-get update &&
      as_root apt-get --yes install --no-install-recommends "$@"
  }
}

as_root() {
  local call=(env DEBIAN_FRONTEND=noninteractive "$@")
  [[ $1 != apt-get ]] || call+=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  if ((EUID)); then call=(sudo "${call[@]}"); fi
  "${call[@]}"
}

make_environment() {
  [[ -f $venv/place && $(<"$venv/place") == "$(place)" ]] && return
  # With Debian's packages in sight, because gi comes from there; ours go first (pins.py).
  step "virtual environment" "$python" -m venv --clear --system-site-packages "$venv"
  place >"$venv/place"
}

# install_python WHAT REQUIREMENTS
install_python() {
  # --no-deps: the list is complete, so nothing but what it pins can come in.
  step "Python packages: $1 ($(grep -c == "$2"))" "$venv/bin/python" -m pip install \
    --require-hashes --no-deps --only-binary :all: --retries 5 --requirement "$2"
  # Debian's own packages are in sight too; none of them may stand in for a pinned one.
  "$venv/bin/python" "$here/pins.py" "$2" || fail "remove .venv and call this again"
}

# step WHAT COMMAND...: one line for a person, everything else into the log.
step() {
  local what=$1 began=$SECONDS
  shift
  printf 'setup: %s ... ' "$what"
  if "$@" >>"$log" 2>&1 </dev/null 9>&-; then # a service that starts must not keep our lock
    echo "$((SECONDS - began)) s"
  else
    echo failed
    tail -n 12 "$log" >&2
    fail "that did not work; all of it stands in $log. The same command goes on from here"
  fi
}

say() { echo "setup: $*"; }

fail() {
  say "$*" >&2
  exit 3
}

main "$@"
