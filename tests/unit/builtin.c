/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The modules that are the same in every guest, called as a driver calls them. */
#include <glib.h>

#include "rvmrpc_builtin.h"

#define EPOCH	0x1122334455667788u
#define REQ	RVMRPC_REQ_BYTES_DEFAULT

static struct rvmrpc_server server;

/* What the modules asked of the OS. */
static struct {
	uint32_t exits;
	uint32_t cancels;
	uint64_t cancelled;
	uint32_t drops;
	uint32_t mode;
	bool sync;
} asked;
static int drop_status;
static bool can_sync = true;

uint32_t rvmrpc_os_list(uint32_t first, void *buf, uint32_t bytes)
{
	return rvmrpc_server_list(&server, first, buf, bytes);
}

void rvmrpc_os_cancel(uint64_t xid)
{
	asked.cancels++;
	asked.cancelled = xid;
}

void rvmrpc_os_exit(void)
{
	asked.exits++;
}

bool rvmrpc_os_can_sync(void)
{
	return can_sync;
}

int rvmrpc_os_drop_caches(uint32_t mode, bool sync, uint64_t *freed)
{
	asked.drops++;
	asked.mode = mode;
	asked.sync = sync;
	*freed = 4096;
	return drop_status;
}

static void setup(void)
{
	uint32_t bad;

	rvmrpc_server_init(&server);
	g_assert_cmpint(rvmrpc_server_add(&server, &rvmrpc_core_module), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_add(&server, &rvmrpc_echo_module), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_add(&server, &rvmrpc_reclaim_module), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_allow(&server, "*.*", &bad), ==, RVMRPC_STATUS_OK);
	memset(&asked, 0, sizeof(asked));
	drop_status = RVMRPC_STATUS_OK;
}

/* The reply; its payload is in res. */
static struct rvmrpc_hdr call(uint32_t module, uint32_t procedure, const void *arg, uint32_t length, void *res,
			      uint32_t res_bytes)
{
	struct rvmrpc_hdr hdr = {
		.magic = RVMRPC_CALL_MAGIC, .abi = RVMRPC_ABI_VERSION, .epoch = EPOCH, .xid = 42,
		.module = module, .procedure = procedure, .length = length, .timeout_ms = 250,
	};
	/* Of its own size, so that a byte too many is seen. */
	void *copy = g_malloc(MAX(length, 1));
	struct rvmrpc_accepted a;
	struct rvmrpc_hdr reply;

	memcpy(copy, arg, length);
	g_assert_true(rvmrpc_server_accept(&server, &hdr, EPOCH, RVMRPC_ABI_VERSION, REQ, &a));
	rvmrpc_server_run(&a, copy, res, res_bytes, &reply);
	rvmrpc_server_done(&server, &a);
	g_free(copy);
	return reply;
}

static uint32_t status_of(uint32_t module, uint32_t procedure, const void *arg, uint32_t length)
{
	char res[256];

	return call(module, procedure, arg, length, res, sizeof(res)).status;
}

/* Never "OK" for what was not done. */
static void test_drop_no_sync(void)
{
	const struct rvmrpc_drop_req drop = { .mode = RVMRPC_DROP_ALL }, sync = { RVMRPC_DROP_ALL, RVMRPC_DROP_SYNC };

	setup();
	can_sync = false;
	g_assert_cmpuint(status_of(RVMRPC_MOD_RECLAIM, 0, &sync, sizeof(sync)), ==, RVMRPC_STATUS_SYSTEM_ERROR);
	g_assert_cmpuint(asked.drops, ==, 0);
	g_assert_cmpuint(status_of(RVMRPC_MOD_RECLAIM, 0, &drop, sizeof(drop)), ==, RVMRPC_STATUS_OK);
	can_sync = true;
	g_assert_cmpuint(status_of(RVMRPC_MOD_RECLAIM, 0, &sync, sizeof(sync)), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(asked.drops, ==, 2);
}

static void test_null(void)
{
	struct rvmrpc_hdr reply;
	char bytes[8] = "1234567";

	setup();
	reply = call(RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, bytes, sizeof(bytes), NULL, 0);
	g_assert_cmpuint(reply.status, ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(reply.length, ==, 0);
}

static void test_list(void)
{
	struct rvmrpc_list_req wanted = { .first = 1 };
	struct { struct rvmrpc_list head; struct rvmrpc_list_entry entry[16]; } out;
	struct rvmrpc_hdr reply;

	setup();
	/* Three modules with six procedures. */
	reply = call(RVMRPC_MOD_CORE, RVMRPC_CORE_LIST, "", 0, &out, sizeof(out));
	g_assert_cmpuint(reply.status, ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(out.head.total, ==, 9);
	g_assert_cmpuint(out.head.count, ==, 9);
	g_assert_cmpstr(out.entry[0].name, ==, "core");
	reply = call(RVMRPC_MOD_CORE, RVMRPC_CORE_LIST, &wanted, sizeof(wanted), &out, sizeof(out));
	g_assert_cmpuint(reply.status, ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(out.head.count, ==, 8);
	g_assert_cmpstr(out.entry[0].name, ==, "null");
	reply = call(RVMRPC_MOD_CORE, RVMRPC_CORE_LIST, "", 0, &out, sizeof(out.head));
	g_assert_cmpuint(reply.status, ==, RVMRPC_STATUS_TOO_BIG);
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, RVMRPC_CORE_LIST, &wanted, 4), ==,
			 RVMRPC_STATUS_GARBAGE_ARGS);
	wanted.reserved = 1;
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, RVMRPC_CORE_LIST, &wanted, sizeof(wanted)), ==,
			 RVMRPC_STATUS_GARBAGE_ARGS);
}

