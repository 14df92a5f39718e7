/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Both halves talk to each other through a window: thousands of calls in random order, with workers that overtake, sleep on
 * either side, deadlines, cancels and resets, also between begin and commit.  The seed is printed; --seed repeats a run.
 */
#include "rvmrpc_server.h"
#include "world.h"

#define NITEMS		40
#define TOTAL		20000
#define STEPS		(TOTAL * 200)	/* far more than it takes, if nobody sleeps for ever */
#define MOD_SLOW	RVMRPC_MOD_USER

/* ---- the guest ---- */

/* A procedure that sleeps, with copies of its own. */
struct worker {
	struct rvmrpc_accepted a;
	struct rvmrpc_taken t;
	uint64_t arg[REQ / 8];
	uint64_t res[RES / 8];
};

static struct {
	struct rvmrpc_server server;
	GPtrArray *workers;	/* struct worker */
	bool asleep;
	uint32_t overtaken;
} guest;

static int echo_back(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	if (req->arglen > res->resmax)
		return RVMRPC_STATUS_TOO_BIG;
	memcpy(res->res, req->arg, req->arglen);
	res->reslen = req->arglen;
	return RVMRPC_STATUS_OK;
}

/* The argument, backwards. */
static int reverse(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	const uint8_t *in = req->arg;
	uint8_t *out = res->res;
	uint32_t i;

	for (i = 0; i < req->arglen; i++)
		out[i] = in[req->arglen - 1 - i];
	res->reslen = req->arglen;
	return RVMRPC_STATUS_OK;
}

static const struct rvmrpc_procedure echo_procs[] = {
	{ RVMRPC_ECHO_ECHO, RVMRPC_PROC_READ_ONLY, 0, RVMRPC_ARG_ANY, "echo", echo_back },
	{ 1, 0, 0, RVMRPC_ARG_ANY, "secret", echo_back },
};

static struct rvmrpc_module echo_module = { RVMRPC_MOD_ECHO, 1, "echo", echo_procs, 2 };
static struct rvmrpc_module slow_module = { MOD_SLOW, 4, "slow", NULL, 0, reverse };

/* ---- the host ---- */

struct item {
	struct rvmrpc_call call;
	bool in_flight;
	uint32_t expected;
	uint8_t *arg;
	uint8_t *res;
};

static struct {
	struct rvmrpc_client clients[4];
	struct item items[NITEMS];
	bool asleep;
	uint32_t sleeps;
	uint32_t submitted;
	uint32_t by_status[RVMRPC_STATUS_MAX + 1];
	uint32_t meddle;	/* one in this many; 0 = never */
} host;

static uint32_t below(uint32_t n)
{
	return (uint32_t)g_test_rand_int_range(0, (gint32)n);
}

static void check_result(const struct item *item)
{
	const struct rvmrpc_call *c = &item->call;
	uint32_t i;

	if (c->status == RVMRPC_STATUS_TOO_BIG)
		g_assert_cmpuint(c->reslen, ==, c->arglen);
	if (c->status != RVMRPC_STATUS_OK)
		return;
	g_assert_cmpuint(c->reslen, ==, c->arglen);
	for (i = 0; i < c->reslen; i++)
		g_assert_cmpuint(item->res[i], ==, item->arg[c->module == MOD_SLOW ? c->arglen - 1 - i : i]);
}

static void take_done(void)
{
	struct rvmrpc_call *c;
	struct item *item;

	while ((c = w.done.head)) {
		w.done.head = c->next;
		item = (struct item *)c;
		g_assert_true(item->in_flight);
		item->in_flight = false;
		if (c->status != RVMRPC_STATUS_TIMED_OUT && c->status != RVMRPC_STATUS_CANCELLED &&
		    c->status != RVMRPC_STATUS_RESET)
			g_assert_cmpuint(c->status, ==, item->expected);
		check_result(item);
		host.by_status[c->status]++;
		g_free(item->arg);
		g_free(item->res);
	}
	w.done.tail = NULL;
}

