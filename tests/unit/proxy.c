/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host half: slots, pending calls, epochs, deadlines, quotas. */
#include <glib.h>

#include "rvmrpc_proxy.h"

#define EPOCH	0xfeedf00ddeadbeefu
#define XID	0x1000u
#define MS	1000000ull
#define NOW	(1000 * MS)
#define REQ	0x1000
#define RES	0x10000

static struct rvmrpc_proxy proxy;
static struct rvmrpc_done done;
static struct rvmrpc_client client;
static struct rvmrpc_call calls[RVMRPC_CALLS_MAX + 1];
static char release[64] = "6.12.0-test";

static void connect_guest(uint32_t nslots, uint64_t epoch)
{
	const struct rvmrpc_terms terms = {
		.epoch = epoch, .abi = RVMRPC_ABI_VERSION, .os = RVMRPC_OS_LINUX, .nslots = nslots,
		.req_bytes = REQ, .res_bytes = RES, .release = release,
	};

	rvmrpc_proxy_open(&proxy, &terms, NOW, &done);
}

static void setup(uint32_t nslots)
{
	memset(&done, 0, sizeof(done));
	memset(&client, 0, sizeof(client));
	memset(calls, 0, sizeof(calls));
	rvmrpc_proxy_init(&proxy, XID);
	connect_guest(nslots, EPOCH);
}

static uint32_t submit(uint32_t i)
{
	struct rvmrpc_call *c = &calls[i];

	c->client = &client;
	c->module = 10 + i;
	c->procedure = 20 + i;
	c->arg = "argument";
	c->arglen = 8;
	c->res_max = 1000;
	c->deadline = c->deadline ? c->deadline : NOW + 1000 * MS;
	return rvmrpc_proxy_submit(&proxy, c, NOW);
}

static void submit_ok(uint32_t i)
{
	g_assert_cmpuint(submit(i), ==, RVMRPC_STATUS_OK);
}

/* Takes the call that ended first. */
static struct rvmrpc_call *ended(void)
{
	struct rvmrpc_call *c = done.head;

	g_assert_nonnull(c);
	g_assert_cmpint(c->state, ==, RVMRPC_CALL_IDLE);
	done.head = c->next;
	if (!done.head)
		done.tail = NULL;
	return c;
}

static void assert_ended(uint32_t i, uint32_t status)
{
	struct rvmrpc_call *c = ended();

	g_assert_cmpint(c - calls, ==, i);
	g_assert_cmpuint(c->status, ==, status);
}

static void assert_none_ended(void)
{
	g_assert_null(done.head);
}

/* Delivers the next request; returns its slot. */
static uint32_t deliver(struct rvmrpc_hdr *hdr)
{
	struct rvmrpc_xfer x;

	g_assert_true(rvmrpc_proxy_deliver_begin(&proxy, &x, NOW, &done));
	if (hdr)
		*hdr = x.hdr;
	g_assert_true(rvmrpc_proxy_deliver_commit(&proxy, &x, NOW, &done));
	return x.slot;
}

static struct rvmrpc_hdr reply_to(const struct rvmrpc_hdr *request, uint32_t status, uint32_t length)
{
	struct rvmrpc_hdr hdr = *request;

	hdr.timeout_ms = 0;
	hdr.status = status;
	hdr.length = length;
	hdr.version = 5;
	return hdr;
}

static void reply(uint32_t slot, const struct rvmrpc_hdr *hdr)
{
	struct rvmrpc_xfer x;

	g_assert_cmpint(proxy.slots[slot].state, ==, RVMRPC_SLOT_BUSY);
	if (!rvmrpc_proxy_reply_begin(&proxy, slot, &x))
		return;
	rvmrpc_proxy_reply_check(&x, hdr);
	rvmrpc_proxy_reply_commit(&proxy, &x, true, NOW + 3 * MS, &done);
}

static void assert_quiet(void)
{
	uint32_t i;

	assert_none_ended();
	g_assert_cmpuint(proxy.ncalls, ==, 0);
	g_assert_cmpuint(client.calls, ==, 0);
	g_assert_null(proxy.pending_head);
	for (i = 0; i < RVMRPC_SLOTS_MAX; i++)
		g_assert_cmpint(proxy.slots[i].state, ==, RVMRPC_SLOT_FREE);
}

/* ---- epochs ---- */

