/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Both halves talk to each other through a plain buffer: thousands of calls in random order, with workers that overtake,
 * deadlines, cancels and resets, also between begin and commit.  The seed is printed; --seed repeats a run.
 */
#include <glib.h>

#include "rvmrpc_proxy.h"
#include "rvmrpc_server.h"

#define HDR		sizeof(struct rvmrpc_hdr)
#define NSLOTS		4
#define REQ_PAGES	2
#define RES_PAGES	3
#define REQ		(REQ_PAGES * RVMRPC_PAGE_SIZE - HDR)
#define RES		(RES_PAGES * RVMRPC_PAGE_SIZE - HDR)
#define NITEMS		40
#define TOTAL		20000
#define MS		1000000ull
#define MOD_SLOW	RVMRPC_MOD_USER

/* ---- the guest ---- */

struct memory {
	uint64_t req[NSLOTS][REQ_PAGES * RVMRPC_PAGE_SIZE / 8];
	uint64_t res[NSLOTS][RES_PAGES * RVMRPC_PAGE_SIZE / 8];
};

struct worker {
	struct rvmrpc_accepted a;
	struct rvmrpc_hdr hdr;
	struct memory *memory;
	uint32_t slot;
};

static struct {
	struct rvmrpc_server server;
	struct memory *memory;	/* of this epoch */
	GPtrArray *memories;	/* of all epochs */
	GPtrArray *workers;	/* struct worker */
	uint64_t epoch;
	uint32_t reply_slot;
	bool asleep;
	uint32_t overtaken;
} guest;

static int echo(struct rvmrpc_request *req, struct rvmrpc_response *res)
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
	{ RVMRPC_ECHO_ECHO, RVMRPC_PROC_READ_ONLY, 0, RVMRPC_ARG_ANY, "echo", echo },
	{ 1, 0, 0, RVMRPC_ARG_ANY, "secret", echo },
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
	struct rvmrpc_proxy proxy;
	struct rvmrpc_done done;
	struct rvmrpc_client clients[4];
	struct item items[NITEMS];
	uint64_t now;
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

	while ((c = host.done.head)) {
		host.done.head = c->next;
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
	host.done.tail = NULL;
}

static void interrupt(void)
{
	guest.asleep = false;
}

static void kick(void)
{
	if (rvmrpc_proxy_kick(&host.proxy))
		interrupt();
}

static void host_reset(void)
{
	rvmrpc_proxy_unregister(&host.proxy, RVMRPC_STATUS_RESET, host.now, &host.done);
	interrupt();
}

static void host_expire(void)
{
	host.now += below(3) * MS;
	rvmrpc_proxy_expire(&host.proxy, host.now, &host.done);
}

static void host_cancel(void)
{
	struct item *item = &host.items[below(NITEMS)];

	if (item->in_flight)
		rvmrpc_proxy_cancel(&host.proxy, &item->call, host.now, &host.done);
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
	c->deadline = host.now + (5 + below(200)) * MS;
	item->arg = g_malloc(MAX(c->arglen, 1));
	item->res = g_malloc(MAX(c->res_max, 1));
	for (i = 0; i < c->arglen; i++)
		item->arg[i] = (uint8_t)below(256);
	c->arg = item->arg;
	if (rvmrpc_proxy_submit(&host.proxy, c, host.now) != RVMRPC_STATUS_OK) {
		g_free(item->arg);
		g_free(item->res);
		return;
	}
	item->in_flight = true;
	host.submitted++;
	kick();
}

static uint32_t host_reply(struct memory *memory, uint32_t slot)
{
	struct rvmrpc_xfer x;
	struct rvmrpc_hdr hdr;
	uint32_t code = rvmrpc_proxy_reply_begin(&host.proxy, slot, &x);

	if (code || !x.call)
		return code;
	meddle();
	memcpy(&hdr, memory->res[slot], HDR);
	rvmrpc_proxy_reply_check(&x, &hdr);
	memcpy(((struct item *)x.call)->res, (char *)memory->res[slot] + HDR, x.length);
	meddle();
	rvmrpc_proxy_reply_commit(&host.proxy, &x, true, host.now, &host.done);
	return 0;
}

