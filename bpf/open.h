/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* SPDX-FileCopyrightText: The jurat authors */
/*
 * Decides whether an open is told, and tells it. The file is the one the
 * kernel holds behind a descriptor; its name is that of its dentry.
 */
#ifndef JURAT_OPEN_H
#define JURAT_OPEN_H

#define FMODE_READ 1
#define FMODE_WRITE 2
#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFCHR 0020000
#define PROC_SUPER_MAGIC 0x9fa0
#define LARGE (64ULL << 20)
#define TAIL 16       /* bytes of a name's end that are looked at */
#define DIGEST 64     /* hex digits in the name of a content-addressed file */
#define COMPONENTS 48 /* of a path that are walked */
#define NOT_WHOLE (1ULL << 32)
#define RECENT 8      /* opens of a thread that are not told twice */

/* Apart from events, so that a flood of opens cannot starve them. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} opens SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counters);
} open_counters SEC(".maps");

/*
 * A path that is put together from its end. Where it begins is kept here too:
 * what a loop reads from a map the verifier does not follow from round to round.
 */
struct path_text {
	u64 pos;                  /* the path begins at text[pos] */
	char text[2 * PATH_MAX];  /* the second half is room for the verifier's doubts */
};

/* Indexed by slot. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct path_text);
} paths SEC(".maps");

struct recent_file {
	u64 ino;
	u64 size;
	s64 ctime_sec;
	u32 ctime_nsec;
	u32 dev;
	u32 generation;
	u32 reserved;
};

struct recent {
	u64 generation;
	struct recent_file files[RECENT];
};

/* On each thread: nobody else writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct recent);
} recents SEC(".maps");

static __always_inline struct file *file_of(struct task_struct *task, long fd)
{
	struct fdtable *fdt = task->files->fdt;
	struct file **table, *file = NULL;
	u32 size = 0;

	bpf_core_read(&size, sizeof(size), &fdt->max_fds);
	bpf_core_read(&table, sizeof(table), &fdt->fd);
	if (fd >= size)
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), table + fd);
	return file;
}

/* What must be known of every opened file. */
struct look {
	struct inode *inode;
	struct dentry *dentry;
	const unsigned char *name;
	u64 size;
	u32 len;
	u32 mode;
	umode_t type;
	u8 tail[TAIL] __attribute__((aligned(8))); /* the end of the name; what is before a short name is in it too */
};

static __always_inline bool look_at(struct look *l, struct file *file)
{
	struct dentry *dentry = NULL;
	struct inode *inode = NULL;

	bpf_core_read(&l->mode, sizeof(l->mode), &file->f_mode);
	bpf_core_read(&inode, sizeof(inode), &file->f_inode);
	bpf_core_read(&dentry, sizeof(dentry), &file->f_path.dentry);
	if (!(l->mode & (FMODE_READ | FMODE_WRITE)) || !inode || !dentry)
		return false;
	bpf_core_read(&l->type, sizeof(l->type), &inode->i_mode);
	bpf_core_read(&l->size, sizeof(l->size), &inode->i_size);
	bpf_core_read(&l->len, sizeof(l->len), &dentry->d_name.len);
	bpf_core_read(&l->name, sizeof(l->name), &dentry->d_name.name);
	l->inode = inode;
	l->dentry = dentry;
	l->type &= S_IFMT;
	if (l->type != S_IFREG && l->type != S_IFCHR)
		return false;
	return !bpf_probe_read_kernel(l->tail, TAIL, l->name + l->len - TAIL);
}

static __always_inline bool is_memory(struct look *l)
{
	struct super_block *sb = NULL;
	struct inode *inode = l->inode;
	unsigned long magic = 0;

	if (l->type != S_IFREG || !(l->mode & FMODE_WRITE) || l->len != 3 || l->tail[TAIL - 3] != 'm' ||
	    l->tail[TAIL - 2] != 'e' || l->tail[TAIL - 1] != 'm')
		return false;
	bpf_core_read(&sb, sizeof(sb), &inode->i_sb);
	bpf_core_read(&magic, sizeof(magic), &sb->s_magic);
	return magic == PROC_SUPER_MAGIC;
}

/* The device of that name makes what the system call does. */
static __always_inline bool is_userfaultfd(struct look *l)
{
	return l->type == S_IFCHR && l->len == 11 && l->tail[5] == 'u' && l->tail[6] == 's' && l->tail[7] == 'e' &&
	       *(u64 *)(l->tail + 8) == 0x6466746c75616672ULL; /* rfaultfd */
}

