// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Reverse VMRPC, host half.  See rvmrpc_proxy.h for the contract and the state diagram.
 */
#include "rvmrpc_proxy.h"

void rvmrpc_proxy_init(struct rvmrpc_proxy *p, uint64_t first_xid)
{
	memset(p, 0, sizeof(*p));
	/* No call has xid 0. */
	p->next_xid = first_xid ? first_xid : 1;
}

/* ---- the end of calls ---- */

static void done_add(struct rvmrpc_done *done, struct rvmrpc_call *call)
{
	call->next = NULL;
	if (done->tail)
		done->tail->next = call;
	else
		done->head = call;
	done->tail = call;
}

static void histogram_add(struct rvmrpc_stats *stats, uint64_t ns)
{
	uint64_t us = ns / 1000;
	uint32_t bucket = 0;

	while (us && bucket < RVMRPC_HISTOGRAM_BUCKETS - 1) {
		us >>= 1;
		bucket++;
	}
	stats->histogram[bucket]++;
	stats->elapsed_ns += ns;
}

static void count_end(struct rvmrpc_proxy *p, const struct rvmrpc_call *call, bool answered)
{
	if (answered) {
		p->stats.completed++;
		if (call->status != RVMRPC_STATUS_OK)
			p->stats.failed++;
		histogram_add(&p->stats, call->elapsed);
		return;
	}
	switch (call->status) {
	case RVMRPC_STATUS_TIMED_OUT:
		p->stats.timed_out++;
		p->unanswered++;
		break;
	case RVMRPC_STATUS_CANCELLED:
		p->stats.cancelled++;
		break;
	case RVMRPC_STATUS_RESET:
	case RVMRPC_STATUS_NOT_CONNECTED:
		p->stats.reset++;
		break;
	default:
		p->stats.failed++;
		break;
	}
}

/* The call is in no queue and no slot any more. */
static void call_end(struct rvmrpc_proxy *p, struct rvmrpc_call *call, uint32_t status, bool answered, uint64_t now,
		     struct rvmrpc_done *done)
{
	/* The guest, which gives up what is too late as well, can be heard before the host has looked at its clock. */
	if (answered && status == RVMRPC_STATUS_CANCELLED && call->deadline <= now) {
		status = RVMRPC_STATUS_TIMED_OUT;
		answered = false;
	}
	call->state = RVMRPC_CALL_IDLE;
	call->status = status;
	call->elapsed = now > call->submitted ? now - call->submitted : 0;
	if (call->client)
		call->client->calls--;
	p->ncalls--;
	count_end(p, call, answered);
	done_add(done, call);
}

static void pending_remove(struct rvmrpc_proxy *p, struct rvmrpc_call *call)
{
	struct rvmrpc_call *prev = NULL, *c;

	for (c = p->pending_head; c && c != call; c = c->next)
		prev = c;
	if (!c)
		return;
	if (prev)
		prev->next = c->next;
	else
		p->pending_head = c->next;
	if (p->pending_tail == c)
		p->pending_tail = prev;
	c->next = NULL;
}

/* Ends a call from outside, whatever its state; a pinned one at its commit. */
static void call_abort(struct rvmrpc_proxy *p, struct rvmrpc_call *call, uint32_t status, uint64_t now,
		       struct rvmrpc_done *done)
{
	switch (call->state) {
	case RVMRPC_CALL_IDLE:
		return;
	case RVMRPC_CALL_PENDING:
		pending_remove(p, call);
		break;
	case RVMRPC_CALL_DELIVERED:
		p->slots[call->slot].call = NULL;
		p->given_up |= 1ull << call->slot;
		break;
	case RVMRPC_CALL_DELIVERING:
	case RVMRPC_CALL_REPLYING:
		if (call->doom == RVMRPC_STATUS_OK)
			call->doom = status;
		return;
	}
	call_end(p, call, status, false, now, done);
}

void rvmrpc_proxy_cancel(struct rvmrpc_proxy *p, struct rvmrpc_call *call, uint64_t now, struct rvmrpc_done *done)
{
	call_abort(p, call, RVMRPC_STATUS_CANCELLED, now, done);
}

uint64_t rvmrpc_proxy_expire(struct rvmrpc_proxy *p, uint64_t now, struct rvmrpc_done *done)
{
	uint64_t next = UINT64_MAX;
	struct rvmrpc_call *call, *after;
	uint32_t i;

	for (call = p->pending_head; call; call = after) {
		after = call->next;
		if (call->deadline <= now)
			call_abort(p, call, RVMRPC_STATUS_TIMED_OUT, now, done);
		else if (call->deadline < next)
			next = call->deadline;
	}
	for (i = 0; i < p->nslots; i++) {
		call = p->slots[i].call;
		if (!call || call->doom != RVMRPC_STATUS_OK)
			continue;
		if (call->deadline <= now)
			call_abort(p, call, RVMRPC_STATUS_TIMED_OUT, now, done);
		else if (call->deadline < next)
			next = call->deadline;
	}
	return next;
}

