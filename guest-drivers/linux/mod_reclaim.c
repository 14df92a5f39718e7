// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module reclaim: what "echo N > /proc/sys/vm/drop_caches" does, and the like, by the kernel's own VFS.
 */
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/mount.h>
#include <linux/mutex.h>
#include <linux/suspend.h>
#include <linux/vmstat.h>
#include "rvmrpc_compat.h"
#include "rvmrpc_drv.h"

/*
 * The kernel stops after a pass that freed next to nothing, and a pass spares what was used since the
 * last: a dentry falls in the second, its inode in the third.  Until then a guest may see what its host
 * has removed or replaced.
 */
#define RECLAIM_SLAB_PASSES	3

/* Asked for at once, between two looks at the clock. */
#define RECLAIM_PIECE		(8ull << 20)

static u64 reclaim_free_bytes(void)
{
	return (u64)global_zone_page_state(NR_FREE_PAGES) << PAGE_SHIFT;
}

static int reclaim_write(struct file *file, const char *text, size_t length)
{
	loff_t pos = 0;
	ssize_t done = kernel_write(file, text, length, &pos);

	return done < 0 ? done : 0;
}

static int reclaim_write_proc(const char *path, const char *text, size_t length)
{
	struct file *file = rvmrpc_proc_open(path, O_WRONLY);
	int err;

	if (IS_ERR(file))
		return PTR_ERR(file);
	err = reclaim_write(file, text, length);
	fput(file);
	return err;
}