static void interrupt(void)
{
	guest.asleep = false;
	rvmrpc_guest_awake(&w.guest);
}

static void kick(void)
{
	if (rvmrpc_owner_kick(&w.owner))
		interrupt();
}

static void host_wakes(void)
{
	host.asleep = false;
	rvmrpc_owner_awake(&w.owner);
}

static void host_reset(void)
{
	rvmrpc_owner_close(&w.owner, RVMRPC_STATUS_RESET, w.now, &w.done);
	/* As seldom as hellos are answered. */
	w.now += SECOND / RVMRPC_HELLOS_PER_SECOND;
	interrupt();
}

static void host_expire(void)
{
	w.now += below(3) * MS;
	rvmrpc_proxy_expire(&w.owner.proxy, w.now, &w.done);
}

static void host_cancel(void)
{
	struct item *item = &host.items[below(NITEMS)];

	if (item->in_flight)
		rvmrpc_proxy_cancel(&w.owner.proxy, &item->call, w.now, &w.done);
}

/* What other threads of the host may do while no lock is held. */
static void meddle(void)
{
	if (!host.meddle || below(host.meddle))
		return;
	switch (below(40)) {
	case 0:
		host_reset();
		break;
	case 1 ... 9:
		host_cancel();
		break;
	default:
		host_expire();
		break;
	}
}

/* One of each kind of call, with the status that it has when nothing comes in between. */
static void choose(struct item *item)
{
	static const struct { uint32_t module, procedure, version, expected; } kinds[] = {
		{ RVMRPC_MOD_ECHO, RVMRPC_ECHO_ECHO, 0, RVMRPC_STATUS_OK }, { MOD_SLOW, 9, 4, RVMRPC_STATUS_OK },
		{ RVMRPC_MOD_ECHO, RVMRPC_ECHO_ECHO, 1, RVMRPC_STATUS_OK }, { MOD_SLOW, 0, 0, RVMRPC_STATUS_OK },
		{ RVMRPC_MOD_ECHO, 1, 0, RVMRPC_STATUS_NOT_ALLOWED }, { 77, 0, 0, RVMRPC_STATUS_MODULE_UNAVAILABLE },
		{ MOD_SLOW, 0, 3, RVMRPC_STATUS_VERSION_MISMATCH },
		{ RVMRPC_MOD_ECHO, 2, 0, RVMRPC_STATUS_PROCEDURE_UNAVAILABLE },
	};
	uint32_t kind = below(16) ? below(4) : below(G_N_ELEMENTS(kinds));
	struct rvmrpc_call *c = &item->call;

	c->module = kinds[kind].module;
	c->procedure = kinds[kind].procedure;
	c->version = (uint16_t)kinds[kind].version;
	c->arglen = below(8) ? below(64) : below(REQ + 1);
	c->res_max = c->arglen;
	item->expected = kinds[kind].expected;
	if (!below(20) && c->arglen) {
		c->res_max--;
		if (item->expected == RVMRPC_STATUS_OK)
			item->expected = RVMRPC_STATUS_TOO_BIG;
	}
}

/* All that can go goes. */
static uint32_t host_deliver(void)
{
	struct rvmrpc_xfer x;
	uint32_t n = 0;

	while (rvmrpc_proxy_deliver_begin(&w.owner.proxy, &x, w.now, &w.done)) {
		meddle();
		rvmrpc_owner_copy_in(&w.owner, &x);
		meddle();
		n += rvmrpc_owner_post(&w.owner, &x, w.now, &w.done);
	}
	if (n)
		kick();
	return n;
}

static void host_submit(void)
{
	struct item *item = &host.items[below(NITEMS)];
	struct rvmrpc_call *c = &item->call;
	uint32_t i;

	if (item->in_flight || host.submitted == TOTAL)
		return;
	memset(item, 0, sizeof(*item));
	choose(item);
	c->client = &host.clients[below(G_N_ELEMENTS(host.clients))];
	c->deadline = w.now + (5 + below(200)) * MS;
	item->arg = g_malloc(MAX(c->arglen, 1));
	item->res = g_malloc(MAX(c->res_max, 1));
	for (i = 0; i < c->arglen; i++)
		item->arg[i] = (uint8_t)below(256);
	c->arg = item->arg;
	if (rvmrpc_proxy_submit(&w.owner.proxy, c, w.now) != RVMRPC_STATUS_OK) {
		g_free(item->arg);
		g_free(item->res);
		return;
	}
	item->in_flight = true;
	host.submitted++;
	host_wakes();
}

