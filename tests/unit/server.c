/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest half: registry, dispatch, allow-list, core.list, info writer. */
#include <glib.h>

#include "rvmrpc_server.h"

#define EPOCH	0x1122334455667788u
#define REQ	RVMRPC_REQ_BYTES_DEFAULT

static struct rvmrpc_server server;
static struct rvmrpc_request seen;
static int next_status;
static uint32_t next_reslen;

static int record(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	seen = *req;
	g_assert_cmpuint(res->reslen, ==, 0);
	res->reslen = next_reslen;
	return next_status;
}

static int echo(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	if (req->arglen > res->resmax)
		return RVMRPC_STATUS_TOO_BIG;
	memcpy(res->res, req->arg, req->arglen);
	res->reslen = req->arglen;
	return RVMRPC_STATUS_OK;
}

static const struct rvmrpc_procedure core_procs[] = {
	{ RVMRPC_CORE_NULL, RVMRPC_PROC_READ_ONLY, 0, 0, "null", record },
	{ RVMRPC_CORE_EXIT, 0, 0, 0, "exit", record },
};

static const struct rvmrpc_procedure echo_procs[] = {
	{ RVMRPC_ECHO_ECHO, RVMRPC_PROC_READ_ONLY, 0, RVMRPC_ARG_ANY, "echo", echo },
	{ 7, RVMRPC_PROC_READ_ONLY | RVMRPC_PROC_MAY_SLEEP, 4, 8, "sized", record },
};

static const struct rvmrpc_procedure reclaim_procs[] = {
	{ RVMRPC_RECLAIM_DROP_CACHES, RVMRPC_PROC_MAY_SLEEP, 0, 8, "drop_caches", record },
};

static struct rvmrpc_module core = { RVMRPC_MOD_CORE, 1, "core", core_procs, G_N_ELEMENTS(core_procs) };
static struct rvmrpc_module echo_mod = { RVMRPC_MOD_ECHO, 3, "echo", echo_procs, G_N_ELEMENTS(echo_procs) };
static struct rvmrpc_module reclaim = { RVMRPC_MOD_RECLAIM, 1, "reclaim", reclaim_procs, 1 };
static struct rvmrpc_module user = { RVMRPC_MOD_USER, 2, "user-mod", NULL, 0, record };

static void setup(void)
{
	rvmrpc_server_init(&server);
	g_assert_cmpint(rvmrpc_server_add(&server, &reclaim), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_add(&server, &user), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_add(&server, &core), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_add(&server, &echo_mod), ==, RVMRPC_STATUS_OK);
	memset(&seen, 0, sizeof(seen));
	next_status = RVMRPC_STATUS_OK;
	next_reslen = 0;
}

static struct rvmrpc_hdr header(uint32_t module, uint32_t procedure, uint32_t length)
{
	return (struct rvmrpc_hdr) {
		.magic = RVMRPC_CALL_MAGIC, .abi = RVMRPC_ABI_VERSION, .epoch = EPOCH, .xid = 42,
		.module = module, .procedure = procedure, .length = length, .timeout_ms = 250,
	};
}

static bool accept_hdr(struct rvmrpc_hdr hdr, struct rvmrpc_accepted *a)
{
	static struct rvmrpc_hdr copy;

	/* What was accepted points to it. */
	copy = hdr;
	return rvmrpc_server_accept(&server, &copy, EPOCH, RVMRPC_ABI_VERSION, REQ, a);
}

/* Takes a request through all of the server; returns the reply's status. */
static uint32_t call(struct rvmrpc_hdr hdr, const void *arg, void *res, uint32_t res_bytes, struct rvmrpc_hdr *reply)
{
	struct rvmrpc_accepted a;

	g_assert_true(accept_hdr(hdr, &a));
	rvmrpc_server_run(&a, arg, res, res_bytes, reply);
	rvmrpc_server_done(&server, &a);
	g_assert_cmphex(reply->magic, ==, RVMRPC_CALL_MAGIC);
	g_assert_cmphex(reply->epoch, ==, EPOCH);
	g_assert_cmpuint(reply->xid, ==, hdr.xid);
	g_assert_cmpuint(reply->module, ==, hdr.module);
	g_assert_cmpuint(reply->procedure, ==, hdr.procedure);
	g_assert_cmpuint(reply->flags | reply->timeout_ms | reply->list | reply->reserved | reply->reserved2, ==,
			 0);
	return reply->status;
}

static uint32_t status_of(uint32_t module, uint32_t procedure, uint32_t length)
{
	uint64_t page[RVMRPC_PAGE_SIZE / 8] = { 0 };
	uint64_t out[RVMRPC_PAGE_SIZE / 8];
	struct rvmrpc_hdr reply;

	return call(header(module, procedure, length), page, out, sizeof(out), &reply);
}

static void test_given_up(void)
{
	struct rvmrpc_hdr hdr = header(RVMRPC_MOD_ECHO, 0, 0), reply;
	char out[8];

	setup();
	hdr.timeout_ms = 0;
	g_assert_cmpuint(call(hdr, NULL, out, sizeof(out), &reply), ==, RVMRPC_STATUS_CANCELLED);
	/* What it would have been told in any case comes first. */
	hdr.procedure = 99;
	g_assert_cmpuint(call(hdr, NULL, out, sizeof(out), &reply), ==, RVMRPC_STATUS_PROCEDURE_UNAVAILABLE);
}