/* ---- epochs ---- */

void rvmrpc_proxy_unregister(struct rvmrpc_proxy *p, uint32_t status, uint64_t now, struct rvmrpc_done *done)
{
	uint32_t i;

	while (p->pending_head)
		call_abort(p, p->pending_head, status, now, done);
	for (i = 0; i < p->nslots; i++) {
		if (p->slots[i].call)
			call_abort(p, p->slots[i].call, status, now, done);
	}
	for (i = 0; i < RVMRPC_SLOTS_MAX; i++) {
		/* A request is being copied into it, with no lock: nobody else's until the commit. */
		if (p->slots[i].state == RVMRPC_SLOT_DELIVERING)
			p->slots[i].held = true;
		p->slots[i].state = RVMRPC_SLOT_FREE;
		p->slots[i].call = NULL;
	}
	memset(p->release, 0, sizeof(p->release));
	p->epoch = 0;
	p->nslots = 0;
	p->given_up = 0;
	p->unanswered = 0;
}

void rvmrpc_proxy_open(struct rvmrpc_proxy *p, const struct rvmrpc_terms *terms, uint64_t now, struct rvmrpc_done *done)
{
	rvmrpc_proxy_unregister(p, RVMRPC_STATUS_RESET, now, done);

	p->epoch = terms->epoch;
	p->abi = terms->abi;
	p->os = terms->os;
	p->nslots = terms->nslots;
	p->req_bytes = terms->req_bytes;
	p->res_bytes = terms->res_bytes;
	memcpy(p->release, terms->release, sizeof(p->release) - 1);
	p->last_seen = now;
	p->stats.registrations++;
}

/* ---- requests ---- */

static uint32_t find_slot(const struct rvmrpc_proxy *p)
{
	uint32_t i;

	for (i = 0; i < p->nslots; i++) {
		if (p->slots[i].state == RVMRPC_SLOT_FREE && !p->slots[i].held)
			return i;
	}
	return RVMRPC_SLOT_NONE;
}

bool rvmrpc_proxy_stuck(const struct rvmrpc_proxy *p)
{
	uint32_t i;

	for (i = 0; i < p->nslots; i++) {
		if (p->slots[i].state != RVMRPC_SLOT_BUSY || p->slots[i].call)
			return false;
	}
	return p->nslots != 0;
}

static uint32_t submit_check(const struct rvmrpc_proxy *p, const struct rvmrpc_call *call, uint64_t now)
{
	/* First: a VM that does not run, or not yet, cannot have its driver register. */
	if (p->stopped)
		return RVMRPC_STATUS_STOPPED;
	if (!p->epoch)
		return RVMRPC_STATUS_NOT_CONNECTED;
	if (call->arglen > p->req_bytes)
		return RVMRPC_STATUS_TOO_BIG;
	if (call->deadline <= now)
		return RVMRPC_STATUS_TIMED_OUT;
	if (p->ncalls >= RVMRPC_CALLS_MAX || rvmrpc_proxy_stuck(p))
		return RVMRPC_STATUS_BUSY;
	if (call->client && call->client->calls >= RVMRPC_CLIENT_CALLS_MAX)
		return RVMRPC_STATUS_BUSY;
	return RVMRPC_STATUS_OK;
}

/* The call is one of the proxy's from here on. */
static void call_begin(struct rvmrpc_proxy *p, struct rvmrpc_call *call, uint64_t now)
{
	call->state = RVMRPC_CALL_PENDING;
	call->xid = p->next_xid++;
	call->submitted = now;
	call->doom = RVMRPC_STATUS_OK;
	call->reslen = 0;
	call->answered_version = 0;
	call->next = NULL;
	p->ncalls++;
	if (call->client)
		call->client->calls++;
	p->stats.calls++;
}

uint32_t rvmrpc_proxy_submit(struct rvmrpc_proxy *p, struct rvmrpc_call *call, uint64_t now)
{
	uint32_t status = submit_check(p, call, now);

	if (status != RVMRPC_STATUS_OK) {
		p->stats.refused++;
		return status;
	}
	call->in_place = false;
	call_begin(p, call, now);
	if (p->pending_tail)
		p->pending_tail->next = call;
	else
		p->pending_head = call;
	p->pending_tail = call;
	return RVMRPC_STATUS_OK;
}

bool rvmrpc_proxy_pending(const struct rvmrpc_proxy *p)
{
	return p->pending_head && !p->stopped && find_slot(p) != RVMRPC_SLOT_NONE;
}

