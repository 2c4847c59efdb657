// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package bootlog

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"testing"
)

// The keys in the log are ones that X.509 libraries read, and the same each time.
func TestCertificatesOfTheLog(t *testing.T) {
	for _, name := range []string{platformKey, keyExchange, signerKey, vendorKey} {
		der := certificate(name)
		if !bytes.Equal(der, certificate(name)) {
			t.Errorf("%s: another one the second time", name)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := cert.CheckSignatureFrom(cert); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSpecIDSaysItsSize(t *testing.T) {
	head := specID([]Bank{SHA256})
	if size := binary.LittleEndian.Uint32(head[28:]); int(size) != len(head)-32 {
		t.Errorf("says %d, has %d", size, len(head)-32)
	}
}
