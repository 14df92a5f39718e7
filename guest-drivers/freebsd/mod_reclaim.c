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

static int
reclaim_drop_caches(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_drop_req wanted;
	struct rvmrpc_drop_res result;
	uint64_t before, after;

	memcpy(&wanted, req->arg, sizeof(wanted));
	if (wanted.mode < RVMRPC_DROP_PAGECACHE ||
	    wanted.mode > RVMRPC_DROP_ALL ||
	    (wanted.flags & ~RVMRPC_DROP_SYNC) != 0)
		return (RVMRPC_STATUS_GARBAGE_ARGS);
	if (res->resmax < sizeof(result))
		return (RVMRPC_STATUS_TOO_BIG);
	if ((wanted.flags & RVMRPC_DROP_SYNC) != 0)
		sys_sync(curthread, NULL);
	before = reclaim_free_bytes();
	reclaim_drop(wanted.mode);
	after = reclaim_free_bytes();
	result.freed = after > before ? after - before : 0;
	memcpy(res->res, &result, sizeof(result));
	res->reslen = sizeof(result);
	return (RVMRPC_STATUS_OK);
}

static const struct rvmrpc_procedure reclaim_procs[] = {
	{
		.number = RVMRPC_RECLAIM_DROP_CACHES,
		.name = "drop_caches",
		.flags = RVMRPC_PROC_MAY_SLEEP,
		.arg_min = sizeof(struct rvmrpc_drop_req),
		.arg_max = sizeof(struct rvmrpc_drop_req),
		.handler = reclaim_drop_caches,
	},
};

static struct rvmrpc_module reclaim_module = {
	.number = RVMRPC_MOD_RECLAIM,
	.version = 1,
	.name = "reclaim",
	.procs = reclaim_procs,
	.nprocs = nitems(reclaim_procs),
};

int
rvmrpc_mod_reclaim_init(void)
{
	return (rvmrpc_builtin_add(&reclaim_module));
}

void
rvmrpc_mod_reclaim_exit(void)
{
	rvmrpc_builtin_remove(&reclaim_module);
}
