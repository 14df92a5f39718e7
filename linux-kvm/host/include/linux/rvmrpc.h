/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reverse VMRPC for code of the host's kernel: calls into guests' kernels (paper, section 4.2).
 */
#ifndef _LINUX_RVMRPC_H
#define _LINUX_RVMRPC_H

#include <linux/types.h>
#include <linux/uuid.h>

struct notifier_block;
struct rvmrpc_event;

/* A guest's window, and who its VMM says that it is. */
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
 * @timeout_ms:	1 to 60000 milliseconds, or 0 for one second
 *
 * @arg and @res are touched by the calling thread only, and only before this returns.
 *
 * Context: process context, may sleep until the answer, the timeout or a fatal signal.  With no lock held that a page fault
 * of a VMM takes (mmap_lock, locks of file systems), nor one that reclaim takes: the guest answers only as long as its memory
 * is served.  Lockdep knows of mmap_lock.
 * Return: bytes of the answer, or -errno as rvmrpc_status_to_errno() maps it; -EINTR after a fatal signal.
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

/**
 * struct rvmrpc_held - a slot that a client holds, to build arguments and to read answers where they lie
 * @req:	where the argument is built, while no call runs
 * @res:	the answer of the last call
 * @req_bytes:	bytes at @req
 * @res_bytes:	bytes at @res
 *
 * The guest sees what is built as it is built, and may change both at any time: read each byte once, or copy and check the
 * copy.
 */
struct rvmrpc_held {
	void *req;
	const void *res;
	u32 req_bytes;
	u32 res_bytes;
};

/**
 * rvmrpc_call_begin() - hold a slot for calls without copies
 * @vm:		the guest's VM
 *
 * Others have a slot less meanwhile.  The slot stays the client's, and its memory stays mapped, until rvmrpc_call_end(),
 * whatever becomes of the guest and of its VMM.
 *
 * Context: process context, does not wait.
 * Return: the slot, or ERR_PTR(): -EBUSY when none is free, -ENOTCONN, -EHOSTDOWN, -ENOMEM.
 */
struct rvmrpc_held *rvmrpc_call_begin(struct rvmrpc_vm *vm);

/**
 * rvmrpc_call_run() - call with the argument that lies in the slot
 * @held:	the slot; one thread at a time
 * @mod:	module's number
 * @proc:	procedure's number
 * @arglen:	bytes at @held->req
 * @timeout_ms:	1 to 60000 milliseconds, or 0 for one second
 *
 * Context: as rvmrpc_call_vm().
 * Return: bytes at @held->res, or -errno as rvmrpc_call_vm().  -EBUSY when the guest still has the call before, which ended
 * without an answer; -ECONNRESET when it is another guest by now: end, and begin anew.
 */
ssize_t rvmrpc_call_run(struct rvmrpc_held *held, u32 mod, u32 proc, u32 arglen, unsigned int timeout_ms);

/**
 * rvmrpc_call_end() - give the slot back
 * @held:	the slot, or NULL
 *
 * Context: process context, may sleep.
 */
void rvmrpc_call_end(struct rvmrpc_held *held);

/*
 * Find a VM; rvmrpc_vm_put() drops the reference.  NULL: none.  Any context that may sleep.  Names and pids are a VMM's to
 * choose, so that there can be several: ERR_PTR(-ENOTUNIQ).
 */
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
pid_t rvmrpc_vm_pid(const struct rvmrpc_vm *vm);	/* as the initial namespace has it; 0: no more */
u64 rvmrpc_vm_id(const struct rvmrpc_vm *vm);
bool rvmrpc_vm_connected(struct rvmrpc_vm *vm);

/* What a notifier is called with, and a struct rvmrpc_vm; one at a time, may sleep. */
#define RVMRPC_VM_ATTACHED	1
#define RVMRPC_VM_DETACHED	2	/* all its calls have ended, new ones get -ENOTCONN */

/*
 * Registering tells @nb of the VMs that are attached already, as if they came now; then each is told once, and once when
 * it goes, soon after it did: no VMM waits for a notifier, and it may sleep in a call.  Unregistering tells nothing.  May sleep; not from a notifier.
 */
int rvmrpc_register_notifier(struct notifier_block *nb);
void rvmrpc_unregister_notifier(struct notifier_block *nb);

/**
 * struct rvmrpc_vm_event - what a guest has told by itself
 * @vm:		the guest's VM
 * @event:	the guest's word, of which the record's length is checked, and nothing else (rvmrpc_abi.h)
 * @missed:	events before it that were lost or dropped
 */
struct rvmrpc_vm_event {
	struct rvmrpc_vm *vm;
	const struct rvmrpc_event *event;
	u64 missed;
};

/*
 * @nb is called with the record's kind and a struct rvmrpc_vm_event, for the events of all VMs: one at a time, each VM's in
 * their order; may sleep.  No VMM waits for it: of more than 64 that it has not got to the last are told.  Registering and
 * unregistering may sleep; not from a notifier.
 */
int rvmrpc_register_event_notifier(struct notifier_block *nb);
void rvmrpc_unregister_event_notifier(struct notifier_block *nb);

/* @status: RVMRPC_STATUS_*.  0 for OK. */
int rvmrpc_status_to_errno(u32 status);

#endif /* _LINUX_RVMRPC_H */
