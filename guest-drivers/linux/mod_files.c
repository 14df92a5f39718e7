// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module files: files below the trees of fs_allow=, read as the guest's first process would.  files_change.c has what is
 * done to those below fs_write=.
 *
 * The kernel's own walk keeps a path in its tree, as openat2(2) does with RESOLVE_BENEATH, RESOLVE_NO_XDEV and
 * RESOLVE_NO_MAGICLINKS: "..", links and renames under way end in EXDEV, and so does every mount point, since what is
 * mounted there may be anything, the rest of the guest among it.  What is opened then is what was found, not its name anew.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cred.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/ktime.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/path.h>
#include <linux/stat.h>
#include <linux/statfs.h>
#include <linux/string.h>
#include <linux/stringhash.h>
#include <linux/uidgid.h>
#include "files.h"
#include "rvmrpc_compat.h"
#include "rvmrpc_drv.h"

#define FILES_NAMES_MAX		32768	/* bytes of entries between two looks at attributes */
#define FILES_TRIES		8	/* at a path while renames go on */
#define FILES_BLOCK		512	/* bytes, in which the kernel counts what a file takes */

static DEFINE_MUTEX(files_lock);	/* short */
static struct rvmrpc_trees files_trees;	/* files_lock, as the next */
static struct rvmrpc_trees files_write_trees;
static const struct rvmrpc_file_path *files_calls[RVMRPC_JOBS_MAX];	/* that run, of all epochs; files_lock, as the next */
static u32 files_calls_max = 1;						/* of one tree */

void *rvmrpc_os_file_alloc(size_t bytes)
{
	return kvmalloc(bytes, GFP_KERNEL | __GFP_NOWARN);
}

void rvmrpc_os_file_free(void *scratch)
{
	kvfree(scratch);
}

int rvmrpc_os_file_split(const char *path, u32 length, bool write, struct rvmrpc_file_path *parts)
{
	int status;

	mutex_lock(&files_lock);
	status = rvmrpc_trees_split(&files_trees, path, length, parts);
	if (status == RVMRPC_STATUS_OK)
		parts->key = full_name_hash(NULL, parts->tree, strlen(parts->tree));
	if (status == RVMRPC_STATUS_OK && write)
		status = rvmrpc_trees_split(&files_write_trees, path, length, parts);
	mutex_unlock(&files_lock);
	return status;
}

/*
 * A new epoch has so many workers.  A tree is one file system, since no mount is crossed: one that hangs must leave a worker
 * to the others.
 */
void rvmrpc_files_epoch(u32 workers)
{
	mutex_lock(&files_lock);
	files_calls_max = max_t(u32, workers, 2) - 1;
	mutex_unlock(&files_lock);
}

int rvmrpc_os_file_enter(const struct rvmrpc_file_path *path)
{
	const struct rvmrpc_file_path **place = NULL;
	u32 i, n = 0;

	mutex_lock(&files_lock);
	for (i = 0; i < ARRAY_SIZE(files_calls); i++) {
		if (!files_calls[i])
			place = &files_calls[i];
		else if (files_calls[i]->key == path->key)
			n++;
	}
	if (place && n < files_calls_max)
		*place = path;
	else
		place = NULL;
	mutex_unlock(&files_lock);
	return place ? RVMRPC_STATUS_OK : RVMRPC_STATUS_BUSY;
}

void rvmrpc_os_file_leave(const struct rvmrpc_file_path *path)
{
	u32 i;

	mutex_lock(&files_lock);
	for (i = 0; i < ARRAY_SIZE(files_calls); i++) {
		if (files_calls[i] == path)
			files_calls[i] = NULL;
	}
	mutex_unlock(&files_lock);
}

/* ---- Finding ---- */

