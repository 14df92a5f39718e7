/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Both halves of the window in one thread, on plain memory: what the tests of the window share. */
#ifndef RVMRPC_TEST_WORLD_H
#define RVMRPC_TEST_WORLD_H

#include <glib.h>

#include "rvmrpc_guest.h"
#include "rvmrpc_owner.h"

#define SIZE	0x40000
#define NSLOTS	4
#define REQ	0x1000
#define RES	0x4000
#define SECOND	1000000000ull
#define MS	1000000ull

struct world {
	unsigned char *memory;
	uint64_t size;
	struct rvmrpc_owner owner;
	struct rvmrpc_guest guest;
	struct rvmrpc_done done;
	uint64_t now;
	uint64_t fixed;		/* what the random function says, if not 0 */
};

static struct world w;

static uint64_t a_random(void)
{
	static uint64_t state = 88172645463325252ull;

	if (w.fixed)
		return w.fixed;
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

/* A host that finds the memory as it is. */
static void owner_comes(void)
{
	struct rvmrpc_owner_config config = { .doorbell = 1 << 16, .random = a_random };

	g_assert_true(rvmrpc_layout_make(w.size, NSLOTS, REQ, RES, &config.layout));
	rvmrpc_owner_init(&w.owner, w.memory, w.size, &config, 1);
}

static void guest_comes(void)
{
	rvmrpc_guest_init(&w.guest, w.memory, w.size);
}

static void world_begin(void)
{
	memset(&w, 0, sizeof(w));
	w.size = SIZE;
	/* Not a byte more: ASan sees the first one behind it. */
	w.memory = g_aligned_alloc0(1, SIZE, RVMRPC_PAGE_SIZE);
	w.now = SECOND;
	owner_comes();
	guest_comes();
}

static void world_end(void)
{
	g_aligned_free(w.memory);
}

static uint32_t look(void)
{
	return rvmrpc_owner_look(&w.owner, w.now, &w.done);
}

static void say_hello(void)
{
	rvmrpc_guest_hello(&w.guest, a_random(), RVMRPC_OS_LINUX, "6.12.0-test");
}

static enum rvmrpc_guest_answer answered(uint32_t *status)
{
	*status = 0xdead;
	return rvmrpc_guest_answered(&w.guest, status);
}

static void greet(void)
{
	uint32_t status;

	say_hello();
	g_assert_cmpint(answered(&status), ==, RVMRPC_ANSWER_NONE);
	g_assert_true(look() & RVMRPC_LOOK_OPENED);
	g_assert_cmpint(answered(&status), ==, RVMRPC_ANSWER_OPEN);
	g_assert_cmpuint(status, ==, RVMRPC_HELLO_OK);
	g_assert_true(rvmrpc_guest_alive(&w.guest));
	g_assert_cmpuint(w.guest.epoch, ==, w.owner.proxy.epoch);
}

static inline void connected(void)
{
	world_begin();
	greet();
}

static inline uint32_t host_word(uint64_t at)
{
	return rvmrpc_win_load32(&w.owner.win, at);
}

/* ---- calls ---- */

static inline uint32_t submit(struct rvmrpc_call *call)
{
	if (!call->deadline)
		call->deadline = w.now + SECOND;
	return rvmrpc_proxy_submit(&w.owner.proxy, call, w.now);
}

/* What an owner does after each submit: all that can go goes.  How many did. */
static inline uint32_t deliver(void)
{
	struct rvmrpc_xfer x;
	uint32_t n = 0;

	while (rvmrpc_proxy_deliver_begin(&w.owner.proxy, &x, w.now, &w.done)) {
		rvmrpc_owner_copy_in(&w.owner, &x);
		n += rvmrpc_owner_post(&w.owner, &x, w.now, &w.done);
	}
	return n;
}

static inline void post(struct rvmrpc_call *call)
{
	g_assert_cmpuint(submit(call), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(deliver(), ==, 1);
}

static inline struct rvmrpc_hdr reply_to(const struct rvmrpc_taken *t)
{
	struct rvmrpc_hdr reply = t->hdr;

	reply.timeout_ms = 0;
	return reply;
}

static inline bool publish(const struct rvmrpc_taken *t, const struct rvmrpc_hdr *reply)
{
	return rvmrpc_guest_publish(&w.guest, t->slot, t->seq, reply);
}

static inline void echo(const struct rvmrpc_taken *t)
{
	struct rvmrpc_hdr reply = reply_to(t);

	memcpy(rvmrpc_guest_res(&w.guest, t->slot), rvmrpc_guest_arg(&w.guest, t->slot), t->hdr.length);
	publish(t, &reply);
}

static inline void take(struct rvmrpc_taken *t)
{
	g_assert_true(rvmrpc_guest_take(&w.guest, t));
	g_assert_cmpuint(t->slot, <, NSLOTS);
}

static inline bool serve_one(void)
{
	struct rvmrpc_taken t;

	if (!rvmrpc_guest_take(&w.guest, &t))
		return false;
	echo(&t);
	return true;
}

/* Takes the answer that is there, into buf. */
static inline void reap(uint32_t slot, void *buf)
{
	struct rvmrpc_xfer x;

	g_assert_true(rvmrpc_owner_answered(&w.owner, slot));
	if (!rvmrpc_owner_reap_begin(&w.owner, slot, &x, w.now, &w.done))
		return;
	g_assert_cmpuint(x.length, <=, x.call->res_max);
	if (x.length)
		rvmrpc_owner_copy_out(&w.owner, &x, buf);
	rvmrpc_owner_reap_commit(&w.owner, &x, true, w.now, &w.done);
}

/* The call that ended first of those not asked for yet, NULL without one. */
static inline struct rvmrpc_call *ended(void)
{
	struct rvmrpc_call *call = w.done.head;

	if (call) {
		w.done.head = call->next;
		if (!w.done.head)
			w.done.tail = NULL;
	}
	return call;
}

static inline void assert_ended(struct rvmrpc_call *call, uint32_t status)
{
	g_assert_true(ended() == call);
	g_assert_cmpuint(call->status, ==, status);
}

/* The channel works: one call there and back. */
static inline void assert_works(void)
{
	struct rvmrpc_call call = { .module = 1, .procedure = 2, .arg = "works", .arglen = 6, .res_max = 6 };
	char answer[6] = "";

	post(&call);
	g_assert_true(serve_one());
	reap(call.slot, answer);
	assert_ended(&call, RVMRPC_STATUS_OK);
	g_assert_cmpuint(call.reslen, ==, 6);
	g_assert_cmpstr(answer, ==, "works");
}

#endif /* RVMRPC_TEST_WORLD_H */