/* All of it but the header. */
static void xfer_init(const struct rvmrpc_proxy *p, struct rvmrpc_xfer *x, uint32_t slot, struct rvmrpc_call *call)
{
	x->call = call;
	x->epoch = p->epoch;
	x->xid = call->xid;
	x->slot = slot;
	x->abi = p->abi;
	x->payload_max = 0;
	x->length = 0;
	x->status = RVMRPC_STATUS_OK;
}

static void slot_free(struct rvmrpc_slot *slot)
{
	slot->state = RVMRPC_SLOT_FREE;
	slot->call = NULL;
}

/* No status: the header is that of another call. */
#define STALE	(RVMRPC_STATUS_MAX + 1u)

/* What the header of an answer means, once it was copied. */
static uint32_t reply_status(const struct rvmrpc_call *call, uint16_t abi, uint64_t epoch, uint32_t payload_max,
			     const struct rvmrpc_hdr *hdr)
{
	const rvmrpc_hdr_word *w = (const rvmrpc_hdr_word *)hdr;

	if (((w[0] ^ RVMRPC_HDR_WORD0(abi, 0)) & RVMRPC_HDR_WORD0_FIXED) | (w[1] ^ epoch) | (w[2] ^ call->xid) |
	    (w[3] ^ RVMRPC_HDR_PAIR(call->module, call->procedure)))
		return STALE;
	/* flags, timeout_ms, reserved */
	if ((uint32_t)w[4] | w[5] >> 32 | w[6] | w[7] || !RVMRPC_STATUS_IS_GUESTS(hdr->status) || hdr->length > payload_max)
		return RVMRPC_STATUS_SYSTEM_ERROR;
	if (hdr->status == RVMRPC_STATUS_OK && hdr->length > call->res_max)
		return RVMRPC_STATUS_TOO_BIG;
	return hdr->status;
}

static void fill_header(const struct rvmrpc_xfer *x, uint64_t now, struct rvmrpc_hdr *hdr)
{
	const struct rvmrpc_call *call = x->call;

	memset(hdr, 0, sizeof(*hdr));
	hdr->magic = RVMRPC_CALL_MAGIC;
	hdr->abi = x->abi;
	hdr->version = call->version;
	hdr->epoch = x->epoch;
	hdr->xid = x->xid;
	hdr->module = call->module;
	hdr->procedure = call->procedure;
	hdr->length = call->arglen;
	hdr->timeout_ms = rvmrpc_ms_left(call->deadline, now);
	hdr->list = call->list;
}

bool rvmrpc_proxy_deliver_begin(struct rvmrpc_proxy *p, struct rvmrpc_xfer *x, uint64_t now, struct rvmrpc_done *done)
{
	struct rvmrpc_call *call;
	uint32_t slot;

	/* Do not wake the guest for a caller that has gone. */
	while (p->pending_head && p->pending_head->deadline <= now)
		call_abort(p, p->pending_head, RVMRPC_STATUS_TIMED_OUT, now, done);
	if (!rvmrpc_proxy_pending(p))
		return false;

	call = p->pending_head;
	pending_remove(p, call);
	slot = find_slot(p);
	call->state = RVMRPC_CALL_DELIVERING;
	call->slot = slot;
	p->slots[slot].state = RVMRPC_SLOT_DELIVERING;
	p->slots[slot].call = call;

	xfer_init(p, x, slot, call);
	x->length = call->arglen;
	fill_header(x, now, &x->hdr);
	return true;
}

uint32_t rvmrpc_proxy_hold(struct rvmrpc_proxy *p, struct rvmrpc_call *call, uint64_t now)
{
	uint32_t status = submit_check(p, call, now);
	uint32_t slot = find_slot(p);

	if (status == RVMRPC_STATUS_OK && slot == RVMRPC_SLOT_NONE)
		status = RVMRPC_STATUS_BUSY;
	if (status != RVMRPC_STATUS_OK) {
		p->stats.refused++;
		return status;
	}
	call->in_place = true;
	call->slot = slot;
	call->epoch = p->epoch;
	p->slots[slot].held = true;
	return RVMRPC_STATUS_OK;
}

uint32_t rvmrpc_proxy_run(struct rvmrpc_proxy *p, struct rvmrpc_call *call, uint64_t now)
{
	struct rvmrpc_slot *slot = &p->slots[call->slot];
	uint32_t status = submit_check(p, call, now);

	if (status == RVMRPC_STATUS_OK && call->epoch != p->epoch)
		status = RVMRPC_STATUS_RESET;
	/* The guest still has what this client sent before. */
	if (status == RVMRPC_STATUS_OK && slot->state != RVMRPC_SLOT_FREE)
		status = RVMRPC_STATUS_BUSY;
	if (status != RVMRPC_STATUS_OK) {
		p->stats.refused++;
		return status;
	}
	call_begin(p, call, now);
	call->state = RVMRPC_CALL_DELIVERED;
	slot->state = RVMRPC_SLOT_BUSY;
	slot->call = call;
	return RVMRPC_STATUS_OK;
}

