#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The jurat authors
#
# Runs every fuzz target of the tree in turn. Usage: scripts/fuzz.sh 30s
set -euo pipefail
each=${1:-30s}
git grep -qE "^func Fuzz" -- "*_test.go" || { echo "no fuzz targets found" >&2; exit 1; }
while IFS=: read -r file target; do
  echo "== $file $target"
  go test -run '^$' -fuzz "^${target#func }\$" -fuzztime "$each" -fuzzminimizetime 1x "./$(dirname "$file")"
done < <(git grep -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go')
