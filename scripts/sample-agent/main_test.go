// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// juratd answers every request with one line.
func juratd(t *testing.T, answer string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, `{"jurat":1}`)
			if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
				fmt.Fprintln(c, answer)
			}
			c.Close()
		}
	}()
	return socket
}

func service(t *testing.T, status int) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "DPoP t" || r.Header.Get("DPoP") != "p" {
			t.Errorf("headers %v", r.Header)
		}
		w.Header().Set("WWW-Authenticate", "DPoP")
		w.WriteHeader(status)
		fmt.Fprint(w, `{"invoices":[{"from":"A","cents":100,"days_overdue":1},{"from":"B","cents":50,"days_overdue":9}]}`)
	}))
	t.Cleanup(s.Close)
	return s
}

const good = `{"authorization":"DPoP t","dpop":"p","expires_at":1}`

func TestRun(t *testing.T) {
	for name, row := range map[string]struct {
		answer     string
		status     int
		delegation string
		code       int
		out        string
	}{
		"done":            {good, 200, "dlg_1", 0, "1. \"A\": 1.00, 1 days overdue\n2. \"B\": 0.50"},
		"service says no": {good, 403, "dlg_1", 1, "the service refused"},
		"service broken":  {good, 500, "dlg_1", 3, "answered 500"},
		"juratd says no":  {`{"error":{"code":"E_BROKER_REFUSED","message":"x","failed":[{"attestor":"code","check":"exe"}]}}`, 200, "dlg_1", 1, "code/exe"},
		"no broker":       {`{"error":{"code":"E_BROKER_UNREACHABLE","message":"x"}}`, 200, "dlg_1", 3, "E_BROKER_UNREACHABLE"},
		"without jurat":   {good, 200, "", 3, "JURAT_DELEGATION is not set"},
	} {
		t.Run(name, func(t *testing.T) {
			socket := juratd(t, row.answer)
			env := map[string]string{"JURAT_SOCKET": socket, "JURAT_DELEGATION": row.delegation}
			var out strings.Builder
			code := run(context.Background(), []string{"-url", service(t, row.status).URL + "/invoices"},
				func(n string) string { return env[n] }, strings.NewReader("read the invoices\n"), &out, &out)
			if code != row.code || !strings.Contains(out.String(), row.out) {
				t.Errorf("exit %d, want %d; printed:\n%s", code, row.code, out.String())
			}
		})
	}
}

func writeModel(t *testing.T, header string, numbers ...float32) string {
	data := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	data = append(data, header...)
	for _, n := range numbers {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(n))
	}
	file := filepath.Join(t.TempDir(), "m.safetensors")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestModel(t *testing.T) {
	const header = `{"__metadata__":{"a":"b"},"weights":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	w, err := readModel(writeModel(t, header, 0, 1), 2)
	if err != nil || w[1] != 1 {
		t.Fatal(w, err)
	}
	for name, file := range map[string]string{
		"short":        writeModel(t, header, 0),
		"empty header": writeModel(t, ""),
		"other type":   writeModel(t, strings.Replace(header, "F32", "F64", 1), 0, 1),
		"backwards":    writeModel(t, strings.Replace(header, "[0,8]", "[8,0]", 1), 0, 1),
		"missing":      filepath.Join(t.TempDir(), "x"),
	} {
		if _, err := readModel(file, 2); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	long := writeModel(t, header, 0, 1)
	if err := os.WriteFile(long, []byte{255, 255, 255, 255, 255, 255, 255, 255, 1}, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readModel(long, 2); err == nil {
		t.Error("header longer than the file: accepted")
	}
}
