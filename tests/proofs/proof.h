/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all proofs share.  A proof is a function prove_*() without arguments.  It starts from any state that a driver or a
 * host can be in (locals without a value have any), takes one step of the core, and asserts what holds after it: so that it
 * holds after any number of steps.  The line before it, PROOF, gives the checker's bounds for loops, which it checks.
 */
#ifndef RVMRPC_PROOF_H
#define RVMRPC_PROOF_H

#include <stdlib.h>

#include "rvmrpc_os.h"
#include "rvmrpc_abi.h"
#include "rvmrpc_window.h"

uint64_t proof_window_bytes, proof_answers_bytes;

#define assume(cond)		__CPROVER_assume(cond)
#define claim(cond)		__CPROVER_assert(cond, "claim: " #cond)
/* Fails in every proof, and must: so its assumptions leave something to be proved. */
#define reached()		__CPROVER_assert(false, "reached")
#define implies(a, b)		(!(a) || (b))

/* A window of any size that there can be. */
static inline uint64_t any_window(void)
{
	uint64_t size;

	assume(size >= RVMRPC_WINDOW_SIZE_MIN && size <= RVMRPC_WINDOW_SIZE_MAX);
	proof_window_bytes = size;
	return size;
}

/* What the accesses of words rely on; layout.c proves that rvmrpc_layout_ok() gives it, and the rest of the layout. */
static inline bool words_lie_within(const struct rvmrpc_layout *l, uint64_t size)
{
	return l->nslots && l->nslots <= RVMRPC_SLOTS_MAX &&
	       rvmrpc_win_span_ok(size, l->host_slots, (uint64_t)l->nslots * sizeof(struct rvmrpc_host_slot)) &&
	       rvmrpc_win_span_ok(size, l->guest_slots, (uint64_t)l->nslots * sizeof(struct rvmrpc_guest_slot)) &&
	       rvmrpc_win_span_ok(size, l->ring, l->ring_bytes);
}

#endif /* RVMRPC_PROOF_H */
