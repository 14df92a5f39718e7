/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half of the ring of events: tells the host without being asked.
 *
 * Any context, on several CPUs at once, while calls go on: nothing is locked, nothing is waited for, and nothing of the
 * window is changed by more than a store.  Who tells takes a number from a counter of the driver's first, which is all that
 * keeps writers apart:
 *
 *	epoch = rvmrpc_tell_epoch(t);
 *	if (epoch && rvmrpc_tell(t, epoch, atomic_add_return(1, counter), &e))
 *		ring
 *
 * The epoch is read first, with a full barrier between: then an old epoch may get a number of the next one, which is lost,
 * but never the next epoch one of an old counter, beyond which the host would wait for no lower ones.
 */
#ifndef RVMRPC_TELL_H
#define RVMRPC_TELL_H

#include "rvmrpc_guest.h"
#include "rvmrpc_records.h"

struct rvmrpc_teller {
	struct rvmrpc_window win;	/* constant while somebody may tell */
	uint64_t epoch;			/* 0: nobody listens.  The server thread writes it, as place; any thread reads */
	uint64_t place;			/* offset of the ring | events that it holds << 32; one word, so that it is never torn */
};

/* An event that is being built; its writer's own. */
struct rvmrpc_event_writer {
	struct rvmrpc_event event;
	struct rvmrpc_record_writer fields;	/* rvmrpc_record_u64() */
	struct rvmrpc_response res;
};

/* Before anybody can tell. */
void rvmrpc_tell_init(struct rvmrpc_teller *t, void *base, uint64_t size);

/*
 * The epoch of @g, which is OPEN, begins or ends for who tells.  Server thread.  Between close() and open() the driver's
 * counter goes back to 0.
 */
void rvmrpc_tell_open(struct rvmrpc_teller *t, const struct rvmrpc_guest *g);
void rvmrpc_tell_close(struct rvmrpc_teller *t);

static inline uint64_t rvmrpc_tell_epoch(const struct rvmrpc_teller *t)
{
	return rvmrpc_os_load_acquire(&t->epoch);
}

/* Begins an event.  time_ns: now, since boot. */
void rvmrpc_event_begin(struct rvmrpc_event_writer *e, uint32_t module, uint16_t kind, uint64_t time_ns);
/* A string, cut to what there is room for. */
void rvmrpc_event_string(struct rvmrpc_event_writer *e, uint16_t key, const char *s, size_t length);
/* Ends it.  False: a field had no room, and it has none of them. */
bool rvmrpc_event_end(struct rvmrpc_event_writer *e);

/* Writes an event that was ended, as number @seq of that epoch.  True: ring. */
bool rvmrpc_tell(const struct rvmrpc_teller *t, uint64_t epoch, uint64_t seq, struct rvmrpc_event_writer *e);

#endif /* RVMRPC_TELL_H */
