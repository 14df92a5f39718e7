/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Epochs of the window: hellos, farewells, owners and guests that come and go, and a page that was overwritten. */
#include "world.h"

static void poke64(uint64_t at, uint64_t value)
{
	rvmrpc_win_store64_release(&w.owner.win, at, value);
}

static void poke16(uint64_t at, uint16_t value)
{
	rvmrpc_win_write(&w.owner.win, at, &value, sizeof(value));
}

static void assert_refused(uint32_t status)
{
	uint32_t got;

	g_assert_cmpint(answered(&got), ==, RVMRPC_ANSWER_REFUSED);
	g_assert_cmpuint(got, ==, status);
	g_assert_cmpint(w.guest.state, ==, RVMRPC_GUEST_IDLE);
}

static struct rvmrpc_call *post_new(void)
{
	struct rvmrpc_call *call = g_new0(struct rvmrpc_call, 1);

	call->res_max = 1;
	post(call);
	return call;
}

static void assert_gone(struct rvmrpc_call *call, uint32_t status)
{
	assert_ended(call, status);
	g_free(call);
}

/* ---- hello ---- */

static void test_hello(void)
{
	struct rvmrpc_hello_answer a;

	world_begin();
	g_assert_cmpuint(look(), ==, 0);
	g_assert_cmpuint(submit(&(struct rvmrpc_call){ 0 }), ==, RVMRPC_STATUS_NOT_CONNECTED);
	greet();
	rvmrpc_win_read(&w.guest.win, RVMRPC_HOST_WORD(answer), &a, sizeof(a));
	g_assert_cmphex(a.nonce, ==, w.guest.nonce);
	g_assert_true(rvmrpc_all_zero(a.reserved2, sizeof(a.reserved2)) && !a.reserved);
	g_assert_cmpint(memcmp(&a.layout, &w.owner.config.layout, sizeof(a.layout)), ==, 0);
	g_assert_cmpuint(w.owner.proxy.os, ==, RVMRPC_OS_LINUX);
	g_assert_cmpstr(w.owner.proxy.release, ==, "6.12.0-test");
	g_assert_cmpuint(w.owner.proxy.stats.registrations, ==, 1);
	/* A nonce is served once. */
	g_assert_cmpuint(look(), ==, 0);
	g_assert_cmpuint(w.owner.proxy.stats.registrations, ==, 1);
	assert_works();
	world_end();
}

static void test_hello_again(void)
{
	struct rvmrpc_call *call;
	uint64_t first;

	connected();
	call = post_new();
	first = w.guest.epoch;
	say_hello();
	/* The guest's own hello does not end what it has; the host's answer does. */
	g_assert_cmpuint(look(), ==, RVMRPC_LOOK_OPENED | RVMRPC_LOOK_CLOSED | RVMRPC_LOOK_KICK);
	assert_gone(call, RVMRPC_STATUS_RESET);
	g_assert_cmpint(answered(&(uint32_t){ 0 }), ==, RVMRPC_ANSWER_OPEN);
	g_assert_cmphex(w.guest.epoch, !=, first);
	assert_works();
	world_end();
}

/* A VM that moves finds the window of where it is, which nobody has written to. */
static void test_argument_moves(void)
{
	const char sent[] = "argument";
	struct rvmrpc_taken t;
	char got[sizeof(sent)];

	world_begin();
	greet();
	g_free(post_new());
	g_assert_true(rvmrpc_guest_take(&w.guest, &t));
	t.hdr.length = sizeof(sent);
	memcpy(rvmrpc_guest_arg(&w.guest, t.slot), sent, sizeof(sent));
	g_assert_true(rvmrpc_guest_copy_arg(&w.guest, &t, got));
	g_assert_cmpmem(got, sizeof(got), sent, sizeof(sent));
	memset(w.guest.win.base, 0, SIZE);
	g_assert_false(rvmrpc_guest_copy_arg(&w.guest, &t, got));
	/* Without one there is nothing that could be another's. */
	t.hdr.length = 0;
	g_assert_true(rvmrpc_guest_copy_arg(&w.guest, &t, got));
	world_end();
}