static void test_open(void)
{
	setup(1);
	g_assert_cmphex(proxy.epoch, ==, EPOCH);
	g_assert_cmpuint(proxy.abi, ==, RVMRPC_ABI_VERSION);
	g_assert_cmpuint(proxy.os, ==, RVMRPC_OS_LINUX);
	g_assert_cmpuint(proxy.nslots, ==, 1);
	g_assert_cmpuint(proxy.last_seen, ==, NOW);
	g_assert_cmpstr(proxy.release, ==, "6.12.0-test");
	proxy.unanswered = 3;
	memset(release, 'x', sizeof(release));
	connect_guest(4, EPOCH + 1);
	g_assert_cmphex(proxy.epoch, ==, EPOCH + 1);
	g_assert_cmpuint(proxy.nslots, ==, 4);
	g_assert_cmpuint(proxy.unanswered, ==, 0);
	g_assert_cmpuint(strlen(proxy.release), ==, sizeof(proxy.release) - 1);
	g_assert_cmpuint(proxy.stats.registrations, ==, 2);
	strcpy(release, "6.12.0-test");
	rvmrpc_proxy_unregister(&proxy, RVMRPC_STATUS_NOT_CONNECTED, NOW, &done);
	g_assert_cmphex(proxy.epoch, ==, 0);
	g_assert_cmpuint(proxy.nslots, ==, 0);
	g_assert_cmpstr(proxy.release, ==, "");
	g_assert_false(rvmrpc_proxy_stuck(&proxy));
	g_assert_false(rvmrpc_proxy_pending(&proxy));
}

/* ---- submit ---- */

static void test_submit_refusals(void)
{
	setup(4);
	proxy.stopped = true;
	g_assert_cmpuint(submit(0), ==, RVMRPC_STATUS_STOPPED);
	/* Nor is it the driver that a VM lacks which was not started. */
	proxy.epoch = 0;
	g_assert_cmpuint(submit(0), ==, RVMRPC_STATUS_STOPPED);
	proxy.stopped = false;
	g_assert_cmpuint(submit(0), ==, RVMRPC_STATUS_NOT_CONNECTED);
	proxy.epoch = EPOCH;
	calls[0].deadline = NOW;
	g_assert_cmpuint(submit(0), ==, RVMRPC_STATUS_TIMED_OUT);
	calls[0].deadline = NOW + 1;
	submit_ok(0);
	calls[1] = calls[0];
	calls[1].arglen = REQ + 1;
	g_assert_cmpuint(rvmrpc_proxy_submit(&proxy, &calls[1], NOW), ==, RVMRPC_STATUS_TOO_BIG);
	calls[1].arglen = UINT32_MAX;
	g_assert_cmpuint(rvmrpc_proxy_submit(&proxy, &calls[1], NOW), ==, RVMRPC_STATUS_TOO_BIG);
	calls[1].arglen = REQ;
	g_assert_cmpuint(rvmrpc_proxy_submit(&proxy, &calls[1], NOW), ==, RVMRPC_STATUS_OK);
	rvmrpc_proxy_unregister(&proxy, RVMRPC_STATUS_RESET, NOW, &done);
	assert_ended(0, RVMRPC_STATUS_RESET);
	assert_ended(1, RVMRPC_STATUS_RESET);
	g_assert_cmpuint(submit(2), ==, RVMRPC_STATUS_NOT_CONNECTED);
	g_assert_cmpuint(proxy.stats.refused, ==, 7);
	g_assert_cmpuint(proxy.stats.calls, ==, 2);
	assert_quiet();
}

static void test_quota_client(void)
{
	struct rvmrpc_call other = { .arg = "", .deadline = NOW + MS };
	uint32_t i;

	setup(4);
	for (i = 0; i < RVMRPC_CLIENT_CALLS_MAX; i++)
		submit_ok(i);
	g_assert_cmpuint(submit(i), ==, RVMRPC_STATUS_BUSY);
	g_assert_cmpuint(rvmrpc_proxy_submit(&proxy, &other, NOW), ==, RVMRPC_STATUS_OK);
	rvmrpc_proxy_cancel(&proxy, &calls[3], NOW, &done);
	assert_ended(3, RVMRPC_STATUS_CANCELLED);
	submit_ok(3);
	g_assert_cmpuint(submit(i), ==, RVMRPC_STATUS_BUSY);
}

static void test_quota_vm(void)
{
	static struct rvmrpc_client clients[8];
	uint32_t i;

	setup(4);
	memset(clients, 0, sizeof(clients));
	for (i = 0; i <= RVMRPC_CALLS_MAX; i++) {
		calls[i].client = &clients[i / 10];
		calls[i].deadline = NOW + MS;
		g_assert_cmpuint(rvmrpc_proxy_submit(&proxy, &calls[i], NOW), ==,
				 i < RVMRPC_CALLS_MAX ? RVMRPC_STATUS_OK : RVMRPC_STATUS_BUSY);
	}
	/* Calls in slots count too. */
	deliver(NULL);
	g_assert_cmpuint(rvmrpc_proxy_submit(&proxy, &calls[RVMRPC_CALLS_MAX], NOW), ==, RVMRPC_STATUS_BUSY);
	g_assert_cmpuint(rvmrpc_proxy_expire(&proxy, NOW + MS, &done), ==, UINT64_MAX);
	for (i = 0; i < RVMRPC_CALLS_MAX; i++)
		g_assert_cmpuint(ended()->status, ==, RVMRPC_STATUS_TIMED_OUT);
	g_assert_cmpuint(proxy.ncalls, ==, 0);
	for (i = 0; i < G_N_ELEMENTS(clients); i++)
		g_assert_cmpuint(clients[i].calls, ==, 0);
}