static int reclaim_drop(u32 mode)
{
	int passes = mode & RVMRPC_DROP_SLAB ? RECLAIM_SLAB_PASSES : 1;
	const char text[] = { '0' + mode, '\n' };
	int err = 0;

	while (passes-- && !err)
		err = reclaim_write_proc("sys/vm/drop_caches", text, sizeof(text));
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

/* ---- Of a size ---- */

/* A sum over all zones, of pages, in bytes. */
static u64 reclaim_zone_bytes(u64 (*count)(const struct zone *zone))
{
	u64 pages = 0;
	int node, i;

	for_each_online_node(node) {
		for (i = 0; i < MAX_NR_ZONES; i++) {
			if (populated_zone(&NODE_DATA(node)->node_zones[i]))
				pages += count(&NODE_DATA(node)->node_zones[i]);
		}
	}
	return pages << PAGE_SHIFT;
}

static u64 reclaim_zone_cpus(const struct zone *zone)
{
	u64 pages = 0;
	int cpu;

	for_each_online_cpu(cpu)
		pages += rvmrpc_cpu_pages(zone, cpu);
	return pages;
}

/* A part of what is freed, a large one since 6.7, stays with the CPU that freed it. */
static u64 reclaim_unused_bytes(void)
{
	return reclaim_free_bytes() + reclaim_zone_bytes(reclaim_zone_cpus);
}

static struct vfsmount *reclaim_cgroups;	/* reclaim_lock; NULL: not mounted yet */

/* The root's own, which is for all memory; a mount of ours, as user space may have none. */
static struct file *reclaim_cgroup_open(void)
{
	struct file_system_type *type = get_fs_type("cgroup2");
	struct path path;
	struct file *file;

	if (!type)
		return ERR_PTR(-ENODEV);
	if (!reclaim_cgroups)
		reclaim_cgroups = kern_mount(type);
	module_put(type->owner);
	if (IS_ERR(reclaim_cgroups)) {
		file = ERR_CAST(reclaim_cgroups);
		reclaim_cgroups = NULL;
		return file;
	}
	path.mnt = reclaim_cgroups;
	path.dentry = rvmrpc_lookup_positive("memory.reclaim", reclaim_cgroups->mnt_root, strlen("memory.reclaim"));
	if (IS_ERR(path.dentry))
		return ERR_CAST(path.dentry);
	file = dentry_open(&path, O_WRONLY, current_cred());
	dput(path.dentry);
	return file;
}

/* What reclaim took so far, whoever asked for it. */
static u64 reclaim_stolen_bytes(void)
{
	return (rvmrpc_vm_reclaim(PGSTEAL_ANON) + rvmrpc_vm_reclaim(PGSTEAL_FILE)) << PAGE_SHIFT;
}

/* A kernel may take more than it is asked for, so that is counted. */
static int reclaim_pieces(struct file *file, u64 bytes, ktime_t deadline, struct rvmrpc_shrink_res *result)
{
	char text[24];
	u64 piece, stolen;
	int err;

	result->end = RVMRPC_SHRINK_DONE;
	while (result->reclaimed < bytes) {
		if (ktime_after(ktime_get(), deadline)) {
			result->end = RVMRPC_SHRINK_LATE;
			return 0;
		}
		piece = min(bytes - result->reclaimed, RECLAIM_PIECE);
		stolen = reclaim_stolen_bytes();
		err = reclaim_write(file, text, scnprintf(text, sizeof(text), "%llu", piece));
		stolen = reclaim_stolen_bytes() - stolen;
		/* Slab counts for the kernel as well. */
		result->reclaimed += err ? stolen : max(stolen, piece);
		if (err == -EAGAIN) {
			result->end = RVMRPC_SHRINK_EXHAUSTED;
			return 0;
		}
		if (err)
			return err;
	}
	return 0;
}

static int reclaim_shrink(u64 bytes, u32 ms, struct rvmrpc_shrink_res *result)
{
	const ktime_t deadline = ktime_add_ms(ktime_get(), ms);
	struct file *file = reclaim_cgroup_open();
	u64 before, after;
	int err;

	if (IS_ERR(file))
		return RVMRPC_STATUS_PROCEDURE_UNAVAILABLE;
	before = reclaim_unused_bytes();
	err = reclaim_pieces(file, bytes, deadline, result);
	after = reclaim_unused_bytes();
	fput(file);
	result->freed = after > before ? after - before : 0;
	return err ? RVMRPC_STATUS_SYSTEM_ERROR : RVMRPC_STATUS_OK;
}

int rvmrpc_os_shrink(u64 bytes, u32 ms, struct rvmrpc_shrink_res *result)
{
	int status;

	if (!mutex_trylock(&reclaim_lock))
		return RVMRPC_STATUS_BUSY;
	status = reclaim_shrink(bytes, ms, result);
	mutex_unlock(&reclaim_lock);
	return status;
}

/* ---- Together ---- */

static u64 reclaim_zone_large(const struct zone *zone)
{
	u64 pages = 0;
	unsigned int order;

	/* As many as there were at some moment: nobody's lock is taken. */
	for (order = get_order(SZ_2M); order < ARRAY_SIZE(zone->free_area); order++)
		pages += (u64)READ_ONCE(zone->free_area[order].nr_free) << order;
	return pages;
}

int rvmrpc_os_compact(struct rvmrpc_compact_res *result)
{
	int err;

	if (!IS_ENABLED(CONFIG_COMPACTION))
		return RVMRPC_STATUS_PROCEDURE_UNAVAILABLE;
	if (!mutex_trylock(&reclaim_lock))
		return RVMRPC_STATUS_BUSY;
	result->before = reclaim_zone_bytes(reclaim_zone_large);
	err = reclaim_write_proc("sys/vm/compact_memory", "1\n", 2);
	result->after = reclaim_zone_bytes(reclaim_zone_large);
	mutex_unlock(&reclaim_lock);
	return err ? RVMRPC_STATUS_SYSTEM_ERROR : RVMRPC_STATUS_OK;
}

int rvmrpc_mod_reclaim_init(void)
{
	return rvmrpc_builtin_add(&rvmrpc_reclaim_sized_module);
}

void rvmrpc_mod_reclaim_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_reclaim_sized_module);
	if (reclaim_cgroups)
		kern_unmount(reclaim_cgroups);
}
