/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Reverse VMRPC for other modules of a FreeBSD guest: serve procedures to the
 * host, tell it something.  Such a module needs
 * MODULE_DEPEND(name, rvmrpc, 1, 1, 1).
 */
#ifndef RVMRPC_H
#define	RVMRPC_H

#include "rvmrpc_server.h"

/*
 * Serves a module with named procedures; it and all that it points to stay
 * unchanged until it is unregistered.  Procedures without
 * RVMRPC_PROC_MAY_SLEEP run in the server's thread and must not sleep.  The
 * host may call them once dev.rvmrpc.0.allow says so.
 *
 * 0; EINVAL for a number below RVMRPC_MOD_USER or a description that the core
 * refuses; EEXIST when number or name is taken; ENOSPC.
 */
int	rvmrpc_register_module(struct rvmrpc_module *module);

/*
 * The paper's form: one dispatch function for every procedure number.  The
 * host sees the module as "mod-0x<number>", version 1; its procedures may
 * sleep.  As above, and ENOMEM.
 */
int	register_server_module(uint32_t mod, rvmrpc_dispatch_fn dispatch);

/*
 * Ends what either form registered: no new call gets into the module, and
 * those that run are waited for.  When it returns 0, no procedure of the
 * module runs or will run.  For MOD_UNLOAD, and for a MOD_LOAD that fails; not
 * for a procedure of the module.
 *
 * 0; ENOENT.
 */
int	unregister_server_module(uint32_t mod);

/*
 * EBUSY while calls run in the module, else 0.  For MOD_QUIESCE, so that
 * kldunload(8) says so instead of waiting for them.
 */
int	rvmrpc_module_busy(uint32_t mod);

/*
 * Tells the host that something happened.  mod: number of your module,
 * RVMRPC_MOD_USER or above, it need not be registered; kind: your own numbers;
 * text: in words, cut to some 200 bytes, or NULL; data: bytes of your own, at
 * most RVMRPC_EVENT_DATA_MAX, or NULL and 0.
 *
 * The host has it within milliseconds, as QMP's GUEST_KERNEL_EVENT, "rvmrpc
 * events" and on a VM's socket.  Of more than 64 at once, and two a second from
 * then on, it drops some, and says how many.  Nobody is waited for: any
 * context.
 *
 * 0; EINVAL; EMSGSIZE; ENOTCONN when no host listens, or dev.rvmrpc.0.events
 * is 0.
 */
int	rvmrpc_event(uint32_t mod, uint16_t kind, const char *text,
	    const void *data, size_t bytes);

#endif /* RVMRPC_H */
