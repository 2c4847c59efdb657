// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package bootlog

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"time"
	"unicode/utf16"
)

// Boot is what firmware, shim, GRUB and kernel of the machine around the TPM
// measure. The zero value is a boot with Secure Boot on.
type Boot struct {
	SecureBootOff bool
	Kernel        string // version of the kernel; empty: DefaultKernel. Another version has another digest.
	CommandLine   string // of the kernel; empty: DefaultCommandLine
}

// What boots where nothing else is said.
const (
	DefaultKernel      = "6.12.0-jurat"
	DefaultCommandLine = "root=/dev/vda1 ro quiet ima_policy=tcb"
)

// Event types (TCG PC Client Platform Firmware Profile section 10.4.1).
const (
	evNoAction        = 0x03
	evSeparator       = 0x04
	evEventTag        = 0x06
	evCRTMVersion     = 0x08
	evIPL             = 0x0d
	evVariableDriver  = 0x80000001
	evVariableBoot    = 0x80000002
	evBootApplication = 0x80000003
	evGPT             = 0x80000006
	evAction          = 0x80000007
	evFirmwareBlob    = 0x80000008
	evAuthority       = 0x800000e0
)

// events are all of a boot, in the order in which a PC measures them.
func (b Boot) events() []event {
	kernel, line := b.Kernel, b.CommandLine
	if kernel == "" {
		kernel = DefaultKernel
	}
	if line == "" {
		line = DefaultCommandLine
	}
	firmware := wide("jurat soft firmware 1.0")
	events := []event{
		{0, evCRTMVersion, firmware, firmware},
		{0, evFirmwareBlob, []byte("\x00\x00\x82\x00\x00\x00\x00\x00\x00\x00\x0e\x00\x00\x00\x00\x00"), []byte("jurat soft firmware: volume")},
	}
	events = append(events, b.secureBoot()...)
	events = append(events, bootOrder()...)
	events = append(events, plain(4, evAction, []byte("Calling EFI Application from Boot Option")))
	for pcr := range uint32(7) {
		events = append(events, plain(pcr, evSeparator, make([]byte, 4)))
	}
	events = append(events, b.loaders()...)
	events = append(events, grub(kernel, line)...)
	return append(events,
		plain(5, evAction, []byte("Exit Boot Services Invocation")),
		plain(5, evAction, []byte("Exit Boot Services Returned with Success")))
}

// plain is an event whose digest is that of its data.
func plain(pcr, kind uint32, data []byte) event { return event{pcr, kind, data, data} }

// wide is UTF-16 with a zero at the end.
func wide(s string) []byte { return append(utf16le(s), 0, 0) }

