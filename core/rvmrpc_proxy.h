/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reverse VMRPC, host half: slots, pending calls, epochs, deadlines, quotas of one VM.
 *
 * Freestanding: allocates nothing, takes no lock, copies nothing that can fault, includes one header of the OS.
 * Every function here is called with the host's proxy lock held, unless it says otherwise.  Data is moved in two steps:
 * begin() pins a call and says what goes where, the host copies with no lock held, commit() looks at epoch, xid and
 * state again and publishes.  Calls that ended are appended to a struct rvmrpc_done; the host tells their owners after
 * it has dropped the lock.
 *
 *   call:  IDLE -submit-> PENDING -deliver_begin-> DELIVERING -deliver_commit-> DELIVERED
 *               -reply_begin-> REPLYING -reply_commit-> IDLE;  from any state to IDLE by cancel, expiry or a new epoch,
 *               at once or, while pinned (DELIVERING, REPLYING), at the commit.
 *   slot:  FREE -> DELIVERING -> BUSY -> REPLYING -> FREE;  BUSY without a call: the answer will be dropped.  A slot that
 *          a client holds is not given to another call, whatever its state is.
 *
 * Where requests and answers lie, who sleeps and who is woken is rvmrpc_owner.h's.
 */
#ifndef RVMRPC_PROXY_H
#define RVMRPC_PROXY_H

#include "rvmrpc_os.h"	/* fixed-width types, bool, size_t, NULL, memcpy, memset, memcmp */
#include "rvmrpc_abi.h"

#define RVMRPC_HISTOGRAM_BUCKETS	32

/* Who calls; one per socket, open file, monitor, ... */
struct rvmrpc_client {
	uint32_t calls;		/* in flight; proxy lock */
};

enum rvmrpc_call_state {
	RVMRPC_CALL_IDLE,
	RVMRPC_CALL_PENDING,
	RVMRPC_CALL_DELIVERING,
	RVMRPC_CALL_DELIVERED,
	RVMRPC_CALL_REPLYING,
};

/* A call; memory of the host, which keeps it and what it points to until the call came back in a rvmrpc_done. */
struct rvmrpc_call {
	/* set before submit, constant until the end */
	struct rvmrpc_client *client;
	uint32_t module;
	uint32_t procedure;
	uint16_t version;	/* of the module, 0 = any */
	uint32_t list;		/* generation of the list that told the numbers, 0 = any */
	uint32_t arglen;
	const void *arg;
	uint32_t res_max;	/* most bytes of an answer that the caller takes */
	uint64_t deadline;	/* ns of the host's clock */

	/* the outcome, valid after the end */
	uint32_t status;	/* RVMRPC_STATUS_* */
	uint32_t reslen;	/* OK: bytes of the answer; TOO_BIG: bytes that it would have had */
	uint16_t answered_version;
	uint64_t elapsed;	/* ns from submit to the end */

	/* the core's; proxy lock */
	enum rvmrpc_call_state state;
	bool in_place;		/* argument and answer stay in a slot that the client holds */
	uint32_t slot;
	uint64_t epoch;		/* in place: in which it took the slot */
	uint32_t doom;		/* status with which a pinned call ends at its commit, or OK */
	uint64_t xid;
	uint64_t submitted;
	struct rvmrpc_call *next;
};

struct rvmrpc_done {
	struct rvmrpc_call *head;
	struct rvmrpc_call *tail;
};

enum rvmrpc_slot_state {
	RVMRPC_SLOT_FREE,
	RVMRPC_SLOT_DELIVERING,
	RVMRPC_SLOT_BUSY,
	RVMRPC_SLOT_REPLYING,
};

struct rvmrpc_slot {
	enum rvmrpc_slot_state state;
	bool held;		/* somebody writes or reads its areas, whatever became of the epoch: a client, or a copy */
	struct rvmrpc_call *call;
};