#define X2(a, b) ((u64)(a) << 8 | (b))
#define X3(a, b, c) (X2(a, b) << 8 | (c))
#define X4(a, b, c, d) (X3(a, b, c) << 8 | (d))
#define X5(a, b, c, d, e) (X4(a, b, c, d) << 8 | (e))
#define X6(a, b, c, d, e, f) (X5(a, b, c, d, e) << 8 | (f))

static __always_inline u32 class_of_suffix(u64 suffix)
{
	switch (suffix) {
	case X2('p', 'y'):
	case X3('p', 'y', 'c'):
	case X3('p', 'y', 'z'):
	case X3('p', 'y', 'd'):
	case X3('e', 'g', 'g'):
	case X3('w', 'h', 'l'):
	case X2('s', 'o'):
	case X2('j', 's'):
	case X3('m', 'j', 's'):
	case X3('c', 'j', 's'):
	case X3('j', 's', 'x'):
	case X2('t', 's'):
	case X3('m', 't', 's'):
	case X3('c', 't', 's'):
	case X3('t', 's', 'x'):
	case X4('n', 'o', 'd', 'e'):
	case X3('j', 'a', 'r'):
	case X3('w', 'a', 'r'):
	case X5('c', 'l', 'a', 's', 's'):
	case X2('r', 'b'):
	case X2('p', 'l'):
	case X2('p', 'm'):
	case X2('s', 'h'):
	case X4('b', 'a', 's', 'h'):
	case X3('l', 'u', 'a'):
	case X3('p', 'h', 'p'):
	case X4('p', 'h', 'a', 'r'):
	case X4('w', 'a', 's', 'm'):
	case X4('b', 'e', 'a', 'm'):
	case X2('j', 'l'):
	case 'r':
		return CLASS_CODE;
	case X4('g', 'g', 'u', 'f'):
	case X4('g', 'g', 'm', 'l'):
	case X3('b', 'i', 'n'):
	case X2('p', 't'):
	case X3('p', 't', 'h'):
	case X4('o', 'n', 'n', 'x'):
	case X4('c', 'k', 'p', 't'):
	case X2('h', '5'):
	case X6('t', 'f', 'l', 'i', 't', 'e'):
	case X3('n', 'p', 'z'):
	case X2('p', 'b'):
	case X5('k', 'e', 'r', 'a', 's'):
	case X6('e', 'n', 'g', 'i', 'n', 'e'):
	case X3('p', 'k', 'l'):
	case X6('j', 'o', 'b', 'l', 'i', 'b'):
	case X6('p', 'i', 'c', 'k', 'l', 'e'):
		return CLASS_MODEL;
	}
	return 0;
}

/* What is behind the last dot of the name, at most 6 characters in lower case. */
static __always_inline u32 class_of_name(struct look *l)
{
	u64 suffix = 0, found = 0, len = 0;

	/* Without branches: each would double what the verifier has to follow. */
#pragma unroll
	for (int i = 1; i <= 7; i++) {
		u64 c = l->tail[TAIL - i] | 0x20;
		found |= ((c ^ '.') - 1) >> 63; /* 1 from the dot on */
		suffix |= (c & (found - 1)) << (8 * (i - 1));
		len += 1 - found;
	}
	if (found && len < l->len)
		return class_of_suffix(suffix);
	if (l->len >= 12 && *(u32 *)(l->tail + 4) == 0x6661732eU /* .saf */ && *(u64 *)(l->tail + 8) == 0x73726f736e657465ULL /* etensors */)
		return CLASS_MODEL;
	return 0;
}

/* Names as content-addressed stores give them: 64 hex digits, or sha256- before them. */
/* Global, so that it is verified once and not for each way that leads here. */
__noinline u32 is_digest(u64 text)
{
	u8 name[DIGEST];
	u32 hex = 1;

	if (bpf_probe_read_kernel(name, DIGEST, (const void *)text))
		return 0;
#pragma clang loop unroll(disable) vectorize(disable)
	for (int i = 0; i < DIGEST; i++) {
		u32 digit = name[i] - '0', letter = name[i] - 'a';
		hex &= (((digit - 10) & ~digit) | ((letter - 6) & ~letter)) >> 31;
	}
	return hex;
}