static void test_release(void)
{
	char name[80];
	char release[64];

	world_begin();
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	rvmrpc_guest_hello(&w.guest, 5, RVMRPC_OS_FREEBSD, name);
	g_assert_true(look() & RVMRPC_LOOK_OPENED);
	g_assert_cmpuint(strlen(w.owner.proxy.release), ==, 63);
	/* One without a NUL. */
	memset(release, 'y', sizeof(release));
	say_hello();
	rvmrpc_win_write(&w.owner.win, RVMRPC_GUEST_WORD(hello.release), release, sizeof(release));
	g_assert_true(look() & RVMRPC_LOOK_OPENED);
	g_assert_cmpuint(strlen(w.owner.proxy.release), ==, 63);
	world_end();
}

static void test_refused(void)
{
	static const struct { uint16_t min, max; bool ok; } ranges[] = {
		{ 1, 1, false }, { 3, 9, false }, { 3, 2, false }, { 2, 1, false }, { 0, 0xffff, true }, { 1, 2, true },
		{ 2, 2, true }, { 2, 9, true },
	};
	size_t i, refusals = 0;

	world_begin();
	for (i = 0; i < G_N_ELEMENTS(ranges); i++) {
		w.now += SECOND;
		say_hello();
		poke16(RVMRPC_GUEST_WORD(hello.abi_min), ranges[i].min);
		poke16(RVMRPC_GUEST_WORD(hello.abi_max), ranges[i].max);
		if (ranges[i].ok) {
			g_assert_true(look() & RVMRPC_LOOK_OPENED);
			g_assert_cmpint(answered(&(uint32_t){ 0 }), ==, RVMRPC_ANSWER_OPEN);
			continue;
		}
		g_assert_cmpuint(look(), ==, RVMRPC_LOOK_KICK);
		assert_refused(RVMRPC_HELLO_BAD_VERSION);
		g_assert_cmpuint(w.owner.proxy.stats.bad_inits, ==, ++refusals);
		/* Once. */
		g_assert_cmpuint(look(), ==, 0);
	}
	world_end();
}

/* A bad hello neither opens an epoch nor ends the one that there is. */
static void test_refused_goes_on(void)
{
	uint64_t epoch, at;
	char one = 1;

	for (at = RVMRPC_GUEST_WORD(hello.reserved); at < RVMRPC_GUEST_WORD(hello) + sizeof(struct rvmrpc_hello); at++) {
		if (at == RVMRPC_GUEST_WORD(hello.release))
			at += 64;
		connected();
		epoch = w.owner.proxy.epoch;
		say_hello();
		rvmrpc_win_write(&w.owner.win, at, &one, 1);
		g_assert_cmpuint(look(), ==, RVMRPC_LOOK_KICK);
		g_assert_cmphex(w.owner.proxy.epoch, ==, epoch);
		assert_refused(RVMRPC_HELLO_BAD_ARGS);
		greet();
		assert_works();
		world_end();
	}
}

/* Said to an owner that went before it looked: the next one does not take it for one to itself. */
static void test_stale_hello(void)
{
	uint32_t status;

	world_begin();
	say_hello();
	owner_comes();
	g_assert_cmpuint(look(), ==, 0);
	g_assert_cmpuint(w.owner.proxy.epoch, ==, 0);
	g_assert_cmpint(answered(&status), ==, RVMRPC_ANSWER_STALE);
	greet();
	/* Nor one that was answered by the owner before. */
	owner_comes();
	g_assert_cmpuint(look(), ==, 0);
	g_assert_false(rvmrpc_guest_alive(&w.guest));
	greet();
	assert_works();
	world_end();
}

/* What a host sees of a hello that is being written: nothing, until its writer is done and rings. */
static void test_torn_hello(void)
{
	struct rvmrpc_hello hello;

	connected();
	say_hello();
	rvmrpc_win_read(&w.owner.win, RVMRPC_GUEST_WORD(hello), &hello, sizeof(hello));
	poke64(RVMRPC_GUEST_WORD(hello.nonce), 0);
	g_assert_cmpuint(look(), ==, 0);
	poke64(RVMRPC_GUEST_WORD(hello.nonce), hello.nonce);
	g_assert_true(look() & RVMRPC_LOOK_OPENED);
	g_assert_cmpint(answered(&(uint32_t){ 0 }), ==, RVMRPC_ANSWER_OPEN);
	world_end();
}

