/* SPDX-License-Identifier: GPL-2.0 */
/*
 * VMRPC and VMLP for code of the host's kernel; in our kvm.ko.
 */
#ifndef _LINUX_VMRPC_H
#define _LINUX_VMRPC_H

#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/types.h>

struct file;
struct kvm_vcpu;
struct module;

/* ---- VMRPC: servers that guests call (paper, section 2) ---- */

/* A call in progress, the paper's rpcdata. */
struct vmrpc_data;

/**
 * struct vmrpc_module - a server module
 * @name:	name to which guests bind, at most 31 bytes
 * @version:	version, at most 31 bytes
 * @owner:	THIS_MODULE; held during each call
 * @dispatch:	runs procedure @func in the thread of the vCPU that calls, with no lock of KVM's held but vcpu->mutex,
 *		so it may sleep; @arg is a guest virtual address or a plain number.  Returns a result >= 0, or -errno
 */
struct vmrpc_module {
	const char *name;
	const char *version;
	struct module *owner;
	int (*dispatch)(struct vmrpc_data *rpcdata, u32 func, u64 arg, size_t bytes);
	/* private: */
	struct list_head node;
	u32 handle;
	atomic_t running;
};

/*
 * May sleep.  Calls come once the owner's init function has returned 0.  -EEXIST: the name is taken.  -EINVAL: bad
 * names.
 */
int vmrpc_register_module(struct vmrpc_module *module);
/* Waits for the calls that run in it; for the owner's exit function, or an init function that fails later. */
void vmrpc_unregister_module(struct vmrpc_module *module);

/*
 * Copy between the host and guest virtual address @gva of the calling vCPU.  Only inside a procedure; may sleep.
 * -EFAULT when a page is not mapped or not memory.
 */
int vmrpc_copy_from_guest(struct vmrpc_data *rpcdata, void *buf, u64 gva, size_t bytes);
int vmrpc_copy_to_guest(struct vmrpc_data *rpcdata, u64 gva, const void *buf, size_t bytes);

/*
 * Map guest virtual address @gva, at most to its page's end; *@got says how many bytes.  NULL when it cannot be.  Until
 * vmrpc_put_hva(), the end of the procedure or vmlp_wait().  One mapping at a time.
 */
void *vmrpc_get_hva(struct vmrpc_data *rpcdata, u64 gva, size_t bytes, bool write, size_t *got);
void vmrpc_put_hva(struct vmrpc_data *rpcdata);

struct kvm_vcpu *vmrpc_vcpu(struct vmrpc_data *rpcdata);

/* A VM whose VMM has a token of it (RVMRPC_ATTACH). */
struct vmrpc_vm;

/* That of a call; as long as it is in progress. */
const struct vmrpc_vm *vmrpc_vm(const struct vmrpc_data *rpcdata);

/* That of a token, referenced; NULL: the file is no token. */
struct vmrpc_vm *vmrpc_token_vm(struct file *token);
void vmrpc_vm_put(struct vmrpc_vm *vm);

/**
 * vmlp_wait() - sleep in a procedure, as long as the guest would let its CPU halt
 * @rpcdata:	the call
 * @condition:	ends the wait when true; called with no lock held
 * @data:	for @condition
 * @timeout_us:	at most 1000000
 *
 * Unlike a plain sleep it ends at the guest's interrupts too.  After @condition became true, vmlp_wake() must follow.
 * Context: a procedure; sleeps.
 * Return: 0 when @condition is true; -EAGAIN when something else ended the wait; -EPERM when the guest could not be
 * interrupted (IF=0 and the like), or on a call that cannot wait.
 */
int vmlp_wait(struct vmrpc_data *rpcdata, bool (*condition)(void *data), void *data, unsigned int timeout_us);

/* Ends the wait of @vcpu to look at its condition.  Any context; the caller knows that it still waits. */
void vmlp_wake(struct kvm_vcpu *vcpu);

#endif /* _LINUX_VMRPC_H */
