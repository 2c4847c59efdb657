// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package evidence

// The form of every type on the wire, in the order of spec/evidence.md. Each
// method writes or reads its type, whichever the codec does.

func (x *Digest) wire(c *codec) {
	c.array(3)
	text(&x.Algorithm, c)
	octets(&x.Value, c)
	text(&x.Source, c)
}

func (x *FileID) wire(c *codec) {
	c.array(4)
	unsigned(&x.Device, c)
	unsigned(&x.Inode, c)
	number(&x.Ctime, c)
	unsigned(&x.Size, c)
}

func (x *File) wire(c *codec) {
	c.array(3)
	text(&x.Path, c)
	x.ID.wire(c)
	field(&x.Digest, (*Digest).wire, c)
}

func files(x *[]File, c *codec) { list(x, MaxMaps, (*File).wire, c) }

func optionalFile(x **File, c *codec) { optional(x, (*File).wire, c) }

func (x *Entry) wire(c *codec) {
	c.array(11)
	unsigned(&x.Version, c)
	unsigned((*uint8)(&x.Kind), c)
	unsigned(&x.At, c)
	optional(&x.Instance, (*Instance).wire, c)
	optional(&x.Start, (*Start).wire, c)
	optional(&x.Exec, (*Exec).wire, c)
	optional(&x.Process, (*Process).wire, c)
	optional(&x.Exit, (*Exit).wire, c)
	optional(&x.Loss, (*Loss).wire, c)
	optional(&x.Taint, (*Taint).wire, c)
	optional(&x.Release, (*Release).wire, c)
}

func (x *Instance) wire(c *codec) {
	c.array(4)
	unsigned(&x.PID, c)
	unsigned(&x.Start, c)
	unsigned(&x.PidfdInode, c)
	unsigned(&x.Generation, c)
}

func (x *Start) wire(c *codec) {
	c.array(14)
	text(&x.Reason, c)
	unsigned(&x.Epoch, c)
	octets(&x.BootID, c)
	hash(&x.Previous, c)
	text(&x.Agent, c)
	field(&x.AgentDigest, (*Digest).wire, c)
	text(&x.Kernel, c)
	text(&x.Tier, c)
	hash(&x.Sensor, c)
	list(&x.Programs, MaxElements, (*Program).wire, c)
	unsigned(&x.Capabilities, c)
	field(&x.Modules, text, c)
	field(&x.Lockdown, text, c)
	list(&x.Signals, MaxSignals, (*Signal).wire, c)
}

func (x *Signal) wire(c *codec) {
	c.array(2)
	text(&x.Name, c)
	field(&x.By, text, c)
}

func (x *Program) wire(c *codec) {
	c.array(3)
	text(&x.Name, c)
	text(&x.Tag, c)
	boolean(&x.Fired, c)
}

func (x *Exec) wire(c *codec) {
	c.array(10)
	unsigned(&x.CPU, c)
	unsigned(&x.Record, c)
	boolean(&x.Seen, c)
	x.Parent.wire(c)
	text(&x.Hint, c)
	field(&x.Exe, (*File).wire, c)
	x.Creds.wire(c)
	unsigned(&x.CgroupID, c)
	field(&x.Cgroup, text, c)
	texts(&x.Taints, c)
}

func (x *Process) wire(c *codec) {
	c.array(25)
	text(&x.Origin, c)
	unsigned(&x.ExecAt, c)
	unsigned(&x.Measured, c)
	field(&x.Exe, (*File).wire, c)
	field(&x.Loader, optionalFile, c)
	field(&x.Script, func(x **Script, c *codec) { optional(x, (*Script).wire, c) }, c)
	field(&x.Maps, files, c)
	field(&x.Arguments, hash, c)
	field(&x.Code, (*Manifest).wire, c)
	field(&x.Models, files, c)
	field(&x.Inputs, files, c)
	field(&x.Credentials, (*Credentials).wire, c)
	field(&x.Groups, func(x *[]uint32, c *codec) { list(x, MaxElements, unsigned[uint32], c) }, c)
	field(&x.Namespaces, (*Namespaces).wire, c)
	field(&x.Cgroup, text, c)
	field(&x.Unit, text, c)
	field(&x.Container, func(x **Container, c *codec) { optional(x, (*Container).wire, c) }, c)
	field(&x.Ancestors, func(x *[]Ancestor, c *codec) { list(x, MaxElements, (*Ancestor).wire, c) }, c)
	field(&x.Label, text, c)
	field(&x.Session, unsigned[uint32], c)
	field(&x.TTY, text, c)
	field(&x.Directory, text, c)
	field(&x.Environment, environment, c)
	field(&x.Devices, texts, c)
	field(&x.Interference, texts, c)
}

