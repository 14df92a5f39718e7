// SPDX-License-Identifier: GPL-2.0-or-later
/* The ring of events, whatever the guest writes there. */
#include "proof.h"
#include "rvmrpc_ring.c"
#include "rvmrpc_records.c"
#include "rvmrpc_tell.c"

#ifndef EVENTS
#define EVENTS 2
#endif

#define NUMBERS	(1ull << 62)	/* so many events at RVMRPC_EVENT_NS each are no guest's */

/* What holds of a ring at any time. */
static bool is_ring(const struct rvmrpc_ring *r)
{
	uint64_t all = r->events < 64 ? (1ull << r->events) - 1 : UINT64_MAX;

	return r->events <= RVMRPC_RING_EVENTS_MAX && !(r->events & (r->events - 1)) && r->next && r->next < NUMBERS &&
	       !(r->taken & ~all) && !(r->there & ~all) && !(r->there & r->taken) && r->tokens <= RVMRPC_EVENTS_AT_ONCE;
}

static uint64_t any_ring(struct rvmrpc_ring *r, struct rvmrpc_window *w)
{
	uint64_t now;

	w->size = any_window();
	w->base = proof_window;
	assume(is_ring(r) && r->events <= EVENTS && r->next < NUMBERS / 2 && now >= r->token_at);
	assume(r->at % 64 == 0 && (uint64_t)r->at + r->events * sizeof(struct rvmrpc_event) <= w->size);
	return now;
}

/* PROOF unwind 10 */
void prove_tokens(void)
{
	struct rvmrpc_ring r;
	uint32_t had = r.tokens;
	uint64_t now;

	assume(had <= RVMRPC_EVENTS_AT_ONCE && had >= RVMRPC_EVENTS_AT_ONCE - 8 && now >= r.token_at);
	add_tokens(&r, now);
	claim(r.tokens >= had && r.tokens <= RVMRPC_EVENTS_AT_ONCE && r.token_at <= now);
	reached();
}

/* With a bucket that is nearly full: prove_tokens() is about others. */
/* PROOF unwind 4 */
void prove_look(void)
{
	struct rvmrpc_stats stats;
	struct rvmrpc_ring r, was;
	struct rvmrpc_window w;
	uint64_t now = any_ring(&r, &w);
	uint32_t there;

	assume(r.tokens >= RVMRPC_EVENTS_AT_ONCE - 1);
	was = r;
	rvmrpc_ring_look(&r, &w, now, &stats);
	claim(is_ring(&r) && r.next >= was.next && r.token_at <= now && r.tokens >= was.tokens);
	there = bits(r.there);
	claim(there <= r.tokens);
	reached();
}

/* PROOF unwind 4 */
void prove_take(void)
{
	struct rvmrpc_stats stats;
	struct rvmrpc_ring r, was;
	struct rvmrpc_told told;
	struct rvmrpc_window w;

	any_ring(&r, &w);
	assume(bits(r.there) <= r.tokens);
	was = r;
	if (rvmrpc_ring_take(&r, &w, &told, &stats)) {
		claim(told.event.epoch == r.epoch && told.event.record.length <= RVMRPC_EVENT_RECORD_MAX &&
		      told.event.record.length >= sizeof(told.event.record));
		claim(told.event.seq >= r.next && told.event.seq - r.next < r.events);
		claim(r.tokens < was.tokens && !r.missed);
	}
	claim(is_ring(&r) && r.next == was.next && !(was.taken & ~r.taken));
	reached();
}

/* The guest's side: an event lies within its place, whatever its strings are. */
/* PROOF unwind 9 */
void prove_tell(void)
{
	struct rvmrpc_event_writer e;
	struct rvmrpc_teller t;
	struct rvmrpc_guest g;
	uint64_t epoch, seq, time, value;
	uint32_t module;
	uint16_t kind, key;
	char text[128];
	size_t length;

	g.win.size = any_window();
	assume(seq && words_lie_within(&g.layout, g.win.size) && length <= sizeof(text));
	rvmrpc_tell_init(&t, proof_window, g.win.size);
	rvmrpc_tell_open(&t, &g);
	rvmrpc_event_begin(&e, module, kind, time);
	rvmrpc_record_u64(&e.fields, key, value);
	rvmrpc_event_string(&e, key, text, length);
	rvmrpc_event_end(&e);
	claim(e.event.record.length >= sizeof(e.event.record) && e.event.record.length <= RVMRPC_EVENT_RECORD_MAX);
	rvmrpc_tell(&t, epoch, seq, &e);
	reached();
}
