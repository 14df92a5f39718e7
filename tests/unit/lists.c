/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The modules that list what there is, called as a driver calls them: what reaches the OS, and what its records become. */
#include <glib.h>

#include "rvmrpc_builtin.h"
#include "rvmrpc_lists.h"
#include "rvmrpc_reader.h"

#define EPOCH	0x1122334455667788u
#define TIMEOUT	250

/* What the OS says, and what was asked of it. */
static int os_status;
static const char *asked;
static uint32_t asked_ms, asked_select;

static int os_list(struct rvmrpc_record_writer *w, uint32_t ms, const char *what)
{
	asked = what;
	asked_ms = ms;
	asked_select = w->wanted.select;
	rvmrpc_record_begin(w, RVMRPC_RECORD_TASK);
	rvmrpc_record_u64(w, RVMRPC_TASK_PID, 7);
	rvmrpc_record_end(w, 7);
	return os_status;
}

#define OS_LIST(name)							\
	int name(struct rvmrpc_record_writer *w, uint32_t ms)		\
	{								\
		return os_list(w, ms, #name);				\
	}
OS_LIST(rvmrpc_os_tasks_list)
OS_LIST(rvmrpc_os_tasks_blocked)
OS_LIST(rvmrpc_os_klog_read)
OS_LIST(rvmrpc_os_fs_list)
OS_LIST(rvmrpc_os_net_list)
OS_LIST(rvmrpc_os_psi)
OS_LIST(rvmrpc_os_disks)

void rvmrpc_os_vmstat(struct rvmrpc_record_writer *w)
{
	asked = "rvmrpc_os_vmstat";
	rvmrpc_record_u64(w, RVMRPC_VMSTAT_PAGE_SIZE, 4096);
}

static const struct {
	struct rvmrpc_module *module;
	uint32_t procedure, flags, select_max;
	const char *os;
} lists[] = {
	{ &rvmrpc_tasks_module, RVMRPC_TASKS_LIST, 0, RVMRPC_TASKS_BY_CPU, "rvmrpc_os_tasks_list" },
	{ &rvmrpc_tasks_module, RVMRPC_TASKS_BLOCKED, 0, 0, "rvmrpc_os_tasks_blocked" },
	{ &rvmrpc_klog_module, RVMRPC_KLOG_READ, RVMRPC_PROC_SECRET, RVMRPC_KLOG_LAST, "rvmrpc_os_klog_read" },
	{ &rvmrpc_fs_module, RVMRPC_FS_LIST, RVMRPC_PROC_MAY_SLEEP, 0, "rvmrpc_os_fs_list" },
	{ &rvmrpc_net_module, RVMRPC_NET_LIST, 0, 0, "rvmrpc_os_net_list" },
	{ &rvmrpc_pressure_module, RVMRPC_PRESSURE_PSI, 0, 0, "rvmrpc_os_psi" },
	{ &rvmrpc_pressure_module, RVMRPC_PRESSURE_VMSTAT, 0, 0, "rvmrpc_os_vmstat" },
	{ &rvmrpc_pressure_module, RVMRPC_PRESSURE_DISKS, RVMRPC_PROC_MAY_SLEEP, 0, "rvmrpc_os_disks" },
};

static struct rvmrpc_server server;

static void setup(void)
{
	uint32_t bad;
	size_t i;

	rvmrpc_server_init(&server);
	for (i = 0; i < G_N_ELEMENTS(lists); i++) {
		if (!i || lists[i].module != lists[i - 1].module)
			g_assert_cmpint(rvmrpc_server_add(&server, lists[i].module), ==, RVMRPC_STATUS_OK);
	}
	g_assert_cmpint(rvmrpc_server_allow(&server, "*.*", &bad), ==, RVMRPC_STATUS_OK);
	os_status = RVMRPC_STATUS_OK;
	asked = "";
}

/* The answer is in res, of 256 bytes; *length: its bytes. */
static uint32_t call(size_t list, const struct rvmrpc_records_req *wanted, char *res, uint32_t *length)
{
	struct rvmrpc_hdr hdr = {
		.magic = RVMRPC_CALL_MAGIC, .abi = RVMRPC_ABI_VERSION, .epoch = EPOCH, .xid = 42,
		.module = lists[list].module->number, .procedure = lists[list].procedure,
		.length = wanted ? sizeof(*wanted) : 0, .timeout_ms = TIMEOUT,
	};
	struct rvmrpc_records_req copy = { .cursor = 0 };
	struct rvmrpc_accepted a;
	struct rvmrpc_hdr reply;

	if (wanted)
		copy = *wanted;
	g_assert_true(rvmrpc_server_accept(&server, &hdr, EPOCH, RVMRPC_ABI_VERSION, 4096, &a));
	g_assert_cmphex(a.flags, ==, RVMRPC_PROC_ALLOWED | RVMRPC_PROC_READ_ONLY | lists[list].flags);
	rvmrpc_server_run(&a, &copy, res, 256, &reply);
	rvmrpc_server_done(&server, &a);
	*length = reply.length;
	return reply.status;
}

static void test_asked(void)
{
	struct rvmrpc_reader r;
	uint32_t length;
	char res[256];
	size_t i;

	setup();
	for (i = 0; i < G_N_ELEMENTS(lists); i++) {
		asked_ms = TIMEOUT;
		g_assert_cmpuint(call(i, NULL, res, &length), ==, RVMRPC_STATUS_OK);
		g_assert_cmpstr(asked, ==, lists[i].os);
		g_assert_cmpuint(asked_ms, ==, TIMEOUT);
		g_assert_true(rvmrpc_reader_open(&r, res, length));
		g_assert_true(rvmrpc_reader_record(&r) && rvmrpc_reader_field(&r));
		g_assert_false(rvmrpc_reader_field(&r) || rvmrpc_reader_record(&r));
	}
}

static void test_select(void)
{
	struct rvmrpc_records_req wanted;
	uint32_t length;
	char res[256];
	size_t i;

	setup();
	for (i = 0; i < G_N_ELEMENTS(lists); i++) {
		wanted = (struct rvmrpc_records_req){ .select = lists[i].select_max };
		g_assert_cmpuint(call(i, &wanted, res, &length), ==, RVMRPC_STATUS_OK);
		g_assert_cmpuint(asked_select, ==, lists[i].select_max);
		asked = "nothing";
		wanted.select++;
		g_assert_cmpuint(call(i, &wanted, res, &length), ==, RVMRPC_STATUS_GARBAGE_ARGS);
		g_assert_cmpstr(asked, ==, "nothing");
	}
}

static void test_failed(void)
{
	uint32_t length;
	char res[256];
	size_t i;

	setup();
	os_status = RVMRPC_STATUS_BUSY;
	for (i = 0; i < G_N_ELEMENTS(lists); i++) {
		if (lists[i].procedure == RVMRPC_PRESSURE_VMSTAT && lists[i].module == &rvmrpc_pressure_module)
			continue;
		g_assert_cmpuint(call(i, NULL, res, &length), ==, RVMRPC_STATUS_BUSY);
		g_assert_cmpuint(length, ==, 0);
	}
}

static void test_cursors(void)
{
	struct rvmrpc_records_req wanted = { .select = RVMRPC_KLOG_LAST, .cursor = 1 };
	struct rvmrpc_reader r;
	uint32_t length;
	char res[256];

	setup();
	g_assert_cmpuint(call(2, &wanted, res, &length), ==, RVMRPC_STATUS_GARBAGE_ARGS);
	wanted.select = RVMRPC_KLOG_FROM;
	g_assert_cmpuint(call(2, &wanted, res, &length), ==, RVMRPC_STATUS_OK);
	/* One record, which comes before it. */
	wanted.select = 0;
	g_assert_cmpuint(call(6, &wanted, res, &length), ==, RVMRPC_STATUS_OK);
	g_assert_true(rvmrpc_reader_open(&r, res, length));
	g_assert_false(rvmrpc_reader_record(&r));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/lists/asked", test_asked);
	g_test_add_func("/lists/select", test_select);
	g_test_add_func("/lists/failed", test_failed);
	g_test_add_func("/lists/cursors", test_cursors);
	return g_test_run();
}