static void allow(const char *text)
{
	uint32_t bad;

	g_assert_cmpint(rvmrpc_server_allow(&server, text, &bad), ==, RVMRPC_STATUS_OK);
}

/* ---- registry ---- */

static void test_registry_sorted(void)
{
	uint32_t i;

	setup();
	g_assert_cmpuint(server.nmodules, ==, 4);
	for (i = 1; i < server.nmodules; i++)
		g_assert_cmpuint(server.modules[i - 1]->number, <, server.modules[i]->number);
}

static void test_registry_taken(void)
{
	struct rvmrpc_module same_number = { RVMRPC_MOD_ECHO, 1, "other", echo_procs, 1 };
	struct rvmrpc_module same_name = { 0x200, 1, "echo", echo_procs, 1 };

	setup();
	g_assert_cmpint(rvmrpc_server_add(&server, &same_number), ==, RVMRPC_STATUS_BUSY);
	g_assert_cmpint(rvmrpc_server_add(&server, &same_name), ==, RVMRPC_STATUS_BUSY);
	g_assert_cmpuint(server.nmodules, ==, 4);
}

static void test_registry_full(void)
{
	static struct rvmrpc_module mods[RVMRPC_MODULES_MAX + 1];
	static char names[RVMRPC_MODULES_MAX + 1][16];
	uint32_t i;

	rvmrpc_server_init(&server);
	for (i = 0; i <= RVMRPC_MODULES_MAX; i++) {
		g_snprintf(names[i], sizeof(names[i]), "m%u", i);
		mods[i] = (struct rvmrpc_module) { 1000 - i, 1, names[i], NULL, 0, record };
		g_assert_cmpint(rvmrpc_server_add(&server, &mods[i]), ==,
				i < RVMRPC_MODULES_MAX ? RVMRPC_STATUS_OK : RVMRPC_STATUS_TOO_BIG);
	}
	for (i = 0; i < RVMRPC_MODULES_MAX; i++)
		g_assert_cmpint(rvmrpc_server_remove(&server, &mods[(i * 7) % RVMRPC_MODULES_MAX]), ==,
				RVMRPC_STATUS_OK);
	g_assert_cmpuint(server.nmodules, ==, 0);
}

static void test_registry_bad_names(void)
{
	static const char *const bad[] = {
		NULL, "", "1name", "-name", "*", "a.b", "a,b", "a b", "a\n", "tab\t", "abcdefghijklmnopqrstuvwxyz123456",
	};
	struct rvmrpc_procedure proc = { 0, 0, 0, 0, "p", record };
	struct rvmrpc_module m = { 0x300, 1, "m", &proc, 1 };
	uint32_t i;

	setup();
	for (i = 0; i < G_N_ELEMENTS(bad); i++) {
		m.name = bad[i];
		g_assert_cmpint(rvmrpc_server_add(&server, &m), ==, RVMRPC_STATUS_GARBAGE_ARGS);
		m.name = "m";
		proc.name = bad[i];
		g_assert_cmpint(rvmrpc_server_add(&server, &m), ==, RVMRPC_STATUS_GARBAGE_ARGS);
		proc.name = "p";
	}
	m.name = "abcdefghijklmnopqrstuvwxyz12345";
	g_assert_cmpint(rvmrpc_server_add(&server, &m), ==, RVMRPC_STATUS_OK);
}

