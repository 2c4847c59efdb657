#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The jurat authors
#
# Known vulnerabilities, where GOVULNDB names their database (a file:// copy
# will do). Without it this says that nothing was checked; with it, anything
# but a clean answer is a failure.
set -euo pipefail
if [[ -z ${GOVULNDB:-} ]]; then
  echo "vulnerabilities: NOT CHECKED, GOVULNDB names no database"
  exit 0
fi
go tool -modfile=tools/go.mod govulncheck -db "$GOVULNDB" ./...
