/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What rvmrpc_host.ko has for the module that lets a vCPU wait for calls (RVMRPC_MAIN); for no other.
 */
#ifndef _LINUX_RVMRPC_GLUE_H
#define _LINUX_RVMRPC_GLUE_H

#include <linux/list.h>
#include <linux/types.h>

struct file;
struct module;
struct rvmrpc_vm;

/**
 * struct rvmrpc_waiter - a vCPU that waits for a request
 * @woken:	there is one, or the epoch is over; WRITE_ONCE()
 * @wake:	makes it look; any context, with a lock held, so that the waiter still waits
 */
struct rvmrpc_waiter {
	bool woken;
	void (*wake)(struct rvmrpc_waiter *waiter);
	/* private: the VM's lock */
	struct list_head node;
	u64 epoch;
	u32 seen;
};

/**
 * struct rvmrpc_glue - who knows what a VMM's token is
 * @owner:	THIS_MODULE; held while a binding is there
 * @bind:	a VM is being attached with a token: what unbind() gets, or ERR_PTR().  May sleep
 * @unbind:	it is detached.  May sleep
 */
struct rvmrpc_glue {
	struct module *owner;
	void *(*bind)(struct rvmrpc_vm *vm, struct file *token);
	void (*unbind)(void *binding);
};

/* -EBUSY: there is one.  The owner's init and exit functions. */
int rvmrpc_glue_register(const struct rvmrpc_glue *glue);
void rvmrpc_glue_unregister(const struct rvmrpc_glue *glue);

/**
 * rvmrpc_glue_main() - RVMRPC_MAIN: what a ring does, then a look for requests
 * @vm:		the VM
 * @epoch:	the guest's
 * @seen:	the last request that it has seen
 * @waiter:	waits from now on when there is nothing, until rvmrpc_glue_leave(); or NULL
 *
 * Context: process context, does not wait.
 * Return: 0: a request was posted; -EAGAIN: none; -ECONNRESET: the epoch is over.
 */
int rvmrpc_glue_main(struct rvmrpc_vm *vm, u64 epoch, u32 seen, struct rvmrpc_waiter *waiter);

/* From here on nobody wakes the waiter, which has waited.  Return: as above. */
int rvmrpc_glue_leave(struct rvmrpc_vm *vm, struct rvmrpc_waiter *waiter);

#endif /* _LINUX_RVMRPC_GLUE_H */
