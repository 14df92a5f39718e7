/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels from 5.10 on, for these modules and their clients.
 */
#ifndef RVMRPC_COMPAT_H
#define RVMRPC_COMPAT_H

#include <linux/eventfd.h>
#include <linux/freezer.h>
#include <linux/mm.h>
#include <linux/proc_fs.h>
#include <linux/version.h>

#if KERNEL_VERSION(6, 8, 0) > LINUX_VERSION_CODE
#define rvmrpc_eventfd_signal(ctx)	eventfd_signal(ctx, 1)
#else
#define rvmrpc_eventfd_signal(ctx)	eventfd_signal(ctx)
#endif

/* A sleep that keeps no host from being suspended. */
#if KERNEL_VERSION(6, 1, 0) > LINUX_VERSION_CODE
#define RVMRPC_TASK_WAITS		TASK_KILLABLE
#define rvmrpc_schedule_timeout(left)			\
	do {						\
		freezer_do_not_count();			\
		schedule_timeout(left);			\
		freezer_count();			\
	} while (0)
#else
#define RVMRPC_TASK_WAITS		(TASK_KILLABLE | TASK_FREEZABLE_UNSAFE)
#define rvmrpc_schedule_timeout(left)	schedule_timeout(left)
#endif

#if KERNEL_VERSION(5, 17, 0) > LINUX_VERSION_CODE
#define pde_data(inode)			PDE_DATA(inode)
#endif

/* Shared memory's page, which is referenced, is still in its file: no hole was made there. */
static inline bool rvmrpc_page_in_file(struct page *page)
{
#if KERNEL_VERSION(5, 16, 0) > LINUX_VERSION_CODE
	return READ_ONCE(compound_head(page)->mapping);
#else
	return READ_ONCE(page_folio(page)->mapping);
#endif
}

#endif /* RVMRPC_COMPAT_H */
