/* SPDX-License-Identifier: GPL-2.0 */
/*
 * VMRPC and VMLP: what KVM's own files call.
 */
#ifndef ARCH_X86_KVM_VMRPC_H
#define ARCH_X86_KVM_VMRPC_H

#include <linux/jump_label.h>
#include <linux/kvm_host.h>

#ifdef CONFIG_KVM_VMRPC

/* On from the first VM on that is attached: before it KVM takes none of our paths. */
DECLARE_STATIC_KEY_FALSE(vmrpc_enabled);

bool __vmrpc_hypercall(struct kvm_vcpu *vcpu, int *r);
bool __vmlp_has_events(struct kvm_vcpu *vcpu);

/* True: it was a gate call, *r is what the exit handler returns.  srcu read side, may sleep. */
static inline bool vmrpc_hypercall(struct kvm_vcpu *vcpu, int *r)
{
	return static_branch_unlikely(&vmrpc_enabled) && __vmrpc_hypercall(vcpu, r);
}

/* The vCPU waits and was woken.  Any thread. */
static inline bool vmlp_has_events(struct kvm_vcpu *vcpu)
{
	return static_branch_unlikely(&vmrpc_enabled) && __vmlp_has_events(vcpu);
}

/* Ioctls on the VM's file that KVM does not know. */
int vmrpc_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp);

#else

static inline bool vmrpc_hypercall(struct kvm_vcpu *vcpu, int *r)
{
	return false;
}

static inline bool vmlp_has_events(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline int vmrpc_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp)
{
	return -ENOTTY;
}

#endif
#endif /* ARCH_X86_KVM_VMRPC_H */
