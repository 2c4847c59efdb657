// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package bpf

// One object serves every little-endian machine: the programs read no
// registers and every offset is relocated when they are loaded.
//
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -tags linux -target bpfel -no-global-types core core.bpf.c -- -Wall -Werror
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -tags linux -target bpfel -no-global-types watch watch.bpf.c -- -Wall -Werror
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -tags linux -target bpfel -no-global-types lsm lsm.bpf.c -- -mcpu=v3 -Wall -Werror
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -tags linux -target bpfel -no-global-types trampoline trampoline.bpf.c -- -mcpu=v3 -Wall -Werror
//go:generate go run manifest_generate.go
