/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, host half of the ring of events, for rvmrpc_owner.c.
 *
 * Events may be published in another order than that of their numbers, and one whose writer came to its end in the middle,
 * by a panic on another CPU, never: so all that the ring holds are looked at, each is taken once, and what was not there
 * when it was overwritten counts as lost.  Of too many in too short a time the last are taken, the others dropped.
 *
 * Freestanding, under the proxy's lock.
 */
#ifndef RVMRPC_RING_H
#define RVMRPC_RING_H

#include "rvmrpc_proxy.h"
#include "rvmrpc_window.h"

#define RVMRPC_EVENTS_AT_ONCE	64		/* and then one in */
#define RVMRPC_EVENT_NS		500000000ull
#define RVMRPC_VAIN_NS		10000000ull	/* after a look at a ring that was said to have something, and had not */

struct rvmrpc_ring {
	uint64_t epoch;		/* 0: none */
	uint32_t at;		/* where it lies in the window */
	uint32_t events;	/* that it holds; 0: none */
	uint64_t next;		/* the lowest number that was neither taken nor lost */
	uint64_t taken;		/* bit i: number next + i was taken, */
	uint64_t there;		/* or is there, to be taken */
	uint32_t seen;		/* the guest's word `events' at the last look */
	uint32_t tokens;	/* events that may be told now */
	uint32_t had;		/* of them, when the ring was looked at */
	bool changed;		/* seen was another then */
	uint64_t token_at;	/* ns, from when on the next token is counted */
	uint64_t again_at;	/* ns, when to look again, UINT64_MAX: when rung */
	uint64_t missed;	/* events that were lost or dropped since the last that was taken */
};

/* An event, a private copy: its record's head is checked, its fields are not. */
struct rvmrpc_told {
	struct rvmrpc_event event;
	uint64_t missed;	/* events that were lost or dropped since the one before */
};

/* The ring of that epoch, which begins; its budget goes on. */
void rvmrpc_ring_open(struct rvmrpc_ring *r, const struct rvmrpc_window *w, const struct rvmrpc_layout *l, uint64_t epoch);
void rvmrpc_ring_close(struct rvmrpc_ring *r);

/* Looks what is there, and counts what will not come any more.  Then take(), until it is false. */
void rvmrpc_ring_look(struct rvmrpc_ring *r, const struct rvmrpc_window *w, uint64_t now, struct rvmrpc_stats *stats);
bool rvmrpc_ring_take(struct rvmrpc_ring *r, const struct rvmrpc_window *w, struct rvmrpc_told *told,
		      struct rvmrpc_stats *stats);

#endif /* RVMRPC_RING_H */
