/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest half's allow-list: any text is refused whole, or taken in a normal form that means the same. */
#include "rvmrpc_server.h"
#include "input.h"

static int nothing(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	(void)req;
	(void)res;
	return RVMRPC_STATUS_OK;
}

static const struct rvmrpc_procedure procs[] = {
	{ 0, RVMRPC_PROC_READ_ONLY, 0, 0, "null", nothing },
	{ 1, 0, 0, 0, "drop_caches", nothing },
	{ 77, RVMRPC_PROC_MAY_SLEEP, 0, 0, "a-b", nothing },
};

static struct rvmrpc_module modules[] = {
	{ 0, 1, "core", procs, 3, NULL, NULL, 0 },
	{ 3, 1, "reclaim", procs, 3, NULL, NULL, 0 },
	{ 0x100, 1, "a", procs, 3, nothing, NULL, 0 },
};

struct listing {
	struct rvmrpc_list head;
	struct rvmrpc_list_entry entry[12];
};

static void setup(struct rvmrpc_server *s)
{
	size_t i;

	rvmrpc_server_init(s);
	for (i = 0; i < sizeof(modules) / sizeof(modules[0]); i++)
		CHECK(rvmrpc_server_add(s, &modules[i]) == RVMRPC_STATUS_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rvmrpc_server one, two;
	struct listing before, after;
	uint32_t bad = 0;
	char *text = malloc(size + 1);
	int status;

	CHECK(text);
	if (size)
		memcpy(text, data, size);
	text[size] = 0;
	setup(&one);
	setup(&two);
	status = rvmrpc_server_allow(&one, text, &bad);
	if (status == RVMRPC_STATUS_OK) {
		CHECK(memchr(one.allow, 0, sizeof(one.allow)));
		CHECK(rvmrpc_server_allow(&two, one.allow, &bad) == RVMRPC_STATUS_OK);
		CHECK(!strcmp(one.allow, two.allow));
		CHECK(rvmrpc_server_list(&one, 0, &before, sizeof(before)) == sizeof(before));
		CHECK(rvmrpc_server_list(&two, 0, &after, sizeof(after)) == sizeof(after));
		CHECK(!memcmp(&before, &after, sizeof(before)));
	} else {
		CHECK(!strcmp(one.allow, "default"));
		CHECK(status == RVMRPC_STATUS_TOO_BIG || status == RVMRPC_STATUS_GARBAGE_ARGS);
		CHECK(bad <= strlen(text));
	}
	free(text);
	return 0;
}
