/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: the modules that are the same in every guest.
 *
 * Their procedures, argument checks and answers are here; what they do to the guest is the OS's, in the rvmrpc_os_*()
 * functions below, which each driver has.
 */
#ifndef RVMRPC_BUILTIN_H
#define RVMRPC_BUILTIN_H

#include "rvmrpc_server.h"

#define RVMRPC_COUNT(array)	(sizeof(array) / sizeof((array)[0]))

extern struct rvmrpc_module rvmrpc_core_module;
extern struct rvmrpc_module rvmrpc_echo_module;
extern struct rvmrpc_module rvmrpc_reclaim_module;	/* rvmrpc_care.h has one with more */

/* For both of them. */
int rvmrpc_reclaim_drop_caches(struct rvmrpc_request *req, struct rvmrpc_response *res);
#define RVMRPC_RECLAIM_PROC_DROP_CACHES {			\
		.number = RVMRPC_RECLAIM_DROP_CACHES,		\
		.name = "drop_caches",				\
		.flags = RVMRPC_PROC_MAY_SLEEP,			\
		.arg_min = sizeof(struct rvmrpc_drop_req),	\
		.arg_max = sizeof(struct rvmrpc_drop_req),	\
		.handler = rvmrpc_reclaim_drop_caches,		\
	}

/* rvmrpc_server_list() with the registry lock. */
uint32_t rvmrpc_os_list(uint32_t first, void *buf, uint32_t bytes);

/* Server thread: a call with this xid, not 0, that waits for a worker is answered with CANCELLED; one that runs goes on. */
void rvmrpc_os_cancel(uint64_t xid);

/* Server thread: it leaves the host once this call is answered. */
void rvmrpc_os_exit(void);

/* Whether it can write back what is dirty. */
bool rvmrpc_os_can_sync(void);

/*
 * Worker, may sleep: writes back what is dirty first if sync is set, drops what mode (RVMRPC_DROP_*, checked) names, and
 * counts what became free.  One at a time.  RVMRPC_STATUS_OK, BUSY or SYSTEM_ERROR.
 */
int rvmrpc_os_drop_caches(uint32_t mode, bool sync, uint64_t *freed);

#endif /* RVMRPC_BUILTIN_H */