/* ---- delivery ---- */

static void test_header(void)
{
	struct rvmrpc_hdr hdr;

	setup(4);
	calls[0].version = 9;
	calls[0].deadline = NOW + 5 * MS + 1;
	submit_ok(0);
	g_assert_cmpuint(deliver(&hdr), ==, 0);
	g_assert_cmphex(hdr.magic, ==, RVMRPC_CALL_MAGIC);
	g_assert_cmpuint(hdr.abi, ==, RVMRPC_ABI_VERSION);
	g_assert_cmpuint(hdr.version, ==, 9);
	g_assert_cmphex(hdr.epoch, ==, EPOCH);
	g_assert_cmphex(hdr.xid, ==, XID);
	g_assert_cmpuint(hdr.module, ==, 10);
	g_assert_cmpuint(hdr.procedure, ==, 20);
	g_assert_cmpuint(hdr.length, ==, 8);
	g_assert_cmpuint(hdr.timeout_ms, ==, 6);
	g_assert_cmpuint(hdr.flags | hdr.status | hdr.list | hdr.reserved | hdr.reserved2, ==, 0);
	calls[1].deadline = UINT64_MAX;
	submit_ok(1);
	deliver(&hdr);
	g_assert_cmphex(hdr.xid, ==, XID + 1);
	g_assert_cmpuint(hdr.timeout_ms, ==, RVMRPC_TIMEOUT_MS_MAX);
	/* Rounded up, at any time. */
	g_assert_cmpuint(rvmrpc_ms_left(UINT64_MAX, 0), ==, RVMRPC_TIMEOUT_MS_MAX);
	g_assert_cmpuint(rvmrpc_ms_left(1, 0), ==, 1);
	g_assert_cmpuint(rvmrpc_ms_left(MS + 1, 0), ==, 2);
}

static void test_xid(void)
{
	struct rvmrpc_hdr hdr;

	setup(1);
	rvmrpc_proxy_init(&proxy, 0);
	connect_guest(1, EPOCH);
	submit_ok(0);
	deliver(&hdr);
	g_assert_cmphex(hdr.xid, ==, 1);
}

static void test_fifo(void)
{
	struct rvmrpc_hdr hdr[4];
	uint32_t i;

	setup(4);
	for (i = 0; i < 6; i++)
		submit_ok(i);
	rvmrpc_proxy_cancel(&proxy, &calls[0], NOW, &done);
	rvmrpc_proxy_cancel(&proxy, &calls[2], NOW, &done);
	rvmrpc_proxy_cancel(&proxy, &calls[5], NOW, &done);
	assert_ended(0, RVMRPC_STATUS_CANCELLED);
	assert_ended(2, RVMRPC_STATUS_CANCELLED);
	assert_ended(5, RVMRPC_STATUS_CANCELLED);
	submit_ok(6);
	for (i = 0; i < 4; i++)
		deliver(&hdr[i]);
	g_assert_cmpuint(hdr[0].module, ==, 11);
	g_assert_cmpuint(hdr[1].module, ==, 13);
	g_assert_cmpuint(hdr[2].module, ==, 14);
	g_assert_cmpuint(hdr[3].module, ==, 16);
}

static void test_slots(void)
{
	struct rvmrpc_hdr hdr[3];
	struct rvmrpc_xfer x;
	uint32_t i;

	setup(2);
	for (i = 0; i < 3; i++)
		submit_ok(i);
	g_assert_cmpuint(deliver(&hdr[0]), ==, 0);
	g_assert_cmpuint(deliver(&hdr[1]), ==, 1);
	g_assert_false(rvmrpc_proxy_pending(&proxy));
	g_assert_false(rvmrpc_proxy_deliver_begin(&proxy, &x, NOW, &done));
	g_assert_false(rvmrpc_proxy_stuck(&proxy));

	/* The second overtakes the first, and its slot serves the third. */
	hdr[2] = reply_to(&hdr[1], RVMRPC_STATUS_OK, 77);
	reply(1, &hdr[2]);
	assert_ended(1, RVMRPC_STATUS_OK);
	g_assert_cmpuint(calls[1].reslen, ==, 77);
	g_assert_cmpuint(calls[1].answered_version, ==, 5);
	g_assert_cmpuint(calls[1].elapsed, ==, 3 * MS);
	g_assert_cmpuint(proxy.stats.histogram[12], ==, 1);
	g_assert_true(rvmrpc_proxy_pending(&proxy));
	g_assert_cmpuint(deliver(&hdr[1]), ==, 1);
	g_assert_cmpuint(hdr[1].module, ==, 12);
	for (i = 0; i < 2; i++) {
		hdr[2] = reply_to(&hdr[i], RVMRPC_STATUS_OK, 0);
		reply(i, &hdr[2]);
	}
	assert_ended(0, RVMRPC_STATUS_OK);
	assert_ended(2, RVMRPC_STATUS_OK);
	assert_quiet();
}

