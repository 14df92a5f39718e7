// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a VM answers, as librvmrpc reads it: the guest's sysinfo, list of modules and files, and the host's JSON.
 */
#include "input.h"
#include "private.h"

static void strings_are_utf8(const char *text)
{
	CHECK(!text || g_utf8_validate(text, -1, NULL));
}

/* Of 1024 bytes of the guest's, each of which may be none. */
static void is_bounded(const char *text)
{
	strings_are_utf8(text);
	CHECK(!text || strlen(text) <= 3 * 1024);
}

static void check_meminfo(GBytes *answer)
{
	RvmrpcMeminfo *mem = rvmrpc_parse_meminfo(answer, NULL);
	char *escaped;

	if (!mem)
		return;
	for (guint key = 0; key < RVMRPC_MEM_KEYS; key++)
		CHECK(!rvmrpc_meminfo_has(mem, key) || rvmrpc_mem_key_name(key));
	strings_are_utf8(mem->raw);
	if (mem->raw) {
		escaped = rvmrpc_escape(mem->raw, FALSE);
		for (const char *p = escaped; *p; p++)
			CHECK((guchar)*p >= 0x20 && *p != 0x7f);
		g_free(escaped);
	}
	rvmrpc_meminfo_free(mem);
}

static void check_cpus(GBytes *answer)
{
	RvmrpcCpuinfo *info = rvmrpc_parse_cpuinfo(answer, NULL);
	RvmrpcCpustat *stat = rvmrpc_parse_cpustat(answer, NULL);

	/* Both read the same frame. */
	CHECK(!info == !stat);
	if (!info)
		return;
	CHECK(info->cpus->len <= 4096 && stat->cpus->len <= 4096);
	for (guint i = 0; i < info->cpus->len; i++) {
		const RvmrpcCpu *cpu = info->cpus->pdata[i];

		is_bounded(cpu->vendor);
		is_bounded(cpu->model_name);
	}
	rvmrpc_cpuinfo_free(info);
	rvmrpc_cpustat_free(stat);
}

static void check_rest(GBytes *answer)
{
	RvmrpcLoadavg *load = rvmrpc_parse_loadavg(answer, NULL);
	RvmrpcOsinfo *os = rvmrpc_parse_osinfo(answer, NULL);

	if (load)
		rvmrpc_loadavg_free(load);
	if (os) {
		is_bounded(os->hostname);
		is_bounded(os->version);
		rvmrpc_osinfo_free(os);
	}
}

static void check_modules(GBytes *answer)
{
	GPtrArray *modules = modules_new();
	ListPage page;

	if (modules_parse(modules, answer, &page, NULL))
		CHECK(page.count <= g_bytes_get_size(answer) / sizeof(struct rvmrpc_list_entry));
	for (guint i = 0; i < modules->len; i++)
		strings_are_utf8(((RvmrpcModule *)modules->pdata[i])->name);
	g_ptr_array_unref(modules);
}

static void check_files(GBytes *answer)
{
	RvmrpcVm vm = { .label = (char *)"fuzz" };
	const RvmrpcConn conn = { .vm = &vm };
	const RvmrpcFileChange write = { .procedure = RVMRPC_FILES_WRITE, .path = "/a", .length = 100 };
	RvmrpcFileVersion version;
	GError *error = NULL;
	guint32 written = 0;
	GBytes *bytes = files_parse_read(&conn, "/a", answer, 64, &version, &error);

	CHECK(!bytes == !!error);
	CHECK(!bytes || g_bytes_get_size(bytes) <= 64);
	g_clear_error(&error);
	g_clear_pointer(&bytes, g_bytes_unref);
	CHECK(files_parse_change(&conn, &write, answer, &written, &error) == !error && written <= 100);
	g_clear_error(&error);
}

static void check_json(const uint8_t *data, size_t size)
{
	JsonParser *parser = json_parser_new();
	JsonNode *root = NULL;
	char *text = g_utf8_make_valid((const char *)data, size);

	if (json_parser_load_from_data(parser, text, -1, NULL))
		root = json_parser_get_root(parser);
	if (root && JSON_NODE_HOLDS_OBJECT(root)) {
		RvmrpcChannel *ch = channel_from_json(json_node_get_object(root), TRUE);

		strings_are_utf8(ch->release);
		CHECK(ch->state <= RVMRPC_STATE_SILENT);
		rvmrpc_channel_free(ch);
	}
	g_free(text);
	g_object_unref(parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t kind = input_u8(&in) % 6;
	/* A copy of exactly this size: ASan sees the first byte behind it. */
	GBytes *answer;

	if (!size)
		return 0;
	answer = g_bytes_new(in.data, in.left);
	if (kind == 0)
		check_meminfo(answer);
	else if (kind == 1)
		check_cpus(answer);
	else if (kind == 2)
		check_rest(answer);
	else if (kind == 3)
		check_modules(answer);
	else if (kind == 4)
		check_files(answer);
	else
		check_json(in.data, in.left);
	g_bytes_unref(answer);
	return 0;
}
