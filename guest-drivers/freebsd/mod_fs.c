/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Module fs: the mounted file systems that hold data.
 *
 * Local ones are asked, in a worker.  Of one for which a server or a process
 * would have to answer, what the kernel noted when it last did is told.
 */
#include "rvmrpc_drv.h"
#include <sys/mount.h>

struct fs_list {
	struct rvmrpc_record_writer *w;
	sbintime_t	deadline;
};

/* One at a time: each would hold a worker while a disk hangs. */
static volatile u_int fs_busy;
static struct statfs fs_stat;		/* large; who has set fs_busy */

enum rvmrpc_mount_kind
rvmrpc_mount_kind(const struct mount *mp)
{
	const char *type = mp->mnt_stat.f_fstypename;
	int flags = mp->mnt_vfc->vfc_flags;

	if ((flags & VFCF_NETWORK) != 0 || strncmp(type, "fuse", 4) == 0)
		return (RVMRPC_MOUNT_REMOTE);
	if ((flags & VFCF_SYNTHETIC) != 0 || strcmp(type, "tmpfs") == 0)
		return (RVMRPC_MOUNT_OTHER);
	/* Such as a nullfs of an NFS, which would ask it. */
	return ((mp->mnt_flag & MNT_LOCAL) != 0 ? RVMRPC_MOUNT_DATA :
	    RVMRPC_MOUNT_REMOTE);
}

/* mountlist_mtx held, and given up meanwhile; mp stays in the list. */
static bool
fs_ask(struct mount *mp)
{
	int error;

	if (vfs_busy(mp, MBF_NOWAIT | MBF_MNTLSTLOCK) != 0)
		return (false);
	fs_stat = mp->mnt_stat;
	error = VFS_STATFS(mp, &fs_stat);
	mtx_lock(&mountlist_mtx);
	vfs_unbusy(mp);
	return (error == 0);
}

static void
fs_string(struct fs_list *list, uint16_t key, const char *s)
{
	rvmrpc_record_string(list->w, key, s, strlen(s));
}

static void
fs_sizes(struct fs_list *list, const struct statfs *st)
{
	uint64_t unit = st->f_bsize;

	rvmrpc_record_u64(list->w, RVMRPC_FS_SIZE, st->f_blocks * unit);
	rvmrpc_record_u64(list->w, RVMRPC_FS_FREE, st->f_bfree * unit);
	/* Less than none where root has taken of the reserve. */
	rvmrpc_record_u64(list->w, RVMRPC_FS_AVAILABLE,
	    MAX(st->f_bavail, 0) * unit);
	if (st->f_files == 0)
		return;
	rvmrpc_record_u64(list->w, RVMRPC_FS_FILES, st->f_files);
	rvmrpc_record_u64(list->w, RVMRPC_FS_FILES_FREE,
	    MAX(st->f_ffree, 0));
}

static void
fs_skipped(struct fs_list *list, const struct statfs *st, uint64_t why)
{
	rvmrpc_record_u64(list->w, RVMRPC_FS_SKIPPED, why);
	/* Nobody has ever asked it. */
	if (st->f_blocks == 0)
		return;
	rvmrpc_record_u64(list->w, RVMRPC_FS_CACHED, 1);
	fs_sizes(list, st);
}

/* mountlist_mtx held, and given up meanwhile. */
static void
fs_record(struct fs_list *list, struct mount *mp, enum rvmrpc_mount_kind kind)
{
	bool asked = kind == RVMRPC_MOUNT_DATA && fs_ask(mp);
	const struct statfs *st = &mp->mnt_stat;

	rvmrpc_record_begin(list->w, RVMRPC_RECORD_FILESYSTEM);
	fs_string(list, RVMRPC_FS_TARGET, st->f_mntonname);
	fs_string(list, RVMRPC_FS_SOURCE, st->f_mntfromname);
	fs_string(list, RVMRPC_FS_TYPE, st->f_fstypename);
	rvmrpc_record_u64(list->w, RVMRPC_FS_READ_ONLY,
	    (mp->mnt_flag & MNT_RDONLY) != 0);
	if (asked)
		fs_sizes(list, &fs_stat);
	else
		fs_skipped(list, st, kind == RVMRPC_MOUNT_REMOTE ?
		    RVMRPC_FS_SKIPPED_REMOTE : RVMRPC_FS_SKIPPED_FAILED);
}

static void
fs_walk(struct fs_list *list)
{
	uint64_t n = 0;
	struct mount *mp;
	enum rvmrpc_mount_kind kind;

	mtx_lock(&mountlist_mtx);
	TAILQ_FOREACH(mp, &mountlist, mnt_list) {
		kind = rvmrpc_mount_kind(mp);
		if (n++ < list->w->wanted.cursor || kind == RVMRPC_MOUNT_OTHER)
			continue;
		if (sbinuptime() >= list->deadline) {
			rvmrpc_records_more(list->w, n - 1);
			break;
		}
		fs_record(list, mp, kind);
		if (!rvmrpc_record_end(list->w, n - 1))
			break;
	}
	mtx_unlock(&mountlist_mtx);
}

int
rvmrpc_os_fs_list(struct rvmrpc_record_writer *w, uint32_t ms)
{
	struct fs_list list = {
		.w = w,
		.deadline = sbinuptime() + ms / 4 * 3 * SBT_1MS,
	};

	if (atomic_cmpset_acq_int(&fs_busy, 0, 1) == 0)
		return (RVMRPC_STATUS_BUSY);
	fs_walk(&list);
	atomic_store_rel_int(&fs_busy, 0);
	return (RVMRPC_STATUS_OK);
}

int
rvmrpc_mod_fs_init(void)
{
	return (rvmrpc_builtin_add(&rvmrpc_fs_module));
}

void
rvmrpc_mod_fs_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_fs_module);
}
