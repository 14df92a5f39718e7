// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Reverse VMRPC, guest half of the ring of events.  See rvmrpc_tell.h for the contract.
 */
#include "rvmrpc_tell.h"

void rvmrpc_tell_init(struct rvmrpc_teller *t, void *base, uint64_t size)
{
	memset(t, 0, sizeof(*t));
	t->win.base = base;
	t->win.size = size;
}

void rvmrpc_tell_open(struct rvmrpc_teller *t, const struct rvmrpc_guest *g)
{
	rvmrpc_os_store(&t->place, g->layout.ring | (uint64_t)rvmrpc_ring_events(&g->layout) << 32);
	rvmrpc_os_store_release(&t->epoch, g->epoch);
}

void rvmrpc_tell_close(struct rvmrpc_teller *t)
{
	rvmrpc_os_store_release(&t->epoch, 0);
}

void rvmrpc_event_begin(struct rvmrpc_event_writer *e, uint32_t module, uint16_t kind, uint64_t time_ns)
{
	memset(e, 0, sizeof(*e));
	e->event.module = module;
	e->event.time_ns = time_ns;
	e->res.res = (char *)&e->event + __builtin_offsetof(struct rvmrpc_event, record);
	e->res.resmax = RVMRPC_EVENT_RECORD_MAX;
	e->fields.res = &e->res;
	rvmrpc_record_begin(&e->fields, kind);
}

void rvmrpc_event_string(struct rvmrpc_event_writer *e, uint16_t key, const char *s, size_t length)
{
	size_t room = e->res.resmax - e->fields.at;

	room = room > sizeof(struct rvmrpc_field) ? room - sizeof(struct rvmrpc_field) : 0;
	if (room)
		rvmrpc_record_string(&e->fields, key, s, length < room ? length : room);
}

bool rvmrpc_event_end(struct rvmrpc_event_writer *e)
{
	if (rvmrpc_record_end(&e->fields, 0))
		return true;
	e->event.record.kind = e->fields.kind;
	e->event.record.length = sizeof(e->event.record);
	return false;
}

bool rvmrpc_tell(const struct rvmrpc_teller *t, uint64_t epoch, uint64_t seq, struct rvmrpc_event_writer *e)
{
	const size_t body = __builtin_offsetof(struct rvmrpc_event, epoch);
	uint64_t place = rvmrpc_os_load(&t->place), at;

	if (!(place >> 32))
		return false;
	at = rvmrpc_event_at((uint32_t)place, place >> 32, seq);
	e->event.epoch = epoch;
	/* A host that looks now must not take half of this one for the one before. */
	rvmrpc_win_store64_release(&t->win, at, 0);
	rvmrpc_os_mb();
	rvmrpc_win_write(&t->win, at + body, (const char *)&e->event + body,
			 __builtin_offsetof(struct rvmrpc_event, record) - body + e->event.record.length);
	rvmrpc_win_store64_release(&t->win, at, seq);
	rvmrpc_win_store32_release(&t->win, RVMRPC_GUEST_WORD(events), (uint32_t)seq);
	/* Pairs with the one between want_events and events in end_hearing() of rvmrpc_owner.c. */
	rvmrpc_os_mb();
	return rvmrpc_win_load32(&t->win, RVMRPC_HOST_WORD(want_events));
}