func (x *Script) wire(c *codec) {
	c.array(2)
	x.File.wire(c)
	text(&x.Bound, c)
}

func (x *Manifest) wire(c *codec) {
	c.array(3)
	hash(&x.Root, c)
	unsigned(&x.Count, c)
	list(&x.Files, MaxElements, (*CodeFile).wire, c)
}

func (x *CodeFile) wire(c *codec) {
	c.array(2)
	hash(&x.Digest, c)
	text(&x.Path, c)
}

func (x *Credentials) wire(c *codec) {
	c.array(15)
	for _, id := range []*uint32{&x.UID, &x.EUID, &x.SUID, &x.FSUID, &x.GID, &x.EGID, &x.SGID, &x.FSGID} {
		unsigned(id, c)
	}
	for _, set := range []*uint64{&x.Inheritable, &x.Permitted, &x.Effective, &x.Bounding, &x.Ambient} {
		unsigned(set, c)
	}
	boolean(&x.NoNewPrivs, c)
	unsigned(&x.Seccomp, c)
}

func (x *Namespaces) wire(c *codec) {
	c.array(7)
	for _, inode := range []*uint32{&x.PID, &x.Mount, &x.User, &x.Net, &x.Cgroup, &x.UTS, &x.IPC} {
		unsigned(inode, c)
	}
}

func (x *Container) wire(c *codec) {
	c.array(4)
	text(&x.Runtime, c)
	text(&x.ID, c)
	field(&x.Image, text, c)
	field(&x.Pod, text, c)
}

func (x *Ancestor) wire(c *codec) {
	c.array(3)
	x.Instance.wire(c)
	text(&x.Path, c)
	field(&x.Digest, (*Digest).wire, c)
}

func (x *Exit) wire(c *codec) {
	c.array(1)
	unsigned(&x.Code, c)
}

func (x *Loss) wire(c *codec) {
	c.array(3)
	text(&x.Cause, c)
	unsigned(&x.CPU, c)
	unsigned(&x.Count, c)
}

func (x *Taint) wire(c *codec) {
	c.array(3)
	text(&x.Name, c)
	text(&x.How, c)
	optional(&x.By, (*Instance).wire, c)
}

func (x *Release) wire(c *codec) {
	c.array(4)
	hash(&x.Quote, c)
	hash(&x.Leaf, c)
	unsigned(&x.Window, c)
	x.After.wire(c)
}

func (x *Checkpoint) wire(c *codec) {
	c.array(13)
	unsigned(&x.Version, c)
	octets(&x.AKName, c)
	octets(&x.BootID, c)
	unsigned(&x.Epoch, c)
	unsigned(&x.Number, c)
	unsigned(&x.Size, c)
	hash(&x.Root, c)
	unsigned(&x.IMACount, c)
	field(&x.IMADigest, hash, c)
	unsigned(&x.Lost, c)
	unsigned(&x.Taints, c)
	hash(&x.Previous, c)
	unsigned(&x.At, c)
}

func (x *Header) wire(c *codec) {
	c.array(19)
	unsigned(&x.Version, c)
	octets(&x.AKName, c)
	octets(&x.BootID, c)
	unsigned(&x.Epoch, c)
	unsigned(&x.Sequence, c)
	text(&x.Anchor, c)
	octets(&x.NVName, c)
	unsigned(&x.Number, c)
	hash(&x.Checkpoint, c)
	field(&x.BootLog, hash, c)
	field(&x.OSLog, hash, c)
	unsigned(&x.IMACount, c)
	field(&x.IMADigest, hash, c)
	text(&x.Tier, c)
	hash(&x.Sensor, c)
	unsigned(&x.Batch, c)
	hash(&x.BatchRoot, c)
	hash(&x.Previous, c)
	unsigned(&x.Wall, c)
}

