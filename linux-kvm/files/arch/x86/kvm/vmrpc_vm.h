/* SPDX-License-Identifier: GPL-2.0 */
/*
 * VMRPC: a VM whose gate is on; what our own files share.
 */
#ifndef ARCH_X86_KVM_VMRPC_VM_H
#define ARCH_X86_KVM_VMRPC_VM_H

#include <linux/kref.h>
#include <linux/kvm_host.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include <linux/vmrpc.h>
#include <uapi/linux/rvmrpc.h>

#include "rvmrpc_abi.h"

/* As rvmrpc_gate_status has them. */
struct vmrpc_counters {
	atomic64_t hypercalls;
	atomic64_t waits;
	atomic64_t interrupted;
	atomic64_t user_exits;
	atomic64_t refused_calls;
};

/* A side table: no field is added to KVM's own structures, whose layout other modules know. */
struct vmrpc_vm {
	struct kref kref;		/* its token, gate calls, and who binds something to it */
	struct rcu_head rcu;
	struct hlist_node node;		/* by kvm; vms_lock, read under RCU */
	struct kvm *kvm;		/* referenced while the token is open */

	struct vmrpc_counters counters;
	struct dentry *debugfs;		/* its folder; while the token is open */
	char stats_id[KVM_STATS_NAME_SIZE];	/* constant */

	/* By vcpu_idx: the vCPU is in vmlp_wait(); and it was woken there. */
	DECLARE_BITMAP(waiting, KVM_MAX_VCPUS);
	DECLARE_BITMAP(woken, KVM_MAX_VCPUS);
};

/* A gate call in progress, in the vCPU's thread. */
struct vmrpc_data {
	struct kvm_vcpu *vcpu;
	struct vmrpc_vm *vm;
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

/* RCU read side; NULL: its gate is off. */
struct vmrpc_vm *vmrpc_vm_find(struct kvm *kvm);

/* Its counters' files in debugfs come, and go. */
void vmrpc_stats_show(struct vmrpc_vm *vm);
void vmrpc_stats_hide(struct vmrpc_vm *vm);
/* A file descriptor as KVM_GET_STATS_FD's, or -errno. */
int vmrpc_stats_fd(struct vmrpc_vm *vm);

#endif /* ARCH_X86_KVM_VMRPC_VM_H */
