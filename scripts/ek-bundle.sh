#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The jurat authors
#
# Writes ek/vendors anew: the certificates of TPM makers that jurat-broker
# ships. They come out of three packages, each of one version and one digest,
# so that two runs give the same files. Run it on Debian 12, from anywhere.
# What it changes is to be reviewed like code: each root is a trust anchor.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
chmod 755 "$work" # apt downloads as another user
trap 'rm -rf "$work"' EXIT

# deb NAME VERSION SHA256: downloads, compares and unpacks a package of Debian.
deb() {
	(cd "$work" && apt-get -q download "$1=$2")
	file=$(find "$work" -maxdepth 1 -name "$1_*.deb")
	echo "$3  $file" | sha256sum --check --quiet
	dpkg-deb -x "$file" "$work/$1"
}

deb ruby-tpm-key-attestation 0.11.0-1 5eb24066396daedda31fc52165d80eb57c74b2d9e53a6767fa340460794bb815
deb libtss2-fapi1 3.2.1-3 17003f30ea0adfbda48aebe1b995c43fef6698fbb52d3fc2cde3b29fc260e135
# The module's digest is in go.sum.
tools=$(go mod download -json github.com/google/go-tpm-tools@v0.4.7 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')

find ek/vendors -name '*.pem' -delete
go run ./scripts/ekbundle -o ek/vendors \
	"ruby-tpm-key-attestation 0.11.0-1=$work/ruby-tpm-key-attestation/usr/share/rubygems-integration/all/gems/tpm-key_attestation-0.11.0/lib/tpm/certificates" \
	"libtss2-fapi1 3.2.1-3=$work/libtss2-fapi1/usr/lib/x86_64-linux-gnu/libtss2-fapi.so.1.0.0" \
	"go-tpm-tools v0.4.7=$tools/server/ca-certs"