func utf16le(s string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

// content stands in for the bytes of a program or of a file.
func content(name string) []byte { return []byte("jurat soft machine: " + name) }

// grub is what GRUB and the kernel's EFI stub measure: commands and the command
// line without the words in front and the zero behind, files by their content.
func grub(kernel, line string) []event {
	words := func(pcr uint32, prefix, s string) event {
		return event{pcr, evIPL, []byte(prefix + s + "\x00"), []byte(s)}
	}
	file := func(path, of string) event { return event{9, evIPL, []byte(path + "\x00"), content(of)} }
	image, initrd := "/boot/vmlinuz-"+kernel, "/boot/initrd.img-"+kernel
	tag := []byte("LOADED_IMAGE::LoadOptions\x00")
	options := binary.LittleEndian.AppendUint32(nil, 0x8f3b22ed) // Linux drivers/firmware/efi/libstub/efistub.h
	options = append(binary.LittleEndian.AppendUint32(options, uint32(len(tag))), tag...)
	return []event{
		file("(hd0,gpt1)/EFI/jurat/grub.cfg", "grub.cfg"),
		words(8, "grub_cmd: ", "set timeout=0"),
		words(8, "grub_cmd: ", "linux "+image+" "+line),
		file(image, "kernel "+kernel),
		words(8, "kernel_cmdline: ", image+" "+line),
		words(8, "grub_cmd: ", "initrd "+initrd),
		file(initrd, "initrd "+kernel),
		{4, evBootApplication, imageLoad(devicePath("", false)), content("kernel " + kernel)},
		{9, evEventTag, options, wide("BOOT_IMAGE=" + image + " " + line)},
	}
}

// A guid is in the order of bytes that UEFI has in memory.
type guid [16]byte

var (
	guidGlobal   = guid{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	guidSecurity = guid{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
	guidShim     = guid{0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23}
	guidX509     = guid{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	guidSHA256   = guid{0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28}
	guidOwner    = guid{'j', 'u', 'r', 'a', 't', ' ', 's', 'o', 'f', 't', ' ', 'o', 'w', 'n', 'e', 'r'}
	guidDisk     = guid{'j', 'u', 'r', 'a', 't', ' ', 's', 'o', 'f', 't', ' ', 'd', 'i', 's', 'k', ' '}
	guidESP      = guid{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}
)

// variable is a UEFI_VARIABLE_DATA.
func variable(vendor guid, name string, value []byte) []byte {
	encoded := utf16le(name)
	b := append([]byte(nil), vendor[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(encoded)/2))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	return append(append(b, encoded...), value...)
}

// signatureList is an EFI_SIGNATURE_LIST with one entry of the owner.
func signatureList(kind guid, signature []byte) []byte {
	entry := len(guidOwner) + len(signature)
	b := append([]byte(nil), kind[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(28+entry))
	b = binary.LittleEndian.AppendUint32(b, 0) // no header
	b = binary.LittleEndian.AppendUint32(b, uint32(entry))
	return append(append(b, guidOwner[:]...), signature...)
}

// certificate is the same for the same name: key, dates and number are made
// from it, and Ed25519 signatures have no randomness.
func certificate(name string) []byte {
	seed := sha256.Sum256([]byte(name))
	key := ed25519.NewKeyFromSeed(seed[:])
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Unix(1700000000, 0), NotAfter: time.Unix(4000000000, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		panic(err) // nothing in it depends on anything but name
	}
	return der
}

// Names of certificates.
const (
	platformKey = "jurat soft platform key"
	keyExchange = "jurat soft key exchange key"
	signerKey   = "jurat soft signature database"
	vendorKey   = "jurat soft distribution"
)

// secureBoot is what PCR 7 has before the operating system's part begins.
func (b Boot) secureBoot() []event {
	state := []byte{1}
	if b.SecureBootOff {
		state[0] = 0
	}
	revoked := sha256.Sum256(content("a boot loader that was revoked"))
	config := func(vendor guid, name string, value []byte) event {
		return plain(7, evVariableDriver, variable(vendor, name, value))
	}
	return []event{
		config(guidGlobal, "SecureBoot", state),
		config(guidGlobal, "PK", signatureList(guidX509, certificate(platformKey))),
		config(guidGlobal, "KEK", signatureList(guidX509, certificate(keyExchange))),
		config(guidSecurity, "db", signatureList(guidX509, certificate(signerKey))),
		config(guidSecurity, "dbx", signatureList(guidSHA256, revoked[:])),
		plain(7, evSeparator, make([]byte, 4)),
	}
}

// bootOrder is what PCR 1 has; of these variables only the value is measured.
func bootOrder() []event {
	option := binary.LittleEndian.AppendUint32(nil, 1) // LOAD_OPTION_ACTIVE
	path := devicePath(`\EFI\jurat\shimx64.efi`, true)
	option = binary.LittleEndian.AppendUint16(option, uint16(len(path)))
	option = append(append(option, wide("jurat soft machine")...), path...)
	boot := func(name string, value []byte) event {
		return event{1, evVariableBoot, variable(guidGlobal, name, value), value}
	}
	return []event{boot("BootOrder", []byte{0, 0}), boot("Boot0000", option)}
}

// loaders is what firmware and shim measure of the disk, of shim and of GRUB.
// With Secure Boot off nobody's signature is needed, so none is measured.
func (b Boot) loaders() []event {
	authority := func(vendor guid, name string, value []byte) event {
		return plain(7, evAuthority, variable(vendor, name, value))
	}
	owned := func(name string) []byte { return append(guidOwner[:], certificate(name)...) }
	mok := func(name string) event { return event{14, evIPL, []byte(name + "\x00"), content(name)} }
	var events []event
	if !b.SecureBootOff {
		events = append(events, authority(guidSecurity, "db", owned(signerKey)))
	}
	events = append(events,
		plain(5, evGPT, partitions()),
		event{4, evBootApplication, imageLoad(devicePath(`\EFI\jurat\shimx64.efi`, true)), content("shim")},
		mok("MokList"), mok("MokListX"),
		authority(guidShim, "SbatLevel", []byte("sbat,1,2023012900\n")),
		event{4, evBootApplication, imageLoad(devicePath(`\EFI\jurat\grubx64.efi`, false)), content("GRUB")})
	if !b.SecureBootOff {
		events = append(events, authority(guidShim, "Shim", certificate(vendorKey)))
	}
	return events
}

// imageLoad is a UEFI_IMAGE_LOAD_EVENT.
func imageLoad(path []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, 0xbc800000) // where in memory
	b = binary.LittleEndian.AppendUint64(b, 0x100000)      // how long
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(path)))
	return append(b, path...)
}

// devicePath is a UEFI device path to a file, on the first partition or, as
// shim gives it, on whatever disk it came from.
func devicePath(file string, partition bool) []byte {
	node := func(kind, sub byte, data []byte) []byte {
		return append([]byte{kind, sub, byte(4 + len(data)), byte((4 + len(data)) >> 8)}, data...)
	}
	var path []byte
	if partition {
		disk := binary.LittleEndian.AppendUint32(nil, 1)       // partition
		disk = binary.LittleEndian.AppendUint64(disk, 2048)    // its first block
		disk = binary.LittleEndian.AppendUint64(disk, 1048576) // and their number
		disk = append(append(disk, guidDisk[:]...), 2, 2)      // GPT, GUID
		path = append(path, node(4, 1, disk)...)
	}
	if file != "" {
		path = append(path, node(4, 4, wide(file))...)
	}
	return append(path, node(0x7f, 0xff, nil)...)
}

// partitions is a UEFI_GPT_DATA: a header and one partition.
func partitions() []byte {
	b := append([]byte("EFI PART"), 0, 0, 1, 0, 92, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, block := range []uint64{1, 2099199, 34, 2099166} { // own, other, first and last usable
		b = binary.LittleEndian.AppendUint64(b, block)
	}
	b = append(b, guidDisk[:]...)
	b = binary.LittleEndian.AppendUint64(b, 2)   // entries from this block on
	b = binary.LittleEndian.AppendUint32(b, 128) // their number
	b = binary.LittleEndian.AppendUint32(b, 128) // their size
	b = binary.LittleEndian.AppendUint32(b, 0)   // and checksum
	b = binary.LittleEndian.AppendUint64(b, 1)   // one is in use
	b = append(append(b, guidESP[:]...), guidDisk[:]...)
	b = binary.LittleEndian.AppendUint64(b, 2048)
	b = binary.LittleEndian.AppendUint64(b, 1050623)
	b = binary.LittleEndian.AppendUint64(b, 0)
	return append(b, append(utf16le("EFI system"), make([]byte, 72-2*len("EFI system"))...)...)
}
