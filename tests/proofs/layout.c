// SPDX-License-Identifier: GPL-2.0-or-later
/* Layouts of the window: the host's own, and any that a hostile host could name. */
#include "proof.h"
#include "rvmrpc_owner.c"

/* PROOF unwind 2 */
void prove_words(void)
{
	struct rvmrpc_layout l;
	uint64_t size, seq, at;
	uint32_t slot;

	assume(rvmrpc_layout_ok(&l, size) && slot < l.nslots);
	claim(words_lie_within(&l, size));
	at = rvmrpc_host_slot_at(&l, slot);
	claim(at % RVMRPC_LINE == 0 && at + sizeof(struct rvmrpc_host_slot) <= size);
	at = rvmrpc_guest_slot_at(&l, slot);
	claim(at % RVMRPC_LINE == 0 && at + sizeof(struct rvmrpc_guest_slot) <= size);
	reached();
}

/* PROOF unwind 9 */
void prove_ring(void)
{
	struct rvmrpc_layout l;
	uint64_t size, seq, at;
	uint32_t events;

	assume(words_lie_within(&l, size) && seq);
	events = rvmrpc_ring_events(&l);
	claim(events <= RVMRPC_RING_EVENTS_MAX && !(events & (events - 1)));
	if (!events)
		return;
	at = rvmrpc_event_at(l.ring, events, seq);
	claim(at % 8 == 0 && at + sizeof(struct rvmrpc_event) <= size);
	reached();
}

static void payloads_lie_within(const struct rvmrpc_layout *l, uint32_t slot, uint64_t size)
{
	uint64_t req = rvmrpc_req_at(l, slot), res = rvmrpc_res_at(l, slot);

	claim(req <= size && l->req_bytes <= size - req);
	claim(res <= size && l->res_bytes <= size - res);
}

/*
 * Checkers of bits are bad at multiplication.  So payloads are proved of few slots that are any bytes apart, and of all 64
 * that are apart what the host's own layouts have.
 */
/* PROOF full unwind 2 */
void prove_payloads_of_few(void)
{
	struct rvmrpc_layout l;
	uint32_t n, slot;
	uint64_t size;

	l.nslots = n % 4 + 1;
	assume(rvmrpc_layout_ok(&l, size));
	slot %= 4;
	assume(slot < l.nslots);
	payloads_lie_within(&l, slot, size);
	reached();
}

/* PROOF unwind 9 */
void prove_payloads_of_ours(void)
{
	uint32_t nslots, req_bytes, res_bytes, slot;
	struct rvmrpc_layout l;
	uint64_t size;

	assume(rvmrpc_layout_make(size, nslots, req_bytes, res_bytes, &l) && slot < l.nslots);
	slot %= RVMRPC_SLOTS_MAX;
	l.stride = l.stride / RVMRPC_PAGE_SIZE % 1024 * RVMRPC_PAGE_SIZE;
	payloads_lie_within(&l, slot, size);
	reached();
}

/* What the host writes and what the guest writes are on pages of their own, and nothing lies in two places. */
/* PROOF unwind 9 */
void prove_layout_make(void)
{
	uint32_t nslots, req_bytes, res_bytes;
	struct rvmrpc_layout l;
	uint64_t size;

	assume(rvmrpc_layout_make(size, nslots, req_bytes, res_bytes, &l));
	claim(l.nslots == nslots && l.req_bytes == req_bytes && l.res_bytes == res_bytes);
	claim(l.host_slots >= RVMRPC_GUEST_PAGE + RVMRPC_PAGE_SIZE);
	claim(!((l.host_slots | l.guest_slots | l.ring | l.req | l.res | l.stride) % RVMRPC_PAGE_SIZE));
	claim(l.host_slots + nslots * sizeof(struct rvmrpc_host_slot) <= l.guest_slots);
	claim(l.guest_slots + nslots * sizeof(struct rvmrpc_guest_slot) <= l.ring);
	claim(l.ring + l.ring_bytes <= l.req && l.req + l.req_bytes <= l.res && l.res - l.req + l.res_bytes <= l.stride);
	claim(l.stride < 1024 * RVMRPC_PAGE_SIZE);
	reached();
}
