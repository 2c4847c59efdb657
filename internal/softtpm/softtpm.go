// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package softtpm makes and runs software TPMs (swtpm) for tests, the demo and
// the benchmarks.
//
// It is no station of the flow and no program that ships links it: a software
// TPM proves nothing about a machine. Its doors are the swtpm programs and one
// directory that the caller names; it writes nowhere else, and it brings its
// own certificate authority instead of using the machine's.
//
// What a client connects to is [TPM.Path], a unix socket of this process in
// front of swtpm. It does what the kernel does for /dev/tpmrm0: several clients
// at once, one command at a time, and what a client leaves behind is flushed
// when it goes. It can also be slow on purpose ([TPM.SetDelay]).
package softtpm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/jurat-dev/jurat/internal/bootlog"
)

// Options say what TPM to make. The zero value is a TPM with EK certificates
// from its own authority and the SHA-256 bank.
type Options struct {
	CA       string       // directory of the certificate authority; empty: "ca" inside the TPM's directory. TPMs may share one.
	Banks    string       // PCR banks as swtpm_setup takes them; empty: "sha256"
	Blank    bool         // no manufacturing: a TPM without EK certificates, made by its first start
	Firmware bool         // measure a boot and write its log whenever the TPM starts clear
	Boot     bootlog.Boot // which boot
}

// TPM is a running software TPM.
type TPM struct {
	dir    string
	opts   Options
	relay  *relay
	daemon *daemon
}

// Names inside the TPM's directory.
const (
	socketName  = "tpm.sock"   // the relay's: what clients use
	rawName     = "swtpm.sock" // swtpm's own: one client at a time
	stateName   = "state"
	caName      = "ca"
	logName     = "swtpm.log"
	bootLogName = "binary_bios_measurements"
)

// maxSocketPath is what sun_path holds, less the terminating zero byte.
const maxSocketPath = 107

// stopTimeout is how long swtpm may take to start or to end.
const stopTimeout = 10 * time.Second

// Available says why this machine cannot run software TPMs, or nil.
func Available() error {
	for _, program := range []string{"swtpm", "swtpm_setup", "swtpm_localca", "certtool"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is not installed (Debian: apt-get install swtpm swtpm-tools gnutls-bin)", program)
		}
	}
	return nil
}

// Start runs the TPM whose state is in dir and makes it first if there is
// none. The TPM keeps its keys from one Start to the next, as a chip would.
func Start(dir string, opts Options) (*TPM, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if n := len(filepath.Join(dir, rawName)); n > maxSocketPath {
		return nil, fmt.Errorf("socket path in %s has %d bytes, at most %d: choose a shorter directory", dir, n, maxSocketPath)
	}
	if opts.CA == "" {
		opts.CA = filepath.Join(dir, caName)
	}
	if opts.CA, err = filepath.Abs(opts.CA); err != nil {
		return nil, err
	}
	if opts.Banks == "" {
		opts.Banks = "sha256"
	}
	if err := manufacture(dir, opts); err != nil {
		return nil, err
	}
	t := &TPM{dir: dir, opts: opts}
	if err := t.powerOn("startup-clear"); err != nil {
		return nil, err
	}
	t.relay, err = newRelay(t.Path(), t.RawPath())
	if err != nil {
		return nil, errors.Join(err, t.daemon.stop(syscall.SIGTERM))
	}
	return t, nil
}

// Path is the socket that clients use.
func (t *TPM) Path() string { return filepath.Join(t.dir, socketName) }

// RawPath is swtpm's own socket. It takes one client at a time, and only while
// no client is connected to Path; nothing is cleaned up behind that client.
func (t *TPM) RawPath() string { return filepath.Join(t.dir, rawName) }

// RootCA is the PEM file of the root that the EK certificates chain to.
func (t *TPM) RootCA() string { return filepath.Join(t.opts.CA, "swtpm-localca-rootca-cert.pem") }

// IssuerCA is the PEM file of the intermediate that signs EK certificates.
func (t *TPM) IssuerCA() string { return filepath.Join(t.opts.CA, "issuercert.pem") }

