/* SPDX-License-Identifier: GPL-2.0 */
/*
 * VMRPC: a VM that its VMM has attached; what our own files share.
 */
#ifndef ARCH_X86_KVM_VMRPC_VM_H
#define ARCH_X86_KVM_VMRPC_VM_H

#include <linux/eventfd.h>
#include <linux/kref.h>
#include <linux/kvm_host.h>
#include <linux/rvmrpc.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include <linux/spinlock.h>
#include <linux/vmrpc.h>
#include <linux/workqueue.h>
#include <uapi/linux/rvmrpc.h>

#include "rvmrpc_proxy.h"

/* The guest's pages of one epoch; kept by the copies in progress. */
struct rvmrpc_pages {
	struct kref kref;
	u32 req_pages, res_pages;	/* per slot */
	u64 gpa[];
};

/* A side table: no field is added to KVM's own structures, whose layout other modules know. */
struct rvmrpc_vm {
	struct kref kref;
	struct rcu_head rcu;
	struct hlist_node node;		/* by kvm; vms_lock, read under RCU */
	struct list_head list;		/* by id; vms_lock */
	u64 id;
	struct kvm *kvm;		/* referenced while attached */
	uuid_t uuid;
	char name[RVMRPC_VM_NAME_SIZE];
	pid_t pid;
	struct eventfd_ctx *kick;

	spinlock_t lock;		/* leaf; never held across a copy */
	bool attached;			/* lock */
	struct rvmrpc_proxy proxy;	/* lock */
	struct rvmrpc_pages *pages;	/* lock */
	struct list_head waiters;	/* vCPUs in VMLP; lock */
	bool vmlp;			/* the last poll asked to wait; WRITE_ONCE, no lock */
	u64 armed;			/* ns, when expire_work runs; lock */
	struct delayed_work expire_work;
	void (*event)(struct rvmrpc_vm *vm, u32 type);	/* to the VMM's channel; lock to change */

	atomic64_t hypercalls;
	atomic64_t waits;
	atomic64_t interrupted;
	atomic64_t user_exits;
	atomic64_t refused_calls;

	/* By vcpu_idx: the vCPU is in vmlp_wait(); and it was woken there. */
	DECLARE_BITMAP(waiting, KVM_MAX_VCPUS);
	DECLARE_BITMAP(woken, KVM_MAX_VCPUS);
};

/* A gate call in progress, in the vCPU's thread. */
struct vmrpc_data {
	struct kvm_vcpu *vcpu;
	struct rvmrpc_vm *vm;
	bool can_wait;			/* the instruction is done with, nothing else is to be reported */
	struct kvm_host_map map;	/* of vmrpc_get_hva() */
	bool mapped;
	bool map_dirty;
};

/* A short wait may spin on until @stop: nobody else wants this CPU. */
static inline bool vmrpc_may_spin(ktime_t stop)
{
	return single_task_running() && !need_resched() && ktime_before(ktime_get(), stop);
}

/* One call of a host client.  done() may be called from any thread, must not sleep. */
struct rvmrpc_kcall {
	struct rvmrpc_call core;
	void *res;			/* core.res_max bytes, or NULL and res_max 0; see alloc_res */
	bool alloc_res;			/* res is made by kvmalloc() when the answer's size is known */
	void (*done)(struct rvmrpc_kcall *call);
};

/* OK: done() will be called.  Else refused with RVMRPC_STATUS_*. */
u32 rvmrpc_submit(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call);
void rvmrpc_cancel(struct rvmrpc_vm *vm, struct rvmrpc_kcall *call);

/* RCU read side; NULL: not attached. */
struct rvmrpc_vm *rvmrpc_vm_find(struct kvm *kvm);

/* Attach and detach; -errno.  Process context. */
struct rvmrpc_vm *rvmrpc_vm_attach(struct kvm *kvm, const struct rvmrpc_attach *attach,
				   void (*event)(struct rvmrpc_vm *vm, u32 type));
void rvmrpc_vm_detach(struct rvmrpc_vm *vm);
int rvmrpc_vm_notice(struct rvmrpc_vm *vm, unsigned long notice);
void rvmrpc_vm_status(struct rvmrpc_vm *vm, struct rvmrpc_kvm_status *status);

/* The files: /dev/rvmrpc and a VMM's channel. */
int rvmrpc_dev_init(void);
void rvmrpc_dev_exit(void);
int rvmrpc_channel_create(struct kvm *kvm, const struct rvmrpc_attach *attach);

/* The proxy as a VMRPC server. */
extern struct vmrpc_module rvmrpc_proxy_module;

#endif /* ARCH_X86_KVM_VMRPC_VM_H */
