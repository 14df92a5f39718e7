/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Module reclaim: the event by which FreeBSD itself asks its caches to shrink.
 *
 * FreeBSD has neither drop_caches nor a way to have so many bytes taken.
 * vm_lowmem shrinks the ARC and the kernel's own caches, and UMA gives spare
 * items back; pages of UFS files stay in the inactive queue, where they are as
 * good as free, and the laundry waits for the page daemon.
 */
#include "rvmrpc_drv.h"
#include <sys/eventhandler.h>
#include <sys/proc.h>
#include <sys/vmmeter.h>
#include <vm/vm.h>
#include <vm/vm_pageout.h>

static uint64_t
reclaim_free_bytes(void)
{
	return ((uint64_t)vm_free_count() * PAGE_SIZE);
}

static uint64_t
reclaim_gain(uint64_t before)
{
	uint64_t now = reclaim_free_bytes();

	return (now > before ? now - before : 0);
}

/* One at a time: each would hold a worker while a disk hangs. */
static volatile u_int reclaim_busy;
static struct thread * volatile reclaim_thread;	/* its, in the event */

bool
rvmrpc_reclaim_is_mine(void)
{
	return (reclaim_thread == curthread);
}

static void
reclaim_drop(uint32_t mode)
{
	int flags = 0;

	if ((mode & RVMRPC_DROP_PAGECACHE) != 0)
		flags |= VM_LOW_PAGES;
	if ((mode & RVMRPC_DROP_SLAB) != 0)
		flags |= VM_LOW_KMEM;
	reclaim_thread = curthread;
	EVENTHANDLER_INVOKE(vm_lowmem, flags);
	reclaim_thread = NULL;
	/* What the caches have let go is UMA's until it lets go, too. */
	rvmrpc_uma_reclaim();
}

bool
rvmrpc_os_can_sync(void)
{
	return (true);
}

int
rvmrpc_os_drop_caches(uint32_t mode, bool sync, uint64_t *freed)
{
	uint64_t before;

	if (atomic_cmpset_int(&reclaim_busy, 0, 1) == 0)
		return (RVMRPC_STATUS_BUSY);
	if (sync)
		rvmrpc_sync();
	before = reclaim_free_bytes();
	reclaim_drop(mode);
	*freed = reclaim_gain(before);
	atomic_store_rel_int(&reclaim_busy, 0);
	return (RVMRPC_STATUS_OK);
}

/* ---- Of a size ---- */

/*
 * The ARC shrinks by a part each time, in a thread of its own: what it lets go
 * is seen a moment later.
 */
#define	RECLAIM_PAUSE_MS	50
#define	RECLAIM_IDLE_MAX	4	/* rounds without a gain of that much */
#define	RECLAIM_GAIN_MIN	(256 * 1024)

/*
 * Returns RVMRPC_SHRINK_*.  What others free and take meanwhile counts, too:
 * nobody counts what the caches gave.
 */
static uint32_t
reclaim_rounds(uint64_t before, uint64_t bytes, sbintime_t deadline)
{
	uint64_t gain, best = 0;
	u_int idle = 0;

	while (idle < RECLAIM_IDLE_MAX) {
		if (sbinuptime() >= deadline)
			return (RVMRPC_SHRINK_LATE);
		reclaim_drop(RVMRPC_DROP_ALL);
		pause_sbt("rvmshr", RECLAIM_PAUSE_MS * SBT_1MS, 0, 0);
		gain = reclaim_gain(before);
		if (gain >= bytes)
			return (RVMRPC_SHRINK_DONE);
		idle = gain >= best + RECLAIM_GAIN_MIN ? 0 : idle + 1;
		best = MAX(gain, best);
	}
	return (RVMRPC_SHRINK_EXHAUSTED);
}

int
rvmrpc_os_shrink(uint64_t bytes, uint32_t ms, struct rvmrpc_shrink_res *result)
{
	uint64_t before;

	if (atomic_cmpset_int(&reclaim_busy, 0, 1) == 0)
		return (RVMRPC_STATUS_BUSY);
	before = reclaim_free_bytes();
	result->end = reclaim_rounds(before, bytes,
	    sbinuptime() + ms * SBT_1MS);
	result->freed = reclaim_gain(before);
	result->reclaimed = result->freed;
	atomic_store_rel_int(&reclaim_busy, 0);
	return (RVMRPC_STATUS_OK);
}

/* A module has no way to. */
int
rvmrpc_os_compact(struct rvmrpc_compact_res *result __unused)
{
	return (RVMRPC_STATUS_PROCEDURE_UNAVAILABLE);
}

/* ---- Module ---- */

int
rvmrpc_mod_reclaim_init(void)
{
	return (rvmrpc_builtin_add(&rvmrpc_reclaim_sized_module));
}

void
rvmrpc_mod_reclaim_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_reclaim_sized_module);
}
