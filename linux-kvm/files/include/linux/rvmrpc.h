/* SPDX-License-Identifier: GPL-2.0 */
/*
 * VMRPC and Reverse VMRPC for code of the host's kernel.
 */
#ifndef _LINUX_RVMRPC_H
#define _LINUX_RVMRPC_H

#include <linux/list.h>
#include <linux/types.h>
#include <linux/uuid.h>

struct kvm_vcpu;
struct module;
struct notifier_block;

/* ---- Reverse VMRPC: calls into a guest's kernel (paper, section 4.2) ---- */

struct rvmrpc_vm;

/**
 * rvmrpc_call_vm() - call a procedure in the kernel of a guest
 * @vm:		the guest's VM
 * @mod:	module's number
 * @proc:	procedure's number
 * @arg:	arguments, or NULL
 * @arglen:	their size in bytes
 * @res:	where to put the answer, or NULL
 * @res_buflen:	size of @res in bytes
 * @timeout_ms:	1 to 60000, or 0 for one second
 *
 * Context: process context, may sleep until the answer, the timeout or a fatal signal.
 * Return: bytes of the answer, or -errno as rvmrpc_status_to_errno() maps it.
 */
ssize_t rvmrpc_call_vm(struct rvmrpc_vm *vm, u32 mod, u32 proc, const void *arg, u32 arglen, void *res,
		       u32 res_buflen, unsigned int timeout_ms);

/**
 * rvmrpc_call() - the same, with the paper's signature, for the one guest there is
 * @mod:	module's number
 * @proc:	procedure's number
 * @arg:	arguments, or NULL
 * @arglen:	their size in bytes
 * @res:	where to put the answer, or NULL
 * @res_buflen:	size of @res in bytes
 *
 * Context: as rvmrpc_call_vm().
 * Return: as rvmrpc_call_vm(); -ENODEV when no VM has a driver, -ENOTUNIQ when several have.
 */
ssize_t rvmrpc_call(u32 mod, u32 proc, const void *arg, u32 arglen, void *res, u32 res_buflen);

/* Find a VM; rvmrpc_vm_put() drops the reference.  NULL: none.  Any context that may sleep. */
struct rvmrpc_vm *rvmrpc_vm_by_uuid(const uuid_t *uuid);
struct rvmrpc_vm *rvmrpc_vm_by_name(const char *name);
struct rvmrpc_vm *rvmrpc_vm_by_pid(pid_t pid);
struct rvmrpc_vm *rvmrpc_vm_by_id(u64 id);

/* Iterates: NULL begins; takes over the reference to @vm and returns one. */
struct rvmrpc_vm *rvmrpc_vm_next(struct rvmrpc_vm *vm);
struct rvmrpc_vm *rvmrpc_vm_get(struct rvmrpc_vm *vm);
void rvmrpc_vm_put(struct rvmrpc_vm *vm);

const uuid_t *rvmrpc_vm_uuid(const struct rvmrpc_vm *vm);
const char *rvmrpc_vm_name(const struct rvmrpc_vm *vm);
pid_t rvmrpc_vm_pid(const struct rvmrpc_vm *vm);
u64 rvmrpc_vm_id(const struct rvmrpc_vm *vm);
bool rvmrpc_vm_connected(struct rvmrpc_vm *vm);

/* What a notifier is called with, and a struct rvmrpc_vm; one at a time, may sleep. */
#define RVMRPC_VM_ATTACHED	1
#define RVMRPC_VM_DETACHED	2	/* all its calls have ended, new ones get -ENOTCONN */

/*
 * Registering tells @nb of the VMs that are attached already, as if they came now; then each is told once, and once when
 * it goes.  Unregistering tells nothing.  May sleep; not from a notifier.
 */
int rvmrpc_register_notifier(struct notifier_block *nb);
void rvmrpc_unregister_notifier(struct notifier_block *nb);

/* @status: RVMRPC_STATUS_*.  0 for OK. */
int rvmrpc_status_to_errno(u32 status);

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
};

/* May sleep.  -EEXIST: the name is taken.  -EINVAL: bad names. */
int vmrpc_register_module(struct vmrpc_module *module);
/* May sleep.  For the owner's exit function: a call holds the owner, so none runs by then. */
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

#endif /* _LINUX_RVMRPC_H */
