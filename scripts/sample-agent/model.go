// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
)

const maxModel = 1 << 20

// readModel reads the tensor "weights" of n 32-bit floats from a .safetensors
// file: eight bytes of length, a JSON header, the numbers.
func readModel(file string, n int) ([]float32, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxModel+1))
	if err != nil {
		return nil, err
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("model %s: %s", file, fmt.Sprintf(format, args...))
	}
	if len(data) < 8 || len(data) > maxModel {
		return nil, bad("%d bytes, want 8 to %d", len(data), maxModel)
	}
	size := binary.LittleEndian.Uint64(data)
	if size > uint64(len(data)-8) {
		return nil, bad("header of %d bytes in a file of %d", size, len(data))
	}
	var header map[string]struct {
		Type    string    `json:"dtype"`
		Offsets [2]uint64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(data[8:8+size], &header); err != nil {
		return nil, bad("header: %v", err)
	}
	t, ok := header["weights"]
	body := data[8+size:]
	if !ok || t.Type != "F32" || t.Offsets[1] > uint64(len(body)) || t.Offsets[0] > t.Offsets[1] || t.Offsets[1]-t.Offsets[0] != uint64(4*n) {
		return nil, bad("no tensor \"weights\" of %d F32", n)
	}
	body = body[t.Offsets[0]:t.Offsets[1]]
	out := make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(body[4*i:]))
	}
	return out, nil
}