// SetDelay makes commands slower from now on: quote is added to each
// TPM2_Quote, each to every other command.
func (t *TPM) SetDelay(quote, each time.Duration) { t.relay.setDelay(quote, each) }

// Stop ends the TPM as an orderly shutdown of the machine does.
func (t *TPM) Stop() error {
	return errors.Join(t.relay.close(), t.powerOff(shutdownClear))
}

// Kill ends swtpm in the middle of whatever it does; clients see their
// connection end. Reset brings the TPM back.
func (t *TPM) Kill() error {
	err := t.daemon.stop(syscall.SIGKILL)
	t.relay.halt()
	t.relay.resume()
	return err
}

// Reset is a reboot: orderly shutdown, TPM2_Startup(CLEAR). PCRs are zero
// again and resetCount goes up. Clients are disconnected.
func (t *TPM) Reset() error { return t.cycle(shutdownClear, "startup-clear") }

// PowerCut is a reboot without any shutdown: the clock is no longer safe.
func (t *TPM) PowerCut() error { return t.cycle(shutdownNone, "startup-clear") }

// Restart is a hibernation: TPM2_Shutdown(STATE), then TPM2_Startup(CLEAR).
// PCRs are zero again while resetCount stays.
func (t *TPM) Restart() error { return t.cycle(shutdownState, "startup-clear") }

// Resume is a sleep: TPM2_Shutdown(STATE), then TPM2_Startup(STATE). PCRs stay.
func (t *TPM) Resume() error { return t.cycle(shutdownState, "startup-state") }

func (t *TPM) cycle(how shutdown, startup string) error {
	t.relay.halt()
	defer t.relay.resume()
	if err := t.powerOff(how); err != nil {
		return err
	}
	return t.powerOn(startup)
}

func (t *TPM) powerOn(startup string) error {
	d, err := startDaemon(t.dir, startup)
	if err != nil {
		return err
	}
	t.daemon = d
	if t.opts.Firmware && startup == "startup-clear" {
		if err := onSocket(t.RawPath(), t.measureBoot); err != nil {
			return errors.Join(fmt.Errorf("measuring the boot: %w", err), d.stop(syscall.SIGKILL))
		}
	}
	return nil
}

func (t *TPM) powerOff(how shutdown) error {
	if t.daemon.ended() {
		return nil
	}
	var err error
	if how != shutdownNone {
		err = onSocket(t.RawPath(), how.send)
	}
	return errors.Join(err, t.daemon.stop(syscall.SIGTERM))
}

// daemon is one run of swtpm.
type daemon struct {
	process *os.Process
	done    chan struct{} // closed when the process has been reaped
}

// startDaemon runs swtpm and returns when it answers on its socket.
func startDaemon(dir, startup string) (*daemon, error) {
	raw := filepath.Join(dir, rawName)
	if err := os.Remove(raw); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	cmd := exec.Command("swtpm", "socket", "--tpm2",
		"--server", "type=unixio,path="+raw+",mode=0600",
		"--flags", "not-need-init,"+startup,
		"--tpmstate", "dir="+filepath.Join(dir, stateName)+",mode=0600",
		"--log", "file="+filepath.Join(dir, logName)+",level=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	d := &daemon{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The parent-death signal is tied to the thread that forked, so that
		// thread has to live as long as swtpm does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed or ended: either way it is gone
			close(d.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting swtpm: %w", err)
	}
	d.process = cmd.Process
	for wait := time.Duration(0); ; wait += 5 * time.Millisecond {
		conn, err := net.Dial("unix", raw)
		if err == nil {
			return d, conn.Close()
		}
		if d.ended() || wait > stopTimeout {
			return nil, errors.Join(fmt.Errorf("swtpm does not answer on %s, see %s", raw, filepath.Join(dir, logName)), d.stop(syscall.SIGKILL))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// stop sends sig, waits, and kills what has not ended by then.
func (d *daemon) stop(sig syscall.Signal) error {
	if d.ended() {
		return nil
	}
	if err := d.process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping swtpm: %w", err)
	}
	select {
	case <-d.done:
		return nil
	case <-time.After(stopTimeout):
	}
	if err := d.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing swtpm: %w", err)
	}
	<-d.done
	return nil
}