static void test_stopped(void)
{
	struct rvmrpc_xfer x;

	setup(2);
	submit_ok(0);
	proxy.stopped = true;
	g_assert_false(rvmrpc_proxy_pending(&proxy));
	g_assert_false(rvmrpc_proxy_deliver_begin(&proxy, &x, NOW, &done));
	proxy.stopped = false;
	g_assert_true(rvmrpc_proxy_pending(&proxy));
	g_assert_cmpuint(deliver(NULL), ==, 0);
}

/* A request can be delivered as soon as there are both, one in the queue and a slot that nobody has. */
static void test_pending(void)
{
	struct rvmrpc_hdr hdr;

	setup(1);
	g_assert_false(rvmrpc_proxy_pending(&proxy));
	submit_ok(0);
	g_assert_true(rvmrpc_proxy_pending(&proxy));
	deliver(&hdr);
	submit_ok(1);
	g_assert_false(rvmrpc_proxy_pending(&proxy));
	hdr = reply_to(&hdr, RVMRPC_STATUS_OK, 0);
	reply(0, &hdr);
	assert_ended(0, RVMRPC_STATUS_OK);
	g_assert_true(rvmrpc_proxy_pending(&proxy));

	/* A late answer frees the slot too. */
	deliver(NULL);
	submit_ok(2);
	rvmrpc_proxy_cancel(&proxy, &calls[1], NOW, &done);
	g_assert_false(rvmrpc_proxy_pending(&proxy));
	reply(0, NULL);
	g_assert_true(rvmrpc_proxy_pending(&proxy));
	/* But not one that a client holds. */
	calls[3].deadline = NOW + MS;
	g_assert_cmpuint(rvmrpc_proxy_hold(&proxy, &calls[3], NOW), ==, RVMRPC_STATUS_OK);
	g_assert_false(rvmrpc_proxy_pending(&proxy));
	rvmrpc_proxy_release(&proxy, &calls[3]);
	g_assert_true(rvmrpc_proxy_pending(&proxy));
}

/* ---- between begin and commit ---- */

enum disturbance { COPY_FAILED, CANCEL, EXPIRE, RESET, EXIT, NEW_EPOCH, CANCEL_THEN_RESET, EXPIRE_THEN_CANCEL };

static const uint32_t disturbed_status[] = {
	RVMRPC_STATUS_SYSTEM_ERROR, RVMRPC_STATUS_CANCELLED, RVMRPC_STATUS_TIMED_OUT, RVMRPC_STATUS_RESET,
	RVMRPC_STATUS_NOT_CONNECTED, RVMRPC_STATUS_RESET, RVMRPC_STATUS_CANCELLED, RVMRPC_STATUS_TIMED_OUT,
};

/* Returns the time after it. */
static uint64_t disturb(enum disturbance d)
{
	uint64_t late = calls[0].deadline;

	switch (d) {
	case COPY_FAILED:
		break;
	case CANCEL:
		rvmrpc_proxy_cancel(&proxy, &calls[0], NOW, &done);
		break;
	case EXPIRE:
		rvmrpc_proxy_expire(&proxy, late, &done);
		break;
	case RESET:
		rvmrpc_proxy_unregister(&proxy, RVMRPC_STATUS_RESET, NOW, &done);
		break;
	case EXIT:
		rvmrpc_proxy_unregister(&proxy, RVMRPC_STATUS_NOT_CONNECTED, NOW, &done);
		break;
	case NEW_EPOCH:
		connect_guest(4, EPOCH + 1);
		submit_ok(1);
		/* Not the slot into which the old epoch's request is still being copied. */
		g_assert_cmpuint(deliver(NULL), ==, calls[0].state == RVMRPC_CALL_DELIVERING ? 1 : 0);
		break;
	case CANCEL_THEN_RESET:
		rvmrpc_proxy_cancel(&proxy, &calls[0], NOW, &done);
		rvmrpc_proxy_unregister(&proxy, RVMRPC_STATUS_RESET, NOW, &done);
		break;
	case EXPIRE_THEN_CANCEL:
		rvmrpc_proxy_expire(&proxy, late, &done);
		rvmrpc_proxy_cancel(&proxy, &calls[0], late, &done);
		break;
	}
	assert_none_ended();
	g_assert_cmpuint(client.calls, ==, d == NEW_EPOCH ? 2 : 1);
	return late;
}

