#!/bin/sh
# Begins a server in a container: copies its configuration to where it is its own alone, then
# becomes the server.
#
# Secrets are mounted as files of root that a group may read, by links, and in one folder each;
# our programs and libpq want a key to be its owner's alone, and the guard's files below
# guard/.  The copy is meant to lie in memory (tmpfs), as what is mounted does.
#
#   ASSENT_FILES   config/ and, if a guard is connected, guard/: what lay in a collector's config/ and config/guard/
#   ASSENT_HOME    a folder that does not exist yet, in one that we may write to
set -eu
umask 077

config=${ASSENT_HOME:?where to?}/config
mkdir -p "$config"

# copied FROM TO: every file in one folder, not what lies deeper
copied() {
  [ -d "$1" ] || return 0
  mkdir -p "$2"
  for file in "$1"/*; do
    if [ -f "$file" ]; then cat "$file" >"$2/${file##*/}"; fi
  done
}

copied "${ASSENT_FILES:?where from?}/config" "$config"
copied "$ASSENT_FILES/guard" "$config/guard"
[ -f "$config/config.toml" ] || {
  echo "assent-start: no config.toml in $ASSENT_FILES/config; mount what 'assent-collector init' made" >&2
  exit 3
}
exec "$@"