/* The host stopped between an answer's nonce and its epoch, or before both: that is no other epoch. */
static void test_half_an_answer(void)
{
	uint64_t seen, epoch, nonce;
	uint32_t status;

	world_begin();
	say_hello();
	seen = w.guest.seen;
	nonce = w.guest.nonce;
	look();
	epoch = w.owner.page.epoch;
	poke64(RVMRPC_HOST_WORD(epoch), seen);
	g_assert_cmpint(answered(&status), ==, RVMRPC_ANSWER_NONE);
	g_assert_cmpint(w.guest.state, ==, RVMRPC_GUEST_GREETED);
	poke64(RVMRPC_HOST_WORD(answer.nonce), 0);
	g_assert_cmpint(answered(&status), ==, RVMRPC_ANSWER_NONE);
	/* The nonce comes first: without it another epoch is not the answer's. */
	poke64(RVMRPC_HOST_WORD(epoch), epoch);
	g_assert_cmpint(answered(&status), ==, RVMRPC_ANSWER_STALE);
	poke64(RVMRPC_HOST_WORD(answer.nonce), nonce);
	g_assert_cmpint(answered(&status), ==, RVMRPC_ANSWER_OPEN);
	assert_works();
	/* An answer to an epoch that has ended since. */
	poke64(RVMRPC_HOST_WORD(epoch), epoch + 1);
	g_assert_cmpint(answered(&status), ==, RVMRPC_ANSWER_STALE);
	world_end();
}

static void test_hello_flood(void)
{
	uint32_t i, opened = 0, late = 0, looked;

	world_begin();
	for (i = 0; i < 100; i++) {
		say_hello();
		looked = look();
		opened += !!(looked & RVMRPC_LOOK_OPENED);
		late += looked == RVMRPC_LOOK_LATER;
		w.now += MS;
	}
	g_assert_cmpuint(opened, ==, RVMRPC_HELLOS_PER_SECOND);
	g_assert_cmpuint(late, ==, 100 - RVMRPC_HELLOS_PER_SECOND);
	g_assert_cmpuint(look(), ==, RVMRPC_LOOK_LATER);
	g_assert_cmpint(answered(&(uint32_t){ 0 }), ==, RVMRPC_ANSWER_NONE);
	/* The last one is answered, in its turn. */
	w.now += SECOND;
	g_assert_true(look() & RVMRPC_LOOK_OPENED);
	g_assert_cmpint(answered(&(uint32_t){ 0 }), ==, RVMRPC_ANSWER_OPEN);
	assert_works();
	world_end();
}

/* ---- bye ---- */

static void test_bye(void)
{
	struct rvmrpc_call *call;

	connected();
	call = post_new();
	rvmrpc_guest_bye(&w.guest);
	g_assert_cmpuint(look(), ==, RVMRPC_LOOK_CLOSED);
	assert_gone(call, RVMRPC_STATUS_NOT_CONNECTED);
	g_assert_false(rvmrpc_guest_alive(&w.guest));
	g_assert_cmpuint(submit(&(struct rvmrpc_call){ 0 }), ==, RVMRPC_STATUS_NOT_CONNECTED);
	g_assert_cmpuint(look(), ==, 0);
	greet();
	assert_works();
	/* The farewell that still stands there is to another epoch. */
	g_assert_cmpuint(look(), ==, 0);
	assert_works();
	world_end();
}

/* The driver went and one came before the host looked. */
static void test_hello_supersedes_bye(void)
{
	struct rvmrpc_call *call;

	connected();
	call = post_new();
	rvmrpc_guest_bye(&w.guest);
	guest_comes();
	say_hello();
	g_assert_cmpuint(look(), ==, RVMRPC_LOOK_OPENED | RVMRPC_LOOK_CLOSED | RVMRPC_LOOK_KICK);
	assert_gone(call, RVMRPC_STATUS_RESET);
	g_assert_cmpint(answered(&(uint32_t){ 0 }), ==, RVMRPC_ANSWER_OPEN);
	assert_works();
	g_assert_cmpuint(look(), ==, 0);
	world_end();
}

/* ---- who comes and goes ---- */

