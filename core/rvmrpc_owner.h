/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, host half of the window: its owner.
 *
 * On top of the proxy, which has the calls: this half has the window.  It writes the host's page and slots, answers
 * hellos, publishes requests, finds answers, and knows whether the guest sleeps.  All that decides is private
 * (struct rvmrpc_owner); the window is a mailbox that the guest may scribble over at any time.
 *
 * Freestanding, under the proxy's lock, as rvmrpc_proxy.h; the two functions that copy payloads say so and take none.
 */
#ifndef RVMRPC_OWNER_H
#define RVMRPC_OWNER_H

#include "rvmrpc_proxy.h"
#include "rvmrpc_ring.h"

#define RVMRPC_HELLOS_PER_SECOND	10	/* beyond it the last one is answered, in the next second */

struct rvmrpc_owner_config {
	struct rvmrpc_layout layout;	/* from rvmrpc_layout_make() */
	uint32_t doorbell;		/* what the guest is to write to the device's doorbell register */
	uint64_t (*random)(void);	/* at least 63 good bits; any context */
};

struct rvmrpc_owner {
	struct rvmrpc_proxy proxy;	/* its lock guards all of this */
	struct rvmrpc_owner_config config;	/* constant */
	struct rvmrpc_window win;	/* constant */
	struct rvmrpc_host_page page;	/* what the window's must be; its posted is the last request's seq */
	uint64_t nonce;			/* of the last hello that was answered or ignored */
	uint64_t hello_second;		/* when the count below began, ns */
	uint32_t hellos;
	uint32_t beat;
	uint64_t beat_at;		/* ns, when it last moved */
	uint32_t kicked;		/* odd value of the guest's wait for which it was kicked, or 0 */
	uint32_t seq[RVMRPC_SLOTS_MAX];	/* of the request that is in the slot */
	uint64_t wanted;		/* bit per slot whose want word is set */
	struct rvmrpc_ring ring;	/* of the guest's events */
};

/* Lays out a window; false when it does not hold that much, or a size is bad. */
bool rvmrpc_layout_make(uint64_t size, uint32_t nslots, uint32_t req_bytes, uint32_t res_bytes,
			struct rvmrpc_layout *l);

/* Takes over a window, whatever is in it: a new epoch, no guest.  Then look(), and kick: the guest may sleep. */
void rvmrpc_owner_init(struct rvmrpc_owner *o, void *base, uint64_t size, const struct rvmrpc_owner_config *config,
		       uint64_t first_xid);

#define RVMRPC_LOOK_OPENED	(1u << 0)	/* a guest said hello: a new epoch has begun */
#define RVMRPC_LOOK_CLOSED	(1u << 1)	/* the epoch that there was has ended */
#define RVMRPC_LOOK_KICK	(1u << 2)	/* interrupt the guest, whether or not it says that it sleeps */
#define RVMRPC_LOOK_LATER	(1u << 3)	/* too many hellos: look again within a second */

/*
 * Looks at what the guest has to say: farewell, hello, beat; and whether the host's words are as they were left.  At attach,
 * at each doorbell, and at least once a second.  Returns RVMRPC_LOOK_*.
 */
uint32_t rvmrpc_owner_look(struct rvmrpc_owner *o, uint64_t now, struct rvmrpc_done *done);

/* Whether the words that matter most are as they were left.  Two loads. */
static inline bool rvmrpc_owner_unchanged(const struct rvmrpc_owner *o)
{
	return rvmrpc_win_load64_acquire(&o->win, RVMRPC_HOST_WORD(epoch)) == o->page.epoch &&
	       rvmrpc_win_load32(&o->win, RVMRPC_HOST_WORD(posted)) == o->page.posted;
}

/*
 * The cheap half of it, before requests are delivered: 0, or RVMRPC_LOOK_KICK, and _CLOSED if there was an epoch, when
 * the window was overwritten.
 */
uint32_t rvmrpc_owner_intact(struct rvmrpc_owner *o, uint64_t now, struct rvmrpc_done *done);

/* Ends the epoch, if there is one; the guest has to say hello.  Then kick. */
void rvmrpc_owner_close(struct rvmrpc_owner *o, uint32_t status, uint64_t now, struct rvmrpc_done *done);

/* The guest may spin that long. */
void rvmrpc_owner_set_spin(struct rvmrpc_owner *o, uint32_t us);

/*
 * After rvmrpc_proxy_deliver_begin(): copies header and argument into the window.  No lock needed; the call is pinned.
 * Then post(): as rvmrpc_proxy_deliver_commit(), and true means that it is posted.  After the last of several:
 * rvmrpc_owner_kick().
 */
void rvmrpc_owner_copy_in(const struct rvmrpc_owner *o, const struct rvmrpc_xfer *x);
bool rvmrpc_owner_post(struct rvmrpc_owner *o, struct rvmrpc_xfer *x, uint64_t now, struct rvmrpc_done *done);

/*
 * The form without copies, after rvmrpc_proxy_hold(): posts what the client has built in its slot.  Statuses as
 * rvmrpc_proxy_run()'s; the call has not begun unless OK.  Then rvmrpc_owner_kick().
 */
uint32_t rvmrpc_owner_run(struct rvmrpc_owner *o, struct rvmrpc_call *call, uint64_t now);

/* As the proxy's; and a request that the guest has not taken yet says from then on that it must not run. */
void rvmrpc_owner_cancel(struct rvmrpc_owner *o, struct rvmrpc_call *call, uint64_t now, struct rvmrpc_done *done);
uint64_t rvmrpc_owner_expire(struct rvmrpc_owner *o, uint64_t now, struct rvmrpc_done *done);