int rvmrpc_files_status(int err, u32 *failed)
{
	static const struct {
		int err;
		u32 failed;
	} reasons[] = {
		{ -ENOENT, RVMRPC_FAILED_NOT_FOUND },
		{ -ENOTDIR, RVMRPC_FAILED_NOT_DIRECTORY },
		{ -ELOOP, RVMRPC_FAILED_LOOP },
		{ -ENAMETOOLONG, RVMRPC_FAILED_TOO_LONG },
		{ -EACCES, RVMRPC_FAILED_ACCESS },
		{ -EPERM, RVMRPC_FAILED_ACCESS },
		{ -ETXTBSY, RVMRPC_FAILED_ACCESS },
		{ -EEXIST, RVMRPC_FAILED_EXISTS },
		{ -ENOTEMPTY, RVMRPC_FAILED_NOT_EMPTY },
		{ -EISDIR, RVMRPC_FAILED_IS_DIRECTORY },
		{ -ENOSPC, RVMRPC_FAILED_NO_SPACE },
		{ -EDQUOT, RVMRPC_FAILED_NO_SPACE },
		{ -EROFS, RVMRPC_FAILED_READ_ONLY },
		{ -EFBIG, RVMRPC_FAILED_TOO_LARGE },
	};
	size_t i;

	*failed = RVMRPC_FAILED_NOT;
	if (!err)
		return RVMRPC_STATUS_OK;
	if (err == -EXDEV)
		return RVMRPC_STATUS_NOT_ALLOWED;
	if (err == -ENOMEM || err == -EAGAIN)
		return RVMRPC_STATUS_BUSY;
	*failed = RVMRPC_FAILED_IO;
	for (i = 0; i < ARRAY_SIZE(reasons); i++) {
		if (reasons[i].err == err)
			*failed = reasons[i].failed;
	}
	return RVMRPC_STATUS_OK;
}

/* proc leads to every root and every open file there is; nobody needs it here. */
static bool files_is_proc(const struct path *path)
{
	return path->dentry->d_sb->s_magic == PROC_SUPER_MAGIC;
}

/*
 * The tree is the administrator's word and may be on any mount, but no link is taken on the way to it: it would be who can
 * write above it that says where the tree is.
 */
static int files_tree(const char *name, struct path *tree)
{
	struct path root;
	int err;

	err = rvmrpc_mounts_root(&root);
	if (err)
		return err;
	if (!strcmp(name, "/")) {
		*tree = root;
		return 0;
	}
	/* Followed, so that a link at the end is refused, too. */
	err = vfs_path_lookup(root.dentry, root.mnt, name + 1, LOOKUP_FOLLOW | LOOKUP_DIRECTORY | LOOKUP_NO_SYMLINKS, tree);
	path_put(&root);
	if (err)
		return err == -ELOOP ? -EXDEV : err;
	if (!files_is_proc(tree))
		return 0;
	path_put(tree);
	return -EXDEV;
}

int rvmrpc_files_find(const struct rvmrpc_file_path *path, unsigned int flags, struct path *found)
{
	/* Absolute links mean the guest's root, which is the tree or out of it. */
	bool root = !strcmp(path->tree, "/");
	int err, tries = FILES_TRIES;
	struct path tree;

	err = files_tree(path->tree, &tree);
	if (err)
		return err;
	if (!path->rest[0]) {
		*found = tree;
		return 0;
	}
	flags |= LOOKUP_NO_XDEV | LOOKUP_NO_MAGICLINKS | (root ? LOOKUP_IN_ROOT : LOOKUP_BENEATH);
	do
		err = vfs_path_lookup(tree.dentry, tree.mnt, path->rest, flags, found);
	while (err == -EAGAIN && --tries);
	path_put(&tree);
	return err;
}

/* Never waits for what is no regular file or folder, nor for a lease, and leaves the access time as it is. */
static struct file *files_open(const struct path *path)
{
	return dentry_open(path, O_RDONLY | O_NONBLOCK | O_NOATIME | O_LARGEFILE, current_cred());
}

/* ---- Attributes ---- */

static u64 files_ns(struct timespec64 time)
{
	return (u64)timespec64_to_ns(&time);
}

static int files_attributes(const struct path *path, struct rvmrpc_file_attributes *a)
{
	struct kstat st;
	int err;

	err = vfs_getattr(path, &st, STATX_BASIC_STATS, AT_STATX_SYNC_AS_STAT);
	if (err)
		return err;
	*a = (struct rvmrpc_file_attributes) {
		.mode = st.mode,
		.size = st.size,
		.allocated = st.blocks * FILES_BLOCK,
		.inode = st.ino,
		.links = st.nlink,
		.uid = from_kuid_munged(&init_user_ns, st.uid),
		.gid = from_kgid_munged(&init_user_ns, st.gid),
		.accessed_ns = files_ns(st.atime),
		.modified_ns = files_ns(st.mtime),
		.changed_ns = files_ns(st.ctime),
	};
	if (S_ISBLK(st.mode) || S_ISCHR(st.mode))
		a->device = (u64)MAJOR(st.rdev) << 32 | MINOR(st.rdev);
	return 0;
}

static int files_link(const struct path *path, char *link, u32 *length)
{
	DEFINE_DELAYED_CALL(done);
	const char *text = vfs_get_link(path->dentry, &done);

	if (IS_ERR(text))
		return PTR_ERR(text);
	*length = strnlen(text, RVMRPC_FILES_PATH_MAX);
	memcpy(link, text, *length);
	do_delayed_call(&done);
	return 0;
}