/* kexec, or a reset that leaves the window: a new kernel finds what the old one left. */
static void test_new_kernel(void)
{
	struct rvmrpc_call *calls[NSLOTS];
	uint32_t wait, i;

	connected();
	assert_works();
	g_assert_true(rvmrpc_guest_sleep(&w.guest));
	calls[0] = post_new();
	g_assert_true(rvmrpc_owner_kick(&w.owner));
	for (i = 1; i < NSLOTS; i++)
		calls[i] = post_new();
	wait = host_word(RVMRPC_GUEST_WORD(wait));
	guest_comes();
	/* It is awake, and when it sleeps that is no sleep for which the old one was kicked. */
	g_assert_false(host_word(RVMRPC_GUEST_WORD(wait)) & 1);
	g_assert_false(rvmrpc_owner_rekick(&w.owner));
	greet();
	for (i = 0; i < NSLOTS; i++)
		assert_gone(calls[i], RVMRPC_STATUS_RESET);
	g_assert_true(rvmrpc_guest_sleep(&w.guest));
	g_assert_cmpuint(host_word(RVMRPC_GUEST_WORD(wait)), >, wait);
	calls[0] = post_new();
	g_assert_true(rvmrpc_owner_kick(&w.owner));
	rvmrpc_guest_awake(&w.guest);
	g_assert_true(serve_one());
	reap(calls[0]->slot, NULL);
	assert_gone(calls[0], RVMRPC_STATUS_OK);
	/* Its sign of life goes on from there, too: no epoch ends by it. */
	g_assert_cmpuint(look(), ==, 0);
	world_end();
}

/* A new owner on a window in use, also one that is full of anything. */
static void test_new_owner(void)
{
	struct rvmrpc_call *call;
	uint32_t round, i;

	connected();
	for (round = 0; round < 20; round++) {
		call = post_new();
		g_assert_true(rvmrpc_guest_take(&w.guest, &(struct rvmrpc_taken){ 0 }));
		g_free(call);
		for (i = 0; round >= 10 && i < SIZE; i += 8)
			poke64(i, a_random());
		owner_comes();
		memset(&w.done, 0, sizeof(w.done));
		look();
		g_assert_cmpuint(w.owner.proxy.epoch, ==, 0);
		g_assert_false(rvmrpc_guest_alive(&w.guest));
		g_assert_false(rvmrpc_guest_sleep(&w.guest));
		greet();
		/* Nothing of before may look like a request. */
		for (i = 0; i < w.guest.layout.nslots; i++)
			g_assert_cmpuint(rvmrpc_guest_seq(&w.guest, i), ==, 0);
		assert_works();
	}
	world_end();
}

/* ---- a page that is not as it was left ---- */

static void check_lost(uint64_t at)
{
	struct rvmrpc_host_page page;
	struct rvmrpc_call *call;
	uint64_t epoch;

	connected();
	call = post_new();
	g_assert_cmpuint(look(), ==, 0);
	epoch = w.owner.proxy.epoch;
	rvmrpc_win_store32(&w.owner.win, at, ~host_word(at));
	g_assert_cmpuint(look(), ==, RVMRPC_LOOK_CLOSED | RVMRPC_LOOK_KICK);
	assert_gone(call, RVMRPC_STATUS_RESET);
	g_assert_cmpuint(w.owner.proxy.epoch, ==, 0);
	g_assert_cmpuint(w.owner.proxy.stats.lost, ==, 1);
	rvmrpc_win_read(&w.owner.win, RVMRPC_HOST_PAGE, &page, sizeof(page));
	g_assert_cmpint(memcmp(&page, &w.owner.page, sizeof(page)), ==, 0);
	g_assert_cmpuint(page.lost, ==, 1);
	g_assert_cmphex(page.epoch, !=, epoch);
	g_assert_false(rvmrpc_guest_alive(&w.guest));
	g_assert_cmpuint(look(), ==, 0);
	greet();
	assert_works();
	world_end();
}

static void test_lost(void)
{
	uint64_t at;

	for (at = RVMRPC_HOST_PAGE; at < RVMRPC_HOST_PAGE + sizeof(struct rvmrpc_host_page); at += 4)
		check_lost(at);
	/* Without a guest there is nothing to end, but it may wait for an answer. */
	world_begin();
	poke64(RVMRPC_HOST_WORD(answer.nonce), 1);
	g_assert_cmpuint(look(), ==, RVMRPC_LOOK_KICK);
	g_assert_cmpuint(look(), ==, 0);
	greet();
	world_end();
}

