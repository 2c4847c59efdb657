// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
)

// model measures how fast juratd has the digest of a large model that a
// process has opened, against two tools that do nothing else.
func model(h *host) ([]figure, error) {
	const rounds = 3
	path := h.Path("weights.gguf")
	if err := writeModel(path); err != nil {
		return nil, err
	}
	var ours, openssl, sum, again []float64
	for range rounds {
		if err := h.start(); err != nil {
			return nil, err
		}
		first, second, digest, err := h.explainModel(path)
		if err != nil {
			return nil, err
		}
		ours, again = append(ours, first.Seconds()), append(again, second.Seconds())
		for tool, into := range map[string]*[]float64{"openssl dgst -sha256": &openssl, "sha256sum": &sum} {
			args := append(strings.Fields(tool), path)
			begin := time.Now()
			out, err := exec.CommandContext(h.ctx, args[0], args[1:]...).Output()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", tool, err)
			}
			*into = append(*into, time.Since(begin).Seconds())
			if !strings.Contains(string(out), digest) {
				return nil, fmt.Errorf("juratd says %s, %s says %s", digest, tool, out)
			}
		}
		if err := h.stop(); err != nil {
			return nil, err
		}
	}
	us := quartile(ours)
	speed := func(seconds float64) float64 { return modelSize / 1e9 / seconds }
	against := func(tool string, theirs float64) figure {
		return figure{Name: "the same, of " + tool + "'s speed", Figure: round(100 * theirs / us), Unit: "%", Ratio: theirs / us, ComparedTo: tool}.atLeast(90)
	}
	return []figure{
		{Name: "explain of a process with a 4 GiB model, file in memory", Figure: round(speed(us)), Unit: "GB/s"},
		against("openssl dgst -sha256", quartile(openssl)),
		against("sha256sum", quartile(sum)),
		{Name: "explain again, digest from juratd's cache", Figure: round(1000 * quartile(again)), Unit: "ms", Ratio: quartile(again) / us, ComparedTo: "the first time"},
	}, nil
}

const modelSize = 4 << 30 // bytes

// writeModel writes a file that does not compress, and leaves it in memory.
func writeModel(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	random := rand.NewChaCha8([32]byte{})
	block := make([]byte, 1<<20)
	for range modelSize / len(block) {
		random.Read(block)
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return f.Sync()
}

// explainModel has a process open the model, and asks about it twice.
func (h *host) explainModel(path string) (first, second time.Duration, digest string, err error) {
	reader := exec.CommandContext(h.ctx, "tail", "-c", "1", "-f", path)
	if err := reader.Start(); err != nil {
		return 0, 0, "", err
	}
	defer func() {
		reader.Process.Kill()
		reader.Wait()
	}()
	if err := h.sleep(time.Second); err != nil {
		return 0, 0, "", err
	}
	client := local.Client{Socket: h.Socket}
	for _, took := range []*time.Duration{&first, &second} {
		begin := time.Now()
		for digest = ""; digest == ""; {
			x, err := client.Explain(h.ctx, uint32(reader.Process.Pid))
			if err != nil {
				return 0, 0, "", err
			}
			models, _ := x.Process.Models.Observed()
			if len(models) != 1 {
				return 0, 0, "", fmt.Errorf("models of the reader: %s", x.Process.Models)
			}
			if d, ok := models[0].Digest.Get(); ok {
				digest = d.Value.String()
			} else if len(x.Models) == 0 {
				return 0, 0, "", fmt.Errorf("digest of the model: %s", models[0].Digest)
			}
		}
		*took = time.Since(begin)
	}
	return first, second, digest, nil
}