static uint32_t gate_reply(struct memory *memory, uint64_t epoch, uint32_t slot)
{
	uint32_t code = RVMRPC_GATE_RESET;

	if (rvmrpc_proxy_enter(&host.proxy, epoch, host.now))
		code = host_reply(memory, slot);
	kick();
	take_done();
	return code;
}

static uint32_t host_deliver(struct memory *memory, uint64_t epoch)
{
	struct rvmrpc_xfer x;

	while (rvmrpc_proxy_enter(&host.proxy, epoch, host.now)) {
		if (!rvmrpc_proxy_deliver_begin(&host.proxy, &x, host.now, &host.done)) {
			g_assert_true(rvmrpc_proxy_arm(&host.proxy));
			guest.asleep = true;
			return RVMRPC_GATE_AGAIN;
		}
		meddle();
		memcpy(memory->req[x.slot], &x.hdr, HDR);
		memcpy((char *)memory->req[x.slot] + HDR, x.call->arg, x.length);
		if (rvmrpc_proxy_deliver_commit(&host.proxy, &x, true, host.now, &host.done))
			return x.slot;
	}
	return RVMRPC_GATE_RESET;
}

static uint32_t gate_main(struct memory *memory, uint64_t epoch, uint32_t slot)
{
	uint32_t code = RVMRPC_GATE_RESET;

	if (rvmrpc_proxy_enter(&host.proxy, epoch, host.now)) {
		rvmrpc_proxy_awake(&host.proxy);
		if (slot != RVMRPC_SLOT_NONE)
			g_assert_cmphex(host_reply(memory, slot), ==, 0);
		code = host_deliver(memory, epoch);
	}
	take_done();
	return code;
}

static void gate_init(void)
{
	struct rvmrpc_init in = {
		.magic = RVMRPC_INIT_MAGIC, .abi_min = 1, .abi_max = 1, .os = RVMRPC_OS_OTHER,
		.size = sizeof(in) + NSLOTS * (REQ_PAGES + RES_PAGES) * 8,
		.nslots = NSLOTS, .req_pages = REQ_PAGES, .res_pages = RES_PAGES,
	};
	struct rvmrpc_init_answer answer;
	uint32_t pages_bytes;

	g_assert_cmphex(rvmrpc_proxy_check_init(&host.proxy.limits, &in, in.size, &pages_bytes), ==, 0);
	rvmrpc_proxy_register(&host.proxy, &in, (uint64_t)g_test_rand_int() << 32 | 1 | guest.memories->len << 1,
			      host.now, &answer, &host.done);
	take_done();
	guest.memory = g_new0(struct memory, 1);
	g_ptr_array_add(guest.memories, guest.memory);
	guest.epoch = answer.epoch;
	guest.reply_slot = RVMRPC_SLOT_NONE;
}

/* ---- the guest's threads ---- */

static void finish(struct worker *w)
{
	struct rvmrpc_hdr reply;

	rvmrpc_server_run(&w->a, (char *)w->memory->req[w->slot] + HDR, (char *)w->memory->res[w->slot] + HDR, RES, &reply);
	rvmrpc_server_done(&guest.server, &w->a);
	memcpy(w->memory->res[w->slot], &reply, HDR);
}

static void guest_request(uint32_t slot)
{
	struct worker *w = g_new0(struct worker, 1);

	w->memory = guest.memory;
	w->slot = slot;
	memcpy(&w->hdr, guest.memory->req[slot], HDR);
	g_assert_true(rvmrpc_server_accept(&guest.server, &w->hdr, guest.epoch, 1, REQ, &w->a));
	if (w->a.flags & RVMRPC_PROC_MAY_SLEEP) {
		g_ptr_array_add(guest.workers, w);
		return;
	}
	finish(w);
	g_free(w);
	guest.reply_slot = slot;
}