static __always_inline u32 class_of(struct look *l)
{
	if (l->type != S_IFREG || !(l->mode & FMODE_READ))
		return 0;
	u32 class = class_of_name(l);
	if (class)
		return class;
	if ((l->len == DIGEST || l->len == DIGEST + 7) && is_digest((u64)(l->name + l->len - DIGEST)))
		return CLASS_MODEL;
	return l->size >= LARGE ? CLASS_LARGE : 0;
}

/* fill_file for a pointer that the verifier does not know. */
static __always_inline void read_file(struct record_file *r, struct file *file, struct inode *inode)
{
	struct inode___6_6 *mid = (void *)inode;
	struct inode___5_15 *old = (void *)inode;
	struct super_block *sb = NULL;
	struct address_space *mapping = NULL;
	unsigned long ino = 0, magic = 0;
	struct timespec64 ctime = {};
	umode_t mode = 0;

	bpf_core_read(&sb, sizeof(sb), &inode->i_sb);
	bpf_core_read(&mapping, sizeof(mapping), &inode->i_mapping);
	bpf_core_read(&ino, sizeof(ino), &inode->i_ino);
	bpf_core_read(&r->size, sizeof(r->size), &inode->i_size);
	if (bpf_core_field_exists(inode->i_ctime_sec)) {
		bpf_core_read(&r->ctime_sec, sizeof(r->ctime_sec), &inode->i_ctime_sec);
		bpf_core_read(&r->ctime_nsec, sizeof(r->ctime_nsec), &inode->i_ctime_nsec);
		r->ctime_nsec &= ~MULTIGRAIN_QUERIED;
	} else {
		if (bpf_core_field_exists(mid->__i_ctime))
			bpf_core_read(&ctime, sizeof(ctime), &mid->__i_ctime);
		else
			bpf_core_read(&ctime, sizeof(ctime), &old->i_ctime);
		r->ctime_sec = ctime.tv_sec;
		r->ctime_nsec = ctime.tv_nsec;
	}
	bpf_core_read(&magic, sizeof(magic), &sb->s_magic);
	bpf_core_read(&r->dev, sizeof(r->dev), &sb->s_dev);
	bpf_core_read(&r->nlink, sizeof(r->nlink), &inode->i_nlink);
	bpf_core_read(&r->generation, sizeof(r->generation), &inode->i_generation);
	bpf_core_read(&mode, sizeof(mode), &inode->i_mode);
	bpf_core_read(&r->writecount, sizeof(r->writecount), &inode->i_writecount.counter);
	bpf_core_read(&r->mmap_writable, sizeof(r->mmap_writable), &mapping->i_mmap_writable.counter);
	r->ino = ino;
	r->magic = magic;
	r->mode = mode;
	r->mount = MOUNT_UNKNOWN;
}

/* Finds the same file among what the thread opened last, or takes it in. */
static __always_inline bool told(struct task_struct *task, struct record_file *f)
{
	struct recent *recent = bpf_task_storage_get(&recents, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!recent)
		return false;
	u64 generation = task->self_exec_id;
	if (recent->generation != generation) {
		__builtin_memset(recent, 0, sizeof(*recent));
		recent->generation = generation;
	}
	struct recent_file *slot = &recent->files[f->ino & (RECENT - 1)];
	if (slot->ino == f->ino && slot->dev == f->dev && slot->generation == f->generation && slot->size == f->size &&
	    slot->ctime_sec == f->ctime_sec && slot->ctime_nsec == f->ctime_nsec)
		return true;
	slot->ino = f->ino;
	slot->size = f->size;
	slot->ctime_sec = f->ctime_sec;
	slot->ctime_nsec = f->ctime_nsec;
	slot->dev = f->dev;
	slot->generation = f->generation;
	return false;
}

/* How far the walk from a file to the root is. */
struct walk {
	struct dentry *dentry, *root;
	struct vfsmount *mnt, *root_mnt;
	u32 whole;
	u32 at; /* slot */
};