func (x *Quote) wire(c *codec) {
	c.array(3)
	octets(&x.Attest, c)
	octets(&x.Signature, c)
	list(&x.PCRs, MaxPCRs, (*PCR).wire, c)
}

func (x *PCR) wire(c *codec) {
	c.array(2)
	unsigned(&x.Index, c)
	octets(&x.Digest, c)
}

func (x *Register) wire(c *codec) {
	c.array(6)
	unsigned(&x.Index, c)
	unsigned(&x.Latch, c)
	unsigned(&x.From, c)
	hash(&x.Base, c)
	octets(&x.Tail, c)
	x.Certified.wire(c)
}

func (x *Banks) wire(c *codec) {
	c.array(2)
	octets(&x.Response, c)
	x.Certified.wire(c)
}

func (x *Certification) wire(c *codec) {
	c.array(2)
	octets(&x.Attest, c)
	octets(&x.Signature, c)
}

func (x *Request) wire(c *codec) {
	c.array(12)
	unsigned(&x.Version, c)
	hash(&x.Blind, c)
	text(&x.Broker, c)
	octets(&x.Nonce, c)
	hash(&x.D, c)
	text(&x.Audience, c)
	list(&x.Actions, MaxActions, text, c)
	list(&x.Datatypes, MaxActions, text, c)
	x.Confirm.wire(c)
	x.Subject.wire(c)
	x.Before.wire(c)
	unsigned(&x.Number, c)
}

func (x *Confirm) wire(c *codec) {
	c.array(2)
	text(&x.Method, c)
	octets(&x.Thumbprint, c)
}

func (x *Subject) wire(c *codec) {
	c.array(3)
	x.Instance.wire(c)
	unsigned(&x.Index, c)
	hash(&x.Leaf, c)
}

func (x *State) wire(c *codec) {
	c.array(10)
	unsigned(&x.At, c)
	boolean(&x.Alive, c)
	unsigned(&x.Generation, c)
	texts(&x.Taints, c)
	unsigned(&x.Lost, c)
	field(&x.Unmeasured, unsigned[uint64], c)
	field(&x.Private, unsigned[uint64], c)
	field(&x.Tracer, unsigned[uint32], c)
	field(&x.Missing, texts, c)
	field(&x.Changed, texts, c)
}

func (x *Consistency) wire(c *codec) {
	c.array(2)
	unsigned(&x.From, c)
	proof(&x.Proof, c)
}

func proof(x *Proof, c *codec) { list((*[]Hash)(x), MaxProof, hash, c) }

func (x *IMATail) wire(c *codec) {
	c.array(3)
	unsigned(&x.From, c)
	octets(&x.Data, c)
	boolean(&x.More, c)
}

func (x *Closing) wire(c *codec) {
	c.array(2)
	unsigned(&x.Index, c)
	x.After.wire(c)
}

func (x *wireLeaf) wire(c *codec) {
	c.array(3)
	unsigned(&x.Index, c)
	octets(&x.Data, c)
	proof(&x.Proof, c)
}

func (x *wire) wire(c *codec) {
	if n := c.head(majorMap, 15); n != 15 {
		c.fail("map of %d claims, want 15", n)
	}
	c.key(10)
	octets(&x.Nonce, c)
	c.key(256)
	octets(&x.UEID, c)
	c.key(265)
	text(&x.Profile, c)
	c.key(-70001)
	octets(&x.Header, c)
	c.key(-70002)
	x.Quote.wire(c)
	c.key(-70003)
	optional(&x.Register, (*Register).wire, c)
	c.key(-70004)
	octets(&x.Checkpoint, c)
	c.key(-70005)
	x.Consistency.wire(c)
	c.key(-70006)
	list(&x.Requests, MaxBatch, (*wireLeaf).wire, c)
	c.key(-70007)
	list(&x.Entries, MaxEntries, (*wireLeaf).wire, c)
	c.key(-70008)
	octets(&x.BootLog, c)
	c.key(-70009)
	x.IMA.wire(c)
	c.key(-70010)
	list(&x.Closing, MaxBatch, (*Closing).wire, c)
	c.key(-70011)
	octets(&x.OSLog, c)
	c.key(-70012)
	optional(&x.Banks, (*Banks).wire, c)
}
