// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the guest's first process has mounted: its view is the operator's, whatever containers see.
 *
 * For workers: all of this may sleep.  One walk at a time.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs_struct.h>
#include <linux/mutex.h>
#include <linux/path.h>
#include <linux/pid_namespace.h>
#include <linux/sched/task.h>
#include <linux/string.h>
#include "mounts_text.h"
#include "rvmrpc_compat.h"
#include "rvmrpc_drv.h"

#define MOUNTS_FILE	"1/mountinfo"
#define MOUNTS_TEXT_MAX	16384	/* several lines of the longest paths */
#define MOUNTS_WAIT_MS	100	/* for another walk, which might hang */

static DEFINE_MUTEX(mounts_lock);
static char mounts_text[MOUNTS_TEXT_MAX];	/* mounts_lock */

static bool mounts_lock_soon(void)
{
	int ms;

	for (ms = 0; ms < MOUNTS_WAIT_MS; ms++) {
		if (mutex_trylock(&mounts_lock))
			return true;
		usleep_range(USEC_PER_MSEC, 2 * USEC_PER_MSEC);
	}
	return false;
}

/* Calls fn for each whole line of the text, which has so many bytes; returns the bytes of these lines, or 0 to end. */
static size_t mounts_lines(size_t bytes, u64 *number, rvmrpc_mount_fn fn, void *data)
{
	size_t whole = sysinfo_whole(mounts_text, bytes);
	struct rvmrpc_mount mount;
	char *line, *end;

	for (line = mounts_text; line < mounts_text + whole; line = end + 1) {
		end = strchrnul(line, '\n');
		*end = '\0';
		mount.number = (*number)++;
		if (mounts_read(line, &mount) && !fn(&mount, data))
			return 0;
	}
	return whole;
}

static int mounts_read_file(struct file *file, rvmrpc_mount_fn fn, void *data)
{
	size_t have = 0, whole;
	loff_t pos = 0;
	u64 number = 0;
	ssize_t got;

	do {
		got = rvmrpc_proc_read(file, MOUNTS_FILE, mounts_text + have, MOUNTS_TEXT_MAX - 1 - have, pos);
		if (got < 0)
			return got;
		pos += got;
		have += got;
		mounts_text[have] = '\0';
		whole = mounts_lines(have, &number, fn, data);
		if (!whole)
			return got ? -E2BIG : 0;
		have -= whole;
		memmove(mounts_text, mounts_text + whole, have);
	} while (got);
	return 0;
}

/**
 * rvmrpc_mounts_walk() - look at all mounts
 * @fn: called for each, in the order of mountinfo; false ends the walk
 * @data: for it
 *
 * Context: worker, may sleep.
 * Return: 0; -E2BIG when it was ended early; -EBUSY while another walks, perhaps since something hangs; -errno.
 */
int rvmrpc_mounts_walk(rvmrpc_mount_fn fn, void *data)
{
	struct file *file;
	int err;

	if (!mounts_lock_soon())
		return -EBUSY;
	file = rvmrpc_proc_open(MOUNTS_FILE, O_RDONLY);
	err = PTR_ERR_OR_ZERO(file);
	if (!err) {
		err = mounts_read_file(file, fn, data);
		fput(file);
	}
	mutex_unlock(&mounts_lock);
	return err;
}

/* ---- What one of them is ---- */

static bool mounts_below(const struct rvmrpc_mount_remotes *remotes, const struct rvmrpc_mount *mount)
{
	u32 i;

	for (i = 0; i < remotes->n; i++) {
		if (remotes->id[i] == mount->parent)
			return true;
	}
	/* With more of them than are remembered it might be, unless it is the root. */
	return remotes->n == ARRAY_SIZE(remotes->id) && strcmp(mount->target, "/");
}

static bool mounts_hold_data(const char *name)
{
	struct file_system_type *type;
	bool hold;

	if (!strcmp(name, "zfs"))
		return true;
	/* It is mounted, so no module is loaded for it. */
	type = get_fs_type(name);
	hold = type && (type->fs_flags & FS_REQUIRES_DEV);
	if (type)
		module_put(type->owner);
	return hold;
}

/**
 * rvmrpc_mount_kind() - what a mount is
 * @remotes: of this walk
 * @mount: each one of the walk, in order
 *
 * Context: worker, may sleep.
 */
enum rvmrpc_mount_kind rvmrpc_mount_kind(struct rvmrpc_mount_remotes *remotes, const struct rvmrpc_mount *mount)
{
	bool remote = mounts_remote(mount->type), below = mounts_below(remotes, mount);

	if ((remote || below) && remotes->n < ARRAY_SIZE(remotes->id))
		remotes->id[remotes->n++] = mount->id;
	if (remote)
		return RVMRPC_MOUNT_REMOTE;
	if (!mounts_hold_data(mount->type))
		return RVMRPC_MOUNT_OTHER;
	return below ? RVMRPC_MOUNT_BELOW : RVMRPC_MOUNT_DATA;
}

/**
 * rvmrpc_mounts_root() - the first process' root, which is not that of kernel threads in every kernel
 * @root: to be put
 *
 * Return: 0; -ESRCH: it has none.
 */
int rvmrpc_mounts_root(struct path *root)
{
	struct task_struct *init;
	int err = -ESRCH;

	rcu_read_lock();
	init = pid_task(find_pid_ns(1, &init_pid_ns), PIDTYPE_TGID);
	if (init)
		get_task_struct(init);
	rcu_read_unlock();
	if (!init)
		return err;
	task_lock(init);
	if (init->fs) {
		get_fs_root(init->fs, root);
		err = 0;
	}
	task_unlock(init);
	put_task_struct(init);
	return err;
}

/**
 * rvmrpc_mount_path() - what a mount's target leads to
 * @mount: neither remote nor below a remote one: such a path could hang
 * @path: to be put
 *
 * Context: worker, may sleep.
 * Return: 0; -ENXIO when something else is mounted there; -errno.
 */
int rvmrpc_mount_path(const struct rvmrpc_mount *mount, struct path *path)
{
	struct path root;
	int err;

	err = rvmrpc_mounts_root(&root);
	if (err)
		return err;
	if (!strcmp(mount->target, "/")) {
		*path = root;
	} else {
		err = vfs_path_lookup(root.dentry, root.mnt, mount->target + 1, 0, path);
		path_put(&root);
	}
	if (err)
		return err;
	if (path->dentry->d_sb->s_dev == MKDEV(mount->major, mount->minor))
		return 0;
	path_put(path);
	return -ENXIO;
}
