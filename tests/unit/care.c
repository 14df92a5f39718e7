/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The modules that look after a guest, called as a driver calls them. */
#include <glib.h>

#include "rvmrpc_builtin.h"
#include "rvmrpc_care.h"
#include "rvmrpc_reader.h"

#define EPOCH	0x1122334455667788u
#define S	1000000000ull

static struct rvmrpc_server server;

/* What the OS says, and what was asked of it. */
static struct rvmrpc_clocks clocks;
static uint64_t clock_was_set;
static bool clock_fails;

void rvmrpc_os_clocks(struct rvmrpc_clocks *now)
{
	*now = clocks;
}

bool rvmrpc_os_clock_set(uint64_t realtime_ns)
{
	clock_was_set = realtime_ns;
	return !clock_fails;
}

static struct {
	uint32_t key, syncs, powers;
	bool reboot, force;
} asked;
static int sysrq_status, sync_status;

int rvmrpc_os_sysrq(uint32_t key, uint32_t *enabled)
{
	asked.key = key;
	*enabled = 438;
	return sysrq_status;
}

int rvmrpc_os_sync(void)
{
	asked.syncs++;
	return sync_status;
}

void rvmrpc_os_power(bool reboot, bool force)
{
	asked.powers++;
	asked.reboot = reboot;
	asked.force = force;
}

static struct rvmrpc_freeze_res freeze_state;
static uint32_t frozen_ms;
static int freeze_result;

int rvmrpc_os_freeze(uint32_t timeout_ms, struct rvmrpc_freeze_res *state)
{
	frozen_ms = timeout_ms;
	*state = freeze_state;
	return freeze_result;
}

int rvmrpc_os_thaw(struct rvmrpc_freeze_res *state)
{
	*state = freeze_state;
	return freeze_result;
}

void rvmrpc_os_freeze_state(struct rvmrpc_freeze_res *state)
{
	*state = freeze_state;
}

static uint64_t shrunk_bytes;
static uint32_t shrunk_ms;
static int reclaim_status;

int rvmrpc_os_shrink(uint64_t bytes, uint32_t ms, struct rvmrpc_shrink_res *result)
{
	shrunk_bytes = bytes;
	shrunk_ms = ms;
	*result = (struct rvmrpc_shrink_res){ .freed = 5, .reclaimed = 6, .end = RVMRPC_SHRINK_EXHAUSTED };
	return reclaim_status;
}

int rvmrpc_os_compact(struct rvmrpc_compact_res *result)
{
	*result = (struct rvmrpc_compact_res){ .before = 7, .after = 8 };
	return reclaim_status;
}

/* drop_caches has its tests in builtin.c. */
int rvmrpc_os_drop_caches(uint32_t mode, bool sync, uint64_t *freed)
{
	(void)mode;
	(void)sync;
	*freed = 0;
	return RVMRPC_STATUS_OK;
}

bool rvmrpc_os_can_sync(void)
{
	return true;
}

/* rvmrpc_builtin.c wants them. */
uint32_t rvmrpc_os_list(uint32_t first, void *buf, uint32_t bytes)
{
	return rvmrpc_server_list(&server, first, buf, bytes);
}

void rvmrpc_os_cancel(uint64_t xid)
{
	(void)xid;
}

void rvmrpc_os_exit(void)
{
}

static void allow(const char *text)
{
	uint32_t bad;

	g_assert_cmpint(rvmrpc_server_allow(&server, text, &bad), ==, RVMRPC_STATUS_OK);
}

static void setup(void)
{
	rvmrpc_server_init(&server);
	g_assert_cmpint(rvmrpc_server_add(&server, &rvmrpc_clock_module), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_add(&server, &rvmrpc_control_module), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_add(&server, &rvmrpc_freeze_module), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_add(&server, &rvmrpc_reclaim_sized_module), ==, RVMRPC_STATUS_OK);
	allow("*.*");
	reclaim_status = RVMRPC_STATUS_OK;
	shrunk_bytes = 0;
	freeze_result = RVMRPC_STATUS_OK;
	frozen_ms = 0;
	memset(&asked, 0, sizeof(asked));
	sysrq_status = sync_status = RVMRPC_STATUS_OK;
	clocks = (struct rvmrpc_clocks){ .realtime_ns = 1000 * S, .monotonic_ns = 90 * S, .boottime_ns = 100 * S };
	clock_was_set = 0;
	clock_fails = false;
}