static void settle(enum disturbance d)
{
	assert_ended(0, disturbed_status[d]);
	g_assert_cmpuint(calls[0].reslen, ==, 0);
	if (d == NEW_EPOCH) {
		/* The other call's slot is untouched, also when it has the same number. */
		g_assert_cmpint(proxy.slots[calls[1].slot].state, ==, RVMRPC_SLOT_BUSY);
		g_assert_true(proxy.slots[calls[1].slot].call == &calls[1]);
		rvmrpc_proxy_unregister(&proxy, RVMRPC_STATUS_RESET, NOW, &done);
		assert_ended(1, RVMRPC_STATUS_RESET);
	}
	assert_quiet();
}

static void test_disturbed_delivery(gconstpointer data)
{
	enum disturbance d = GPOINTER_TO_INT(data);
	struct rvmrpc_xfer x;
	uint64_t now;

	setup(4);
	submit_ok(0);
	g_assert_true(rvmrpc_proxy_deliver_begin(&proxy, &x, NOW, &done));
	now = disturb(d);
	g_assert_false(rvmrpc_proxy_deliver_commit(&proxy, &x, now, &done));
	settle(d);
}

static void test_disturbed_reply(gconstpointer data)
{
	enum disturbance d = GPOINTER_TO_INT(data);
	struct rvmrpc_hdr hdr;
	struct rvmrpc_xfer x;
	uint64_t now;

	setup(4);
	submit_ok(0);
	deliver(&hdr);
	hdr = reply_to(&hdr, RVMRPC_STATUS_OK, 8);
	g_assert_true(rvmrpc_proxy_reply_begin(&proxy, 0, &x));
	rvmrpc_proxy_reply_check(&x, &hdr);
	now = disturb(d);
	rvmrpc_proxy_reply_commit(&proxy, &x, d != COPY_FAILED, now, &done);
	settle(d);
	g_assert_cmpuint(proxy.stats.late_replies, ==, d == COPY_FAILED ? 0 : 1);
}

/* The same, when what the guest answered is not the answer to this call. */
static void test_disturbed_stale_reply(gconstpointer data)
{
	enum disturbance d = GPOINTER_TO_INT(data);
	struct rvmrpc_hdr hdr;
	struct rvmrpc_xfer x;
	uint64_t now;

	setup(4);
	submit_ok(0);
	deliver(&hdr);
	hdr = reply_to(&hdr, RVMRPC_STATUS_OK, 8);
	hdr.xid--;
	g_assert_true(rvmrpc_proxy_reply_begin(&proxy, 0, &x));
	rvmrpc_proxy_reply_check(&x, &hdr);
	g_assert_cmpuint(x.length, ==, 0);
	now = disturb(d);
	rvmrpc_proxy_reply_commit(&proxy, &x, true, now, &done);
	g_assert_cmpuint(calls[0].answered_version, ==, 0);
	settle(d);
}

/* ---- replies ---- */

/* An answer for another call: the guest has given the slot back all the same. */
static void test_reply_stale(void)
{
	struct rvmrpc_hdr hdr, bad;
	uint32_t i;

	for (i = 0; i < 6; i++) {
		setup(1);
		submit_ok(0);
		deliver(&hdr);
		bad = reply_to(&hdr, RVMRPC_STATUS_OK, 3);
		bad.magic += i == 0;
		bad.abi += i == 1;
		bad.epoch += i == 2;
		bad.xid += i == 3;
		bad.module += i == 4;
		bad.procedure += i == 5;
		reply(0, &bad);
		assert_ended(0, RVMRPC_STATUS_SYSTEM_ERROR);
		/* Nothing of it counts. */
		g_assert_cmpuint(calls[0].reslen, ==, 0);
		g_assert_cmpuint(calls[0].answered_version, ==, 0);
		g_assert_cmpuint(proxy.stats.bad_replies, ==, 1);
		g_assert_cmpuint(proxy.stats.failed, ==, 1);
		assert_quiet();
	}
}