/* The cheap look before each post sees the words that matter for it. */
static void test_intact(void)
{
	static const uint64_t words[] = { RVMRPC_HOST_WORD(epoch), RVMRPC_HOST_WORD(posted) };
	struct rvmrpc_call *call;
	size_t i;

	for (i = 0; i < G_N_ELEMENTS(words); i++) {
		connected();
		g_assert_cmpuint(rvmrpc_owner_intact(&w.owner, w.now, &w.done), ==, 0);
		call = post_new();
		g_assert_cmpuint(rvmrpc_owner_intact(&w.owner, w.now, &w.done), ==, 0);
		rvmrpc_win_store32(&w.owner.win, words[i], host_word(words[i]) - 1);
		g_assert_cmpuint(rvmrpc_owner_intact(&w.owner, w.now, &w.done), ==,
				 RVMRPC_LOOK_CLOSED | RVMRPC_LOOK_KICK);
		assert_gone(call, RVMRPC_STATUS_RESET);
		g_assert_cmpuint(rvmrpc_owner_intact(&w.owner, w.now, &w.done), ==, 0);
		greet();
		assert_works();
		world_end();
	}
}

/* Words of slots: a request that the guest would never see, a wish that nobody has. */
static void test_lost_slots(void)
{
	struct rvmrpc_call *call;
	uint64_t slot, at[2];
	size_t i;

	for (i = 0; i < 4; i++) {
		connected();
		call = post_new();
		slot = rvmrpc_host_slot_at(&w.owner.config.layout, call->slot);
		at[0] = slot + RVMRPC_SLOT_SEQ;
		at[1] = slot + RVMRPC_WANT_AT;
		if (i >= 2)
			g_assert_true(rvmrpc_owner_sleep(&w.owner));
		g_assert_cmpuint(look(), ==, 0);
		rvmrpc_win_store32(&w.owner.win, at[i % 2], host_word(at[i % 2]) ^ 1);
		g_assert_cmpuint(look(), ==, RVMRPC_LOOK_CLOSED | RVMRPC_LOOK_KICK);
		assert_gone(call, RVMRPC_STATUS_RESET);
		g_assert_cmpuint(look(), ==, 0);
		greet();
		assert_works();
		g_assert_cmpuint(look(), ==, 0);
		world_end();
	}
}

/* The guest's own words, which the host cannot know. */
static void test_guest_intact(void)
{
	uint64_t words[2 + NSLOTS] = { RVMRPC_GUEST_WORD(beat), RVMRPC_GUEST_WORD(wait) };
	uint32_t i;

	connected();
	for (i = 0; i < NSLOTS; i++)
		words[2 + i] = rvmrpc_guest_slot_at(&w.guest.layout, i) + RVMRPC_SLOT_SEQ;
	for (i = 0; i < G_N_ELEMENTS(words); i++) {
		g_assert_true(rvmrpc_guest_intact(&w.guest));
		rvmrpc_win_store32(&w.owner.win, words[i], host_word(words[i]) ^ 0x80);
		g_assert_false(rvmrpc_guest_intact(&w.guest));
		rvmrpc_win_store32(&w.owner.win, words[i], host_word(words[i]) ^ 0x80);
	}
	for (i = 0; i < 20; i++) {
		assert_works();
		rvmrpc_guest_beat(&w.guest);
		g_assert_true(rvmrpc_guest_sleep(&w.guest));
		g_assert_true(rvmrpc_guest_intact(&w.guest));
		rvmrpc_guest_awake(&w.guest);
		g_assert_true(rvmrpc_guest_intact(&w.guest));
	}
	greet();
	g_assert_true(rvmrpc_guest_intact(&w.guest));
	world_end();
}

