// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Reverse VMRPC, host half of the ring of events.  See rvmrpc_ring.h for the contract.
 */
#include "rvmrpc_ring.h"

/* A number that is so far ahead is no honest guest's, and would make the counts worthless. */
#define JUMP_MAX	(1ull << 32)

#define EPOCH_AT	__builtin_offsetof(struct rvmrpc_event, epoch)

void rvmrpc_ring_open(struct rvmrpc_ring *r, const struct rvmrpc_window *w, const struct rvmrpc_layout *l, uint64_t epoch)
{
	r->epoch = epoch;
	r->at = l->ring;
	r->events = rvmrpc_ring_events(l);
	r->next = 1;
	r->taken = 0;
	r->there = 0;
	r->seen = rvmrpc_win_load32_acquire(w, RVMRPC_GUEST_WORD(events));
	if (!r->token_at) {
		r->tokens = RVMRPC_EVENTS_AT_ONCE;
		r->again_at = UINT64_MAX;
	}
}

void rvmrpc_ring_close(struct rvmrpc_ring *r)
{
	r->epoch = 0;
	r->there = 0;
}

static void add_tokens(struct rvmrpc_ring *r, uint64_t now)
{
	uint64_t left = RVMRPC_EVENTS_AT_ONCE - r->tokens;

	while (left && now - r->token_at >= RVMRPC_EVENT_NS) {
		r->tokens++;
		r->token_at += RVMRPC_EVENT_NS;
		left--;
	}
	/* A full bucket gets no more, however long it has been full. */
	if (!left)
		r->token_at = now;
}

static void miss(struct rvmrpc_ring *r, uint64_t n, uint64_t *count)
{
	r->missed += n;
	*count += n;
}

static uint32_t bits(uint64_t mask)
{
	uint32_t n = 0;

	for (; mask; mask &= mask - 1)
		n++;
	return n;
}

/* The number of the event that lies there, if it is one of this epoch that is still to come, or next. */
static uint64_t number_at(const struct rvmrpc_ring *r, const struct rvmrpc_window *w, uint64_t at)
{
	uint64_t seq = rvmrpc_win_load64_acquire(w, at);

	if (seq < r->next || seq - r->next >= JUMP_MAX || rvmrpc_event_at(r->at, r->events, seq) != at ||
	    rvmrpc_win_load64_acquire(w, at + EPOCH_AT) != r->epoch)
		return r->next;
	return seq;
}

/* Gives up those that are overwritten, and those before the first that is not taken. */
static void move_on(struct rvmrpc_ring *r, uint64_t newest, struct rvmrpc_stats *stats)
{
	uint64_t ahead = newest - r->next, n;

	if (ahead >= r->events) {
		n = ahead - r->events + 1;
		miss(r, n - bits(n < 64 ? r->taken & ((1ull << n) - 1) : r->taken), &stats->events_lost);
		r->next += n;
		r->taken = n < 64 ? r->taken >> n : 0;
	}
	for (; r->taken & 1; r->taken >>= 1)
		r->next++;
}

void rvmrpc_ring_look(struct rvmrpc_ring *r, const struct rvmrpc_window *w, uint64_t now, struct rvmrpc_stats *stats)
{
	uint64_t newest = r->next, seq, at;
	uint32_t i, n = 0;

	add_tokens(r, now);
	r->had = r->tokens;
	r->there = 0;
	if (!r->epoch || !r->events)
		return;
	for (i = 0; i < r->events; i++) {
		seq = number_at(r, w, r->at + i * sizeof(struct rvmrpc_event));
		if (seq > newest)
			newest = seq;
	}
	move_on(r, newest, stats);
	for (i = 0; i < r->events; i++) {
		at = rvmrpc_event_at(r->at, r->events, r->next + i);
		if (r->taken >> i & 1 || rvmrpc_win_load64_acquire(w, at) != r->next + i ||
		    rvmrpc_win_load64_acquire(w, at + EPOCH_AT) != r->epoch)
			continue;
		r->there |= 1ull << i;
		n++;
	}
	for (i = 0; n > r->tokens; i++) {
		if (!(r->there >> i & 1))
			continue;
		r->there &= ~(1ull << i);
		r->taken |= 1ull << i;
		miss(r, 1, &stats->events_dropped);
		n--;
	}
}

static bool head_ok(const struct rvmrpc_event *e)
{
	return !e->reserved && !e->record.reserved && e->record.length >= sizeof(e->record) &&
	       e->record.length <= RVMRPC_EVENT_RECORD_MAX && !(e->record.length % RVMRPC_RECORD_ALIGN);
}

/* False: it is being overwritten. */
static bool copy_event(const struct rvmrpc_ring *r, const struct rvmrpc_window *w, uint64_t seq, struct rvmrpc_event *e)
{
	uint64_t at = rvmrpc_event_at(r->at, r->events, seq);

	if (rvmrpc_win_load64_acquire(w, at) != seq)
		return false;
	rvmrpc_win_read(w, at, e, sizeof(*e));
	/* Pairs with the one between seq and the rest in rvmrpc_tell(). */
	rvmrpc_os_mb();
	e->seq = seq;
	return rvmrpc_win_load64_acquire(w, at) == seq && e->epoch == r->epoch;
}

bool rvmrpc_ring_take(struct rvmrpc_ring *r, const struct rvmrpc_window *w, struct rvmrpc_told *told,
		      struct rvmrpc_stats *stats)
{
	uint32_t i;

	for (i = 0; r->there; i++) {
		if (!(r->there >> i & 1))
			continue;
		r->there &= ~(1ull << i);
		if (!copy_event(r, w, r->next + i, &told->event))
			continue;
		r->taken |= 1ull << i;
		/* One that is malformed costs as much. */
		r->tokens--;
		if (!head_ok(&told->event)) {
			miss(r, 1, &stats->events_dropped);
			continue;
		}
		stats->events++;
		told->missed = r->missed;
		r->missed = 0;
		return true;
	}
	return false;
}
