#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The jurat authors
#
# Fetches a Debian release's stock cloud kernel from the apt sources this
# machine has, with the release's name put in place of its own, through an apt
# state of its own. Prints the directory it unpacked into.
# Usage: scripts/kernels/fetch.sh RELEASE CACHE
set -euo pipefail
release=$1 cache=$2/$1

week=$(date +%G-%V) # a cached kernel is asked for again in the next week
if [[ -e $cache/complete && $(cat "$cache/complete") == "$week" ]]; then
  echo "$cache/unpacked"
  exit 0
fi

own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
sources=/etc/apt/sources.list.d/debian.sources
[[ -s $sources ]] || sources=/etc/apt/sources.list
[[ -n $own && -s $sources ]] || { echo "kernels: no Debian apt sources on this machine" >&2; exit 3; }
kind=list
grep -q '^Types:' "$sources" && kind=sources

mkdir -p "$cache"/{state/lists/partial,archives/partial,parts,debs}
touch "$cache/status"
sed "s/\b$own\b/$release/g" "$sources" >"$cache/parts/s.$kind"
options=(-q -o Dir::State="$cache/state" -o Dir::State::status="$cache/status" -o Dir::Cache="$cache"
  -o Dir::Cache::archives="$cache/archives" -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$cache/parts"
  -o APT::Architecture=amd64 -o APT::Sandbox::User=root)

log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() { "$@" >"$log" 2>&1 </dev/null || { tail -20 "$log" >&2; echo "kernels: $1 $* (its last lines are above)" >&2; exit 3; }; }

quietly apt-get "${options[@]}" update
package=$(apt-cache "${options[@]}" depends linux-image-cloud-amd64 | awk '/Depends: linux-image-[0-9]/ { print $2; exit }')
[[ -n $package ]] || { echo "kernels: no linux-image-cloud-amd64 in the sources of $release" >&2; exit 3; }
if [[ ! -e $cache/package || $(cat "$cache/package") != "$package" ]]; then
  rm -rf "$cache/unpacked" "$cache"/debs/*
  (cd "$cache/debs" && quietly apt-get "${options[@]}" download "$package")
  dpkg-deb -x "$cache"/debs/*.deb "$cache/unpacked"
  echo "$package" >"$cache/package"
fi
echo "$week" >"$cache/complete"
echo "$cache/unpacked"