static void test_beat(void)
{
	struct rvmrpc_call *call;

	connected();
	w.now += SECOND;
	rvmrpc_guest_beat(&w.guest);
	g_assert_cmpuint(look(), ==, 0);
	g_assert_cmpuint(w.owner.proxy.last_seen, ==, w.now);
	g_assert_cmpuint(w.owner.beat_at, ==, w.now);
	w.now += SECOND;
	g_assert_cmpuint(look(), ==, 0);
	g_assert_cmpuint(w.owner.proxy.last_seen, ==, w.now - SECOND);
	/* It passes 2^32. */
	rvmrpc_win_store32(&w.owner.win, RVMRPC_GUEST_WORD(beat), 0x7fffff00);
	look();
	rvmrpc_win_store32(&w.owner.win, RVMRPC_GUEST_WORD(beat), 0xfffffe00);
	look();
	rvmrpc_win_store32(&w.owner.win, RVMRPC_GUEST_WORD(beat), 3);
	g_assert_cmpuint(look(), ==, 0);
	assert_works();
	/* An older state was loaded. */
	call = post_new();
	rvmrpc_win_store32(&w.owner.win, RVMRPC_GUEST_WORD(beat), 2);
	g_assert_cmpuint(look(), ==, RVMRPC_LOOK_CLOSED | RVMRPC_LOOK_KICK);
	assert_gone(call, RVMRPC_STATUS_RESET);
	g_assert_cmpuint(look(), ==, 0);
	greet();
	assert_works();
	world_end();
}

static void test_spin(void)
{
	connected();
	g_assert_cmpuint(rvmrpc_guest_max_spin(&w.guest), ==, 0);
	rvmrpc_owner_set_spin(&w.owner, 50);
	g_assert_cmpuint(rvmrpc_guest_max_spin(&w.guest), ==, 50);
	g_assert_cmpuint(look(), ==, 0);
	/* That the guest needed long to wake up is no reason not to spin, if the host says that it need not have slept. */
	g_assert_cmpuint(rvmrpc_guest_spin_next(&w.guest, 0, 900, 10, 1000), ==, 49);
	g_assert_cmpuint(rvmrpc_guest_spin_next(&w.guest, 49, 30, 10, 1000), ==, 50);
	/* Who may not spin that long goes by its own clock. */
	g_assert_cmpuint(rvmrpc_guest_spin_next(&w.guest, 0, 900, 10, 40), ==, 0);
	g_assert_cmpuint(rvmrpc_guest_spin_next(&w.guest, 0, 30, 10, 40), ==, 30);
	g_assert_cmpuint(rvmrpc_guest_spin_next(&w.guest, 40, 30, 10, 0), ==, 20);
	rvmrpc_owner_set_spin(&w.owner, 0);
	g_assert_cmpuint(rvmrpc_guest_spin_next(&w.guest, 15, 1, 10, 1000), ==, 0);
	g_assert_cmpuint(look(), ==, 0);
	g_assert_cmpuint(rvmrpc_guest_max_spin(&w.guest), ==, 0);
	world_end();
}

/* ---- a guest and a hostile host ---- */

static void answer_with(void (*spoil)(struct rvmrpc_hello_answer *a))
{
	struct rvmrpc_hello_answer a;

	connected();
	rvmrpc_win_read(&w.guest.win, RVMRPC_HOST_WORD(answer), &a, sizeof(a));
	w.guest.state = RVMRPC_GUEST_GREETED;
	spoil(&a);
	rvmrpc_win_write(&w.guest.win, RVMRPC_HOST_WORD(answer), &a, sizeof(a));
	assert_refused(RVMRPC_HELLO_BAD_ARGS);
	world_end();
}

#define SPOIL(name, statement)	static void spoil_##name(struct rvmrpc_hello_answer *a) { statement; }
SPOIL(abi, a->abi = 3)
SPOIL(epoch, a->epoch = 0)
SPOIL(reserved, a->reserved = 0x100)
SPOIL(reserved2, a->reserved2[14] = 1)
SPOIL(nslots, a->layout.nslots = RVMRPC_SLOTS_MAX + 1)
SPOIL(req, a->layout.req = SIZE)
SPOIL(res, a->layout.res = 0xffffffc0)
SPOIL(stride, a->layout.stride = 0x80000000)
SPOIL(slots, a->layout.host_slots = SIZE - 64)
SPOIL(guest_slots, a->layout.guest_slots = SIZE)
SPOIL(res_bytes, a->layout.res_bytes = RVMRPC_SLOT_BYTES_MAX + 64)

