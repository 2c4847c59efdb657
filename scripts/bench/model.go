// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
)

// reading is how long one took to read the model.
type reading struct{ clock, processor []float64 } // seconds

func (r *reading) add(clock, processor time.Duration) {
	r.clock, r.processor = append(r.clock, clock.Seconds()), append(r.processor, processor.Seconds())
}

// model measures how fast juratd has the digest of a large model that a
// process has opened, against two tools that do nothing else.
func model(h *host) ([]figure, error) {
	const rounds = 3
	path := h.Path("weights.gguf")
	if err := writeModel(path); err != nil {
		return nil, err
	}
	var ours, again reading
	tools := []string{"openssl dgst -sha256", "sha256sum"}
	theirs := make(map[string]*reading)
	for range rounds {
		if err := h.start(); err != nil {
			return nil, err
		}
		digest, err := h.explainModel(path, &ours, &again)
		if err != nil {
			return nil, err
		}
		if err := h.stop(); err != nil {
			return nil, err
		}
		for _, tool := range tools {
			if theirs[tool] == nil {
				theirs[tool] = new(reading)
			}
			if err := hashWith(h.ctx, tool, path, digest, theirs[tool]); err != nil {
				return nil, err
			}
		}
	}
	us, usProcessor := quartile(ours.clock), quartile(ours.processor)
	figures := []figure{{Name: "explain of a process with a 4 GiB model, file in memory", Figure: round(modelSize / 1e9 / us), Unit: "GB/s"}}
	for _, tool := range tools {
		clock, processor := quartile(theirs[tool].clock), quartile(theirs[tool].processor)
		figures = append(figures,
			figure{Name: "the same, of the speed of " + tool, Figure: round(100 * clock / us), Unit: "%", Ratio: clock / us, ComparedTo: tool}.atLeast(90),
			figure{Name: "the same by processor time", Figure: round(100 * processor / usProcessor), Unit: "%", Ratio: processor / usProcessor, ComparedTo: tool})
	}
	cached := quartile(again.clock)
	return append(figures, figure{Name: "explain again, digest from juratd's cache", Figure: round(1000 * cached), Unit: "ms", Ratio: cached / us, ComparedTo: "the first time"}), nil
}

// hashWith runs a tool that prints the digest of a file.
func hashWith(ctx context.Context, tool, path, digest string, into *reading) error {
	args := append(strings.Fields(tool), path)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	begin := time.Now()
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", tool, err)
	}
	into.add(time.Since(begin), cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	if !strings.Contains(string(out), digest) {
		return fmt.Errorf("juratd says %s, %s says %s", digest, tool, out)
	}
	return nil
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
func (h *host) explainModel(path string, first, second *reading) (digest string, err error) {
	reader := exec.CommandContext(h.ctx, "tail", "-c", "1", "-f", path)
	if err := reader.Start(); err != nil {
		return "", err
	}
	defer func() {
		reader.Process.Kill()
		reader.Wait()
	}()
	if err := h.sleep(time.Second); err != nil {
		return "", err
	}
	for _, into := range []*reading{first, second} {
		begin := time.Now()
		before, err := h.processor()
		if err != nil {
			return "", err
		}
		if digest, err = h.modelDigest(uint32(reader.Process.Pid)); err != nil {
			return "", err
		}
		took := time.Since(begin)
		after, err := h.processor()
		if err != nil {
			return "", err
		}
		into.add(took, after-before)
	}
	return digest, nil
}

// modelDigest asks juratd about a process until it has the digest of its model.
func (h *host) modelDigest(pid uint32) (string, error) {
	client := local.Client{Socket: h.Socket}
	for {
		x, err := client.Explain(h.ctx, pid)
		if err != nil {
			return "", err
		}
		models, _ := x.Process.Models.Observed()
		if len(models) != 1 {
			return "", fmt.Errorf("models of the reader: %s", x.Process.Models)
		}
		if d, ok := models[0].Digest.Get(); ok {
			return d.Value.String(), nil
		}
		if len(x.Models) == 0 {
			return "", fmt.Errorf("digest of the model: %s", models[0].Digest)
		}
	}
}