static void guest_server(void)
{
	uint32_t code, slot = guest.reply_slot;

	if (guest.asleep)
		return;
	guest.reply_slot = RVMRPC_SLOT_NONE;
	code = gate_main(guest.memory, guest.epoch, slot);
	if (code == RVMRPC_GATE_RESET)
		gate_init();
	else if (!RVMRPC_GATE_IS_CODE(code))
		guest_request(code);
	else
		g_assert_cmphex(code, ==, RVMRPC_GATE_AGAIN);
}

static void guest_worker(void)
{
	struct worker *w, *oldest;
	uint32_t code;

	if (!guest.workers->len)
		return;
	oldest = guest.workers->pdata[0];
	w = g_ptr_array_steal_index(guest.workers, below(guest.workers->len));
	guest.overtaken += w->hdr.xid > oldest->hdr.xid;
	finish(w);
	code = gate_reply(w->memory, w->hdr.epoch, w->slot);
	if (w->hdr.epoch != host.proxy.epoch)
		g_assert_true(code == RVMRPC_GATE_RESET || code == 0);
	else
		g_assert_cmphex(code, ==, 0);
	g_free(w);
}

static void setup(void)
{
	const struct rvmrpc_limits limits = { NSLOTS, REQ_PAGES, RES_PAGES };
	uint32_t bad;

	memset(&host, 0, sizeof(host));
	memset(&guest, 0, sizeof(guest));
	host.now = 1000 * MS;
	rvmrpc_proxy_init(&host.proxy, &limits, 1);
	rvmrpc_server_init(&guest.server);
	g_assert_cmpint(rvmrpc_server_add(&guest.server, &slow_module), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_add(&guest.server, &echo_module), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_allow(&guest.server, "default,slow.*", &bad), ==, RVMRPC_STATUS_OK);
	guest.memories = g_ptr_array_new_with_free_func(g_free);
	guest.workers = g_ptr_array_new();
	gate_init();
}

static void teardown(void)
{
	while (guest.workers->len)
		guest_worker();
	g_assert_cmpuint(slow_module.running | echo_module.running, ==, 0);
	g_ptr_array_free(guest.workers, TRUE);
	g_ptr_array_free(guest.memories, TRUE);
}

static void step(void)
{
	switch (below(8)) {
	case 0 ... 2:
		host_submit();
		break;
	case 3 ... 5:
		guest_server();
		break;
	case 6:
		guest_worker();
		break;
	case 7:
		meddle();
		break;
	}
	take_done();
}

static void assert_drained(void)
{
	const struct rvmrpc_stats *s = &host.proxy.stats;
	uint32_t i;

	g_assert_cmpuint(host.proxy.ncalls, ==, 0);
	for (i = 0; i < G_N_ELEMENTS(host.clients); i++)
		g_assert_cmpuint(host.clients[i].calls, ==, 0);
	g_assert_cmpuint(s->calls, ==, TOTAL);
	g_assert_cmpuint(s->completed + s->timed_out + s->cancelled + s->reset, ==, TOTAL);
	g_assert_cmpuint(s->bad_replies, ==, 0);
	for (i = 0; i <= RVMRPC_STATUS_MAX; i++)
		g_test_message("status %u: %u calls", i, host.by_status[i]);
	g_test_message("%u overtaken, %" G_GUINT64_FORMAT " late", guest.overtaken, s->late_replies);
	g_assert_cmpuint(guest.overtaken, >, 0);
}

/* Nothing comes in between: each call has its own answer, and no time passes. */
static void test_calm(void)
{
	setup();
	while (host.submitted < TOTAL || host.proxy.ncalls)
		step();
	assert_drained();
	g_assert_cmpuint(host.proxy.stats.completed, ==, TOTAL);
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
	while (host.submitted < TOTAL || host.proxy.ncalls)
		step();
	assert_drained();
	for (i = 0; i < G_N_ELEMENTS(wanted); i++)
		g_assert_cmpuint(host.by_status[wanted[i]], >, 0);
	g_assert_cmpuint(host.proxy.stats.late_replies, >, 0);
	teardown();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/channel/calm", test_calm);
	g_test_add_func("/channel/rough", test_rough);
	return g_test_run();
}