int rvmrpc_os_file_stat(const struct rvmrpc_file_path *path, struct rvmrpc_file_attributes *a, char *link,
			u32 *link_length, u32 *failed)
{
	struct path found;
	int err;

	err = rvmrpc_files_find(path, link ? 0 : LOOKUP_FOLLOW, &found);
	if (err)
		return rvmrpc_files_status(err, failed);
	err = files_attributes(&found, a);
	if (!err && link && S_ISLNK(a->mode))
		err = files_link(&found, link, link_length);
	path_put(&found);
	return rvmrpc_files_status(err, failed);
}

int rvmrpc_os_file_space(const struct rvmrpc_file_path *path, struct rvmrpc_file_space *space, u32 *failed)
{
	struct kstatfs st;
	struct path found;
	int err;

	err = rvmrpc_files_find(path, LOOKUP_FOLLOW, &found);
	if (err)
		return rvmrpc_files_status(err, failed);
	err = vfs_statfs(&found, &st);
	path_put(&found);
	if (!err)
		*space = (struct rvmrpc_file_space) {
			.size = st.f_blocks * st.f_frsize,
			.free = st.f_bfree * st.f_frsize,
			.available = st.f_bavail * st.f_frsize,
			.files = st.f_files,
			.files_free = st.f_ffree,
		};
	return rvmrpc_files_status(err, failed);
}

/* ---- Folders ---- */

struct files_entry {
	u64 cursor;
	u32 length;
	char name[];
};

/* Names first: whoever reads a folder holds a lock that looking at its files takes, too. */
struct files_names {
	struct dir_context ctx;
	char *buffer;		/* FILES_NAMES_MAX, of struct files_entry, each at a multiple of 8 */
	u32 used;
	u32 count;
	u32 limit;		/* 0: none */
	bool more;		/* there are, from cursor on */
	u64 cursor;
};

