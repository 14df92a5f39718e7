// SPDX-License-Identifier: GPL-2.0
/*
 * Reverse VMRPC in the host's kernel: events of guests, on their way to who reads them
 *
 * No guest can fill memory: what is not taken in time makes room for what comes, and is counted.
 */
#include "rvmrpc_host.h"

void rvmrpc_events_put(struct rvmrpc_events *events, const struct rvmrpc_told *told)
{
	u32 last = (events->first + events->count) % RVMRPC_EVENTS_KEPT;

	if (events->count == RVMRPC_EVENTS_KEPT) {
		events->missed += events->told[events->first].missed + 1;
		events->first = (events->first + 1) % RVMRPC_EVENTS_KEPT;
		events->count--;
	}
	events->told[last] = *told;
	events->count++;
}

bool rvmrpc_events_take(struct rvmrpc_events *events, struct rvmrpc_told *told)
{
	if (!events->count)
		return false;
	*told = events->told[events->first];
	told->missed += events->missed;
	events->missed = 0;
	events->first = (events->first + 1) % RVMRPC_EVENTS_KEPT;
	events->count--;
	return true;
}

void rvmrpc_events_put_back(struct rvmrpc_events *events, const struct rvmrpc_told *told)
{
	/* Younger ones have its place. */
	if (events->count == RVMRPC_EVENTS_KEPT) {
		events->missed += told->missed + 1;
		return;
	}
	events->first = (events->first + RVMRPC_EVENTS_KEPT - 1) % RVMRPC_EVENTS_KEPT;
	events->told[events->first] = *told;
	events->count++;
}