static void test_cancel(void)
{
	uint64_t xid = 0x8877665544332211;

	setup();
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, RVMRPC_CORE_CANCEL, &xid, 7), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpuint(asked.cancels, ==, 0);
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, RVMRPC_CORE_CANCEL, &xid, 8), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(asked.cancels, ==, 1);
	g_assert_cmpuint(asked.cancelled, ==, xid);
	/* No call has it, and a driver takes it for all of them. */
	xid = 0;
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, RVMRPC_CORE_CANCEL, &xid, 8), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(asked.cancels, ==, 1);
}

static void test_exit(void)
{
	uint32_t bad;

	setup();
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, RVMRPC_CORE_EXIT, "x", 1), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpuint(asked.exits, ==, 0);
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, RVMRPC_CORE_EXIT, "", 0), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(asked.exits, ==, 1);
	/* No guest leaves its host by default. */
	g_assert_cmpint(rvmrpc_server_allow(&server, "default", &bad), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, RVMRPC_CORE_EXIT, "", 0), ==, RVMRPC_STATUS_NOT_ALLOWED);
	g_assert_cmpuint(asked.exits, ==, 1);
}

static void test_echo(void)
{
	char bytes[64], res[64];
	struct rvmrpc_hdr reply;

	setup();
	memset(bytes, 'e', sizeof(bytes));
	reply = call(RVMRPC_MOD_ECHO, RVMRPC_ECHO_ECHO, bytes, sizeof(bytes), res, sizeof(res));
	g_assert_cmpuint(reply.status, ==, RVMRPC_STATUS_OK);
	g_assert_cmpmem(res, reply.length, bytes, sizeof(bytes));
	reply = call(RVMRPC_MOD_ECHO, RVMRPC_ECHO_ECHO, bytes, sizeof(bytes), res, sizeof(res) - 1);
	g_assert_cmpuint(reply.status, ==, RVMRPC_STATUS_TOO_BIG);
	g_assert_cmpuint(reply.length, ==, 0);
}

static void test_drop_caches(void)
{
	struct rvmrpc_drop_req wanted = { .mode = RVMRPC_DROP_SLAB, .flags = RVMRPC_DROP_SYNC };
	struct rvmrpc_drop_res result;
	struct rvmrpc_hdr reply;

	setup();
	reply = call(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_DROP_CACHES, &wanted, sizeof(wanted), &result, sizeof(result));
	g_assert_cmpuint(reply.status, ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(reply.length, ==, sizeof(result));
	g_assert_cmpuint(result.freed, ==, 4096);
	g_assert_cmpuint(asked.mode, ==, RVMRPC_DROP_SLAB);
	g_assert_true(asked.sync);
	wanted.flags = 0;
	status_of(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_DROP_CACHES, &wanted, sizeof(wanted));
	g_assert_false(asked.sync);
	drop_status = RVMRPC_STATUS_SYSTEM_ERROR;
	reply = call(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_DROP_CACHES, &wanted, sizeof(wanted), &result, sizeof(result));
	g_assert_cmpuint(reply.status, ==, RVMRPC_STATUS_SYSTEM_ERROR);
	g_assert_cmpuint(reply.length, ==, 0);
}

/* Nothing is dropped for a request that is refused. */
static void test_drop_caches_bad(void)
{
	static const struct rvmrpc_drop_req bad[] = {
		{ .mode = 0 }, { .mode = RVMRPC_DROP_ALL + 1 }, { .mode = RVMRPC_DROP_ALL, .flags = RVMRPC_DROP_SYNC << 1 },
	};
	struct rvmrpc_drop_req good = { .mode = RVMRPC_DROP_ALL };
	char res[sizeof(struct rvmrpc_drop_res) - 1];
	size_t i;

	setup();
	for (i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_cmpuint(status_of(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_DROP_CACHES, &bad[i], sizeof(bad[i])), ==,
				 RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpuint(status_of(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_DROP_CACHES, &good, 7), ==,
			 RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpuint(call(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_DROP_CACHES, &good, sizeof(good), res,
			      sizeof(res)).status, ==, RVMRPC_STATUS_TOO_BIG);
	g_assert_cmpuint(asked.drops, ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/builtin/core/null", test_null);
	g_test_add_func("/builtin/core/list", test_list);
	g_test_add_func("/builtin/core/cancel", test_cancel);
	g_test_add_func("/builtin/core/exit", test_exit);
	g_test_add_func("/builtin/echo", test_echo);
	g_test_add_func("/builtin/reclaim/drop-caches", test_drop_caches);
	g_test_add_func("/builtin/reclaim/refused", test_drop_caches_bad);
	g_test_add_func("/builtin/reclaim/no-sync", test_drop_no_sync);
	return g_test_run();
}