static void test_reply_malformed(void)
{
	struct rvmrpc_hdr hdr, bad;
	uint32_t i;

	for (i = 0; i < 10; i++) {
		setup(1);
		submit_ok(0);
		deliver(&hdr);
		bad = reply_to(&hdr, RVMRPC_STATUS_OK, 3);
		bad.flags = i == 0;
		bad.timeout_ms = i == 1;
		bad.list = i == 2;
		bad.reserved2 = i == 3;
		bad.length = i == 4 ? RES + 1 : i == 5 ? UINT32_MAX : 3;
		bad.status = i == 6 ? RVMRPC_STATUS_RESET : i == 7 ? RVMRPC_STATUS_TIMED_OUT :
			     i == 8 ? RVMRPC_STATUS_MAX + 1 : i == 9 ? UINT32_MAX : RVMRPC_STATUS_OK;
		reply(0, &bad);
		assert_ended(0, RVMRPC_STATUS_SYSTEM_ERROR);
		g_assert_cmpuint(calls[0].reslen, ==, 0);
		g_assert_cmpuint(proxy.stats.bad_replies, ==, 1);
		g_assert_cmpuint(proxy.stats.completed, ==, 1);
		g_assert_cmpuint(proxy.stats.failed, ==, 1);
		assert_quiet();
	}
}

static void test_reply_sizes(void)
{
	static const struct { uint32_t length, res_max, status, reslen, copied; } cases[] = {
		{ 0, 0, RVMRPC_STATUS_OK, 0, 0 }, { 1, 0, RVMRPC_STATUS_TOO_BIG, 1, 0 },
		{ 1000, 1000, RVMRPC_STATUS_OK, 1000, 1000 }, { 1001, 1000, RVMRPC_STATUS_TOO_BIG, 1001, 0 },
		{ RES, UINT32_MAX, RVMRPC_STATUS_OK, RES, RES },
	};
	struct rvmrpc_hdr hdr;
	struct rvmrpc_xfer x;
	uint32_t i;

	for (i = 0; i < G_N_ELEMENTS(cases); i++) {
		setup(1);
		submit_ok(0);
		calls[0].res_max = cases[i].res_max;
		deliver(&hdr);
		hdr = reply_to(&hdr, RVMRPC_STATUS_OK, cases[i].length);
		g_assert_true(rvmrpc_proxy_reply_begin(&proxy, 0, &x));
		rvmrpc_proxy_reply_check(&x, &hdr);
		g_assert_cmpuint(x.length, ==, cases[i].copied);
		rvmrpc_proxy_reply_commit(&proxy, &x, true, NOW, &done);
		assert_ended(0, cases[i].status);
		g_assert_cmpuint(calls[0].reslen, ==, cases[i].reslen);
	}
}

static void test_reply_statuses(void)
{
	static const uint32_t guest[] = {
		0, 1, 2, 3, 4, 5, 6, 7, RVMRPC_STATUS_CANCELLED, RVMRPC_STATUS_SYSTEM_ERROR,
	};
	struct rvmrpc_hdr hdr;
	uint32_t i;

	setup(1);
	for (i = 0; i < G_N_ELEMENTS(guest); i++) {
		submit_ok(i);
		deliver(&hdr);
		hdr = reply_to(&hdr, guest[i], 0);
		reply(0, &hdr);
		assert_ended(i, guest[i]);
	}
	g_assert_cmpuint(proxy.stats.completed, ==, G_N_ELEMENTS(guest));
	g_assert_cmpuint(proxy.stats.failed, ==, G_N_ELEMENTS(guest) - 1);
	g_assert_cmpuint(proxy.stats.bad_replies, ==, 0);
	assert_quiet();
}

/* replies come at NOW + 3 * MS */
static void test_given_up_by_guest(void)
{
	struct rvmrpc_hdr hdr;

	setup(1);
	calls[0].deadline = NOW + 3 * MS;
	submit_ok(0);
	deliver(&hdr);
	hdr = reply_to(&hdr, RVMRPC_STATUS_CANCELLED, 0);
	reply(0, &hdr);
	assert_ended(0, RVMRPC_STATUS_TIMED_OUT);
	g_assert_cmpuint(proxy.stats.timed_out, ==, 1);
	g_assert_cmpuint(proxy.stats.completed, ==, 0);

	/* Before that time, and what has an answer after all. */
	calls[1].deadline = NOW + 3 * MS + 1;
	submit_ok(1);
	deliver(&hdr);
	hdr = reply_to(&hdr, RVMRPC_STATUS_CANCELLED, 0);
	reply(0, &hdr);
	assert_ended(1, RVMRPC_STATUS_CANCELLED);
	calls[2].deadline = NOW + 3 * MS;
	submit_ok(2);
	deliver(&hdr);
	hdr = reply_to(&hdr, RVMRPC_STATUS_OK, 0);
	reply(0, &hdr);
	assert_ended(2, RVMRPC_STATUS_OK);
	assert_quiet();
}