static void test_bad_answers(void)
{
	static void (*const spoils[])(struct rvmrpc_hello_answer *a) = {
		spoil_abi, spoil_epoch, spoil_reserved, spoil_reserved2, spoil_nslots, spoil_req, spoil_res, spoil_stride,
		spoil_slots, spoil_guest_slots, spoil_res_bytes,
	};
	size_t i;

	for (i = 0; i < G_N_ELEMENTS(spoils); i++)
		answer_with(spoils[i]);
}

/* Whatever `posted' says, no more is taken than slots have a new seq. */
static void test_posted_jumps(void)
{
	static const uint32_t jumps[] = { 1, 5, 1000, 0x7fffffff, 0x80000000, 0x80000001, 0xffffffff };
	struct rvmrpc_taken t;
	size_t i;
	uint32_t n;

	connected();
	for (i = 0; i < G_N_ELEMENTS(jumps); i++) {
		rvmrpc_win_store32(&w.guest.win, RVMRPC_HOST_WORD(posted), w.guest.posted + jumps[i]);
		for (n = 0; rvmrpc_guest_take(&w.guest, &t); n++)
			g_assert_cmpuint(n, <, NSLOTS);
		g_assert_cmpuint(n, ==, 0);
		g_assert_false(rvmrpc_guest_posted(&w.guest));
	}
	/* The owner sees to it that it does not last. */
	g_assert_true(look() & RVMRPC_LOOK_CLOSED);
	greet();
	assert_works();
	world_end();
}

static void test_seq_garbage(void)
{
	struct rvmrpc_taken t;
	uint32_t round, slot, n;

	connected();
	for (round = 0; round < 2000; round++) {
		for (slot = 0; slot < NSLOTS; slot++) {
			rvmrpc_win_publish(&w.guest.win, rvmrpc_host_slot_at(&w.guest.layout, slot),
					   round % 3 ? (uint32_t)a_random() : w.guest.posted + slot);
		}
		rvmrpc_win_store32(&w.guest.win, RVMRPC_HOST_WORD(posted),
				   round % 5 ? (uint32_t)a_random() : w.guest.posted + 2);
		for (n = 0; rvmrpc_guest_take(&w.guest, &t); n++) {
			g_assert_cmpuint(t.slot, <, NSLOTS);
			g_assert_cmpuint(n, <=, NSLOTS);
		}
		rvmrpc_guest_sleep(&w.guest);
	}
	g_assert_true(look() & RVMRPC_LOOK_CLOSED);
	greet();
	assert_works();
	world_end();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/epochs/hello", test_hello);
	g_test_add_func("/epochs/hello-again", test_hello_again);
	g_test_add_func("/epochs/release", test_release);
	g_test_add_func("/epochs/refused", test_refused);
	g_test_add_func("/epochs/refused-goes-on", test_refused_goes_on);
	g_test_add_func("/epochs/stale-hello", test_stale_hello);
	g_test_add_func("/epochs/torn-hello", test_torn_hello);
	g_test_add_func("/epochs/half-an-answer", test_half_an_answer);
	g_test_add_func("/epochs/hello-flood", test_hello_flood);
	g_test_add_func("/epochs/bye", test_bye);
	g_test_add_func("/epochs/hello-supersedes-bye", test_hello_supersedes_bye);
	g_test_add_func("/epochs/new-kernel", test_new_kernel);
	g_test_add_func("/epochs/new-owner", test_new_owner);
	g_test_add_func("/epochs/lost", test_lost);
	g_test_add_func("/epochs/intact", test_intact);
	g_test_add_func("/epochs/lost-slots", test_lost_slots);
	g_test_add_func("/epochs/guest-intact", test_guest_intact);
	g_test_add_func("/epochs/beat", test_beat);
	g_test_add_func("/epochs/spin", test_spin);
	g_test_add_func("/epochs/argument-moves", test_argument_moves);
	g_test_add_func("/epochs/bad-answers", test_bad_answers);
	g_test_add_func("/epochs/posted-jumps", test_posted_jumps);
	g_test_add_func("/epochs/seq-garbage", test_seq_garbage);
	return g_test_run();
}