static bool host_reap(uint32_t slot)
{
	struct rvmrpc_xfer x;

	if (!rvmrpc_owner_answered(&w.owner, slot))
		return false;
	if (!rvmrpc_owner_reap_begin(&w.owner, slot, &x, w.now, &w.done))
		return true;
	meddle();
	rvmrpc_owner_copy_out(&w.owner, &x, ((struct item *)x.call)->res);
	meddle();
	rvmrpc_owner_reap_commit(&w.owner, &x, true, w.now, &w.done);
	return true;
}

/* Takes answers, delivers requests; without either it sleeps, until a ring or a client. */
static void host_serve(void)
{
	uint32_t slot, n = 0;

	if (host.asleep)
		return;
	for (slot = 0; slot < NSLOTS; slot++)
		n += host_reap(slot);
	if (n + host_deliver() == 0) {
		host.asleep = rvmrpc_owner_sleep(&w.owner);
		host.sleeps += host.asleep;
	}
}

static void ring(void)
{
	host_wakes();
	if (look() & RVMRPC_LOOK_KICK)
		interrupt();
	take_done();
}

/* ---- the guest's threads ---- */

static void publish_and_ring(const struct rvmrpc_taken *t, const struct rvmrpc_hdr *reply)
{
	if (publish(t, reply))
		ring();
}

static void guest_request(const struct rvmrpc_taken *t)
{
	struct worker *k = g_new0(struct worker, 1);
	struct rvmrpc_hdr reply;

	k->t = *t;
	g_assert_true(rvmrpc_server_accept(&guest.server, &k->t.hdr, w.guest.epoch, w.guest.abi, REQ, &k->a));
	if (k->a.flags & RVMRPC_PROC_MAY_SLEEP) {
		memcpy(k->arg, rvmrpc_guest_arg(&w.guest, t->slot), t->hdr.length);
		g_ptr_array_add(guest.workers, k);
		return;
	}
	rvmrpc_server_run(&k->a, rvmrpc_guest_arg(&w.guest, t->slot), rvmrpc_guest_res(&w.guest, t->slot), RES, &reply);
	rvmrpc_server_done(&guest.server, &k->a);
	publish_and_ring(t, &reply);
	g_free(k);
}

/* Without a channel: says hello, and rings until it is answered. */
static void guest_connects(void)
{
	uint32_t status;

	if (w.guest.state == RVMRPC_GUEST_GREETED && answered(&status) == RVMRPC_ANSWER_NONE) {
		ring();
		return;
	}
	if (w.guest.state != RVMRPC_GUEST_OPEN || !rvmrpc_guest_alive(&w.guest))
		say_hello();
}

static void guest_server(void)
{
	struct rvmrpc_taken t;

	if (guest.asleep)
		return;
	if (w.guest.state != RVMRPC_GUEST_OPEN || !rvmrpc_guest_alive(&w.guest))
		guest_connects();
	else if (rvmrpc_guest_take(&w.guest, &t))
		guest_request(&t);
	else
		guest.asleep = rvmrpc_guest_sleep(&w.guest);
}

static void guest_worker(void)
{
	struct worker *k, *oldest;
	struct rvmrpc_hdr reply;

	if (!guest.workers->len)
		return;
	oldest = guest.workers->pdata[0];
	k = g_ptr_array_steal_index(guest.workers, below(guest.workers->len));
	guest.overtaken += k->t.hdr.xid > oldest->t.hdr.xid;
	rvmrpc_server_run(&k->a, k->arg, k->res, RES, &reply);
	rvmrpc_server_done(&guest.server, &k->a);
	/* The slot is its own only in its own epoch. */
	if (k->t.hdr.epoch == w.guest.epoch && rvmrpc_guest_alive(&w.guest)) {
		memcpy(rvmrpc_guest_res(&w.guest, k->t.slot), k->res, reply.length);
		publish_and_ring(&k->t, &reply);
	}
	g_free(k);
}

