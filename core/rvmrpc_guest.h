/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, guest half of the window: hello, requests, answers, sleep, farewell.
 *
 * Freestanding: allocates nothing, takes no lock, never waits.  All of it belongs to the server thread, but for
 * rvmrpc_guest_publish() and the areas of a slot, which belong to whoever answers that slot; what they read of the
 * struct changes at a hello only, and the driver sees to it that no answer of an old epoch is under way then.
 *
 *   IDLE -hello-> GREETED -answer OK-> OPEN -epoch is another one, or bye-> IDLE
 */
#ifndef RVMRPC_GUEST_H
#define RVMRPC_GUEST_H

#include "rvmrpc_window.h"

enum rvmrpc_guest_state {
	RVMRPC_GUEST_IDLE,
	RVMRPC_GUEST_GREETED,	/* said hello, waits for the answer */
	RVMRPC_GUEST_OPEN,
};

struct rvmrpc_guest {
	struct rvmrpc_window win;
	enum rvmrpc_guest_state state;
	uint64_t nonce;		/* of the last hello */
	uint64_t seen;		/* epoch that it named */
	uint64_t epoch;		/* OPEN: the channel's */
	uint16_t abi;
	struct rvmrpc_layout layout;	/* OPEN: the checked copy */
	uint32_t posted;	/* how far requests were looked for */
	uint32_t behind;	/* posted ones that were not found yet */
	uint32_t last;		/* slot of the last request */
	uint32_t wait;
	uint32_t beat;
	uint32_t taken[RVMRPC_SLOTS_MAX];	/* seq of the last request of each slot */
	uint32_t answered[RVMRPC_SLOTS_MAX];	/* what the seq of each slot's answer must be */
};

/* A request, in private memory. */
struct rvmrpc_taken {
	uint32_t slot;
	uint32_t seq;
	struct rvmrpc_hdr hdr;	/* not checked yet: rvmrpc_server_accept() */
};

/*
 * Whether memory of that size is a window of ours that this half can use: RVMRPC_HELLO_OK, BAD_VERSION, or BAD_ARGS
 * when it is something else.  Reads one line and writes nothing.  *id: what it says, for its doorbell.
 */
uint32_t rvmrpc_guest_probe(const struct rvmrpc_window *win, struct rvmrpc_window_id *id);

void rvmrpc_guest_init(struct rvmrpc_guest *g, void *base, uint64_t size);

/* Says hello; then ring, and again with back-off until it is answered.  nonce: random, not 0. */
void rvmrpc_guest_hello(struct rvmrpc_guest *g, uint64_t nonce, uint32_t os, const char *release);

enum rvmrpc_guest_answer {
	RVMRPC_ANSWER_NONE,	/* not yet */
	RVMRPC_ANSWER_STALE,	/* the host has another epoch by now: say hello again */
	RVMRPC_ANSWER_REFUSED,	/* *status says why; the state is IDLE */
	RVMRPC_ANSWER_OPEN,
};

/* Looks for the answer to the last hello.  GREETED only. */
enum rvmrpc_guest_answer rvmrpc_guest_answered(struct rvmrpc_guest *g, uint32_t *status);

/* Whether the epoch goes on.  Cheap: asked before each take, each publish, and before sleep. */
static inline bool rvmrpc_guest_alive(const struct rvmrpc_guest *g)
{
	return rvmrpc_win_load64_acquire(&g->win, RVMRPC_HOST_WORD(epoch)) == g->epoch;
}

/* Whether something was posted that rvmrpc_guest_take() has not looked for.  For loops that spin. */
static inline bool rvmrpc_guest_posted(const struct rvmrpc_guest *g)
{
	return rvmrpc_win_load32_acquire(&g->win, RVMRPC_HOST_WORD(posted)) != g->posted;
}

static inline uint32_t rvmrpc_guest_seq(const struct rvmrpc_guest *g, uint32_t slot)
{
	return rvmrpc_win_seq(&g->win, rvmrpc_host_slot_at(&g->layout, slot));
}

static inline uint32_t rvmrpc_guest_next(const struct rvmrpc_guest *g)
{
	return g->posted + 1 ? g->posted + 1 : 1;
}

/*
 * Whether the next request is in the slot that the last one was in: most often so, and then its header comes with the
 * line that is looked at here, and the line with the word `posted' is not needed.
 */
static inline bool rvmrpc_guest_due(const struct rvmrpc_guest *g)
{
	uint32_t next = rvmrpc_guest_next(g);

	/* The word `posted' may lag behind a slot's seq, and rvmrpc_guest_find() goes by the word: never take one twice. */
	return rvmrpc_guest_seq(g, g->last) == next && g->taken[g->last] != next;
}

/* So many looks whether it is.  For loops that spin, which look at all else between. */
static inline bool rvmrpc_guest_await(const struct rvmrpc_guest *g, uint32_t looks)
{
	uint32_t next = rvmrpc_guest_next(g);

	return g->taken[g->last] != next &&
	       rvmrpc_win_await(&g->win, rvmrpc_host_slot_at(&g->layout, g->last), next, looks);
}

/* For rvmrpc_guest_take(), when it is not.  False: there is none. */
bool rvmrpc_guest_find(struct rvmrpc_guest *g, struct rvmrpc_taken *t);

