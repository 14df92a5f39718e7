/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reverse VMRPC for other modules of a Linux guest.
 *
 * Serve procedures to the host: register_server_module() (paper, figure 5) or rvmrpc_register_module().
 * Call procedures of the host: vmrpc_bind_module(), vmrpc_perform(), vmrpc_unbind_module() (paper,
 * figures 1 and 2).
 */
#ifndef RVMRPC_H
#define RVMRPC_H

#include <linux/module.h>
#include "rvmrpc_server.h"

int __rvmrpc_register_server_module(u32 mod, rvmrpc_dispatch_fn dispatch, struct module *owner);
int __rvmrpc_register_module(struct rvmrpc_module *module, struct module *owner);
int __rvmrpc_unregister_server_module(u32 mod, struct module *owner);

/**
 * register_server_module() - serve a module number by one dispatch function
 * @mod: module number, RVMRPC_MOD_USER or above
 * @dispatch: called for every procedure number; answers RVMRPC_STATUS_*
 *
 * The paper's form.  The host sees the module as "mod-0x<number>", version 1; its procedures have
 * numbers only, may sleep and are refused until the guest's allow-list has them
 * ("allow=default,0x100.*").  Calls come once the calling module's init has returned 0; while one runs
 * in @dispatch the module is held, so rmmod says that it is busy.
 *
 * Context: process context, may sleep.
 * Return: 0; -EINVAL for a number below RVMRPC_MOD_USER or no @dispatch; -EEXIST when the number is
 * taken; -ENOSPC when the registry is full; -ENOMEM.
 */
#define register_server_module(mod, dispatch) \
	__rvmrpc_register_server_module(mod, dispatch, THIS_MODULE)

/**
 * rvmrpc_register_module() - serve a module with named procedures
 * @module: description; it and all that it points to stay unchanged until unregistered
 *
 * Context: process context, may sleep.
 * Return: as register_server_module(); -EINVAL for a description that the core refuses.
 */
#define rvmrpc_register_module(module) __rvmrpc_register_module(module, THIS_MODULE)

/**
 * unregister_server_module() - end what either form registered
 * @mod: module number
 *
 * No new call gets into the module, and those that run are waited for: when it returns 0, no procedure
 * of the module runs or will run.
 *
 * Context: process context, may sleep; no procedure of the module.
 * Return: 0; -ENOENT; -EPERM for what another module has registered.
 */
#define unregister_server_module(mod) __rvmrpc_unregister_server_module(mod, THIS_MODULE)

/**
 * rvmrpc_event() - tell the host that something happened
 * @mod: number of your module, RVMRPC_MOD_USER or above; it need not be registered
 * @kind: what it is; your own numbers
 * @text: what happened in words, cut to some 200 bytes; or NULL
 * @data: bytes of your own, or NULL
 * @bytes: there, at most RVMRPC_EVENT_DATA_MAX
 *
 * The host has it within milliseconds, as QMP's GUEST_KERNEL_EVENT, "rvmrpc events" and on a VM's socket.  Of more than 64
 * at once, and two a second from then on, it drops some, and says how many.  Nobody is waited for.
 *
 * Context: any.
 * Return: 0; -EINVAL; -EMSGSIZE; -ENOTCONN when no host listens, or the driver's parameter events is off.
 */
int rvmrpc_event(u32 mod, u16 kind, const char *text, const void *data, size_t bytes);

/**
 * vmrpc_bind_module() - find a VMRPC server in the VMM process
 * @name: of the server, at most RVMRPC_NAME_MAX bytes
 * @version: likewise
 *
 * Context: process context, may sleep.
 * Return: a handle, >= 0; -ENOENT or -EPROTONOSUPPORT when there is no such server or version;
 * -ENODEV without a device or while none of its gates answers; -EINVAL; -ENOMEM.
 */
int vmrpc_bind_module(const char *name, const char *version);

/**
 * vmrpc_perform() - call a procedure of the VMM process
 * @handle: from vmrpc_bind_module()
 * @func: procedure number
 * @arg: kernel address that the server reads and writes, or NULL
 * @bytes: there
 *
 * The address goes to the host as it is: a guest virtual address that the host translates while this
 * CPU is inside the call.  The server may sleep; so does this virtual CPU.
 *
 * Context: process context, interrupts on, may sleep.
 * Return: the procedure's result, >= 0; -EBADF for a handle that is unknown (bind again: the VM was
 * reset or moved); -EOPNOTSUPP for no such procedure; -EFAULT, -EINVAL, -EIO, -ENOMEM, -EPERM,
 * -ECONNRESET, -EAGAIN as the server says; -ENODEV.
 */
int vmrpc_perform(int handle, u32 func, void *arg, size_t bytes);

/**
 * vmrpc_unbind_module() - give a handle back
 * @handle: from vmrpc_bind_module()
 *
 * Context: process context, may sleep.
 * Return: 0, or as vmrpc_perform().
 */
int vmrpc_unbind_module(int handle);

/* The same for servers in the host's kernel. */
int vmrpc_bind_module_kernel(const char *name, const char *version);
int vmrpc_perform_kernel(int handle, u32 func, void *arg, size_t bytes);
int vmrpc_unbind_module_kernel(int handle);

#endif /* RVMRPC_H */