struct rvmrpc_stats {
	uint64_t calls;		/* accepted by submit */
	uint64_t completed;	/* answered by the guest, with whatever status */
	uint64_t failed;	/* of these, not with OK */
	uint64_t refused;	/* by submit */
	uint64_t timed_out;
	uint64_t cancelled;
	uint64_t reset;
	uint64_t late_replies;	/* to a call that had ended */
	uint64_t bad_replies;	/* malformed, or for another call */
	uint64_t bad_inits;	/* hellos that were refused */
	uint64_t registrations;
	uint64_t kicks;		/* interrupts asked for */
	uint64_t rekicks;	/* again, since a request was not taken */
	uint64_t lost;		/* epochs that ended since the window was overwritten */
	uint64_t events;	/* of the guest, that were taken from its ring */
	uint64_t events_lost;	/* that were overwritten before */
	uint64_t events_dropped;	/* too many in too short a time, or malformed */
	uint64_t histogram[RVMRPC_HISTOGRAM_BUCKETS];	/* completed calls by elapsed us: bucket b holds [2^(b-1), 2^b) */
	uint64_t elapsed_ns;	/* of completed calls, together */
};

struct rvmrpc_proxy {
	uint64_t epoch;		/* 0: no guest is registered */
	uint16_t abi;
	uint32_t os;
	uint32_t nslots;
	uint32_t req_bytes;	/* of payload, per slot */
	uint32_t res_bytes;
	char release[64];
	bool stopped;		/* the VM does not run */
	uint32_t ncalls;	/* pending and in slots */
	uint64_t next_xid;
	uint64_t last_seen;	/* ns, when the guest last gave a sign of life; 0 = never */
	uint32_t unanswered;	/* calls that timed out since then */
	struct rvmrpc_call *pending_head;
	struct rvmrpc_call *pending_tail;
	struct rvmrpc_slot slots[RVMRPC_SLOTS_MAX];
	uint64_t given_up;	/* slots whose call has ended, of which the guest has not been told; rvmrpc_owner.c */
	struct rvmrpc_stats stats;
};

/* A copy in progress; the host's own, on its stack. */
struct rvmrpc_xfer {
	struct rvmrpc_call *call;	/* pinned */
	uint64_t epoch;
	uint64_t xid;
	uint32_t slot;
	uint16_t abi;
	uint32_t payload_max;		/* reply: bytes that the slot holds */
	uint32_t length;		/* payload bytes to copy */
	uint32_t status;		/* reply: to report */
	struct rvmrpc_hdr hdr;		/* delivery: to be written beside the payload; reply: its version, status, length */
};

/* An epoch to be: what was agreed with the guest, all of it checked. */
struct rvmrpc_terms {
	uint64_t epoch;			/* random, not 0 */
	uint16_t abi;
	uint32_t os;
	uint32_t nslots;
	uint32_t req_bytes;		/* of payload, per slot */
	uint32_t res_bytes;
	const char *release;		/* 64 bytes, the last of which is ignored */
};

void rvmrpc_proxy_init(struct rvmrpc_proxy *p, uint64_t first_xid);

/* Starts an epoch; calls of the old one end with RESET. */
void rvmrpc_proxy_open(struct rvmrpc_proxy *p, const struct rvmrpc_terms *terms, uint64_t now, struct rvmrpc_done *done);

/* Ends the epoch: reset, migration, loss of the driver (RESET), or the guest's farewell (NOT_CONNECTED). */
void rvmrpc_proxy_unregister(struct rvmrpc_proxy *p, uint32_t status, uint64_t now, struct rvmrpc_done *done);

/*
 * Queues a call.  OK, or it is refused and not in *done: STOPPED, NOT_CONNECTED, TOO_BIG (argument), TIMED_OUT (the
 * deadline has passed), BUSY (quota, or no slot answers).  After it: deliver.
 */
uint32_t rvmrpc_proxy_submit(struct rvmrpc_proxy *p, struct rvmrpc_call *call, uint64_t now);