static void test_reply_old_epoch(void)
{
	struct rvmrpc_hdr old, hdr;

	setup(1);
	submit_ok(0);
	deliver(&old);
	connect_guest(1, EPOCH + 1);
	assert_ended(0, RVMRPC_STATUS_RESET);
	submit_ok(0);
	deliver(&hdr);
	g_assert_cmphex(hdr.epoch, ==, EPOCH + 1);
	g_assert_cmphex(hdr.xid, !=, old.xid);
	old = reply_to(&old, RVMRPC_STATUS_OK, 0);
	reply(0, &old);
	assert_ended(0, RVMRPC_STATUS_SYSTEM_ERROR);
	g_assert_cmpuint(proxy.stats.bad_replies, ==, 1);
	assert_quiet();
}

/* ---- deadlines ---- */

static void test_expire(void)
{
	struct rvmrpc_hdr hdr;
	uint32_t i;

	setup(2);
	for (i = 0; i < 4; i++) {
		calls[i].deadline = NOW + (i + 1) * MS;
		submit_ok(i);
	}
	deliver(&hdr);
	g_assert_cmpuint(rvmrpc_proxy_expire(&proxy, NOW, &done), ==, NOW + MS);
	assert_none_ended();
	g_assert_cmpuint(rvmrpc_proxy_expire(&proxy, NOW + 2 * MS, &done), ==, NOW + 3 * MS);
	assert_ended(1, RVMRPC_STATUS_TIMED_OUT);
	assert_ended(0, RVMRPC_STATUS_TIMED_OUT);
	assert_none_ended();
	g_assert_cmpuint(proxy.stats.timed_out, ==, 2);
	g_assert_cmpuint(proxy.unanswered, ==, 2);

	/* The slot stays the guest's until its answer, which is late. */
	g_assert_cmpuint(deliver(NULL), ==, 1);
	hdr = reply_to(&hdr, RVMRPC_STATUS_OK, 0);
	reply(0, &hdr);
	assert_none_ended();
	g_assert_cmpuint(proxy.stats.late_replies, ==, 1);
	g_assert_cmpuint(deliver(NULL), ==, 0);
	g_assert_cmpuint(rvmrpc_proxy_expire(&proxy, NOW + 9 * MS, &done), ==, UINT64_MAX);

	/* At the deadline, not after it: with the guest, too. */
	setup(1);
	calls[0].deadline = NOW + MS;
	submit_ok(0);
	deliver(&hdr);
	g_assert_cmpuint(rvmrpc_proxy_expire(&proxy, NOW + MS - 1, &done), ==, NOW + MS);
	assert_none_ended();
	g_assert_cmpuint(rvmrpc_proxy_expire(&proxy, NOW + MS, &done), ==, UINT64_MAX);
	assert_ended(0, RVMRPC_STATUS_TIMED_OUT);
}

static void test_expired_not_delivered(void)
{
	struct rvmrpc_xfer x;
	uint32_t i;

	setup(4);
	for (i = 0; i < 3; i++) {
		calls[i].deadline = NOW + (i == 2 ? 10 : 1) * MS;
		submit_ok(i);
	}
	g_assert_true(rvmrpc_proxy_deliver_begin(&proxy, &x, NOW + MS, &done));
	g_assert_true(x.call == &calls[2]);
	g_assert_cmpuint(x.hdr.timeout_ms, ==, 9);
	assert_ended(0, RVMRPC_STATUS_TIMED_OUT);
	assert_ended(1, RVMRPC_STATUS_TIMED_OUT);
}

static void test_stuck(void)
{
	struct rvmrpc_hdr hdr;

	setup(2);
	submit_ok(0);
	submit_ok(1);
	deliver(&hdr);
	deliver(NULL);
	rvmrpc_proxy_cancel(&proxy, &calls[0], NOW, &done);
	assert_ended(0, RVMRPC_STATUS_CANCELLED);
	g_assert_false(rvmrpc_proxy_stuck(&proxy));
	submit_ok(2);
	rvmrpc_proxy_expire(&proxy, NOW + 1000 * MS, &done);
	assert_ended(2, RVMRPC_STATUS_TIMED_OUT);
	assert_ended(1, RVMRPC_STATUS_TIMED_OUT);
	g_assert_true(rvmrpc_proxy_stuck(&proxy));
	g_assert_cmpuint(submit(3), ==, RVMRPC_STATUS_BUSY);

	reply(0, &hdr);
	g_assert_false(rvmrpc_proxy_stuck(&proxy));
	submit_ok(3);
	g_assert_cmpuint(deliver(NULL), ==, 0);
	rvmrpc_proxy_cancel(&proxy, &calls[3], NOW, &done);
	assert_ended(3, RVMRPC_STATUS_CANCELLED);
	g_assert_true(rvmrpc_proxy_stuck(&proxy));
	connect_guest(2, EPOCH + 1);
	g_assert_false(rvmrpc_proxy_stuck(&proxy));
	submit_ok(4);
	assert_none_ended();
}

