/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC: how both halves touch the window.
 *
 * The other side may write any word of it at any time.  So nobody gets a pointer to a structure in it: what is read is
 * copied, once, and what is waited for is loaded as one word.  The two exceptions are rvmrpc_win_area(), payloads used
 * where they lie, and the words' own writers.
 *
 * Only aligned plain loads and stores, with barriers of the OS (rvmrpc_os_*): a read-modify-write of a guest with one
 * CPU may not be atomic to its host.
 */
#ifndef RVMRPC_WINDOW_H
#define RVMRPC_WINDOW_H

#include "rvmrpc_os.h"	/* as rvmrpc_proxy.h, and rvmrpc_os_load(), _load_acquire(), _store(), _store_release(), _mb() */
#include "rvmrpc_abi.h"

struct rvmrpc_window {
	unsigned char *base;	/* only for the functions below */
	uint64_t size;		/* as mapped here, not as anybody says */
};

#define RVMRPC_HOST_WORD(field)		(RVMRPC_HOST_PAGE + __builtin_offsetof(struct rvmrpc_host_page, field))
#define RVMRPC_GUEST_WORD(field)	(RVMRPC_GUEST_PAGE + __builtin_offsetof(struct rvmrpc_guest_page, field))

static inline uint32_t rvmrpc_win_load32(const struct rvmrpc_window *w, uint64_t offset)
{
	return rvmrpc_os_load((const uint32_t *)(w->base + offset));
}

/* What was written before the word that is read here is seen after it. */
static inline uint32_t rvmrpc_win_load32_acquire(const struct rvmrpc_window *w, uint64_t offset)
{
	return rvmrpc_os_load_acquire((const uint32_t *)(w->base + offset));
}

static inline uint64_t rvmrpc_win_load64_acquire(const struct rvmrpc_window *w, uint64_t offset)
{
	return rvmrpc_os_load_acquire((const uint64_t *)(w->base + offset));
}

static inline void rvmrpc_win_store32(const struct rvmrpc_window *w, uint64_t offset, uint32_t value)
{
	rvmrpc_os_store((uint32_t *)(w->base + offset), value);
}

/* Publishes all that was written before. */
static inline void rvmrpc_win_store32_release(const struct rvmrpc_window *w, uint64_t offset, uint32_t value)
{
	rvmrpc_os_store_release((uint32_t *)(w->base + offset), value);
}

static inline void rvmrpc_win_store64_release(const struct rvmrpc_window *w, uint64_t offset, uint64_t value)
{
	rvmrpc_os_store_release((uint64_t *)(w->base + offset), value);
}

/* Copies out of the window.  From here on only the copy counts: the compiler may not read again. */
static inline void rvmrpc_win_read(const struct rvmrpc_window *w, uint64_t offset, void *to, size_t bytes)
{
	memcpy(to, w->base + offset, bytes);
	rvmrpc_os_barrier();
}

static inline void rvmrpc_win_write(const struct rvmrpc_window *w, uint64_t offset, const void *from, size_t bytes)
{
	memcpy(w->base + offset, from, bytes);
}

/* A payload in place.  Its owner may change it meanwhile: read each byte once, or copy. */
static inline void *rvmrpc_win_area(const struct rvmrpc_window *w, uint64_t offset)
{
	return w->base + offset;
}

static inline bool rvmrpc_all_zero(const void *data, size_t n)
{
	const unsigned char *b = data;
	size_t i;

	for (i = 0; i < n; i++) {
		if (b[i])
			return false;
	}
	return true;
}

static inline bool rvmrpc_win_span_ok(uint64_t size, uint32_t offset, uint64_t bytes)
{
	return !(offset % RVMRPC_LINE) && offset <= size && bytes <= size - offset;
}

/* Whether all that a layout names lies within the window; the one check of a layout, of both sides. */
static inline bool rvmrpc_layout_ok(const struct rvmrpc_layout *l, uint64_t size)
{
	uint64_t last;

	if (!l->nslots || l->nslots > RVMRPC_SLOTS_MAX || l->stride % RVMRPC_LINE)
		return false;
	if (!l->req_bytes || l->req_bytes > RVMRPC_SLOT_BYTES_MAX || l->req_bytes % RVMRPC_LINE ||
	    !l->res_bytes || l->res_bytes > RVMRPC_SLOT_BYTES_MAX || l->res_bytes % RVMRPC_LINE)
		return false;
	last = (uint64_t)(l->nslots - 1) * l->stride;
	return rvmrpc_win_span_ok(size, l->host_slots, (uint64_t)l->nslots * sizeof(struct rvmrpc_host_slot)) &&
	       rvmrpc_win_span_ok(size, l->guest_slots, (uint64_t)l->nslots * sizeof(struct rvmrpc_guest_slot)) &&
	       rvmrpc_win_span_ok(size, l->req, last + l->req_bytes) &&
	       rvmrpc_win_span_ok(size, l->res, last + l->res_bytes) &&
	       rvmrpc_win_span_ok(size, l->ring, l->ring_bytes);
}

