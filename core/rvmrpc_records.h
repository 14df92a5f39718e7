/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half: answers that are lists of records (struct rvmrpc_records).
 *
 * A record that does not fit is taken back, and the answer says where the next one begins: nobody has to know sizes
 * before.  Allocates nothing; an answer is one thread's.
 */
#ifndef RVMRPC_RECORDS_H
#define RVMRPC_RECORDS_H

#include "rvmrpc_server.h"

struct rvmrpc_record_writer {
	struct rvmrpc_response *res;
	struct rvmrpc_records_req wanted;	/* cursor, select and limit, checked */
	struct rvmrpc_records head;
	uint32_t used;		/* bytes of the response, without the record that is being written */
	uint32_t at;		/* bytes with it */
	uint16_t kind;		/* of that record */
	bool overflow;		/* it does not fit */
	bool too_big;		/* not even alone */
};

/*
 * Begins an answer.  select_max: the highest select that the procedure knows.  OK; GARBAGE_ARGS for a request that is
 * neither empty nor good; TOO_BIG when the response has no room for a head.
 */
int rvmrpc_records_begin(struct rvmrpc_record_writer *w, const struct rvmrpc_request *req, struct rvmrpc_response *res,
			 uint32_t select_max);

/* Begins a record; then come its fields, then rvmrpc_record_end(). */
void rvmrpc_record_begin(struct rvmrpc_record_writer *w, uint16_t kind);
void rvmrpc_record_u64(struct rvmrpc_record_writer *w, uint16_t key, uint64_t value);
void rvmrpc_record_string(struct rvmrpc_record_writer *w, uint16_t key, const char *s, size_t length);
void rvmrpc_record_bytes(struct rvmrpc_record_writer *w, uint16_t key, const void *bytes, size_t length);

/*
 * Ends the record that the reader finds at this cursor (not 0, but for the first of a list).  False: it did not fit, or
 * there are as many as were asked for; it is taken back, and the answer says that there are more from this cursor on.
 */
bool rvmrpc_record_end(struct rvmrpc_record_writer *w, uint64_t cursor);

/* Ends the list here, without room or a limit being the reason: the reader goes on with this cursor. */
static inline void rvmrpc_records_more(struct rvmrpc_record_writer *w, uint64_t cursor)
{
	w->head.flags |= RVMRPC_RECORDS_MORE;
	w->head.next = cursor;
}

/* The guest could not look at everything. */
static inline void rvmrpc_records_partial(struct rvmrpc_record_writer *w)
{
	w->head.flags |= RVMRPC_RECORDS_PARTIAL;
}

/* Without MORE: where that begins which is not there yet. */
static inline void rvmrpc_records_later(struct rvmrpc_record_writer *w, uint64_t cursor)
{
	if (!(w->head.flags & RVMRPC_RECORDS_MORE))
		w->head.next = cursor;
}

/* Ends the answer.  OK, or TOO_BIG when a record does not fit into any answer. */
int rvmrpc_records_end(struct rvmrpc_record_writer *w);

#endif /* RVMRPC_RECORDS_H */
