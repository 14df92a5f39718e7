// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module reclaim: what "echo N > /proc/sys/vm/drop_caches" does, by the kernel's own VFS.
 */
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/suspend.h>
#include <linux/vmstat.h>
#include "rvmrpc_drv.h"

/*
 * The kernel stops after a pass that freed next to nothing, and a pass spares what was used since the
 * last: a dentry falls in the second, its inode in the third.  Until then a guest may see what its host
 * has removed or replaced.
 */
#define RECLAIM_SLAB_PASSES	3

static u64 reclaim_free_bytes(void)
{
	return (u64)global_zone_page_state(NR_FREE_PAGES) << PAGE_SHIFT;
}

static int reclaim_write(const char *text, size_t length)
{
	struct file *file = rvmrpc_proc_open("sys/vm/drop_caches", O_WRONLY);
	ssize_t done;
	loff_t pos = 0;

	if (IS_ERR(file))
		return PTR_ERR(file);
	done = kernel_write(file, text, length, &pos);
	fput(file);
	return done < 0 ? done : 0;
}

static int reclaim_drop(u32 mode)
{
	int passes = mode & RVMRPC_DROP_SLAB ? RECLAIM_SLAB_PASSES : 1;
	const char text[] = { '0' + mode, '\n' };
	int err = 0;

	while (passes-- && !err)
		err = reclaim_write(text, sizeof(text));
	return err;
}

/* One at a time: on a disk that hangs, each would take a worker for as long as the disk does. */
static DEFINE_MUTEX(reclaim_lock);

static int reclaim_run(u32 mode, bool sync, u64 *freed)
{
	u64 before, after;

	if (sync)
		ksys_sync_helper();
	before = reclaim_free_bytes();
	if (reclaim_drop(mode))
		return RVMRPC_STATUS_SYSTEM_ERROR;
	after = reclaim_free_bytes();
	*freed = after > before ? after - before : 0;
	return RVMRPC_STATUS_OK;
}

/* The helper is for suspend; without that it does nothing, and no other way is exported. */
bool rvmrpc_os_can_sync(void)
{
	return IS_ENABLED(CONFIG_PM_SLEEP);
}

int rvmrpc_os_drop_caches(u32 mode, bool sync, u64 *freed)
{
	int status;

	if (!mutex_trylock(&reclaim_lock))
		return RVMRPC_STATUS_BUSY;
	status = reclaim_run(mode, sync, freed);
	mutex_unlock(&reclaim_lock);
	return status;
}

int rvmrpc_mod_reclaim_init(void)
{
	return rvmrpc_builtin_add(&rvmrpc_reclaim_module);
}

void rvmrpc_mod_reclaim_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_reclaim_module);
}
