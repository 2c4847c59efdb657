#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The jurat authors
#
# Installs the Debian packages that a make target needs and that are missing.
# Usage: scripts/setup.sh demo|redteam|kernels|test|bench|check|generate
set -euo pipefail

declare -A program_of=(
  [swtpm]=swtpm [swtpm-tools]=swtpm_setup [gnutls-bin]=certtool [openssh-client]=ssh-keygen
  [clang-14]=clang-14 [llvm-14]=llvm-strip-14 [tpm2-tools]=tpm2_checkquote [git]=git [gcc]=gcc [libc6-dev]=/usr/include/stdlib.h [python3]=/usr/bin/python3
  [postgresql]=/usr/lib/postgresql/15/bin/initdb [make]=make [openssl]=openssl [luajit]=luajit
  [qemu-system-x86]=qemu-system-x86_64 [busybox-static]=busybox [e2fsprogs]=mke2fs [xz-utils]=xz
)
case "${1:-}" in
  demo) want="swtpm swtpm-tools gnutls-bin openssh-client python3" ;;
  redteam) want="swtpm swtpm-tools gnutls-bin openssh-client gcc libc6-dev python3" ;;
  kernels) want="qemu-system-x86 busybox-static e2fsprogs xz-utils swtpm swtpm-tools gnutls-bin openssh-client gcc libc6-dev python3" ;;
  test) want="swtpm swtpm-tools gnutls-bin openssh-client tpm2-tools git gcc libc6-dev postgresql python3 luajit" ;;
  bench) want="swtpm swtpm-tools gnutls-bin openssh-client gcc libc6-dev make openssl" ;;
  check | generate) want="git clang-14 llvm-14" ;;
  *) echo "usage: scripts/setup.sh demo|redteam|kernels|test|bench|check|generate" >&2; exit 2 ;;
esac

missing=""
for package in $want; do
  program=${program_of[$package]}
  if [[ $program == /* ]]; then [[ -e $program ]] || missing+=" $package"
  elif ! command -v "$program" >/dev/null; then missing+=" $package"; fi
done
[[ -n $missing ]] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "setup: missing:$missing. Install them with your package manager, then run this again." >&2; exit 3
fi
if [[ $(id -u) -ne 0 ]]; then
  echo "setup: missing:$missing. Run as root: apt-get install --no-install-recommends$missing" >&2; exit 3
fi
echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086
if ! { apt-get -q update && apt-get -q -y install --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
  tail -20 "$log" >&2
  echo "setup: apt-get could not install$missing (its last lines are above)" >&2; exit 3
fi