static void setup(void)
{
	uint32_t bad;

	memset(&host, 0, sizeof(host));
	memset(&guest, 0, sizeof(guest));
	rvmrpc_server_init(&guest.server);
	g_assert_cmpint(rvmrpc_server_add(&guest.server, &slow_module), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_add(&guest.server, &echo_module), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_allow(&guest.server, "default,slow.*", &bad), ==, RVMRPC_STATUS_OK);
	guest.workers = g_ptr_array_new();
	world_begin();
	greet();
}

static void teardown(void)
{
	while (guest.workers->len)
		guest_worker();
	g_assert_cmpuint(slow_module.running | echo_module.running, ==, 0);
	g_ptr_array_free(guest.workers, TRUE);
	world_end();
}

static void step(void)
{
	switch (below(10)) {
	case 0 ... 2:
		host_submit();
		break;
	case 3 ... 4:
		host_serve();
		break;
	case 5 ... 7:
		guest_server();
		break;
	case 8:
		guest_worker();
		break;
	case 9:
		meddle();
		break;
	}
	take_done();
}

static void run(void)
{
	uint32_t steps = 0;

	while (host.submitted < TOTAL || w.owner.proxy.ncalls) {
		g_assert_cmpuint(steps++, <, STEPS);
		step();
	}
}

static void assert_drained(void)
{
	const struct rvmrpc_stats *s = &w.owner.proxy.stats;
	uint32_t i;

	g_assert_cmpuint(w.owner.proxy.ncalls, ==, 0);
	for (i = 0; i < G_N_ELEMENTS(host.clients); i++)
		g_assert_cmpuint(host.clients[i].calls, ==, 0);
	g_assert_cmpuint(s->calls, ==, TOTAL);
	g_assert_cmpuint(s->completed + s->timed_out + s->cancelled + s->reset, ==, TOTAL);
	g_assert_cmpuint(s->bad_replies, ==, 0);
	for (i = 0; i <= RVMRPC_STATUS_MAX; i++)
		g_test_message("status %u: %u calls", i, host.by_status[i]);
	g_test_message("%u overtaken, %" G_GUINT64_FORMAT " late, %" G_GUINT64_FORMAT " kicks, %u sleeps of the host",
		       guest.overtaken, s->late_replies, s->kicks, host.sleeps);
	g_assert_cmpuint(guest.overtaken, >, 0);
	g_assert_true(s->kicks && host.sleeps && !s->lost);
}

/* Nothing comes in between: each call has its own answer, and no time passes. */
static void test_calm(void)
{
	setup();
	run();
	assert_drained();
	g_assert_cmpuint(w.owner.proxy.stats.completed, ==, TOTAL);
	teardown();
}

static void test_rough(void)
{
	static const uint32_t wanted[] = {
		RVMRPC_STATUS_OK, RVMRPC_STATUS_MODULE_UNAVAILABLE, RVMRPC_STATUS_VERSION_MISMATCH,
		RVMRPC_STATUS_PROCEDURE_UNAVAILABLE, RVMRPC_STATUS_TOO_BIG, RVMRPC_STATUS_NOT_ALLOWED,
		RVMRPC_STATUS_TIMED_OUT, RVMRPC_STATUS_CANCELLED, RVMRPC_STATUS_RESET,
	};
	uint32_t i;

	setup();
	host.meddle = 4;
	run();
	assert_drained();
	for (i = 0; i < G_N_ELEMENTS(wanted); i++)
		g_assert_cmpuint(host.by_status[wanted[i]], >, 0);
	g_assert_cmpuint(w.owner.proxy.stats.late_replies, >, 0);
	teardown();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/channel/calm", test_calm);
	g_test_add_func("/channel/rough", test_rough);
	return g_test_run();
}