/*
 * The form without copies: hold() takes a slot, in which the client builds its argument; run() hands it to the guest
 * (arglen is set by then), and can be repeated once the call has ended; release() gives the slot back.  The slot stays
 * the client's meanwhile, through a new epoch too.  hold() and run() refuse as submit() does, hold() with BUSY when no
 * slot is free, run() with RESET when the epoch is another one by now.
 *
 * answer() ends a call that run() began by the private copy of its reply's header.
 */
uint32_t rvmrpc_proxy_hold(struct rvmrpc_proxy *p, struct rvmrpc_call *call, uint64_t now);
uint32_t rvmrpc_proxy_run(struct rvmrpc_proxy *p, struct rvmrpc_call *call, uint64_t now);
void rvmrpc_proxy_answer(struct rvmrpc_proxy *p, struct rvmrpc_call *call, const struct rvmrpc_hdr *hdr, uint64_t now,
			 struct rvmrpc_done *done);
void rvmrpc_proxy_release(struct rvmrpc_proxy *p, struct rvmrpc_call *call);

/* What a deadline leaves, in milliseconds, rounded up; at most RVMRPC_TIMEOUT_MS_MAX. */
static inline uint32_t rvmrpc_ms_left(uint64_t deadline, uint64_t now)
{
	uint64_t left = deadline > now ? deadline - now : 0;

	/* A deadline that is as good as none must not become one that has passed. */
	if (left >= RVMRPC_TIMEOUT_MS_MAX * 1000000ull)
		return RVMRPC_TIMEOUT_MS_MAX;
	return (uint32_t)((left + 999999) / 1000000);
}

/* Ends a call with CANCELLED, at once or at the commit under way.  Nothing happens when it has ended. */
void rvmrpc_proxy_cancel(struct rvmrpc_proxy *p, struct rvmrpc_call *call, uint64_t now, struct rvmrpc_done *done);

/* Ends the calls whose deadline has passed.  Returns the next deadline, UINT64_MAX without one. */
uint64_t rvmrpc_proxy_expire(struct rvmrpc_proxy *p, uint64_t now, struct rvmrpc_done *done);

/*
 * A request can be delivered now.  Ask after submit, after reply_begin (a late answer frees its slot there), after each
 * commit, after release, and when stopped becomes false.
 */
bool rvmrpc_proxy_pending(const struct rvmrpc_proxy *p);

/* All slots are held by calls that have ended: only a new epoch helps. */
bool rvmrpc_proxy_stuck(const struct rvmrpc_proxy *p);

/*
 * Takes the next request.  False: none, or no free slot.  Else copy x->hdr and x->length bytes of x->call->arg to
 * x->slot, then commit.
 */
bool rvmrpc_proxy_deliver_begin(struct rvmrpc_proxy *p, struct rvmrpc_xfer *x, uint64_t now, struct rvmrpc_done *done);

/* True: hand x->slot to the guest.  False: the call has ended meanwhile, try the next. */
bool rvmrpc_proxy_deliver_commit(struct rvmrpc_proxy *p, struct rvmrpc_xfer *x, uint64_t now, struct rvmrpc_done *done);

/*
 * Takes the answer in a slot that is BUSY.  False: nobody waits for it, the slot is free.  Else copy the header, then
 * rvmrpc_proxy_reply_check(), then copy the payload, then commit.
 */
bool rvmrpc_proxy_reply_begin(struct rvmrpc_proxy *p, uint32_t slot, struct rvmrpc_xfer *x);

/* Checks the private copy of a reply's header (no lock needed); x->length says how many payload bytes to copy. */
void rvmrpc_proxy_reply_check(struct rvmrpc_xfer *x, const struct rvmrpc_hdr *hdr);

/* ok: the copies went well. */
void rvmrpc_proxy_reply_commit(struct rvmrpc_proxy *p, struct rvmrpc_xfer *x, bool ok, uint64_t now,
			       struct rvmrpc_done *done);

#endif /* RVMRPC_PROXY_H */