static void test_registry_bad_procedures(void)
{
	struct rvmrpc_procedure procs[2] = { { 0, 0, 0, 0, "p", record }, { 1, 0, 0, 0, "q", record } };
	struct rvmrpc_module m = { 0x300, 1, "m", procs, 2 };
	struct rvmrpc_module empty = { 0x301, 1, "empty", NULL, 0 };
	struct rvmrpc_module no_table = { 0x302, 1, "no_table", NULL, 1, record };

	setup();
	g_assert_cmpint(rvmrpc_server_add(&server, &empty), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpint(rvmrpc_server_add(&server, &no_table), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	procs[1].number = 0;
	g_assert_cmpint(rvmrpc_server_add(&server, &m), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	procs[1].number = 1;
	procs[1].name = "p";
	g_assert_cmpint(rvmrpc_server_add(&server, &m), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	procs[1].name = "q";
	procs[1].handler = NULL;
	g_assert_cmpint(rvmrpc_server_add(&server, &m), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	procs[1].handler = record;
	procs[1].arg_min = 1;
	g_assert_cmpint(rvmrpc_server_add(&server, &m), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	procs[1].arg_min = 0;
	procs[1].flags = RVMRPC_PROC_ALLOWED;
	g_assert_cmpint(rvmrpc_server_add(&server, &m), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	procs[1].flags = 0;
	g_assert_cmpint(rvmrpc_server_add(&server, &m), ==, RVMRPC_STATUS_OK);
}

static void test_remove_busy(void)
{
	struct rvmrpc_hdr reply;
	struct rvmrpc_accepted a;

	setup();
	g_assert_true(accept_hdr(header(RVMRPC_MOD_ECHO, 7, 4), &a));
	g_assert_cmpint(rvmrpc_server_remove(&server, &echo_mod), ==, RVMRPC_STATUS_BUSY);
	/* The call goes on, and is the last one. */
	g_assert_cmpuint(status_of(RVMRPC_MOD_ECHO, 0, 0), ==, RVMRPC_STATUS_MODULE_UNAVAILABLE);
	rvmrpc_server_run(&a, &reply, NULL, 0, &reply);
	g_assert_cmpuint(echo_mod.running, ==, 1);
	rvmrpc_server_done(&server, &a);
	rvmrpc_server_done(&server, &a);
	g_assert_cmpuint(echo_mod.running, ==, 0);
	g_assert_cmpint(rvmrpc_server_remove(&server, &echo_mod), ==, RVMRPC_STATUS_MODULE_UNAVAILABLE);
	g_assert_cmpuint(status_of(RVMRPC_MOD_ECHO, 0, 0), ==, RVMRPC_STATUS_MODULE_UNAVAILABLE);
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, 0, 0), ==, RVMRPC_STATUS_OK);
}

/* ---- accept ---- */

static void test_accept_malformed(void)
{
	static const struct { const char *field; size_t offset; size_t size; } fields[] = {
		{ "magic", offsetof(struct rvmrpc_hdr, magic), 4 }, { "abi", offsetof(struct rvmrpc_hdr, abi), 2 },
		{ "epoch", offsetof(struct rvmrpc_hdr, epoch), 8 }, { "flags", offsetof(struct rvmrpc_hdr, flags), 4 },
		{ "status", offsetof(struct rvmrpc_hdr, status), 4 },
		{ "reserved", offsetof(struct rvmrpc_hdr, reserved), 12 },
	};
	struct rvmrpc_accepted a;
	struct rvmrpc_hdr hdr;
	size_t i, byte;

	setup();
	for (i = 0; i < G_N_ELEMENTS(fields); i++) {
		for (byte = 0; byte < fields[i].size; byte++) {
			g_test_message("%s, byte %zu", fields[i].field, byte);
			hdr = header(RVMRPC_MOD_CORE, 0, 0);
			((char *)&hdr)[fields[i].offset + byte] ^= 0x40;
			g_assert_false(accept_hdr(hdr, &a));
		}
	}
	hdr = header(RVMRPC_MOD_CORE, 0, 0);
	hdr.xid = 0;
	g_assert_false(accept_hdr(hdr, &a));
	hdr = header(RVMRPC_MOD_CORE, 0, 0);
	hdr.epoch = 0;
	g_assert_false(rvmrpc_server_accept(&server, &hdr, 0, RVMRPC_ABI_VERSION, REQ, &a));
	g_assert_true(accept_hdr(header(RVMRPC_MOD_CORE, 0, 0), &a));
	rvmrpc_server_done(&server, &a);
}

static void test_refusals(void)
{
	struct rvmrpc_hdr hdr, reply;

	setup();
	g_assert_cmpuint(status_of(99, 0, 0), ==, RVMRPC_STATUS_MODULE_UNAVAILABLE);
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, 99, 0), ==, RVMRPC_STATUS_PROCEDURE_UNAVAILABLE);
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, RVMRPC_CORE_EXIT, 0), ==, RVMRPC_STATUS_NOT_ALLOWED);
	g_assert_cmpuint(status_of(RVMRPC_MOD_USER, 0, 0), ==, RVMRPC_STATUS_NOT_ALLOWED);
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, 0, 1), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpuint(status_of(RVMRPC_MOD_ECHO, 7, 3), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpuint(status_of(RVMRPC_MOD_ECHO, 7, 9), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpuint(status_of(RVMRPC_MOD_ECHO, 7, 4), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(status_of(RVMRPC_MOD_ECHO, 7, 8), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(status_of(RVMRPC_MOD_ECHO, 0, REQ), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(status_of(RVMRPC_MOD_ECHO, 0, REQ + 1), ==, RVMRPC_STATUS_TOO_BIG);
	g_assert_cmpuint(status_of(RVMRPC_MOD_ECHO, 0, UINT32_MAX), ==, RVMRPC_STATUS_TOO_BIG);

	hdr = header(RVMRPC_MOD_ECHO, 0, 0);
	hdr.version = 2;
	g_assert_cmpuint(call(hdr, NULL, NULL, 0, &reply), ==, RVMRPC_STATUS_VERSION_MISMATCH);
	g_assert_cmpuint(reply.version, ==, 3);
	hdr.version = 3;
	g_assert_cmpuint(call(hdr, "", &hdr, 0, &reply), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(echo_mod.running | core.running | user.running, ==, 0);
}

static struct rvmrpc_list_entry first_entry(void)
{
	char buf[sizeof(struct rvmrpc_list) + sizeof(struct rvmrpc_list_entry)];
	struct rvmrpc_list_entry e;

	g_assert_cmpuint(rvmrpc_server_list(&server, 0, buf, sizeof(buf)), ==, sizeof(buf));
	memcpy(&e, buf + sizeof(struct rvmrpc_list), sizeof(e));
	return e;
}

/* Numbers that a list told are good as long as it is. */
static void test_list_generation(void)
{
	struct rvmrpc_hdr hdr, reply;
	uint32_t told;

	setup();
	told = first_entry().generation;
	g_assert_cmpuint(told, !=, 0);
	hdr = header(RVMRPC_MOD_ECHO, 0, 0);
	hdr.list = told;
	g_assert_cmpuint(call(hdr, "", &hdr, 0, &reply), ==, RVMRPC_STATUS_OK);
	/* The same number, the same version: another module. */
	g_assert_cmpint(rvmrpc_server_remove(&server, &echo_mod), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_add(&server, &echo_mod), ==, RVMRPC_STATUS_OK);
	hdr = header(RVMRPC_MOD_ECHO, 0, 0);
	hdr.list = told;
	g_assert_cmpuint(call(hdr, "", &hdr, 0, &reply), ==, RVMRPC_STATUS_VERSION_MISMATCH);
	hdr.list = first_entry().generation;
	g_assert_cmpuint(call(hdr, "", &hdr, 0, &reply), ==, RVMRPC_STATUS_OK);
	hdr.list = 0;
	g_assert_cmpuint(call(hdr, "", &hdr, 0, &reply), ==, RVMRPC_STATUS_OK);
}

/* A reboot comes to the same count of modules by the same steps, with others in them. */
static void test_list_epoch(void)
{
	struct rvmrpc_hdr hdr, reply;
	uint32_t told;

	setup();
	rvmrpc_server_new_epoch(&server, EPOCH);
	told = first_entry().generation;
	hdr = header(RVMRPC_MOD_ECHO, 0, 0);
	hdr.list = told;
	g_assert_cmpuint(call(hdr, "", &hdr, 0, &reply), ==, RVMRPC_STATUS_OK);
	setup();
	rvmrpc_server_new_epoch(&server, EPOCH + 0x1234567800000000);
	hdr = header(RVMRPC_MOD_ECHO, 0, 0);
	hdr.list = told;
	g_assert_cmpuint(call(hdr, "", &hdr, 0, &reply), ==, RVMRPC_STATUS_VERSION_MISMATCH);
}

/* A host that chooses its epochs brings back nothing that the guest found under another allow-list. */
static void test_chosen_epoch(void)
{
	struct rvmrpc_lookup before, after;
	uint32_t bad, i;

	setup();
	rvmrpc_server_lookup(&server, RVMRPC_MOD_ECHO, 0, &before);
	g_assert_cmpint(rvmrpc_server_allow(&server, "none", &bad), ==, RVMRPC_STATUS_OK);
	for (i = 0; i < 1000; i++) {
		rvmrpc_server_lookup(&server, RVMRPC_MOD_ECHO, 0, &after);
		rvmrpc_server_new_epoch(&server, i % 2 ? before.list - after.generation - i % 5 : -after.generation - i % 5);
		rvmrpc_server_lookup(&server, RVMRPC_MOD_ECHO, 0, &after);
		g_assert_cmpuint(after.generation, !=, before.generation);
		g_assert_cmpuint(after.status, ==, RVMRPC_STATUS_NOT_ALLOWED);
		g_assert_cmpuint(after.list, !=, 0);
	}
}

/* ---- run ---- */

static void test_run(void)
{
	char arg[] = "hello", res[8];
	struct rvmrpc_hdr reply;

	setup();
	g_assert_cmpuint(call(header(RVMRPC_MOD_ECHO, 0, 5), arg, res, 8, &reply), ==, RVMRPC_STATUS_OK);
	g_assert_cmpmem(res, reply.length, "hello", 5);
	g_assert_cmpuint(reply.version, ==, 3);
	g_assert_cmpuint(call(header(RVMRPC_MOD_ECHO, 0, 5), arg, res, 4, &reply), ==, RVMRPC_STATUS_TOO_BIG);
	g_assert_cmpuint(reply.length, ==, 0);

	call(header(RVMRPC_MOD_ECHO, 7, 4), arg, res, 8, &reply);
	g_assert_cmpuint(seen.mod, ==, RVMRPC_MOD_ECHO);
	g_assert_cmpuint(seen.func, ==, 7);
	g_assert_cmpuint(seen.arglen, ==, 4);
	g_assert_cmpuint(seen.timeout_ms, ==, 250);
	g_assert_cmpuint(seen.xid, ==, 42);
	g_assert_true(seen.arg == arg);
}

static void test_run_statuses(void)
{
	static const int host_only[] = {
		RVMRPC_STATUS_NOT_CONNECTED, RVMRPC_STATUS_STOPPED, RVMRPC_STATUS_TIMED_OUT, RVMRPC_STATUS_RESET,
		RVMRPC_STATUS_MAX + 1, -1, -22,
	};
	struct rvmrpc_hdr reply;
	uint32_t i;

	setup();
	next_reslen = 4;
	for (i = 0; i <= RVMRPC_STATUS_BUSY; i++) {
		next_status = i;
		g_assert_cmpuint(call(header(RVMRPC_MOD_CORE, 0, 0), "", &reply, 4, &reply), ==, i);
		g_assert_cmpuint(reply.length, ==, i ? 0 : 4);
	}
	next_status = RVMRPC_STATUS_CANCELLED;
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, 0, 0), ==, RVMRPC_STATUS_CANCELLED);
	for (i = 0; i < G_N_ELEMENTS(host_only); i++) {
		next_status = host_only[i];
		g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, 0, 0), ==, RVMRPC_STATUS_SYSTEM_ERROR);
	}
	next_status = RVMRPC_STATUS_OK;
	next_reslen = RVMRPC_PAGE_SIZE + 1;
	g_assert_cmpuint(status_of(RVMRPC_MOD_CORE, 0, 0), ==, RVMRPC_STATUS_TOO_BIG);
}

static void test_dispatch(void)
{
	struct rvmrpc_accepted a;

	setup();
	allow("user-mod.*");
	g_assert_cmpuint(status_of(RVMRPC_MOD_USER, 77, 0), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(seen.func, ==, 77);
	g_assert_true(accept_hdr(header(RVMRPC_MOD_USER, 77, 0), &a));
	g_assert_null(a.proc);
	g_assert_cmpuint(a.flags, ==, RVMRPC_PROC_MAY_SLEEP | RVMRPC_PROC_ALLOWED);
	rvmrpc_server_done(&server, &a);
}

/* ---- allow-list ---- */

/* One letter per procedure that may be called: null exit echo sized drop_caches user.5. */
static char *allowed_now(void)
{
	static const struct { char letter; uint32_t module, procedure, length; } all[] = {
		{ 'n', RVMRPC_MOD_CORE, RVMRPC_CORE_NULL, 0 }, { 'x', RVMRPC_MOD_CORE, RVMRPC_CORE_EXIT, 0 },
		{ 'e', RVMRPC_MOD_ECHO, RVMRPC_ECHO_ECHO, 0 }, { 's', RVMRPC_MOD_ECHO, 7, 4 },
		{ 'd', RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_DROP_CACHES, 0 }, { 'u', RVMRPC_MOD_USER, 5, 0 },
	};
	GString *s = g_string_new(NULL);
	uint32_t i, status;

	for (i = 0; i < G_N_ELEMENTS(all); i++) {
		status = status_of(all[i].module, all[i].procedure, all[i].length);
		if (status == RVMRPC_STATUS_OK)
			g_string_append_c(s, all[i].letter);
		else
			g_assert_cmpuint(status, ==, RVMRPC_STATUS_NOT_ALLOWED);
	}
	return g_string_free(s, FALSE);
}

/* What the guest may keep for its root: only who names it gets it. */
static void test_allow_secret(void)
{
	static const struct rvmrpc_procedure procs[] = {
		{ 0, RVMRPC_PROC_READ_ONLY | RVMRPC_PROC_SECRET, 0, 0, "read", record },
		{ 1, RVMRPC_PROC_READ_ONLY, 0, 0, "count", record },
	};
	static struct rvmrpc_module klog = { RVMRPC_MOD_KLOG, 1, "klog", procs, G_N_ELEMENTS(procs) };

	setup();
	g_assert_cmpint(rvmrpc_server_add(&server, &klog), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(status_of(RVMRPC_MOD_KLOG, 0, 0), ==, RVMRPC_STATUS_NOT_ALLOWED);
	g_assert_cmpuint(status_of(RVMRPC_MOD_KLOG, 1, 0), ==, RVMRPC_STATUS_OK);
	allow("default,klog.read");
	g_assert_cmpuint(status_of(RVMRPC_MOD_KLOG, 0, 0), ==, RVMRPC_STATUS_OK);
	allow("*.*,-default");
	g_assert_cmpuint(status_of(RVMRPC_MOD_KLOG, 0, 0), ==, RVMRPC_STATUS_OK);
}

/* What a module of your own says of itself does not let it in. */
static void test_allow_own(void)
{
	static const struct rvmrpc_procedure procs[] = { { 0, RVMRPC_PROC_READ_ONLY, 0, 0, "read", record } };
	static struct rvmrpc_module own = { RVMRPC_MOD_USER + 7, 1, "own", procs, G_N_ELEMENTS(procs) };

	setup();
	g_assert_cmpint(rvmrpc_server_add(&server, &own), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(status_of(RVMRPC_MOD_USER + 7, 0, 0), ==, RVMRPC_STATUS_NOT_ALLOWED);
	allow("default,own.read");
	g_assert_cmpuint(status_of(RVMRPC_MOD_USER + 7, 0, 0), ==, RVMRPC_STATUS_OK);
}

static void test_allow_grammar(void)
{
	static const struct { const char *text, *normal, *allowed; } cases[] = {
		{ "default", "default", "nesd" },
		{ "", "none", "" },
		{ " ,\t\n ", "none", "" },
		{ "none", "none", "" },
		{ "*.*", "*.*", "nxesdu" },
		{ "*.* none", "*.*,none", "" },
		{ "none,echo.echo", "none,echo.echo", "e" },
		{ "default,core.exit", "default,core.exit", "nxesd" },
		{ "  default ,, core.exit\n", "default,core.exit", "nxesd" },
		{ "default,-echo.*", "default,-echo.*", "nd" },
		{ "-echo.*,default", "-echo.*,default", "nesd" },
		{ "*.*,-default", "*.*,-default", "xu" },
		{ "*.*,-*.exit,-user-mod.5", "*.*,-*.exit,-user-mod.5", "nesd" },
		{ "1.7", "1.7", "s" },
		{ "0x1.0x7,0X100.5", "0x1.0x7,0X100.5", "su" },
		{ "echo.7 1.echo", "echo.7,1.echo", "es" },
		{ "*.0", "*.0", "ned" },
		{ "user-mod.*", "user-mod.*", "u" },
		{ "user-mod.four", "user-mod.four", "" },
		{ "nobody.knows,4294967295.0xffffffff", "nobody.knows,4294967295.0xffffffff", "" },
		{ "echo.echo,-echo.echo,echo.echo", "echo.echo,-echo.echo,echo.echo", "e" },
	};
	uint32_t i;
	char *now;

	for (i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_test_message("case %u", i);
		setup();
		allow(cases[i].text);
		g_assert_cmpstr(server.allow, ==, cases[i].normal);
		now = allowed_now();
		g_assert_cmpstr(now, ==, cases[i].allowed);
		g_free(now);
		allow(server.allow);
		g_assert_cmpstr(server.allow, ==, cases[i].normal);
	}
}

static void test_allow_bad(void)
{
	static const struct { const char *text; uint32_t bad; } cases[] = {
		{ "echo", 4 }, { "default,echo", 12 }, { "*", 1 }, { "-", 1 }, { "-none", 5 }, { "--default", 1 },
		{ ".", 0 }, { "echo.", 5 }, { ".echo", 0 }, { "echo..echo", 5 }, { "echo.echo.echo", 9 },
		{ "default.x y", 11 }, { "echo.e!ho", 6 }, { "default;none", 7 }, { "4294967296.0", 0 },
		{ "1.0x", 2 }, { "0x.1", 0 }, { "1.99999999999999999999", 2 }, { "12a.1", 2 }, { "**.1", 1 },
		{ "echo .echo", 4 }, { "\xff.1", 0 }, { "abcdefghijklmnopqrstuvwxyz123456.1", 0 }, { "Default", 7 },
	};
	uint32_t i, bad;

	setup();
	allow("echo.echo");
	for (i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_test_message("case %u", i);
		bad = 1000;
		g_assert_cmpint(rvmrpc_server_allow(&server, cases[i].text, &bad), ==, RVMRPC_STATUS_GARBAGE_ARGS);
		g_assert_cmpuint(bad, ==, cases[i].bad);
		g_assert_cmpstr(server.allow, ==, "echo.echo");
	}
}

static void test_allow_size(void)
{
	char text[2 * RVMRPC_ALLOW_MAX + 8];
	uint32_t bad, n = 0;

	setup();
	/* 255 items of 4 bytes with their commas, then one of 3 fill the list to its last byte but the NUL. */
	while (n < 255 * 4) {
		memcpy(text + n, "1.1 ", 4);
		n += 4;
	}
	memcpy(text + n, "1.7", 4);
	allow(text);
	g_assert_cmpuint(strlen(server.allow), ==, RVMRPC_ALLOW_MAX - 1);
	g_assert_cmpuint(status_of(RVMRPC_MOD_ECHO, 7, 4), ==, RVMRPC_STATUS_OK);
	memcpy(text + n, "1.77", 5);
	g_assert_cmpint(rvmrpc_server_allow(&server, text, &bad), ==, RVMRPC_STATUS_TOO_BIG);
	g_assert_cmpuint(status_of(RVMRPC_MOD_ECHO, 7, 4), ==, RVMRPC_STATUS_OK);
	memset(text, ' ', sizeof(text));
	memcpy(text + sizeof(text) - 4, "1.0", 4);
	allow(text);
	g_assert_cmpstr(server.allow, ==, "1.0");
}

/* ---- core.list ---- */

#define ENTRIES	9	/* of setup(): four modules, five procedures */

static void test_list_all(void)
{
	struct { struct rvmrpc_list head; struct rvmrpc_list_entry entry[ENTRIES + 1]; } out;
	uint32_t bytes;

	setup();
	bytes = rvmrpc_server_list(&server, 0, &out, sizeof(out));
	g_assert_cmpuint(bytes, ==, sizeof(out) - sizeof(out.entry[0]));
	g_assert_cmpuint(out.head.total, ==, ENTRIES);
	g_assert_cmpuint(out.head.count, ==, ENTRIES);
	g_assert_cmpuint(out.entry[0].kind, ==, RVMRPC_LIST_MODULE);
	g_assert_cmpstr(out.entry[0].name, ==, "core");
	g_assert_cmpuint(out.entry[0].flags, ==, 0);
	g_assert_cmpuint(out.entry[1].kind, ==, RVMRPC_LIST_PROCEDURE);
	g_assert_cmpstr(out.entry[1].name, ==, "null");
	g_assert_cmpuint(out.entry[1].flags, ==, RVMRPC_PROC_READ_ONLY | RVMRPC_PROC_ALLOWED);
	g_assert_cmpstr(out.entry[2].name, ==, "exit");
	g_assert_cmpuint(out.entry[2].flags, ==, 0);
	g_assert_cmpuint(out.entry[5].number, ==, 7);
	g_assert_cmpuint(out.entry[5].version, ==, 3);
	g_assert_cmpuint(out.entry[5].flags, ==,
			 RVMRPC_PROC_READ_ONLY | RVMRPC_PROC_MAY_SLEEP | RVMRPC_PROC_ALLOWED);
	g_assert_cmpstr(out.entry[8].name, ==, "user-mod");
	g_assert_cmpuint(out.entry[8].number, ==, RVMRPC_MOD_USER);
}

static void test_list_paging(void)
{
	struct { struct rvmrpc_list head; struct rvmrpc_list_entry entry[ENTRIES]; } all, part;
	uint32_t per, first, bytes;

	setup();
	rvmrpc_server_list(&server, 0, &all, sizeof(all));
	for (per = 1; per <= ENTRIES; per++) {
		for (first = 0; first < ENTRIES; first += part.head.count) {
			memset(&part, 0xa5, sizeof(part));
			/* One byte short of another entry. */
			bytes = rvmrpc_server_list(&server, first, &part, 8 + per * 48 + (per < ENTRIES ? 47 : 0));
			g_assert_cmpuint(part.head.count, ==, MIN(per, ENTRIES - first));
			g_assert_cmpuint(part.head.total, ==, ENTRIES);
			g_assert_cmpmem(part.entry, bytes - 8, &all.entry[first], part.head.count * 48);
		}
	}
	g_assert_cmpuint(rvmrpc_server_list(&server, ENTRIES, &part, sizeof(part)), ==, 8);
	g_assert_cmpuint(part.head.count, ==, 0);
	g_assert_cmpuint(rvmrpc_server_list(&server, UINT32_MAX, &part, 8), ==, 8);
	g_assert_cmpuint(rvmrpc_server_list(&server, 0, &part, 8 + 47), ==, 0);
	g_assert_cmpuint(rvmrpc_server_list(&server, 0, &part, 7), ==, 0);
	g_assert_cmpuint(rvmrpc_server_list(&server, 0, NULL, 0), ==, 0);
}

/* ---- info writer ---- */

static void test_info(void)
{
	struct { struct rvmrpc_info head; struct rvmrpc_item item[2]; char text[8]; } out;
	struct rvmrpc_response res = { .resmax = sizeof(out), .res = &out };
	struct rvmrpc_info_writer w;
	char text[8] = "raw";

	rvmrpc_info_begin(&w, &res, text, sizeof(text));
	rvmrpc_info_raw(&w, 3);
	rvmrpc_info_u64(&w, RVMRPC_MEM_TOTAL, RVMRPC_INDEX_ALL, 1ull << 40);
	rvmrpc_info_string(&w, RVMRPC_CPU_VENDOR, 2, "Intel", 5);
	g_assert_cmpint(rvmrpc_info_end(&w, &res), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(res.reslen, ==, sizeof(out));
	g_assert_cmpuint(out.head.count, ==, 2);
	g_assert_cmpuint(out.head.text_length, ==, 8);
	g_assert_cmpuint(out.head.raw_length, ==, 3);
	g_assert_cmpuint(out.item[0].key, ==, RVMRPC_MEM_TOTAL);
	g_assert_cmpuint(out.item[0].type, ==, RVMRPC_ITEM_U64);
	g_assert_cmpuint(out.item[0].index, ==, RVMRPC_INDEX_ALL);
	g_assert_cmpuint(out.item[0].value, ==, 1ull << 40);
	g_assert_cmpuint(out.item[1].type, ==, RVMRPC_ITEM_STRING);
	g_assert_cmphex(out.item[1].value, ==, 5ull << 32 | 3);
	g_assert_cmpmem(out.text, 8, "rawIntel", 8);
}

/* Two items and eight bytes of text in room of every size: OK exactly when they fit, and nothing is written past it. */
static void test_info_overflow(void)
{
	uint32_t need = sizeof(struct rvmrpc_info) + 2 * sizeof(struct rvmrpc_item) + 8, room;
	struct rvmrpc_response res;
	struct rvmrpc_info_writer w;
	char text[8];

	for (room = 0; room <= need + 20; room++) {
		res = (struct rvmrpc_response) { .resmax = room, .res = g_malloc(room) };
		rvmrpc_info_begin(&w, &res, text, sizeof(text));
		rvmrpc_info_string(&w, 1, 0, "12345678", 8);
		rvmrpc_info_u64(&w, 2, 0, 5);
		g_assert_cmpint(rvmrpc_info_end(&w, &res), ==, room < need ? RVMRPC_STATUS_TOO_BIG : RVMRPC_STATUS_OK);
		g_assert_cmpuint(res.reslen, ==, room < need ? 0 : need);
		g_free(res.res);
	}
}

static void test_info_text_overflow(void)
{
	uint64_t out[64];
	struct rvmrpc_response res = { .resmax = sizeof(out), .res = out };
	struct rvmrpc_info_writer w;
	char text[8];

	rvmrpc_info_begin(&w, &res, text, sizeof(text));
	rvmrpc_info_raw(&w, 9);
	g_assert_cmpint(rvmrpc_info_end(&w, &res), ==, RVMRPC_STATUS_TOO_BIG);

	rvmrpc_info_begin(&w, &res, text, sizeof(text));
	rvmrpc_info_string(&w, 1, 0, "12345", 5);
	rvmrpc_info_string(&w, 1, 1, "1234", 4);
	g_assert_cmpint(rvmrpc_info_end(&w, &res), ==, RVMRPC_STATUS_TOO_BIG);

	rvmrpc_info_begin(&w, &res, text, sizeof(text));
	rvmrpc_info_string(&w, 1, 0, "12345", 5);
	rvmrpc_info_raw(&w, 2);
	g_assert_cmpint(rvmrpc_info_end(&w, &res), ==, RVMRPC_STATUS_TOO_BIG);

	rvmrpc_info_begin(&w, &res, NULL, 0);
	g_assert_cmpint(rvmrpc_info_end(&w, &res), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(res.reslen, ==, sizeof(struct rvmrpc_info));
}

static void test_info_wanted(void)
{
	struct rvmrpc_info_req wanted = { .flags = RVMRPC_INFO_TEXT };
	struct rvmrpc_request req = { .arg = &wanted, .arglen = 0 };
	struct rvmrpc_info_req got = { .flags = 99 };

	g_assert_cmpint(rvmrpc_info_wanted(&req, &got), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(got.flags, ==, 0);
	req.arglen = sizeof(wanted);
	wanted.first = 7;
	g_assert_cmpint(rvmrpc_info_wanted(&req, &got), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(got.flags, ==, RVMRPC_INFO_TEXT);
	g_assert_cmpuint(got.first, ==, 7);
	req.arglen = sizeof(wanted) - 1;
	g_assert_cmpint(rvmrpc_info_wanted(&req, &got), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	req.arglen = sizeof(wanted);
	wanted = (struct rvmrpc_info_req) { .flags = ~0u };
	g_assert_cmpint(rvmrpc_info_wanted(&req, &got), ==, RVMRPC_STATUS_GARBAGE_ARGS);
}

#define CPUS	64

/* 64 CPUs and a page: all come, each once, in as many answers as they need. */
static void test_info_pages(void)
{
	struct rvmrpc_info_page page = { .items = 8, .next_key = RVMRPC_CPU_NEXT };
	struct rvmrpc_response res = { .res = g_malloc(4096) };
	uint32_t cpu, i, seen = 0, pages = 0;
	struct rvmrpc_info_writer w;
	const struct rvmrpc_item *last;

	do {
		res.resmax = 4096;
		rvmrpc_info_begin(&w, &res, NULL, 0);
		for (cpu = page.first; cpu < CPUS && rvmrpc_info_cpu(&w, &res, &page, cpu); cpu++) {
			g_assert_cmpuint(cpu, ==, seen++);
			for (i = 0; i < page.items; i++)
				rvmrpc_info_u64(&w, RVMRPC_CPU_FAMILY, cpu, cpu);
		}
		g_assert_cmpint(rvmrpc_info_end(&w, &res), ==, RVMRPC_STATUS_OK);
		last = &w.items[w.nitems - 1];
		g_assert_cmpuint(last->key, ==, cpu < CPUS ? RVMRPC_CPU_NEXT : RVMRPC_CPU_FAMILY);
		g_assert_cmpuint(last->value, ==, cpu < CPUS ? cpu : CPUS - 1);
		page.first = cpu;
		pages++;
	} while (cpu < CPUS);
	g_assert_cmpuint(pages, ==, 3);
	/* Not even one: better no answer than the same question for ever. */
	res.resmax = sizeof(struct rvmrpc_info) + 8 * sizeof(struct rvmrpc_item);
	rvmrpc_info_begin(&w, &res, NULL, 0);
	page.first = 4;
	g_assert_false(rvmrpc_info_cpu(&w, &res, &page, 4));
	g_assert_cmpint(rvmrpc_info_end(&w, &res), ==, RVMRPC_STATUS_TOO_BIG);
	g_free(res.res);
}

/* What fits can be written, and one byte or item more cannot. */
static void test_info_fits(void)
{
	uint32_t need = sizeof(struct rvmrpc_info) + 2 * sizeof(struct rvmrpc_item) + 8, room;
	struct rvmrpc_response res = { .res = g_malloc(need) };
	struct rvmrpc_info_writer w;
	char text[8];

	for (room = need - 1; room <= need; room++) {
		res.resmax = room;
		rvmrpc_info_begin(&w, &res, text, sizeof(text));
		rvmrpc_info_u64(&w, 2, 0, 5);
		g_assert_true(rvmrpc_info_fits(&w, &res, 1, 8) == (room == need));
	}
	g_assert_false(rvmrpc_info_fits(&w, &res, 2, 8));
	g_assert_false(rvmrpc_info_fits(&w, &res, 0, 9));
	rvmrpc_info_string(&w, 1, 0, "12345678", 8);
	g_assert_true(rvmrpc_info_fits(&w, &res, 0, 0));
	g_assert_false(rvmrpc_info_fits(&w, &res, 0, 1));
	g_assert_cmpint(rvmrpc_info_end(&w, &res), ==, RVMRPC_STATUS_OK);
	g_free(res.res);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/server/registry/sorted", test_registry_sorted);
	g_test_add_func("/server/registry/taken", test_registry_taken);
	g_test_add_func("/server/registry/full", test_registry_full);
	g_test_add_func("/server/registry/bad-names", test_registry_bad_names);
	g_test_add_func("/server/registry/bad-procedures", test_registry_bad_procedures);
	g_test_add_func("/server/registry/remove-busy", test_remove_busy);
	g_test_add_func("/server/accept/malformed", test_accept_malformed);
	g_test_add_func("/server/accept/refusals", test_refusals);
	g_test_add_func("/server/accept/given-up", test_given_up);
	g_test_add_func("/server/accept/list-generation", test_list_generation);
	g_test_add_func("/server/accept/list-epoch", test_list_epoch);
	g_test_add_func("/server/accept/chosen-epoch", test_chosen_epoch);
	g_test_add_func("/server/run/reply", test_run);
	g_test_add_func("/server/run/statuses", test_run_statuses);
	g_test_add_func("/server/run/dispatch", test_dispatch);
	g_test_add_func("/server/allow/grammar", test_allow_grammar);
	g_test_add_func("/server/allow/secret", test_allow_secret);
	g_test_add_func("/server/allow/own", test_allow_own);
	g_test_add_func("/server/allow/bad", test_allow_bad);
	g_test_add_func("/server/allow/size", test_allow_size);
	g_test_add_func("/server/list/all", test_list_all);
	g_test_add_func("/server/list/paging", test_list_paging);
	g_test_add_func("/server/info/layout", test_info);
	g_test_add_func("/server/info/wanted", test_info_wanted);
	g_test_add_func("/server/info/pages", test_info_pages);
	g_test_add_func("/server/info/fits", test_info_fits);
	g_test_add_func("/server/info/overflow", test_info_overflow);
	g_test_add_func("/server/info/text-overflow", test_info_text_overflow);
	return g_test_run();
}