/* Goes one step up: to the directory, or out of a mount to where it is mounted. */
static long step(u32 i, struct walk *w)
{
	struct dentry *dentry = w->dentry, *top = NULL, *parent = NULL;
	struct vfsmount *mnt = w->mnt;
	const unsigned char *name = NULL;
	u32 slot = w->at, len = 0;
	struct path_text *path = bpf_map_lookup_elem(&paths, &slot);

	w->whole = dentry == w->root && mnt == w->root_mnt;
	if (w->whole || !path)
		return 1;
	bpf_core_read(&top, sizeof(top), &mnt->mnt_root);
	bpf_core_read(&parent, sizeof(parent), &dentry->d_parent);
	if (dentry == top || dentry == parent) {
		struct mount *mount = container_of(mnt, struct mount, mnt), *below = NULL;

		bpf_core_read(&below, sizeof(below), &mount->mnt_parent);
		w->whole = !below || below == mount;
		if (w->whole)
			return 1;
		bpf_core_read(&dentry, sizeof(dentry), &mount->mnt_mountpoint);
		w->dentry = dentry;
		w->mnt = &below->mnt;
		return 0;
	}
	bpf_core_read(&len, sizeof(len), &dentry->d_name.len);
	bpf_core_read(&name, sizeof(name), &dentry->d_name.name);
	if (len > 255 || len + 1 > path->pos)
		return 1;
	u64 begin = (path->pos - len) & (PATH_MAX - 1), n = len & 255;
	asm volatile("" : "+r"(begin), "+r"(n)); /* the verifier must see the masks */
	bpf_probe_read_kernel(path->text + begin, n, name);
	path->pos -= len + 1;
	begin = path->pos & (PATH_MAX - 1);
	asm volatile("" : "+r"(begin));
	path->text[begin] = '/';
	w->dentry = parent;
	return 0;
}

/*
 * Writes the path of a file, up to the given root, to the end of a slot's
 * text. Returns where it begins, plus NOT_WHOLE when it does not begin at the
 * root. Before 5.17 nothing is told. Global for the reason that is_digest is.
 */
__noinline u64 write_path(u64 dentry, u64 mnt, u64 root, u64 root_mnt, u32 at)
{
	struct walk w = { .dentry = (void *)dentry, .mnt = (void *)mnt, .root = (void *)root, .root_mnt = (void *)root_mnt, .at = at };
	struct path_text *path = bpf_map_lookup_elem(&paths, &at);

	if (!path || !bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop))
		return PATH_MAX | NOT_WHOLE;
	path->pos = PATH_MAX;
	bpf_loop(COMPONENTS, step, &w, 0);
	return w.whole ? path->pos : path->pos | NOT_WHOLE;
}

static __always_inline u32 fill_path(struct record_open *r, struct task_struct *task, struct file *file, struct dentry *dentry, u32 slot)
{
	struct vfsmount *mnt = NULL, *root_mnt = NULL;
	struct dentry *root = NULL;
	struct path_text *path = bpf_map_lookup_elem(&paths, &slot);

	r->path_len = 0;
	bpf_core_read(&mnt, sizeof(mnt), &file->f_path.mnt);
	bpf_core_read(&root_mnt, sizeof(root_mnt), &task->fs->root.mnt);
	bpf_core_read(&root, sizeof(root), &task->fs->root.dentry);
	u64 at = write_path((u64)dentry, (u64)mnt, (u64)root, (u64)root_mnt, slot);
	if (path && (at & ~NOT_WHOLE) < PATH_MAX) {
		u64 pos = at & (PATH_MAX - 1);
		asm volatile("" : "+r"(pos));
		u64 len = PATH_MAX - pos;
		if (!bpf_probe_read_kernel(r->path, len, path->text + pos))
			r->path_len = len;
	}
	return at & NOT_WHOLE ? FLAG_PATH_CUT : 0;
}

static __always_inline void tell_open(struct task_struct *task, struct file *file, struct look *l, u32 class, u32 hook)
{
	struct task_struct *leader = task->group_leader;
	struct record_file f = {};
	u32 at = 0;

	read_file(&f, file, l->inode);
	if (told(task, &f))
		return;
	struct state *s = state_of(leader, NULL);
	u8 *lost = s ? taints_of_program(s, leader->self_exec_id) + TAINT_OPENS_LOST : NULL;
	struct counters *c = acquire(&open_counters, &at);
	struct record_open *r = begin_in(&opens, c, at, lost, RECORD_OPEN, sizeof(*r));
	if (r) {
		fill_process(&r->process, task, leader, s);
		r->file = f;
		r->class = class;
		r->hook = hook;
		r->reserved = 0;
		r->header.flags |= fill_path(r, task, file, l->dentry, at);
		end(c, &r->header);
	}
	release(c);
}

#endif
