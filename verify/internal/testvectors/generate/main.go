// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Generate writes the vectors of spec/vectors into the directory it is given.
// The same tree always writes the same bytes.
package main

import (
	"fmt"
	"os"

	"github.com/jurat-dev/jurat/verify/internal/testvectors"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate DIRECTORY")
		os.Exit(2)
	}
	if err := testvectors.Write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "generate: error:", err)
		os.Exit(1)
	}
}
