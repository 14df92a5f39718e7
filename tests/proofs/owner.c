// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The host's half, whatever the guest writes: from any state of a few slots and calls, each step keeps the books, and ends
 * a call at most once.
 */
#include "proof.h"
#include "rvmrpc_proxy.c"
#include "rvmrpc_ring.c"
#include "rvmrpc_owner.c"

#ifndef NSLOTS
#define NSLOTS 1
#endif

#ifndef NCALLS
#define NCALLS 1
#endif

#define NONE	NCALLS

static struct rvmrpc_owner o;
static struct rvmrpc_call calls[NCALLS];
static struct rvmrpc_client client;
static struct rvmrpc_done done;
static uint64_t now;

static uint64_t any_random(void)
{
	uint64_t any;

	return any;
}

static uint32_t index_of(const struct rvmrpc_call *call)
{
	uint32_t i;

	for (i = 0; i < NCALLS && call != &calls[i]; i++)
		;
	return i;
}

static bool slot_matches(const struct rvmrpc_slot *s, uint32_t slot)
{
	const struct rvmrpc_call *call = s->call;

	if (!call)
		return s->state == RVMRPC_SLOT_FREE || s->state == RVMRPC_SLOT_BUSY;
	return call->slot == slot &&
	       ((s->state == RVMRPC_SLOT_DELIVERING && call->state == RVMRPC_CALL_DELIVERING) ||
		(s->state == RVMRPC_SLOT_BUSY && call->state == RVMRPC_CALL_DELIVERED) ||
		(s->state == RVMRPC_SLOT_REPLYING && call->state == RVMRPC_CALL_REPLYING));
}

/* Calls that wait, if the list of them is one. */
static uint32_t pending(void)
{
	const struct rvmrpc_call *call = o.proxy.pending_head, *last = NULL;
	uint32_t n = 0;

	for (; call && n <= NCALLS; call = call->next, n++) {
		if (index_of(call) == NONE || call->state != RVMRPC_CALL_PENDING)
			return NONE + 1;
		last = call;
	}
	return o.proxy.pending_tail == last ? n : NONE + 1;
}

static uint32_t under_way(void)
{
	uint32_t i, n = 0;

	for (i = 0; i < NCALLS; i++)
		n += calls[i].state != RVMRPC_CALL_IDLE;
	return n;
}

static bool statuses_are_known(void)
{
	uint32_t i;

	for (i = 0; i < NCALLS; i++) {
		if (calls[i].doom > RVMRPC_STATUS_MAX)
			return false;
	}
	return true;
}

/* What holds between two steps. */
static bool books_are_right(void)
{
	const struct rvmrpc_proxy *p = &o.proxy;
	uint32_t i;

	if (p->nslots != (p->epoch ? NSLOTS : 0) || p->ncalls != under_way() || pending() > NCALLS ||
	    (!p->epoch && p->pending_head))
		return false;
	for (i = 0; i < p->nslots; i++) {
		if (!slot_matches(&p->slots[i], i))
			return false;
	}
	return statuses_are_known() && !(p->given_up >> NSLOTS) && !(o.wanted >> NSLOTS) && o.page.epoch;
}

static struct rvmrpc_call *call_of(uint32_t n)
{
	return n == NONE ? NULL : &calls[n];
}

static uint32_t any_index(void)
{
	uint32_t n;

	return n % (NONE + 1);
}

static void put_into_slot(uint32_t slot, uint32_t n)
{
	o.proxy.slots[slot].call = call_of(n);
	if (n != NONE)
		calls[n].slot = slot;
}

static bool differ(uint32_t a, uint32_t b)
{
	return a != b || a == NONE;
}

