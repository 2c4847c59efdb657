// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import "math/big"

// rocaPrimes tell moduli of the faulty Infineon generator from others (Nemec
// et al., "The Return of Coppersmith's Attack", CCS 2017, section 2): there,
// modulo each of them, N is a power of 65537. A sound key passes for one of
// those with a probability below 2^-27.
var rocaPrimes = [...]int64{11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157}

func hasROCA(n *big.Int) bool {
	for _, p := range rocaPrimes {
		if !powerOf65537(new(big.Int).Mod(n, big.NewInt(p)).Int64(), p) {
			return false
		}
	}
	return true
}

func powerOf65537(x, p int64) bool {
	for g, power := 65537%p, int64(1); ; {
		if power == x {
			return true
		}
		if power = power * g % p; power == 1 {
			return false
		}
	}
}
