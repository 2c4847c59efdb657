// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/go-tpm/tpm2"
)

// keyring knows what is loaded in the TPM on our behalf.
type keyring struct {
	mu     sync.Mutex // guards what follows
	loaded []tpm2.TPMHandle
	closed bool
}

func (k *keyring) add(handle tpm2.TPMHandle) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loaded = append(k.loaded, handle)
}

func (k *keyring) remove(handle tpm2.TPMHandle) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loaded = slices.DeleteFunc(k.loaded, func(h tpm2.TPMHandle) bool { return h == handle })
}

// close hands what is still loaded to finish, once.
func (k *keyring) close(finish func([]tpm2.TPMHandle) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	return finish(k.loaded)
}

// key is an asymmetric key inside the TPM.
type key struct {
	handle    tpm2.TPMHandle
	transient bool
	public    *tpm2.TPMTPublic
	encoded   []byte         // TPMT_PUBLIC
	name      tpm2.TPM2BName // of public, computed here
	created   *tpm2.CreatePrimaryResponse
}

// newKey takes a key's public area apart and refuses one that does not follow
// template in everything but the key itself.
//
//	Name = nameAlg || H_nameAlg(TPMT_PUBLIC)
func newKey(handle tpm2.TPMHandle, encoded []byte, template tpm2.TPMTPublic) (*key, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](encoded)
	if err != nil {
		return nil, fmt.Errorf("public area of key 0x%x: %w", uint32(handle), err)
	}
	if public.Type != template.Type {
		return nil, fmt.Errorf("%w: type 0x%x, want 0x%x", errTemplate, uint16(public.Type), uint16(template.Type))
	}
	likeTemplate := *public
	likeTemplate.Unique = template.Unique
	if !bytes.Equal(tpm2.Marshal(likeTemplate), tpm2.Marshal(template)) {
		return nil, fmt.Errorf("%w: key 0x%x", errTemplate, uint32(handle))
	}
	if !bytes.Equal(tpm2.Marshal(*public), encoded) {
		return nil, fmt.Errorf("public area of key 0x%x is not canonical", uint32(handle))
	}
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return nil, fmt.Errorf("name of key 0x%x: %w", uint32(handle), err)
	}
	return &key{handle: handle, public: public, encoded: encoded, name: *name}, nil
}

// errTemplate: the TPM holds or made another kind of key than asked for.
var errTemplate = errors.New("public area does not follow the template")

// auth authorizes the use of k with the empty password.
func (k *key) auth() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: k.handle, Name: k.name, Auth: tpm2.PasswordAuth(nil)}
}

// createPrimary makes the key that template and the endorsement seed
// determine. Release it when done; Close releases what is left.
func (d *Device) createPrimary(ctx context.Context, template tpm2.TPMTPublic) (*key, error) {
	rsp, err := run(ctx, d.bus, tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(template),
	})
	switch {
	case errors.Is(err, tpm2.TPMRCBadAuth), errors.Is(err, tpm2.TPMRCAuthFail):
		return nil, fmt.Errorf("%w: the endorsement hierarchy has a password; clear it with tpm2_changeauth -c endorsement", err)
	case errors.Is(err, tpm2.TPMRCHierarchy):
		return nil, fmt.Errorf("%w: the endorsement hierarchy is disabled; enable it in the firmware setup", err)
	case errors.Is(err, tpm2.TPMRCObjectMemory):
		return nil, fmt.Errorf("%w: other programs fill the TPM with keys; use /dev/tpmrm0, or restart the software TPM", err)
	case err != nil:
		return nil, err
	}
	d.keys.add(rsp.ObjectHandle)
	k, err := newKey(rsp.ObjectHandle, rsp.OutPublic.Bytes(), template)
	if err == nil && !bytes.Equal(k.name.Buffer, rsp.Name.Buffer) {
		err = fmt.Errorf("TPM2_CreatePrimary: name %x, want %x", rsp.Name.Buffer, k.name.Buffer)
	}
	if err != nil {
		return nil, errors.Join(err, d.release(&key{handle: rsp.ObjectHandle, transient: true}))
	}
	k.transient, k.created = true, rsp
	return k, nil
}

// release flushes k unless it is persistent and not ours.
func (d *Device) release(k *key) error {
	if !k.transient {
		return nil
	}
	d.keys.remove(k.handle)
	return d.flush(k.handle)
}

// hold keeps account of a session until the returned function flushes it.
func (d *Device) hold(session tpm2.TPMHandle) (end func()) {
	d.keys.add(session)
	return func() {
		d.keys.remove(session)
		// The TPM itself ends a session in which a command went wrong in
		// certain ways; there is nothing to do about an error here.
		_ = d.flush(session)
	}
}
