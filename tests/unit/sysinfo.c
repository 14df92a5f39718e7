/*
 * Unit tests: what librvmrpc keeps of a guest's sysinfo
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The test is the guest, and the clock: of each call a millisecond is left, of the first as many as are asked for.
 */
#include <string.h>
#include "private.h"

#define CPUS	1000	/* of an answer */
#define TEXT	30000

static guint calls;

guint until_left(const Until *until)
{
	(void)until;
	return calls ? 0 : 1000;
}

/* Each CPU has two names, which are all the text; and there are more CPUs. */
static GBytes *names(guint32 first)
{
	GByteArray *bytes = g_byte_array_new();
	struct rvmrpc_info head = { .count = 2 * CPUS + 1, .text_length = TEXT };
	struct rvmrpc_item item = { .type = RVMRPC_ITEM_STRING, .value = (guint64)TEXT << 32 };
	g_autofree char *text = g_strnfill(TEXT, '\xff');

	g_byte_array_append(bytes, (guint8 *)&head, sizeof(head));
	for (guint i = 0; i < 2 * CPUS; i++) {
		item.key = i % 2 ? RVMRPC_CPU_VENDOR : RVMRPC_CPU_MODEL_NAME;
		item.index = first + i / 2;
		g_byte_array_append(bytes, (guint8 *)&item, sizeof(item));
	}
	item = (struct rvmrpc_item) { .key = RVMRPC_CPU_NEXT, .index = RVMRPC_INDEX_ALL, .value = first + 1 };
	g_byte_array_append(bytes, (guint8 *)&item, sizeof(item));
	g_byte_array_append(bytes, (guint8 *)text, TEXT);
	return g_byte_array_free_to_bytes(bytes);
}

GBytes *rvmrpc_call(RvmrpcConn *conn, guint32 module, guint32 procedure, GBytes *arg, guint timeout_ms,
		    guint64 *elapsed_ns, GCancellable *cancellable, GError **error)
{
	const struct rvmrpc_info_req *req = g_bytes_get_data(arg, NULL);

	(void)conn, (void)elapsed_ns, (void)cancellable, (void)error;
	g_assert_cmpuint(module, ==, RVMRPC_MOD_SYSINFO);
	g_assert_cmpuint(procedure, ==, RVMRPC_SYSINFO_CPUINFO);
	g_assert_cmpuint(timeout_ms, ==, calls++ ? 1 : 1000);
	return names(req->first);
}

GError *malformed_error(const RvmrpcVm *vm)
{
	return g_error_new(RVMRPC_ERROR, RVMRPC_ERROR_MALFORMED, "%s", vm->label);
}

GError *status_error(const RvmrpcVm *vm, guint32 status)
{
	g_assert_cmpuint(status, ==, RVMRPC_STATUS_TIMED_OUT);
	return g_error_new(RVMRPC_ERROR, RVMRPC_ERROR_TIMED_OUT, "%s", vm->label);
}

GQuark rvmrpc_error_quark(void)
{
	return g_quark_from_static_string("rvmrpc");
}

/* Kept as they are they would be 180 MB, of an answer of 64 KiB. */
static void test_names(void)
{
	g_autoptr(GBytes) answer = names(0);
	RvmrpcCpuinfo *info = rvmrpc_parse_cpuinfo(answer, NULL);
	gsize bytes = 0;

	g_assert_cmpuint(g_bytes_get_size(answer), <, 65536);
	g_assert_cmpuint(info->cpus->len, ==, CPUS);
	for (guint i = 0; i < CPUS; i++) {
		const RvmrpcCpu *cpu = info->cpus->pdata[i];

		bytes += strlen(cpu->vendor) + strlen(cpu->model_name);
	}
	g_assert_cmpuint(bytes, <=, 2 * CPUS * 3 * 1024);
	rvmrpc_cpuinfo_free(info);
}

/* However quickly one answer follows another. */
static void test_time(void)
{
	RvmrpcVm vm = { .label = (char *)"web" };
	RvmrpcConn conn = { .vm = &vm };
	GError *error = NULL;

	g_assert_null(rvmrpc_get_cpuinfo(&conn, 1000, NULL, &error));
	g_assert_error(error, RVMRPC_ERROR, RVMRPC_ERROR_TIMED_OUT);
	g_assert_cmpuint(calls, ==, 1);
	g_error_free(error);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/sysinfo/names", test_names);
	g_test_add_func("/sysinfo/time", test_time);
	return g_test_run();
}