/* Takes the oldest request.  False: there is none. */
static inline bool rvmrpc_guest_take(struct rvmrpc_guest *g, struct rvmrpc_taken *t)
{
	if (!g->behind && rvmrpc_guest_due(g)) {
		g->posted = rvmrpc_guest_next(g);
		t->slot = g->last;
		t->seq = g->posted;
	} else if (!rvmrpc_guest_find(g, t)) {
		return false;
	}
	g->taken[t->slot] = t->seq;
	rvmrpc_win_read_hdr(&g->win, rvmrpc_host_slot_at(&g->layout, t->slot), &t->hdr);
	return true;
}

/* The host has given up the call that was taken from a slot. */
static inline bool rvmrpc_guest_unwanted(const struct rvmrpc_guest *g, uint32_t slot)
{
	return !rvmrpc_win_load32(&g->win, rvmrpc_host_slot_at(&g->layout, slot) + RVMRPC_TIMEOUT_AT);
}

/* The payloads of a slot, in place. */
static inline void *rvmrpc_guest_arg(const struct rvmrpc_guest *g, uint32_t slot)
{
	return rvmrpc_win_area(&g->win, rvmrpc_req_at(&g->layout, slot));
}

/*
 * Copies the argument of a request that was taken, to as many bytes as its header says.  False: the epoch has ended, and they
 * may be another's, or those of the window that the VM has moved to: nobody sent them.
 */
static inline bool rvmrpc_guest_copy_arg(const struct rvmrpc_guest *g, const struct rvmrpc_taken *t, void *to)
{
	if (!t->hdr.length)
		return true;
	memcpy(to, rvmrpc_guest_arg(g, t->slot), t->hdr.length);
	/* Or the look at the epoch may come before the copy. */
	rvmrpc_os_mb();
	return rvmrpc_guest_alive(g);
}

static inline void *rvmrpc_guest_res(const struct rvmrpc_guest *g, uint32_t slot)
{
	return rvmrpc_win_area(&g->win, rvmrpc_res_at(&g->layout, slot));
}

/* Publishes an answer whose payload is in the slot's area.  True: ring, the host sleeps and waits for it. */
static inline bool rvmrpc_guest_publish(struct rvmrpc_guest *g, uint32_t slot, uint32_t seq,
					const struct rvmrpc_hdr *reply)
{
	uint64_t at = rvmrpc_guest_slot_at(&g->layout, slot);

	g->answered[slot] = seq;
	rvmrpc_win_write_hdr(&g->win, at, reply);
	rvmrpc_win_publish(&g->win, at, seq);
	/* Pairs with the one between want and seq in rvmrpc_owner_sleep(). */
	rvmrpc_os_mb();
	return rvmrpc_win_load32(&g->win, rvmrpc_host_slot_at(&g->layout, slot) + RVMRPC_WANT_AT);
}

/*
 * Whether the guest's own words are as it left them; not while an answer is under way.  If not, the window was
 * overwritten, and answers may be lost whose slots would never be free again: say hello.
 */
bool rvmrpc_guest_intact(const struct rvmrpc_guest *g);

/* A sign of life. */
static inline void rvmrpc_guest_beat(struct rvmrpc_guest *g)
{
	rvmrpc_win_store32(&g->win, RVMRPC_GUEST_WORD(beat), ++g->beat);
}

/*
 * Says that the guest sleeps until the interrupt, and looks once more.  False: there is something to do, and awake()
 * was said already.  After the sleep: awake().
 */
bool rvmrpc_guest_sleep(struct rvmrpc_guest *g);
void rvmrpc_guest_awake(struct rvmrpc_guest *g);

/* How long the host lets it spin, in microseconds. */
uint32_t rvmrpc_guest_max_spin(const struct rvmrpc_guest *g);

/*
 * rvmrpc_spin_next() for a request that came after a wait; most: how long the driver's setting lets it spin.  The host
 * learns what it lets from when it posts, while of what the guest waited much may be its own waking up, which a spin saves.
 */
uint32_t rvmrpc_guest_spin_next(const struct rvmrpc_guest *g, uint32_t us, uint64_t waited_us, uint32_t least,
				uint32_t most);

/* A host whose epochs do not last: how long to wait before the next hello, and what was logged.  The server thread's. */
struct rvmrpc_retry {
	uint64_t opened;	/* when the epoch began, in ms of the driver's clock */
	uint32_t ms;		/* waited the last time */
	uint32_t said;		/* 1 << RVMRPC_SAY_* */
};

#define RVMRPC_RETRY_MIN_MS	10
#define RVMRPC_RETRY_MAX_MS	1000
#define RVMRPC_STEADY_MS	60000

enum { RVMRPC_SAY_CONNECTED, RVMRPC_SAY_SILENT, RVMRPC_SAY_REFUSED, RVMRPC_SAY_OVERWRITTEN };

/* A hello was in vain: what to wait, whatever the host does meanwhile. */
uint32_t rvmrpc_retry_again(struct rvmrpc_retry *r);

/* An epoch is over: the same; 0 after one that has lasted. */
uint32_t rvmrpc_retry_lost(struct rvmrpc_retry *r, uint64_t now);

/* Whether to log that: once, until an epoch has lasted. */
bool rvmrpc_retry_says(struct rvmrpc_retry *r, uint32_t what);

/* Leaves; then ring.  No answer is published after it. */
void rvmrpc_guest_bye(struct rvmrpc_guest *g);

#endif /* RVMRPC_GUEST_H */