/* The answer is in res; *length: its bytes. */
static uint32_t call(uint32_t module, uint32_t procedure, const void *arg, uint32_t bytes, void *res, uint32_t res_bytes,
		     uint32_t *length)
{
	struct rvmrpc_hdr hdr = {
		.magic = RVMRPC_CALL_MAGIC, .abi = RVMRPC_ABI_VERSION, .epoch = EPOCH, .xid = 42,
		.module = module, .procedure = procedure, .length = bytes, .timeout_ms = 250,
	};
	/* Of its own size, so that a byte too many is seen. */
	g_autofree void *copy = g_malloc(MAX(bytes, 1));
	struct rvmrpc_accepted a;
	struct rvmrpc_hdr reply;

	if (bytes)
		memcpy(copy, arg, bytes);
	g_assert_true(rvmrpc_server_accept(&server, &hdr, EPOCH, RVMRPC_ABI_VERSION, 4096, &a));
	rvmrpc_server_run(&a, copy, res, res_bytes, &reply);
	rvmrpc_server_done(&server, &a);
	*length = reply.length;
	return reply.status;
}

static uint32_t status_of(uint32_t module, uint32_t procedure, const void *arg, uint32_t bytes)
{
	char res[256];
	uint32_t length;

	return call(module, procedure, arg, bytes, res, sizeof(res), &length);
}

static void test_clock_read(void)
{
	struct rvmrpc_reader r;
	char res[256];
	uint32_t length;

	setup();
	g_assert_cmpuint(call(RVMRPC_MOD_CLOCK, RVMRPC_CLOCK_READ, NULL, 0, res, sizeof(res), &length), ==,
			 RVMRPC_STATUS_OK);
	g_assert_true(rvmrpc_reader_open(&r, res, length));
	g_assert_true(rvmrpc_reader_record(&r) && r.kind == RVMRPC_RECORD_CLOCK);
	g_assert_true(rvmrpc_reader_field(&r) && r.key == RVMRPC_CLOCK_REALTIME && r.u64 == 1000 * S);
	g_assert_true(rvmrpc_reader_field(&r) && r.key == RVMRPC_CLOCK_MONOTONIC && r.u64 == 90 * S);
	g_assert_true(rvmrpc_reader_field(&r) && r.key == RVMRPC_CLOCK_BOOTTIME && r.u64 == 100 * S);
	g_assert_false(rvmrpc_reader_field(&r) || rvmrpc_reader_record(&r));
}