/* Events that a layout's ring has room for: a power of two, or 0. */
static inline uint32_t rvmrpc_ring_events(const struct rvmrpc_layout *l)
{
	uint32_t n = RVMRPC_RING_EVENTS_MAX;

	while (n > l->ring_bytes / sizeof(struct rvmrpc_event))
		n /= 2;
	return n;
}

/* Where an event with that number, not 0, lies in a ring of so many. */
static inline uint64_t rvmrpc_event_at(uint32_t ring, uint32_t events, uint64_t seq)
{
	return ring + ((seq - 1) & (events - 1)) * sizeof(struct rvmrpc_event);
}

/* Offsets of a slot's parts; slot < nslots. */
static inline uint64_t rvmrpc_host_slot_at(const struct rvmrpc_layout *l, uint32_t slot)
{
	return l->host_slots + slot * (uint64_t)sizeof(struct rvmrpc_host_slot);
}

static inline uint64_t rvmrpc_guest_slot_at(const struct rvmrpc_layout *l, uint32_t slot)
{
	return l->guest_slots + slot * (uint64_t)sizeof(struct rvmrpc_guest_slot);
}

static inline uint64_t rvmrpc_req_at(const struct rvmrpc_layout *l, uint32_t slot)
{
	return l->req + (uint64_t)slot * l->stride;
}

static inline uint64_t rvmrpc_res_at(const struct rvmrpc_layout *l, uint32_t slot)
{
	return l->res + (uint64_t)slot * l->stride;
}

#define RVMRPC_WANT_AT		__builtin_offsetof(struct rvmrpc_host_slot, want)
#define RVMRPC_TIMEOUT_AT	__builtin_offsetof(struct rvmrpc_host_slot, hdr.timeout_ms)

RVMRPC_ASSERT_OFFSET(rvmrpc_hdr, reserved2, RVMRPC_SLOT_SEQ);

/* The seq of the slot at that offset: what was written before it is seen after. */
static inline uint32_t rvmrpc_win_seq(const struct rvmrpc_window *w, uint64_t slot_at)
{
	return rvmrpc_win_load32_acquire(w, slot_at + RVMRPC_SLOT_SEQ);
}

/* Looks so many times for a seq in the slot at that offset.  A look is a load and a comparison: this is what spins. */
static inline bool rvmrpc_win_await(const struct rvmrpc_window *w, uint64_t slot_at, uint32_t seq, uint32_t looks)
{
	const uint32_t *word = (const uint32_t *)(w->base + slot_at + RVMRPC_SLOT_SEQ);

	while (looks--) {
		if (rvmrpc_os_load_acquire(word) == seq)
			return true;
	}
	return false;
}

/* A header moves by words: so a compiler need not build in memory what goes there.  (The core's model has one step for it.) */
#ifndef rvmrpc_os_move_hdr
static inline void rvmrpc_os_move_hdr(rvmrpc_hdr_word *to, const rvmrpc_hdr_word *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
	to[4] = from[4];
	to[5] = from[5];
	to[6] = from[6];
}
#endif

/* Copies a slot's header, whose seq was seen. */
static inline void rvmrpc_win_read_hdr(const struct rvmrpc_window *w, uint64_t slot_at, struct rvmrpc_hdr *hdr)
{
	rvmrpc_os_move_hdr((rvmrpc_hdr_word *)hdr, (const rvmrpc_hdr_word *)(w->base + slot_at));
	rvmrpc_os_barrier();
	hdr->reserved2 = 0;
}

/* Writes a slot's header; it and the payload count once its seq is published. */
static inline void rvmrpc_win_write_hdr(const struct rvmrpc_window *w, uint64_t slot_at, const struct rvmrpc_hdr *hdr)
{
	rvmrpc_os_move_hdr((rvmrpc_hdr_word *)(w->base + slot_at), (const rvmrpc_hdr_word *)hdr);
}

static inline void rvmrpc_win_publish(const struct rvmrpc_window *w, uint64_t slot_at, uint32_t seq)
{
	rvmrpc_win_store32_release(w, slot_at + RVMRPC_SLOT_SEQ, seq);
}

/*
 * How long to spin from now on, in us, of who spun @us in vain and waited @waited_us in all for what came: long enough to
 * have met it, unless that is over the limit.  A spin of less than @least meets nobody.
 */
static inline uint32_t rvmrpc_spin_next(uint32_t us, uint64_t waited_us, uint32_t least, uint32_t limit)
{
	if (waited_us >= limit)
		return us / 2 < least ? 0 : us / 2;
	us = 2 * us > least ? 2 * us : least;
	if (us < waited_us)
		us = (uint32_t)waited_us;
	return us < limit ? us : limit;
}

#endif /* RVMRPC_WINDOW_H */
