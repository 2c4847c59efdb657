/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* SPDX-FileCopyrightText: The jurat authors */
/*
 * What crosses from the kernel programs to the reader: decode.go reads these
 * structures field by field. All have no padding and little-endian order. A
 * change of any of them raises RECORD_VERSION.
 */
#ifndef JURAT_RECORD_H
#define JURAT_RECORD_H

#define RECORD_VERSION 2
#define TEXT_MAX 128
#define PATH_MAX 256
#define DIGEST_MAX 32
#define SLOTS 4 /* counters for each CPU */

enum record_kind {
	RECORD_EXEC = 1,
	RECORD_FORK = 2,
	RECORD_EXIT = 3,
	RECORD_CGROUP = 4,
	RECORD_SEEN = 5,
	RECORD_TAINT = 6,
	RECORD_OPEN = 7,
	RECORD_KINDS = 8,
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
	FLAG_SCRIPT = 1 << 14,         /* script is set */
	FLAG_PATH_CUT = 1 << 15,       /* the path is longer than the record */
	FLAG_STALE = 1 << 16,          /* seen: the state speaks of another program than the one that runs */
	FLAG_MEASURED = 1 << 17,       /* seen: marked as measured */
};

enum state_flag {
	STATE_SEEN = 1 << 0, /* runs a program whose exec was before the sensor */
	STATE_CREDENTIALS = 1 << 1, /* ids or capabilities are no longer those of the exec */
};

/* Index into the taint bytes of a task; bit number in the reader. */
enum taint {
	TAINT_EVENT_LOSS = 0, /* a record about it was lost */
	TAINT_STATE_LOST = 1, /* its state, and any earlier taint, was lost */
	TAINT_GENERATION = 2, /* its generation does not fit 32 bits */
	TAINT_TRACED = 3,
	TAINT_MEMORY_WRITTEN = 4,
	TAINT_MEMORY_WRITTEN_SELF = 5,
	TAINT_MM_CHANGED = 6,
	TAINT_NAMESPACE_CHANGED = 7,
	TAINT_MOUNTED_OVER = 8,
	TAINT_MEMFD_EXEC = 9,
	TAINT_USERMODE_HELPER = 10,
	TAINT_IO_URING = 11,
	TAINT_USERFAULTFD = 12,
	TAINT_MPROTECT_EXEC = 13,
	TAINT_MODULE_LOADED = 14, /* of the host, as the next two */
	TAINT_BPF_LOADED = 15,
	TAINT_SENSOR_DISTURBED = 16,
	TAINT_OPENS_LOST = 31, /* a record of an open of it was lost */
	TAINT_BYTES = 32,
};

/* What saw a taint or an open. Tiers other than this one number from 64 on. */
enum hook {
	HOOK_EXEC = 1,
	HOOK_PTRACE = 2,
	HOOK_VM_WRITEV = 3,
	HOOK_OPEN = 4,
	HOOK_OPENAT = 5,
	HOOK_OPENAT2 = 6,
	HOOK_OPEN_BY_HANDLE = 7,
	HOOK_SETNS = 8,
	HOOK_UNSHARE = 9,
	HOOK_CHROOT = 10,
	HOOK_PIVOT_ROOT = 11,
	HOOK_MOUNT = 12,
	HOOK_MOVE_MOUNT = 13,
	HOOK_UMOUNT = 14,
	HOOK_PRCTL = 15,
	HOOK_BPF = 16,
	HOOK_USERFAULTFD = 17,
	HOOK_IO_URING = 18,
	HOOK_MODULE = 19,
};

/* Why an open is told. */
enum open_class {
	CLASS_CODE = 1,
	CLASS_MODEL = 2,
	CLASS_LARGE = 3,
};

/* Which part of the kernel made a digest. */
enum digest_source {
	DIGEST_NONE = 0,
	DIGEST_IMA = 1,      /* of the file; algorithm as enum hash_algo has it */
	DIGEST_FSVERITY = 2, /* of the Merkle tree's descriptor; algorithm as FS_VERITY_HASH_ALG_ has it */
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
	struct record_file script; /* the file "#!" was read from, where a hook told */
	u32 digest_source;         /* of file, where a hook told */
	u32 digest_algorithm;
	u8 digest[DIGEST_MAX];
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

/* Something spoilt a process, or the host when process is zero. */
struct record_taint {
	struct record_header header;
	struct record_process process;
	struct record_parent by; /* who did it; zero: nobody known */
	u64 taint;               /* bits set just now */
	u32 hook;
	u32 reserved;
};

struct record_open {
	struct record_header header;
	struct record_process process;
	struct record_file file;
	u32 class;
	u32 hook;
	u32 path_len;
	u32 reserved;
	char path[PATH_MAX]; /* the end of it, when cut */
};

/* Any record; it also keeps all of them in the object's type information. */
union record {
	struct record_exec exec;
	struct record_fork fork;
	struct record_exit exit;
	struct record_cgroup cgroup;
	struct record_taint taint;
	struct record_open open;
};

/*
 * The value of the map states. Kernel programs alone write it.
 *
 * Taints of the program in memory end with it. Whoever taints may run beside
 * the exec, so there are two sets and the exec id says which is meant: exec
 * clears the set of the program after it, which nobody can be writing yet.
 */
struct state {
	u64 generation; /* self_exec_id of the program the process runs */
	u64 exec_time;  /* of that program, in ns since boot; 0 with STATE_SEEN */
	u64 flags;
	u8 taint[TAINT_BYTES];
	u8 program[2][TAINT_BYTES];
	u32 mnt, user, pid; /* namespaces at exec or fork; pid: of its children */
	u32 reserved;
};

/* The value of the map control. User space alone writes it. */
struct control {
	u64 attached_at; /* when all programs were attached, in ns since boot; 0 before */
	u64 seeded;      /* the iterator has visited every task */
	u64 agent_start; /* start_boottime of the agent, which is no stranger */
	u32 agent;       /* its tgid */
	u32 hooks;       /* programs on LSM hooks were seen to run: each exec must pass them */
};

/* The value of the map host. Kernel programs alone write it. */
struct host {
	u8 taint[TAINT_BYTES];
};

/* The value of the map measured. User space alone writes it. */
struct measured {
	u64 generation;
};

/* struct fsverity_digest with room for SHA-256. */
struct verity {
	u16 algorithm;
	u16 size;
	u8 digest[DIGEST_MAX];
	u32 reserved;
};

/*
 * The value of the map pending, on a thread: an exec between its first LSM
 * hook and its tracepoint, and what one hook of a system call leaves for the
 * next. Kernel programs alone write it.
 */
struct pending {
	struct record_file script; /* the file exec was asked to run; with steps above 1, a script */
	u32 steps;                 /* files exec has looked at: scripts, then what runs them */
	u32 committed;             /* it passed the point of no return */
	u32 digest_source;
	u32 digest_algorithm;
	u8 digest[DIGEST_MAX];
	struct verity verity;
	u64 memory; /* struct pid whose mem file is being opened for writing */
	u64 command; /* of the bpf(2) in progress */
};

/* One per slot, written by one program at a time. */
struct counters {
	u64 number; /* of the last record begun */
	u64 done;   /* of the last record submitted or given up */
	u64 drops;
	u64 dropped[RECORD_KINDS];
	u64 storage; /* task states that could not be made */
	u64 busy;    /* the slot is in use; not those of programs that nothing interrupts */
	u64 silent;  /* execs that did not pass the hooks they must pass */
	u64 reserved[2];
};

#endif
