/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: modules that look after a guest, the same in every one that has the thing.
 *
 * As in rvmrpc_builtin.h: procedures, argument checks and answers are here, what they do is the OS's.  None but
 * clock.read and freeze.status are in the default allow-list.
 */
#ifndef RVMRPC_CARE_H
#define RVMRPC_CARE_H

#include "rvmrpc_server.h"

extern struct rvmrpc_module rvmrpc_reclaim_sized_module;	/* instead of rvmrpc_reclaim_module */
extern struct rvmrpc_module rvmrpc_clock_module;
extern struct rvmrpc_module rvmrpc_control_module;
extern struct rvmrpc_module rvmrpc_freeze_module;

/*
 * Worker, may sleep: has the kernel take so many bytes of what it can spare, for at most so long.  result is zero.  One of
 * these and of drop_caches at a time.  RVMRPC_STATUS_OK, BUSY, SYSTEM_ERROR; PROCEDURE_UNAVAILABLE: it has no way to.
 */
int rvmrpc_os_shrink(uint64_t bytes, uint32_t ms, struct rvmrpc_shrink_res *result);

/* Worker, may sleep, likewise: moves pages together. */
int rvmrpc_os_compact(struct rvmrpc_compact_res *result);

struct rvmrpc_clocks {
	uint64_t realtime_ns;
	uint64_t monotonic_ns;
	uint64_t boottime_ns;
};

/* Server thread or worker: all of one moment, as nearly as can be. */
void rvmrpc_os_clocks(struct rvmrpc_clocks *now);

/* Worker, may sleep: sets the realtime clock.  False: it could not. */
bool rvmrpc_os_clock_set(uint64_t realtime_ns);

/*
 * Server thread: what the key does, if the kernel enables it; *enabled: its setting.  RVMRPC_STATUS_OK; NOT_ALLOWED when it
 * enables none; PROCEDURE_UNAVAILABLE when it has no such keys.
 */
int rvmrpc_os_sysrq(uint32_t key, uint32_t *enabled);

/* Worker, may sleep: writes back what is dirty.  One at a time.  RVMRPC_STATUS_OK, BUSY or SYSTEM_ERROR. */
int rvmrpc_os_sync(void);

/* Server thread: has the guest shut down, or start anew; force: even if user space cannot be asked. */
void rvmrpc_os_power(bool reboot, bool force);

/*
 * Workers, may sleep: freezes all file systems or none, and thaws them; *state: how it is then.  They are thawed timeout_ms
 * (checked) after the freeze began, whoever freezes, thaws or hangs.  RVMRPC_STATUS_OK, BUSY or SYSTEM_ERROR.
 */
int rvmrpc_os_freeze(uint32_t timeout_ms, struct rvmrpc_freeze_res *state);
int rvmrpc_os_thaw(struct rvmrpc_freeze_res *state);

/* Server thread. */
void rvmrpc_os_freeze_state(struct rvmrpc_freeze_res *state);

#endif /* RVMRPC_CARE_H */
