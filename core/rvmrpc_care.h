/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: modules that look after a guest, the same in every one that has the thing.
 *
 * As in rvmrpc_builtin.h: procedures, argument checks and answers are here, what they do is the OS's.  None but
 * clock.read is in the default allow-list.
 */
#ifndef RVMRPC_CARE_H
#define RVMRPC_CARE_H

#include "rvmrpc_server.h"

extern struct rvmrpc_module rvmrpc_clock_module;

struct rvmrpc_clocks {
	uint64_t realtime_ns;
	uint64_t monotonic_ns;
	uint64_t boottime_ns;
};

/* Server thread or worker: all of one moment, as nearly as can be. */
void rvmrpc_os_clocks(struct rvmrpc_clocks *now);

/* Worker, may sleep: sets the realtime clock.  False: it could not. */
bool rvmrpc_os_clock_set(uint64_t realtime_ns);

#endif /* RVMRPC_CARE_H */