void rvmrpc_proxy_answer(struct rvmrpc_proxy *p, struct rvmrpc_call *call, const struct rvmrpc_hdr *hdr, uint64_t now,
			 struct rvmrpc_done *done)
{
	uint32_t status = reply_status(call, p->abi, p->epoch, p->res_bytes, hdr);

	if (status == STALE || (status == RVMRPC_STATUS_SYSTEM_ERROR && hdr->status != status))
		p->stats.bad_replies++;
	slot_free(&p->slots[call->slot]);
	call->reslen = status == RVMRPC_STATUS_OK || status == RVMRPC_STATUS_TOO_BIG ? hdr->length : 0;
	call->answered_version = status == STALE ? 0 : hdr->version;
	call_end(p, call, status == STALE ? RVMRPC_STATUS_SYSTEM_ERROR : status, true, now, done);
}

void rvmrpc_proxy_release(struct rvmrpc_proxy *p, struct rvmrpc_call *call)
{
	p->slots[call->slot].held = false;
}

/* Unpins: the slot is the call's only while the epoch is the same. */
static struct rvmrpc_slot *xfer_slot(struct rvmrpc_proxy *p, const struct rvmrpc_xfer *x)
{
	return p->epoch == x->epoch ? &p->slots[x->slot] : NULL;
}

bool rvmrpc_proxy_deliver_commit(struct rvmrpc_proxy *p, struct rvmrpc_xfer *x, uint64_t now, struct rvmrpc_done *done)
{
	struct rvmrpc_slot *slot = xfer_slot(p, x);
	struct rvmrpc_call *call = x->call;

	if (call->doom != RVMRPC_STATUS_OK) {
		/* The guest never heard of the slot: it is free again. */
		if (slot)
			slot_free(slot);
		else
			p->slots[x->slot].held = false;
		call_end(p, call, call->doom, false, now, done);
		return false;
	}
	slot->state = RVMRPC_SLOT_BUSY;
	call->state = RVMRPC_CALL_DELIVERED;
	return true;
}

/* ---- replies ---- */

bool rvmrpc_proxy_reply_begin(struct rvmrpc_proxy *p, uint32_t slot, struct rvmrpc_xfer *x)
{
	struct rvmrpc_slot *s = &p->slots[slot];

	if (!s->call) {
		p->stats.late_replies++;
		slot_free(s);
		return false;
	}
	xfer_init(p, x, slot, s->call);
	x->payload_max = p->res_bytes;
	s->state = RVMRPC_SLOT_REPLYING;
	s->call->state = RVMRPC_CALL_REPLYING;
	return true;
}

void rvmrpc_proxy_reply_check(struct rvmrpc_xfer *x, const struct rvmrpc_hdr *hdr)
{
	uint32_t status = reply_status(x->call, x->abi, x->epoch, x->payload_max, hdr);
	bool stale = status == STALE;

	/* What the commit needs of it; nothing of another call's. */
	x->hdr.version = stale ? 0 : hdr->version;
	x->hdr.status = stale ? 0 : hdr->status;
	x->hdr.length = stale ? 0 : hdr->length;
	x->status = stale ? RVMRPC_STATUS_SYSTEM_ERROR : status;
	x->length = status == RVMRPC_STATUS_OK ? hdr->length : 0;
}

void rvmrpc_proxy_reply_commit(struct rvmrpc_proxy *p, struct rvmrpc_xfer *x, bool ok, uint64_t now,
			       struct rvmrpc_done *done)
{
	struct rvmrpc_slot *slot = xfer_slot(p, x);
	struct rvmrpc_call *call = x->call;

	if (slot)
		slot_free(slot);
	if (call->doom != RVMRPC_STATUS_OK) {
		p->stats.late_replies++;
		call_end(p, call, call->doom, false, now, done);
		return;
	}
	if (!ok)
		x->status = RVMRPC_STATUS_SYSTEM_ERROR;
	else if (x->status == RVMRPC_STATUS_SYSTEM_ERROR && x->hdr.status != RVMRPC_STATUS_SYSTEM_ERROR)
		p->stats.bad_replies++;
	call->reslen = x->status == RVMRPC_STATUS_OK || x->status == RVMRPC_STATUS_TOO_BIG ? x->hdr.length : 0;
	call->answered_version = x->hdr.version;
	call_end(p, call, x->status, true, now, done);
}
