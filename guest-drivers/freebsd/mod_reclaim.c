/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Module reclaim: the event by which FreeBSD itself asks its caches to shrink.
 *
 * FreeBSD has no drop_caches.  vm_lowmem shrinks the ARC and the kernel's own
 * caches, and UMA gives its spare items back; pages of UFS files stay in the
 * inactive queue, where they are as good as free.
 */
#include "rvmrpc_drv.h"
#include <sys/eventhandler.h>
#include <sys/proc.h>
#include <sys/sysproto.h>
#include <sys/vmmeter.h>
#include <vm/vm.h>
#include <vm/vm_pageout.h>

static uint64_t
reclaim_free_bytes(void)
{
	return ((uint64_t)vm_free_count() * PAGE_SIZE);
}

static void
reclaim_drop(uint32_t mode)
{
	int flags = 0;

	if ((mode & RVMRPC_DROP_PAGECACHE) != 0)
		flags |= VM_LOW_PAGES;
	if ((mode & RVMRPC_DROP_SLAB) != 0)
		flags |= VM_LOW_KMEM;
	EVENTHANDLER_INVOKE(vm_lowmem, flags);
	/* What the caches have let go is UMA's until it lets go, too. */
	rvmrpc_uma_reclaim();
}

/* One at a time: each would hold a worker while a disk hangs. */
static volatile u_int reclaim_busy;

bool
rvmrpc_os_can_sync(void)
{
	return (true);
}

int
rvmrpc_os_drop_caches(uint32_t mode, bool sync, uint64_t *freed)
{
	uint64_t before, after;

	if (atomic_cmpset_int(&reclaim_busy, 0, 1) == 0)
		return (RVMRPC_STATUS_BUSY);
	if (sync)
		sys_sync(curthread, NULL);
	before = reclaim_free_bytes();
	reclaim_drop(mode);
	after = reclaim_free_bytes();
	*freed = after > before ? after - before : 0;
	atomic_store_rel_int(&reclaim_busy, 0);
	return (RVMRPC_STATUS_OK);
}

int
rvmrpc_mod_reclaim_init(void)
{
	return (rvmrpc_builtin_add(&rvmrpc_reclaim_module));
}

void
rvmrpc_mod_reclaim_exit(void)
{
	rvmrpc_builtin_remove(&rvmrpc_reclaim_module);
}