static void test_clock_set(void)
{
	struct rvmrpc_clock_req wanted = { .realtime_ns = 5000 * S, .boottime_ns = 98 * S };
	struct rvmrpc_clock_res result;
	uint32_t length;

	setup();
	g_assert_cmpuint(call(RVMRPC_MOD_CLOCK, RVMRPC_CLOCK_SET, &wanted, sizeof(wanted), &result, sizeof(result),
			      &length), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(length, ==, sizeof(result));
	/* Two seconds have gone by on the way. */
	g_assert_cmpuint(clock_was_set, ==, 5002 * S);
	g_assert_cmpuint(result.before_ns, ==, 1000 * S);
	g_assert_cmpuint(result.after_ns, ==, 5002 * S);
	wanted.boottime_ns = 0;
	g_assert_cmpuint(status_of(RVMRPC_MOD_CLOCK, RVMRPC_CLOCK_SET, &wanted, sizeof(wanted)), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(clock_was_set, ==, 5000 * S);
	clock_fails = true;
	g_assert_cmpuint(status_of(RVMRPC_MOD_CLOCK, RVMRPC_CLOCK_SET, &wanted, sizeof(wanted)), ==,
			 RVMRPC_STATUS_SYSTEM_ERROR);
}

static void test_clock_bad(void)
{
	static const struct rvmrpc_clock_req bad[] = {
		{ 5000 * S, 100 * S + 1 }, { 5000 * S, 40 * S - 1 }, { 5000 * S, UINT64_MAX }, { 0, 0 },
		{ UINT64_MAX, 0 }, { INT64_MAX, 99 * S },
	};
	uint32_t i, length;
	char res[16];

	setup();
	for (i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_cmpuint(status_of(RVMRPC_MOD_CLOCK, RVMRPC_CLOCK_SET, &bad[i], sizeof(bad[i])), ==,
				 RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpuint(call(RVMRPC_MOD_CLOCK, RVMRPC_CLOCK_SET, &bad[0], sizeof(bad[0]), res, 15, &length), ==,
			 RVMRPC_STATUS_TOO_BIG);
	g_assert_cmpuint(status_of(RVMRPC_MOD_CLOCK, RVMRPC_CLOCK_SET, &bad[0], 8), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpuint(clock_was_set, ==, 0);
}

static void test_sysrq(void)
{
	static const struct rvmrpc_sysrq_req bad[] = { { 0, 0 }, { ' ', 0 }, { 0x7f, 0 }, { 0x100 + 's', 0 }, { 's', 1 } };
	const struct rvmrpc_sysrq_req wanted = { .key = 's' };
	struct rvmrpc_sysrq_res result;
	uint32_t i, length;

	setup();
	for (i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_cmpuint(status_of(RVMRPC_MOD_CONTROL, RVMRPC_CONTROL_SYSRQ, &bad[i], sizeof(bad[i])), ==,
				 RVMRPC_STATUS_GARBAGE_ARGS);
	/* Nothing is done that cannot be answered. */
	g_assert_cmpuint(call(RVMRPC_MOD_CONTROL, RVMRPC_CONTROL_SYSRQ, &wanted, sizeof(wanted), &result, 7, &length), ==,
			 RVMRPC_STATUS_TOO_BIG);
	g_assert_cmpuint(asked.key, ==, 0);
	g_assert_cmpuint(call(RVMRPC_MOD_CONTROL, RVMRPC_CONTROL_SYSRQ, &wanted, sizeof(wanted), &result, sizeof(result),
			      &length), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(asked.key, ==, 's');
	g_assert_cmpuint(result.enabled, ==, 438);
	g_assert_cmpuint(result.reserved, ==, 0);
	sysrq_status = RVMRPC_STATUS_NOT_ALLOWED;
	g_assert_cmpuint(status_of(RVMRPC_MOD_CONTROL, RVMRPC_CONTROL_SYSRQ, &wanted, sizeof(wanted)), ==,
			 RVMRPC_STATUS_NOT_ALLOWED);
}

static void test_power(void)
{
	struct rvmrpc_power_req wanted = { .flags = RVMRPC_POWER_FORCE << 1 };

	setup();
	g_assert_cmpuint(status_of(RVMRPC_MOD_CONTROL, RVMRPC_CONTROL_REBOOT, &wanted, 8), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	wanted = (struct rvmrpc_power_req){ .reserved = 1 };
	g_assert_cmpuint(status_of(RVMRPC_MOD_CONTROL, RVMRPC_CONTROL_POWEROFF, &wanted, 8), ==,
			 RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpuint(status_of(RVMRPC_MOD_CONTROL, RVMRPC_CONTROL_POWEROFF, NULL, 0), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpuint(asked.powers, ==, 0);
	wanted = (struct rvmrpc_power_req){ .flags = RVMRPC_POWER_FORCE };
	g_assert_cmpuint(status_of(RVMRPC_MOD_CONTROL, RVMRPC_CONTROL_REBOOT, &wanted, 8), ==, RVMRPC_STATUS_OK);
	g_assert_true(asked.powers == 1 && asked.reboot && asked.force);
	wanted.flags = 0;
	g_assert_cmpuint(status_of(RVMRPC_MOD_CONTROL, RVMRPC_CONTROL_POWEROFF, &wanted, 8), ==, RVMRPC_STATUS_OK);
	g_assert_true(asked.powers == 2 && !asked.reboot && !asked.force);
	sync_status = RVMRPC_STATUS_BUSY;
	g_assert_cmpuint(status_of(RVMRPC_MOD_CONTROL, RVMRPC_CONTROL_SYNC, NULL, 0), ==, RVMRPC_STATUS_BUSY);
	g_assert_cmpuint(asked.syncs, ==, 1);
}

static void test_freeze(void)
{
	static const struct rvmrpc_freeze_req bad[] = { { 0, 0 }, { RVMRPC_FREEZE_MS_MAX + 1, 0 }, { 1, 1 } };
	const struct rvmrpc_freeze_req wanted = { .timeout_ms = RVMRPC_FREEZE_MS_MAX };
	struct rvmrpc_freeze_res result;
	uint32_t i, length;

	setup();
	freeze_state = (struct rvmrpc_freeze_res){ .state = RVMRPC_FREEZE_FROZEN, .count = 3, .left_ms = 77 };
	for (i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_cmpuint(status_of(RVMRPC_MOD_FREEZE, RVMRPC_FREEZE_FREEZE, &bad[i], sizeof(bad[i])), ==,
				 RVMRPC_STATUS_GARBAGE_ARGS);
	/* Nothing is frozen of which nobody would hear. */
	g_assert_cmpuint(call(RVMRPC_MOD_FREEZE, RVMRPC_FREEZE_FREEZE, &wanted, sizeof(wanted), &result, 23, &length), ==,
			 RVMRPC_STATUS_TOO_BIG);
	g_assert_cmpuint(frozen_ms, ==, 0);
	for (i = RVMRPC_FREEZE_FREEZE; i <= RVMRPC_FREEZE_STATUS; i++) {
		memset(&result, 0, sizeof(result));
		g_assert_cmpuint(call(RVMRPC_MOD_FREEZE, i, &wanted, i ? 0 : sizeof(wanted), &result, sizeof(result),
				      &length), ==, RVMRPC_STATUS_OK);
		g_assert_cmpmem(&result, length, &freeze_state, sizeof(freeze_state));
	}
	g_assert_cmpuint(frozen_ms, ==, RVMRPC_FREEZE_MS_MAX);
	freeze_result = RVMRPC_STATUS_BUSY;
	g_assert_cmpuint(status_of(RVMRPC_MOD_FREEZE, RVMRPC_FREEZE_FREEZE, &wanted, sizeof(wanted)), ==,
			 RVMRPC_STATUS_BUSY);
	g_assert_cmpuint(status_of(RVMRPC_MOD_FREEZE, RVMRPC_FREEZE_THAW, NULL, 0), ==, RVMRPC_STATUS_BUSY);
}

static void test_reclaim(void)
{
	struct rvmrpc_shrink_req wanted = { .bytes = 0 };
	struct rvmrpc_shrink_res shrunk;
	struct rvmrpc_compact_res compacted;
	uint32_t length;

	setup();
	g_assert_cmpuint(status_of(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_SHRINK, &wanted, 8), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	wanted.bytes = UINT64_MAX;
	g_assert_cmpuint(call(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_SHRINK, &wanted, 8, &shrunk, 23, &length), ==,
			 RVMRPC_STATUS_TOO_BIG);
	g_assert_cmpuint(shrunk_bytes, ==, 0);
	g_assert_cmpuint(call(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_SHRINK, &wanted, 8, &shrunk, sizeof(shrunk), &length), ==,
			 RVMRPC_STATUS_OK);
	g_assert_cmpuint(shrunk_bytes, ==, UINT64_MAX);
	/* Of a caller's 250. */
	g_assert_true(shrunk_ms > 0 && shrunk_ms < 250);
	g_assert_true(shrunk.freed == 5 && shrunk.reclaimed == 6 && shrunk.end == RVMRPC_SHRINK_EXHAUSTED);
	g_assert_cmpuint(call(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_COMPACT, NULL, 0, &compacted, sizeof(compacted), &length),
			 ==, RVMRPC_STATUS_OK);
	g_assert_true(compacted.before == 7 && compacted.after == 8);
	reclaim_status = RVMRPC_STATUS_PROCEDURE_UNAVAILABLE;
	g_assert_cmpuint(status_of(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_SHRINK, &wanted, 8), ==,
			 RVMRPC_STATUS_PROCEDURE_UNAVAILABLE);
	g_assert_cmpuint(status_of(RVMRPC_MOD_RECLAIM, RVMRPC_RECLAIM_COMPACT, NULL, 0), ==,
			 RVMRPC_STATUS_PROCEDURE_UNAVAILABLE);
}

/* Who has not named them gets none of those that change something. */
static void test_default(void)
{
	static const char zeros[64];
	uint32_t i, j;

	setup();
	allow("default");
	for (i = 0; i < server.nmodules; i++) {
		for (j = 0; j < server.modules[i]->nprocs; j++) {
			const struct rvmrpc_procedure *p = &server.modules[i]->procs[j];
			uint32_t status = status_of(server.modules[i]->number, p->number, zeros, p->arg_min);

			if (p->handler == rvmrpc_reclaim_drop_caches)
				continue;
			g_assert_true((status == RVMRPC_STATUS_NOT_ALLOWED) == !(p->flags & RVMRPC_PROC_READ_ONLY));
		}
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/care/clock/read", test_clock_read);
	g_test_add_func("/care/clock/set", test_clock_set);
	g_test_add_func("/care/clock/bad", test_clock_bad);
	g_test_add_func("/care/control/sysrq", test_sysrq);
	g_test_add_func("/care/control/power", test_power);
	g_test_add_func("/care/freeze", test_freeze);
	g_test_add_func("/care/reclaim", test_reclaim);
	g_test_add_func("/care/default", test_default);
	return g_test_run();
}