/* Any calls, in slots, waiting, or none of the proxy's; those that are pinned belong to an epoch that may be over. */
static void any_books(void)
{
	uint32_t one = any_index(), two = any_index(), first = any_index(), second = any_index();
	struct rvmrpc_owner any_owner;
	struct rvmrpc_call any_call[NCALLS];
	struct rvmrpc_client any_client;
	uint64_t any_now;
	uint32_t i;

	o = any_owner;
	for (i = 0; i < NCALLS; i++)
		calls[i] = any_call[i];
	client = any_client;
	now = any_now;
	o.win.size = any_window();
	o.win.base = proof_window;
	o.config.random = any_random;
	assume(words_lie_within(&o.config.layout, o.win.size) && o.config.layout.nslots == NSLOTS);
	assume(o.config.layout.req <= o.win.size && o.config.layout.res <= o.win.size);
	put_into_slot(0, one);
#if NSLOTS > 1
	put_into_slot(1, two);
#else
	two = NONE;
#endif
	assume(differ(one, two) && differ(first, second) && differ(first, one) && differ(first, two) && differ(second, one) &&
	       differ(second, two) && (first != NONE || second == NONE));
	o.proxy.pending_head = call_of(first);
	o.proxy.pending_tail = call_of(second == NONE ? first : second);
	if (first != NONE)
		calls[first].next = call_of(second);
	if (second != NONE)
		calls[second].next = NULL;
	for (i = 0; i < NCALLS; i++)
		calls[i].client = &client;
	assume(client.calls == under_way());
	assume(books_are_right());
}

/* After a step: of so many calls each is under way or was told to have ended, once. */
static void claim_books(uint32_t before)
{
	const struct rvmrpc_call *call;
	uint32_t ended = 0;

	for (call = done.head; call && ended <= NCALLS; call = call->next) {
		claim(index_of(call) < NONE && call->state == RVMRPC_CALL_IDLE && call->status <= RVMRPC_STATUS_MAX);
		claim(implies(call->status == RVMRPC_STATUS_OK, call->reslen <= call->res_max));
		ended++;
	}
	claim(before == under_way() + ended);
	claim(client.calls == under_way());
	claim(books_are_right());
}

/* ---- Headers and lengths, without the books ---- */

/* PROOF unwind 2 */
void prove_header(void)
{
	struct rvmrpc_call call;
	struct rvmrpc_xfer x;
	struct rvmrpc_hdr hdr;
	uint64_t then;

	x.call = &call;
	fill_header(&x, then, &hdr);
	claim(hdr.timeout_ms <= RVMRPC_TIMEOUT_MS_MAX && implies(call.deadline > then, hdr.timeout_ms));
	claim(implies(call.deadline <= then, !hdr.timeout_ms));
	claim(!hdr.flags && !hdr.status && !hdr.reserved2 && hdr.length == call.arglen);
	reached();
}

/* Answers are looked for, copied and slept for within the window. */
/* PROOF unwind 2 */
void prove_words(void)
{
	struct rvmrpc_layout layout;
	uint32_t slot, want;

	o.config.layout = layout;
	o.win.size = any_window();
	o.win.base = proof_window;
	assume(words_lie_within(&layout, o.win.size) && slot < layout.nslots);
	rvmrpc_owner_answered(&o, slot);
	write_want(&o, slot, want);
	rvmrpc_owner_hailed(&o);
	rvmrpc_owner_unchanged(&o);
	rvmrpc_owner_kick(&o);
	rvmrpc_owner_rekick(&o);
	write_whole_page(&o);
	post(&o, slot);
	claim(o.seq[slot] && o.seq[slot] == o.page.posted);
	reached();
}

/* ---- Calls ---- */

/* PROOF full unwind 5 */
void prove_submit(void)
{
	struct rvmrpc_call *call;
	uint32_t n, before, status;

	any_books();
	n %= NCALLS;
	call = &calls[n];
	assume(call->state == RVMRPC_CALL_IDLE);
	before = under_way();
	status = rvmrpc_proxy_submit(&o.proxy, call, now);
	claim(implies(status == RVMRPC_STATUS_OK, call->arglen <= o.proxy.req_bytes && call->deadline > now && o.proxy.epoch));
	claim_books(before + (status == RVMRPC_STATUS_OK));
	reached();
}