static rvmrpc_filldir_t files_name(struct dir_context *ctx, const char *name, int length, loff_t offset, u64 ino,
				   unsigned int type)
{
	struct files_names *names = container_of(ctx, struct files_names, ctx);
	struct files_entry *entry = (struct files_entry *)(names->buffer + names->used);
	u32 bytes = ALIGN(sizeof(*entry) + length, 8);

	if (name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')))
		return RVMRPC_FILLDIR_GO_ON;
	if (bytes > FILES_NAMES_MAX - names->used || (names->limit && names->count == names->limit)) {
		names->more = true;
		names->cursor = offset;
		return RVMRPC_FILLDIR_END;
	}
	entry->cursor = offset;
	entry->length = length;
	memcpy(entry->name, name, length);
	names->used += bytes;
	names->count++;
	return RVMRPC_FILLDIR_GO_ON;
}

/* False: the answer has ended, as it says.  What went away meanwhile is left out; no mount is crossed. */
static bool files_entry(const struct path *folder, struct rvmrpc_record_writer *w, const struct files_entry *entry)
{
	struct rvmrpc_file_attributes a;
	struct path path = { .mnt = folder->mnt };
	int err;

	path.dentry = rvmrpc_lookup_positive(entry->name, folder->dentry, entry->length);
	if (IS_ERR(path.dentry)) {
		if (PTR_ERR(path.dentry) != -ENOENT)
			rvmrpc_records_partial(w);
		return true;
	}
	err = files_attributes(&path, &a);
	dput(path.dentry);
	if (err) {
		rvmrpc_records_partial(w);
		return true;
	}
	rvmrpc_file_record(w, entry->name, entry->length, &a);
	return rvmrpc_record_end(w, entry->cursor);
}

static void files_entries(const struct path *folder, struct rvmrpc_record_writer *w, const struct files_names *names,
			  ktime_t deadline)
{
	const struct files_entry *entry;
	u32 at;

	for (at = 0; at < names->used; at += ALIGN(sizeof(*entry) + entry->length, 8)) {
		entry = (const struct files_entry *)(names->buffer + at);
		if (at && ktime_after(ktime_get(), deadline)) {
			rvmrpc_records_more(w, entry->cursor);
			return;
		}
		if (!files_entry(folder, w, entry))
			return;
	}
	if (names->more)
		rvmrpc_records_more(w, names->cursor);
}

static int files_read_names(const struct path *folder, u64 cursor, struct files_names *names)
{
	struct file *file = files_open(folder);
	loff_t pos;
	int err = 0;

	if (IS_ERR(file))
		return PTR_ERR(file);
	if (cursor) {
		pos = vfs_llseek(file, cursor, SEEK_SET);
		if (pos < 0)
			err = pos;
	}
	if (!err)
		err = iterate_dir(file, &names->ctx);
	fput(file);
	return err;
}

int rvmrpc_os_file_list(const struct rvmrpc_file_path *path, struct rvmrpc_record_writer *w, u32 ms, u32 *failed)
{
	const ktime_t deadline = ktime_add_ms(ktime_get(), ms);
	struct files_names names = { .ctx.actor = files_name, .limit = w->wanted.limit };
	struct path folder;
	int err;

	names.buffer = rvmrpc_os_file_alloc(FILES_NAMES_MAX);
	if (!names.buffer)
		return RVMRPC_STATUS_BUSY;
	err = rvmrpc_files_find(path, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &folder);
	if (!err) {
		err = files_read_names(&folder, w->wanted.cursor, &names);
		if (!err)
			files_entries(&folder, w, &names, deadline);
		path_put(&folder);
	}
	rvmrpc_os_file_free(names.buffer);
	return rvmrpc_files_status(err, failed);
}

/* ---- Reading ---- */

static int files_copy(struct file *file, u64 offset, char *to, u32 *length)
{
	loff_t pos = offset;
	ssize_t got = 0;
	u32 done = 0;

	while (done < *length) {
		got = kernel_read(file, to + done, *length - done, &pos);
		if (got <= 0)
			break;
		done += got;
	}
	*length = done;
	return got < 0 ? got : 0;
}

/* Less than a page is copied sooner than its page is got. */
static int files_read(const struct path *path, u64 offset, const struct rvmrpc_response *res, u32 at, u32 *length)
{
	struct file *file = files_open(path);
	ssize_t got;
	int err = 0;

	if (IS_ERR(file))
		return PTR_ERR(file);
	got = res->pages && *length >= PAGE_SIZE ? rvmrpc_pages_read(res->pages, file, offset, at, *length) : 0;
	if (got > 0 && (got == *length || offset + got >= i_size_read(file_inode(file)))) {
		*length = got;
	} else {
		/* Behind its end, or a file system that does not tell of its pages. */
		rvmrpc_pages_put(res->pages);
		err = files_copy(file, offset, (char *)res->res + at, length);
	}
	fput(file);
	return err;
}

int rvmrpc_os_file_read(const struct rvmrpc_file_path *path, u64 offset, const struct rvmrpc_response *res, u32 at,
			u32 *length, struct rvmrpc_file_attributes *a, u32 *failed)
{
	struct path found;
	int err;

	err = rvmrpc_files_find(path, LOOKUP_FOLLOW, &found);
	if (err)
		return rvmrpc_files_status(err, failed);
	if (!d_is_reg(found.dentry)) {
		path_put(&found);
		*failed = RVMRPC_FAILED_NOT_REGULAR;
		return RVMRPC_STATUS_OK;
	}
	err = files_attributes(&found, a);
	if (!err)
		err = files_read(&found, offset, res, at, length);
	path_put(&found);
	return rvmrpc_files_status(err, failed);
}

/* ---- fs_allow=, fs_write= ---- */

static int files_trees_set(const char *text, const struct kernel_param *kp)
{
	u32 bad = 0;
	int status;

	mutex_lock(&files_lock);
	status = rvmrpc_trees_set(kp->arg, text, &bad);
	mutex_unlock(&files_lock);
	if (status == RVMRPC_STATUS_GARBAGE_ARGS)
		pr_err("%s: no absolute path of a folder from byte %u on\n", kp->name, bad);
	return rvmrpc_status_errno(status);
}

static int files_trees_get(char *buffer, const struct kernel_param *kp)
{
	const struct rvmrpc_trees *trees = kp->arg;
	int length;

	mutex_lock(&files_lock);
	length = sysfs_emit(buffer, "%s\n", trees->text);
	mutex_unlock(&files_lock);
	return length;
}

static const struct kernel_param_ops files_trees_ops = {
	.set = files_trees_set,
	.get = files_trees_get,
};
module_param_cb(fs_allow, &files_trees_ops, &files_trees, 0644);
MODULE_PARM_DESC(fs_allow, "folders whose files the host may read: absolute paths, colon separated, no mount below them is crossed (default: none)");
module_param_cb(fs_write, &files_trees_ops, &files_write_trees, 0644);
MODULE_PARM_DESC(fs_write, "folders in those of fs_allow whose files the host may change, too, if allow= has the procedures: likewise (default: none)");

int rvmrpc_mod_files_init(void)
{
	return rvmrpc_builtin_add(&rvmrpc_files_module);
}

void rvmrpc_mod_files_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_files_module);
}
