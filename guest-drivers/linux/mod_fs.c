// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module fs: file systems that hold data, and how full they are.
 *
 * What a server or a process would have to answer for is not asked, nor is any path taken that leads through it.
 */
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/path.h>
#include <linux/statfs.h>
#include <linux/string.h>
#include "mounts_text.h"
#include "rvmrpc_drv.h"

struct fs_list {
	struct rvmrpc_record_writer *w;
	ktime_t deadline;
	struct rvmrpc_mount_remotes remotes;
};

static bool fs_stat(const struct rvmrpc_mount *mount, struct kstatfs *st)
{
	struct path path;
	int err;

	if (rvmrpc_mount_path(mount, &path))
		return false;
	err = vfs_statfs(&path, st);
	path_put(&path);
	return !err;
}

static void fs_string(struct fs_list *list, u16 key, const char *s)
{
	rvmrpc_record_string(list->w, key, s, strlen(s));
}

static void fs_sizes(struct fs_list *list, const struct kstatfs *st)
{
	rvmrpc_record_u64(list->w, RVMRPC_FS_SIZE, st->f_blocks * st->f_frsize);
	rvmrpc_record_u64(list->w, RVMRPC_FS_FREE, st->f_bfree * st->f_frsize);
	rvmrpc_record_u64(list->w, RVMRPC_FS_AVAILABLE, st->f_bavail * st->f_frsize);
	if (!st->f_files)
		return;
	rvmrpc_record_u64(list->w, RVMRPC_FS_FILES, st->f_files);
	rvmrpc_record_u64(list->w, RVMRPC_FS_FILES_FREE, st->f_ffree);
}

static void fs_record(struct fs_list *list, const struct rvmrpc_mount *mount, u64 skipped)
{
	struct kstatfs st;

	rvmrpc_record_begin(list->w, RVMRPC_RECORD_FILESYSTEM);
	fs_string(list, RVMRPC_FS_TARGET, mount->target);
	fs_string(list, RVMRPC_FS_SOURCE, mount->source);
	fs_string(list, RVMRPC_FS_TYPE, mount->type);
	if (strcmp(mount->root, "/"))
		fs_string(list, RVMRPC_FS_ROOT, mount->root);
	rvmrpc_record_u64(list->w, RVMRPC_FS_DEVICE, mount->major << 32 | mount->minor);
	rvmrpc_record_u64(list->w, RVMRPC_FS_READ_ONLY, mounts_read_only(mount));
	if (!skipped && !fs_stat(mount, &st))
		skipped = RVMRPC_FS_SKIPPED_FAILED;
	if (skipped)
		rvmrpc_record_u64(list->w, RVMRPC_FS_SKIPPED, skipped);
	else
		fs_sizes(list, &st);
}

static bool fs_mount(const struct rvmrpc_mount *mount, void *data)
{
	struct fs_list *list = data;
	enum rvmrpc_mount_kind kind = rvmrpc_mount_kind(&list->remotes, mount);
	static const u64 skipped[] = {
		[RVMRPC_MOUNT_REMOTE] = RVMRPC_FS_SKIPPED_REMOTE,
		[RVMRPC_MOUNT_BELOW] = RVMRPC_FS_SKIPPED_BELOW,
		[RVMRPC_MOUNT_DATA] = 0,
	};

	if (mount->number < list->w->wanted.cursor || kind == RVMRPC_MOUNT_OTHER)
		return true;
	if (ktime_after(ktime_get(), list->deadline)) {
		rvmrpc_records_more(list->w, mount->number);
		return false;
	}
	fs_record(list, mount, skipped[kind]);
	return rvmrpc_record_end(list->w, mount->number);
}

int rvmrpc_os_fs_list(struct rvmrpc_record_writer *w, u32 ms)
{
	struct fs_list list = { .w = w, .deadline = ktime_add_ms(ktime_get(), ms / 4 * 3) };
	int err;

	err = rvmrpc_mounts_walk(fs_mount, &list);
	if (err == -EBUSY)
		return RVMRPC_STATUS_BUSY;
	/* Ended early for want of room or time, which the answer says; or a line was too long. */
	if (err == -E2BIG && !(w->head.flags & RVMRPC_RECORDS_MORE))
		rvmrpc_records_partial(w);
	else if (err && err != -E2BIG)
		return RVMRPC_STATUS_SYSTEM_ERROR;
	return RVMRPC_STATUS_OK;
}

int rvmrpc_mod_fs_init(void)
{
	return rvmrpc_builtin_add(&rvmrpc_fs_module);
}

void rvmrpc_mod_fs_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_fs_module);
}
