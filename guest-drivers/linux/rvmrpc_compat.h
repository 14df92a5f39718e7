/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All that differs from Linux 5.10 on.
 */
#ifndef RVMRPC_COMPAT_H
#define RVMRPC_COMPAT_H

#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/kmsg_dump.h>
#include <linux/mmzone.h>
#include <linux/namei.h>
#include <linux/pci.h>
#include <linux/pm.h>
#include <linux/version.h>
#include <linux/vmstat.h>
#include "rvmrpc_arch.h"

/* 6.16 gave it another name, and the name of the file a struct. */
static inline struct dentry *rvmrpc_lookup_positive(const char *name, struct dentry *parent, int length)
{
#if KERNEL_VERSION(6, 16, 0) <= LINUX_VERSION_CODE
	return lookup_noperm_positive_unlocked(&QSTR_LEN(name, length), parent);
#else
	return lookup_positive_unlocked(name, parent, length);
#endif
}

/* 5.14 gave it a header of its own. */
#if KERNEL_VERSION(5, 14, 0) <= LINUX_VERSION_CODE
#include <linux/panic_notifier.h>
#endif

/* Exported, but in no header that modules see. */
#if KERNEL_VERSION(6, 12, 0) > LINUX_VERSION_CODE
int vfs_path_lookup(struct dentry *dentry, struct vfsmount *mnt, const char *name, unsigned int flags, struct path *path);
#endif

/* What one does with each entry of a folder: till 6.0 it returned an error, 0 for none. */
#if KERNEL_VERSION(6, 1, 0) <= LINUX_VERSION_CODE
#define rvmrpc_filldir_t	bool
#define RVMRPC_FILLDIR_GO_ON	true
#define RVMRPC_FILLDIR_END	false
#else
#define rvmrpc_filldir_t	int
#define RVMRPC_FILLDIR_GO_ON	0
#define RVMRPC_FILLDIR_END	(-ENOSPC)
#endif

/* 5.14 gave a PCI driver its own; since then it overwrites the other. */
#if KERNEL_VERSION(5, 14, 0) <= LINUX_VERSION_CODE
#define RVMRPC_DEV_GROUPS(groups)	.dev_groups = (groups)
#else
#define RVMRPC_DEV_GROUPS(groups)	.driver.dev_groups = (groups)
#endif

/* Released when the driver leaves the device: 6.16 has no longer one function that does so for pcim_enable_device(). */
#if KERNEL_VERSION(6, 13, 0) <= LINUX_VERSION_CODE
#define rvmrpc_request_region	pcim_request_region
#else
#define rvmrpc_request_region	pci_request_region
#endif

/* New in 5.17. */
#ifndef DEFINE_SIMPLE_DEV_PM_OPS
#define DEFINE_SIMPLE_DEV_PM_OPS(name, suspend_fn, resume_fn)		\
	const struct dev_pm_ops name = {				\
		.suspend = (suspend_fn), .resume = (resume_fn),		\
		.freeze = (suspend_fn), .thaw = (resume_fn),		\
		.poweroff = (suspend_fn), .restore = (resume_fn),	\
	}
#define pm_sleep_ptr(ops)	(IS_ENABLED(CONFIG_PM_SLEEP) ? (ops) : NULL)
#endif

/* One of vmstat's counts that add up over the CPUs. */
static inline u64 rvmrpc_vm_event(enum vm_event_item item)
{
	u64 sum = 0;
	int cpu;

	/* all_vm_events() waits for who adds or removes a CPU. */
	for_each_online_cpu(cpu)
		sum += READ_ONCE(per_cpu(vm_event_states, cpu).event[item]);
	return sum;
}

/* Free pages that a CPU keeps for itself: 5.14 took them out of a larger structure. */
static inline u32 rvmrpc_cpu_pages(const struct zone *zone, int cpu)
{
#if KERNEL_VERSION(5, 14, 0) <= LINUX_VERSION_CODE
	return READ_ONCE(per_cpu_ptr(zone->per_cpu_pageset, cpu)->count);
#else
	return READ_ONCE(per_cpu_ptr(zone->pageset, cpu)->pcp.count);
#endif
}

/* 7.1 counts what reclaim does by node. */
#if KERNEL_VERSION(7, 1, 0) <= LINUX_VERSION_CODE
#define rvmrpc_vm_reclaim(item)	((u64)global_node_page_state(item))
#else
#define rvmrpc_vm_reclaim(item)	rvmrpc_vm_event(item)
#endif

/* 6.6 wants to know who holds a file system, 6.16 for whom: as "fsfreeze" does, which can thaw it then. */
#if KERNEL_VERSION(6, 16, 0) <= LINUX_VERSION_CODE
#define RVMRPC_FREEZE_CALL(fn, sb)	((fn)((sb), FREEZE_HOLDER_USERSPACE, NULL))
#elif KERNEL_VERSION(6, 6, 0) <= LINUX_VERSION_CODE
#define RVMRPC_FREEZE_CALL(fn, sb)	((fn)((sb), FREEZE_HOLDER_USERSPACE))
#else
#define RVMRPC_FREEZE_CALL(fn, sb)	((fn)(sb))
#endif

static inline int rvmrpc_freeze_super(struct super_block *sb)
{
	return RVMRPC_FREEZE_CALL(sb->s_op->freeze_super ?: freeze_super, sb);
}

static inline int rvmrpc_thaw_super(struct super_block *sb)
{
	return RVMRPC_FREEZE_CALL(sb->s_op->thaw_super ?: thaw_super, sb);
}

/* A position in the kernel's log, at first the oldest record: till 5.13 it was part of a dumper. */
#if KERNEL_VERSION(5, 13, 0) <= LINUX_VERSION_CODE
#define rvmrpc_kmsg_iter kmsg_dump_iter
static inline void rvmrpc_kmsg_begin(struct kmsg_dump_iter *iter)
{
	kmsg_dump_rewind(iter);
}
#else
#ifdef CONFIG_PREEMPT_RT	/* it had that earlier, by another name */
#define rvmrpc_kmsg_iter kmsg_dumper_iter
#else
#define rvmrpc_kmsg_iter kmsg_dumper
#endif
static inline void rvmrpc_kmsg_begin(struct rvmrpc_kmsg_iter *iter)
{
	iter->active = true;
	kmsg_dump_rewind(iter);
}
#endif

/* 6.9 gave it a header of its own. */
#if KERNEL_VERSION(6, 9, 0) <= LINUX_VERSION_CODE
#include <linux/vmcore_info.h>
#else
#include <linux/crash_core.h>
#endif

/* Since 5.18 a stack is freed after a grace period, so that one can look at another task's under RCU. */
#define RVMRPC_CAN_UNWIND	(RVMRPC_HAS_UNWIND && KERNEL_VERSION(5, 18, 0) <= LINUX_VERSION_CODE)

#endif /* RVMRPC_COMPAT_H */