static void test_cancel_idle(void)
{
	struct rvmrpc_hdr hdr;

	setup(1);
	rvmrpc_proxy_cancel(&proxy, &calls[0], NOW, &done);
	assert_none_ended();
	submit_ok(0);
	deliver(&hdr);
	hdr = reply_to(&hdr, RVMRPC_STATUS_OK, 0);
	reply(0, &hdr);
	assert_ended(0, RVMRPC_STATUS_OK);
	rvmrpc_proxy_cancel(&proxy, &calls[0], NOW, &done);
	assert_quiet();
	g_assert_cmpuint(proxy.stats.cancelled, ==, 0);
}

static void test_histogram(void)
{
	static const struct { uint64_t ns; uint32_t bucket; } cases[] = {
		{ 0, 0 }, { 999, 0 }, { 1000, 1 }, { 1999, 1 }, { 2000, 2 }, { 4000, 3 }, { 1023999, 10 }, { 1024000, 11 },
		{ 60 * 1000000000ull, 26 }, { UINT64_MAX / 2, 31 },
	};
	struct rvmrpc_hdr hdr;
	struct rvmrpc_xfer x;
	uint32_t i;

	for (i = 0; i < G_N_ELEMENTS(cases); i++) {
		setup(1);
		submit_ok(0);
		deliver(&hdr);
		hdr = reply_to(&hdr, RVMRPC_STATUS_OK, 0);
		g_assert_true(rvmrpc_proxy_reply_begin(&proxy, 0, &x));
		rvmrpc_proxy_reply_check(&x, &hdr);
		rvmrpc_proxy_reply_commit(&proxy, &x, true, NOW + cases[i].ns, &done);
		g_assert_cmpuint(proxy.stats.histogram[cases[i].bucket], ==, 1);
	}
}

static void add_disturbed(const char *name, enum disturbance d)
{
	static const struct { const char *when; void (*test)(gconstpointer data); } whens[] = {
		{ "delivery", test_disturbed_delivery }, { "reply", test_disturbed_reply },
		{ "stale-reply", test_disturbed_stale_reply },
	};
	char *path;
	size_t i;

	for (i = 0; i < G_N_ELEMENTS(whens); i++) {
		if (d == COPY_FAILED && whens[i].test != test_disturbed_reply)
			continue;
		path = g_strdup_printf("/proxy/disturbed/%s/%s", whens[i].when, name);
		g_test_add_data_func(path, GINT_TO_POINTER(d), whens[i].test);
		g_free(path);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/proxy/open", test_open);
	g_test_add_func("/proxy/submit/refusals", test_submit_refusals);
	g_test_add_func("/proxy/submit/quota-client", test_quota_client);
	g_test_add_func("/proxy/submit/quota-vm", test_quota_vm);
	g_test_add_func("/proxy/deliver/header", test_header);
	g_test_add_func("/proxy/deliver/xid", test_xid);
	g_test_add_func("/proxy/deliver/fifo", test_fifo);
	g_test_add_func("/proxy/deliver/slots", test_slots);
	g_test_add_func("/proxy/deliver/stopped", test_stopped);
	g_test_add_func("/proxy/deliver/pending", test_pending);
	add_disturbed("copy-failed", COPY_FAILED);
	add_disturbed("cancel", CANCEL);
	add_disturbed("expire", EXPIRE);
	add_disturbed("reset", RESET);
	add_disturbed("exit", EXIT);
	add_disturbed("new-epoch", NEW_EPOCH);
	add_disturbed("cancel-then-reset", CANCEL_THEN_RESET);
	add_disturbed("expire-then-cancel", EXPIRE_THEN_CANCEL);
	g_test_add_func("/proxy/reply/stale", test_reply_stale);
	g_test_add_func("/proxy/reply/malformed", test_reply_malformed);
	g_test_add_func("/proxy/reply/sizes", test_reply_sizes);
	g_test_add_func("/proxy/reply/statuses", test_reply_statuses);
	g_test_add_func("/proxy/reply/given-up", test_given_up_by_guest);
	g_test_add_func("/proxy/reply/old-epoch", test_reply_old_epoch);
	g_test_add_func("/proxy/deadline/expire", test_expire);
	g_test_add_func("/proxy/deadline/not-delivered", test_expired_not_delivered);
	g_test_add_func("/proxy/deadline/stuck", test_stuck);
	g_test_add_func("/proxy/cancel/idle", test_cancel_idle);
	g_test_add_func("/proxy/stats/histogram", test_histogram);
	return g_test_run();
}
