// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package measure

import "time"

// What one measurement takes at most. Beyond it a field is unknown.
const (
	MaxExecFile    = 1 << 30   // bytes of an executable hashed at exec
	MaxFile        = 16 << 30  // bytes of any other file hashed
	maxMaps        = 16 << 20  // bytes of /proc/PID/maps
	maxStatus      = 2 << 20   // bytes of /proc/PID/status
	maxArguments   = 8 << 20   // bytes of argv
	maxEnviron     = 8 << 20   // bytes of the environment
	MaxModel       = 1 << 42   // bytes of a model hashed
	maxModels      = 1024      // models and large files in one measurement
	maxDescriptors = 1 << 16   // open files of a process looked at
	maxThreads     = 8192      // threads looked at for a tracer
	maxGroups      = 4096      // supplementary groups
	maxAncestors   = 64        // parents up to process 1
	maxVariables   = 256       // interfering variables named
	maxMissing     = 8         // changed files named in one look
	maxHint        = 128       // bytes of such a name
	maxTaints      = 16        // taints named in one look
	maxTries       = 5         // measurements of something that keeps changing
	maxPageScans   = 4096      // ioctls of one look
	maxPagemap     = 64 << 20  // bytes read where there is no PAGEMAP_SCAN
	maxEntryBody   = 240 << 10 // bytes of an encoded Process: fits evidence.MaxEntry
)

// How the digest cache behaves.
const (
	// DefaultFiles is how many digests are kept, each with one descriptor,
	// where few files may be open.
	DefaultFiles = 1024
	// maxFiles is how many are kept at most: an eighth of the files that may be
	// open. A Python program opens a few hundred, a large one some thousands.
	maxFiles = 8192
	// settleTime is how old a ctime must be before it proves that nothing
	// changed since: before Linux 6.13 it has the grain of a clock tick.
	settleTime = 50 * time.Millisecond
	// tick is the longest clock tick, and so the grain of a ctime.
	tick = 10 * time.Millisecond
	// maxCgroups is how many cgroup paths are kept.
	maxCgroups = 4096
)
