/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest half against a hostile host: any headers, argument sizes and room for answers. */
#include "rvmrpc_server.h"
#include "input.h"

#define EPOCH	0x0123456789abcdefu
#define ABI	RVMRPC_ABI_VERSION

static struct rvmrpc_server server;

static int touch(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	const uint8_t *arg = req->arg;
	uint32_t i, sum = 0;

	for (i = 0; i < req->arglen; i++)
		sum += arg[i];
	memset(res->res, (int)sum, res->resmax);
	/* Procedures err too: any status and length. */
	res->reslen = req->arglen == 7 ? UINT32_MAX : sum % (res->resmax + 1);
	return req->arglen == 5 ? (int)sum - 100 : RVMRPC_STATUS_OK;
}

static int list(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_list_req r;

	memcpy(&r, req->arg, sizeof(r));
	res->reslen = rvmrpc_server_list(&server, r.first, res->res, res->resmax);
	return RVMRPC_STATUS_OK;
}

static int info(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	struct rvmrpc_info_writer w;
	char text[64] = "text";
	const uint8_t *arg = req->arg;
	uint32_t i;

	rvmrpc_info_begin(&w, res, text, sizeof(text));
	for (i = 0; i < req->arglen; i++) {
		if (arg[i] & 1)
			rvmrpc_info_u64(&w, arg[i], i, i);
		else if (arg[i] & 2)
			rvmrpc_info_string(&w, arg[i], i, "0123456789abcdef0123456789abcdef", arg[i] >> 3);
		else
			rvmrpc_info_raw(&w, arg[i]);
	}
	return rvmrpc_info_end(&w, res);
}

static const struct rvmrpc_procedure procs[] = {
	{ 0, RVMRPC_PROC_READ_ONLY, 0, RVMRPC_ARG_ANY, "touch", touch },
	{ 1, RVMRPC_PROC_READ_ONLY, sizeof(struct rvmrpc_list_req), sizeof(struct rvmrpc_list_req), "list", list },
	{ 2, RVMRPC_PROC_READ_ONLY | RVMRPC_PROC_MAY_SLEEP, 1, 128, "info", info },
	{ 3, 0, 0, 0, "forbidden", touch },
};

static struct rvmrpc_module modules[] = {
	{ 0, 1, "core", procs, 4, NULL, NULL, 0 },
	{ 1, 2, "one", procs, 4, NULL, NULL, 0 },
	{ 0x100, 3, "user", procs, 2, touch, NULL, 0 },
};

static void one_request(struct input *in)
{
	struct rvmrpc_hdr reply, hdr = {
		.magic = RVMRPC_CALL_MAGIC, .abi = ABI, .epoch = EPOCH, .xid = 1,
	};
	struct rvmrpc_accepted a;
	uint32_t req_bytes = input_u8(in), res_bytes = input_u8(in) * 4;
	uint8_t *arg = malloc(req_bytes + 1), *res = malloc(res_bytes + 1);

	CHECK(arg && res);
	hdr.module = input_u8(in) % 3;
	if (hdr.module == 2)
		hdr.module = 0x100;
	hdr.procedure = input_u8(in) % 5;
	hdr.length = input_u8(in);
	input_corrupt(in, &hdr, sizeof(hdr));
	input_bytes(in, arg, req_bytes);
	if (rvmrpc_server_accept(&server, &hdr, EPOCH, ABI, req_bytes, &a)) {
		rvmrpc_server_run(&a, arg, res, res_bytes, &reply);
		rvmrpc_server_done(&server, &a);
		CHECK(reply.magic == RVMRPC_CALL_MAGIC && reply.epoch == EPOCH && reply.xid == hdr.xid);
		CHECK(reply.length <= res_bytes);
		CHECK(reply.status == RVMRPC_STATUS_OK || !reply.length);
		CHECK(reply.status <= RVMRPC_STATUS_BUSY || reply.status == RVMRPC_STATUS_CANCELLED ||
		      reply.status == RVMRPC_STATUS_SYSTEM_ERROR);
		CHECK(hdr.length <= req_bytes || reply.status != RVMRPC_STATUS_OK);
	}
	free(arg);
	free(res);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t bad;
	size_t i;

	rvmrpc_server_init(&server);
	for (i = 0; i < sizeof(modules) / sizeof(modules[0]); i++)
		CHECK(rvmrpc_server_add(&server, &modules[i]) == RVMRPC_STATUS_OK);
	CHECK(rvmrpc_server_allow(&server, "default,user.*,-*.forbidden", &bad) == RVMRPC_STATUS_OK);
	while (in.left)
		one_request(&in);
	for (i = 0; i < sizeof(modules) / sizeof(modules[0]); i++)
		CHECK(rvmrpc_server_remove(&server, &modules[i]) == RVMRPC_STATUS_OK);
	return 0;
}
