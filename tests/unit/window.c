/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Both halves of the window in one process, on plain memory. */
#include <glib.h>

#include "rvmrpc_guest.h"
#include "rvmrpc_owner.h"

#define SIZE	0x40000
#define SECOND	1000000000ull

struct world {
	_Alignas(4096) unsigned char memory[SIZE];
	struct rvmrpc_owner owner;
	struct rvmrpc_guest guest;
	struct rvmrpc_done done;
	uint64_t now;
};

static uint64_t a_random(void)
{
	static uint64_t state = 88172645463325252ull;

	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static void world_init(struct world *w)
{
	struct rvmrpc_owner_config config = { .doorbell = 1 << 16, .random = a_random };
	struct rvmrpc_window_id id;

	memset(w, 0, sizeof(*w));
	w->now = SECOND;
	g_assert_true(rvmrpc_layout_make(SIZE, 4, 0x1000, 0x4000, &config.layout));
	rvmrpc_owner_init(&w->owner, w->memory, SIZE, &config, 1);
	g_assert_cmpuint(rvmrpc_guest_probe(&w->owner.win, &id), ==, RVMRPC_HELLO_OK);
	g_assert_cmpuint(id.doorbell, ==, 1 << 16);
	rvmrpc_guest_init(&w->guest, w->memory, SIZE);
}

static void greet(struct world *w)
{
	uint32_t status;

	rvmrpc_guest_hello(&w->guest, a_random(), RVMRPC_OS_LINUX, "6.12.0-test");
	g_assert_cmpint(rvmrpc_guest_answered(&w->guest, &status), ==, RVMRPC_ANSWER_NONE);
	g_assert_true(rvmrpc_owner_look(&w->owner, w->now, &w->done) & RVMRPC_LOOK_OPENED);
	g_assert_cmpint(rvmrpc_guest_answered(&w->guest, &status), ==, RVMRPC_ANSWER_OPEN);
	g_assert_true(rvmrpc_guest_alive(&w->guest));
	g_assert_cmpstr(w->owner.proxy.release, ==, "6.12.0-test");
}

static void post_one(struct world *w, struct rvmrpc_call *call)
{
	struct rvmrpc_xfer x;

	g_assert_cmpuint(rvmrpc_proxy_submit(&w->owner.proxy, call, w->now), ==, RVMRPC_STATUS_OK);
	g_assert_true(rvmrpc_proxy_deliver_begin(&w->owner.proxy, &x, w->now, &w->done));
	rvmrpc_owner_copy_in(&w->owner, &x);
	g_assert_true(rvmrpc_owner_post(&w->owner, &x, w->now, &w->done));
}

/* What a server does with an echo. */
static bool serve_one(struct world *w)
{
	struct rvmrpc_taken t;
	struct rvmrpc_hdr reply;

	if (!rvmrpc_guest_take(&w->guest, &t))
		return false;
	reply = t.hdr;
	reply.timeout_ms = 0;
	memcpy(rvmrpc_guest_res(&w->guest, t.slot), rvmrpc_guest_arg(&w->guest, t.slot), t.hdr.length);
	rvmrpc_guest_publish(&w->guest, t.slot, t.seq, &reply);
	return true;
}

static void test_echo(void)
{
	struct world *w = g_aligned_alloc(1, sizeof(*w), 4096);
	struct rvmrpc_call call = { .arg = "hello", .arglen = 6, .res_max = 64 };
	struct rvmrpc_xfer x;
	char answer[64];

	world_init(w);
	greet(w);
	call.deadline = w->now + SECOND;
	post_one(w, &call);
	g_assert_false(rvmrpc_owner_kick(&w->owner));
	g_assert_false(rvmrpc_owner_answered(&w->owner, call.slot));
	g_assert_true(rvmrpc_owner_sleep(&w->owner));
	g_assert_true(serve_one(w));
	g_assert_false(serve_one(w));
	g_assert_false(rvmrpc_owner_sleep(&w->owner));
	g_assert_true(rvmrpc_owner_reap_begin(&w->owner, call.slot, &x, w->now, &w->done));
	g_assert_cmpuint(x.length, ==, 6);
	rvmrpc_owner_copy_out(&w->owner, &x, answer);
	rvmrpc_owner_reap_commit(&w->owner, &x, true, w->now, &w->done);
	g_assert_true(w->done.head == &call && !call.next);
	g_assert_cmpuint(call.status, ==, RVMRPC_STATUS_OK);
	g_assert_cmpstr(answer, ==, "hello");
	/* The guest sleeps: one kick for it, until it is asleep anew. */
	g_assert_true(rvmrpc_guest_sleep(&w->guest));
	post_one(w, &call);
	g_assert_true(rvmrpc_owner_kick(&w->owner));
	g_assert_false(rvmrpc_owner_kick(&w->owner));
	g_assert_true(rvmrpc_owner_rekick(&w->owner));
	rvmrpc_guest_awake(&w->guest);
	g_assert_false(rvmrpc_owner_rekick(&w->owner));
	g_assert_false(rvmrpc_guest_sleep(&w->guest));
	g_assert_true(serve_one(w));
	g_aligned_free(w);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/window/echo", test_echo);
	return g_test_run();
}