/* True when the guest sleeps and was not kicked for it yet: interrupt it. */
bool rvmrpc_owner_kick(struct rvmrpc_owner *o);

enum rvmrpc_main_turn {
	RVMRPC_MAIN_TURN_POSTED,	/* there is something that the guest has not seen */
	RVMRPC_MAIN_TURN_WAIT,		/* nothing: it may wait until the next post, or the epoch's end */
	RVMRPC_MAIN_TURN_RESET,		/* its epoch is over */
};

/*
 * RVMRPC_MAIN, after look() and the taking of answers: what a guest shall do that has seen that much.  A waiter that is
 * known under this lock before it sleeps misses no post; a post wakes it instead of rvmrpc_owner_kick().
 */
enum rvmrpc_main_turn rvmrpc_owner_main(const struct rvmrpc_owner *o, uint64_t epoch, uint32_t seen);

/*
 * Some time after a post (2 ms, then less and less often): true when the guest sleeps and has not seen it: interrupt it
 * again.  Makes good what a lost interrupt, or a barrier that an emulator leaves out, has done.
 */
bool rvmrpc_owner_rekick(struct rvmrpc_owner *o);

/* The answer of a slot's call is there.  One load. */
static inline bool rvmrpc_owner_answered(const struct rvmrpc_owner *o, uint32_t slot)
{
	return o->proxy.slots[slot].state == RVMRPC_SLOT_BUSY &&
	       rvmrpc_win_seq(&o->win, rvmrpc_guest_slot_at(&o->config.layout, slot)) == o->seq[slot];
}

/* So many looks for it, for loops that spin.  While it waits, nobody else may end the call. */
static inline bool rvmrpc_owner_await(const struct rvmrpc_owner *o, uint32_t slot, uint32_t looks)
{
	return rvmrpc_win_await(&o->win, rvmrpc_guest_slot_at(&o->config.layout, slot), o->seq[slot], looks);
}

/*
 * Begins to take the answer of a slot that answered() says has one: reads its header and checks it.  False: nothing is
 * to be copied, a call in place has ended, or nobody waits for the answer any more.  True: copy x->length bytes
 * (copy_out(), no lock needed), then rvmrpc_owner_reap_commit().
 */
bool rvmrpc_owner_reap_begin(struct rvmrpc_owner *o, uint32_t slot, struct rvmrpc_xfer *x, uint64_t now,
			     struct rvmrpc_done *done);
void rvmrpc_owner_copy_out(const struct rvmrpc_owner *o, const struct rvmrpc_xfer *x, void *buf);
void rvmrpc_owner_reap_commit(struct rvmrpc_owner *o, struct rvmrpc_xfer *x, bool ok, uint64_t now,
			      struct rvmrpc_done *done);

/*
 * Asks to be rung for every answer that is still to come, and looks once more.  False: there is an answer already, do
 * not sleep.  After the sleep, or instead of it: awake().
 */
bool rvmrpc_owner_sleep(struct rvmrpc_owner *o);
void rvmrpc_owner_awake(struct rvmrpc_owner *o);

/*
 * The same for one slot that the guest has, for owners with a thread for each call.  sleep_on(): false, when the answer is
 * there already; awake_on() comes after it in any case, while the epoch goes on.
 */
bool rvmrpc_owner_sleep_on(struct rvmrpc_owner *o, uint32_t slot);
void rvmrpc_owner_awake_on(struct rvmrpc_owner *o, uint32_t slot);

/*
 * Events.  When some are due, or the time has come: hear(), and take_event() until it is false, which asks to be rung for the
 * next or says until when not (events_at()).  Before an owner sleeps it looks whether some are due: what the guest told
 * before it saw the wish is seen here.  Before look() and close(), which end the epoch that they are of.
 */
static inline bool rvmrpc_owner_events_due(const struct rvmrpc_owner *o, uint64_t now)
{
	if (!o->proxy.epoch)
		return false;
	return o->ring.again_at != UINT64_MAX ? now >= o->ring.again_at :
	       rvmrpc_win_load32_acquire(&o->win, RVMRPC_GUEST_WORD(events)) != o->ring.seen;
}

/* When some may be due without a ring. */
static inline uint64_t rvmrpc_owner_events_at(const struct rvmrpc_owner *o)
{
	return o->proxy.epoch ? o->ring.again_at : UINT64_MAX;
}

void rvmrpc_owner_hear(struct rvmrpc_owner *o, uint64_t now);
bool rvmrpc_owner_take_event(struct rvmrpc_owner *o, uint64_t now, struct rvmrpc_told *told);

/* The guest has something to say to look().  Two loads. */
static inline bool rvmrpc_owner_hailed(const struct rvmrpc_owner *o)
{
	uint64_t nonce = rvmrpc_win_load64_acquire(&o->win, RVMRPC_GUEST_WORD(hello.nonce));

	return (nonce && nonce != o->nonce) ||
	       (o->proxy.epoch &&
		rvmrpc_win_load64_acquire(&o->win, RVMRPC_GUEST_WORD(bye)) == o->proxy.epoch);
}

/* Payloads of a call in place: from hold() to run(), and from its end to release(). */
static inline void *rvmrpc_owner_req(const struct rvmrpc_owner *o, const struct rvmrpc_call *call)
{
	return rvmrpc_win_area(&o->win, rvmrpc_req_at(&o->config.layout, call->slot));
}

static inline void *rvmrpc_owner_res(const struct rvmrpc_owner *o, const struct rvmrpc_call *call)
{
	return rvmrpc_win_area(&o->win, rvmrpc_res_at(&o->config.layout, call->slot));
}

#endif /* RVMRPC_OWNER_H */
