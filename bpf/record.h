/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* SPDX-FileCopyrightText: The jurat authors */
/*
 * What crosses from the kernel programs to the reader: decode.go reads these
 * structures field by field. All have no padding and little-endian order. A
 * change of any of them raises RECORD_VERSION.
 */
#ifndef JURAT_RECORD_H
#define JURAT_RECORD_H

#define RECORD_VERSION 1
#define TEXT_MAX 128

enum record_kind {
	RECORD_EXEC = 1,
	RECORD_FORK = 2,
	RECORD_EXIT = 3,
	RECORD_CGROUP = 4,
	RECORD_SEEN = 5,
	RECORD_KINDS = 6,
};

enum record_flag {
	FLAG_THREAD_EXEC = 1 << 0,     /* a thread that was not the leader called exec */
	FLAG_SECURE_EXEC = 1 << 1,     /* the kernel asked for AT_SECURE */
	FLAG_NO_NEW_PRIVS = 1 << 2,
	FLAG_LD_PRELOAD = 1 << 3,      /* in the environment at exec */
	FLAG_LD_AUDIT = 1 << 4,
	FLAG_LD_LIBRARY_PATH = 1 << 5,
	FLAG_ENV_UNKNOWN = 1 << 6,     /* the environment was not read to its end */
	FLAG_FILE = 1 << 7,            /* file is set */
	FLAG_BACKING = 1 << 8,         /* backing is set */
	FLAG_BACKING_MAPPED = 1 << 9,  /* backing is what the text mapping maps */
	FLAG_NO_STATE = 1 << 10,       /* the task has no state in the kernel */
	FLAG_ARGV_UNKNOWN = 1 << 11,   /* the arguments could not be read */
	FLAG_FILENAME_CUT = 1 << 12,
	FLAG_INTERP_CUT = 1 << 13,
};

enum state_flag {
	STATE_SEEN = 1 << 0, /* runs a program whose exec was before the sensor */
};

/* Index into the taint bytes of a task; bit number in the reader. */
enum taint {
	TAINT_EVENT_LOSS = 0, /* a record about it was lost */
	TAINT_STATE_LOST = 1, /* its state, and any earlier taint, was lost */
	TAINT_GENERATION = 2, /* its generation does not fit 32 bits */
	TAINT_BYTES = 16,
};

enum mount_kind {
	MOUNT_UNKNOWN = 0,
	MOUNT_ATTACHED = 1,
	MOUNT_DETACHED = 2, /* lazily unmounted */
	MOUNT_INTERNAL = 3, /* the kernel's own: memfd, pipe */
};

struct record_header {
	u16 version;
	u16 kind;
	u32 size;
	u32 cpu;
	u32 flags;
	u64 number; /* of the record on this CPU, from 1; 0 in RECORD_SEEN */
	u64 drops;  /* records this CPU had lost so far */
	u64 time;   /* nanoseconds since boot, suspend included */
};

struct record_process {
	u32 tgid;
	u32 tid;
	u64 start;     /* start_boottime of the group leader */
	u64 pidfd_ino; /* 0 before 6.9 */
	u64 exec_id;
	u64 state;
	u8 taint[TAINT_BYTES];
};

struct record_parent {
	u32 tgid;
	u32 tid;
	u64 start;
	u64 pidfd_ino;
	u64 exec_id;
};

struct record_file {
	u64 ino;
	u64 size;
	s64 ctime_sec;
	u64 magic;
	u32 ctime_nsec;
	u32 dev; /* the kernel's own encoding */
	u32 nlink;
	u32 generation;
	u32 mode;
	s32 writecount;
	s32 mmap_writable;
	u32 mount;
};

struct record_creds {
	u32 uid, gid, suid, sgid, euid, egid, fsuid, fsgid;
	u64 inheritable, permitted, effective, bounding, ambient;
	u32 securebits;
	u32 seccomp_mode;
	u32 seccomp_filters;
	u32 reserved;
};

struct record_namespaces {
	u32 pid, mnt, user, net, cgroup, uts, ipc, reserved;
};

struct record_exec {
	struct record_header header;
	struct record_process process;
	struct record_parent parent;
	struct record_file file;
	struct record_file backing;
	struct record_creds creds;
	struct record_namespaces namespaces;
	u64 cgroup_id;
	u32 old_tid;
	u32 argc;
	u32 argv_len;
	u32 argv_read;
	u32 filename_len;
	u32 interp_len;
	char comm[16];
	char filename[TEXT_MAX];
	char interp[TEXT_MAX];
	char argv[TEXT_MAX];
};

struct record_fork {
	struct record_header header;
	struct record_process process;
	struct record_parent parent;
	u64 cgroup_id;
};

struct record_exit {
	struct record_header header;
	struct record_process process;
	u32 status; /* as wait(2) gives it */
	u32 reserved;
};

struct record_cgroup {
	struct record_header header;
	struct record_process process;
	u64 cgroup_id;
};

/* Any record; it also keeps all of them in the object's type information. */
union record {
	struct record_exec exec;
	struct record_fork fork;
	struct record_exit exit;
	struct record_cgroup cgroup;
};

/* The value of the map states. Kernel programs alone write it. */
struct state {
	u64 generation; /* self_exec_id of the program the process runs */
	u64 flags;
	u8 taint[TAINT_BYTES];
};

/* The value of the map measured. User space alone writes it. */
struct measured {
	u64 generation;
};

/* One per CPU, written by that CPU alone. */
struct counters {
	u64 number; /* of the last record begun */
	u64 done;   /* of the last record submitted or given up */
	u64 drops;
	u64 dropped[RECORD_KINDS];
	u64 storage; /* task states that could not be made */
	u64 reserved[6];
};

#endif
