/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest half of the window against a hostile host: the input is what the host writes, anywhere, between the guest's
 * steps.  Procedures get arguments and room within the window, whatever that is.
 */
#include "rvmrpc_guest.h"
#include "rvmrpc_owner.h"	/* rvmrpc_layout_make() */
#include "rvmrpc_server.h"
#include "scribbler.h"

#define SIZE	RVMRPC_WINDOW_SIZE_MIN
#define EPOCH	0x0123456789abcdefu

static struct {
	uint8_t *window;
	struct rvmrpc_guest guest;
	struct rvmrpc_server server;
	struct rvmrpc_taken last;	/* answered a second time, by a worker that was late */
	uint64_t nonces;
} g;

static bool in_window(const void *p, uint32_t bytes)
{
	const uint8_t *b = p;

	return b >= g.window && b + bytes <= g.window + SIZE;
}

static int touch(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	const uint8_t *arg = req->arg;
	uint32_t i, sum = 0;

	CHECK(in_window(arg, req->arglen) && in_window(res->res, res->resmax));
	CHECK(req->arglen <= g.guest.layout.req_bytes);
	for (i = 0; i < req->arglen; i++)
		sum += arg[i];
	memset(res->res, (int)sum, res->resmax);
	res->reslen = sum % (res->resmax + 2);
	return (int)(sum % 16);
}

static const struct rvmrpc_procedure procs[] = {
	{ 0, RVMRPC_PROC_READ_ONLY, 0, RVMRPC_ARG_ANY, "touch", touch },
	{ 1, RVMRPC_PROC_READ_ONLY, 8, 64, "narrow", touch },
};

static struct rvmrpc_module module = { 1, 1, "one", procs, 2, NULL, NULL, 0 };

/* ---- the guest ---- */

static void op_hello(struct input *in)
{
	rvmrpc_guest_hello(&g.guest, ++g.nonces, input_u8(in), "fuzz");
}

static void op_answered(struct input *in)
{
	uint32_t status = ~0u;

	(void)in;
	if (g.guest.state != RVMRPC_GUEST_GREETED)
		return;
	switch (rvmrpc_guest_answered(&g.guest, &status)) {
	case RVMRPC_ANSWER_OPEN:
		CHECK(g.guest.state == RVMRPC_GUEST_OPEN && status == RVMRPC_HELLO_OK && g.guest.epoch);
		break;
	case RVMRPC_ANSWER_REFUSED:
		CHECK(g.guest.state == RVMRPC_GUEST_IDLE && status != RVMRPC_HELLO_OK);
		break;
	case RVMRPC_ANSWER_STALE:
		g.guest.state = RVMRPC_GUEST_IDLE;
		break;
	case RVMRPC_ANSWER_NONE:
		CHECK(g.guest.state == RVMRPC_GUEST_GREETED);
		break;
	}
}

static void op_serve(struct input *in)
{
	uint32_t most = input_u8(in);
	struct rvmrpc_accepted a;
	struct rvmrpc_hdr reply;
	struct rvmrpc_taken t;

	if (g.guest.state != RVMRPC_GUEST_OPEN)
		return;
	for (; most && rvmrpc_guest_take(&g.guest, &t); most--) {
		CHECK(t.slot < g.guest.layout.nslots && t.seq);
		if (!rvmrpc_server_accept(&g.server, &t.hdr, g.guest.epoch, g.guest.abi, g.guest.layout.req_bytes, &a))
			continue;
		rvmrpc_server_run(&a, rvmrpc_guest_arg(&g.guest, t.slot), rvmrpc_guest_res(&g.guest, t.slot),
				  g.guest.layout.res_bytes, &reply);
		rvmrpc_server_done(&g.server, &a);
		CHECK(reply.length <= g.guest.layout.res_bytes);
		rvmrpc_guest_publish(&g.guest, t.slot, t.seq, &reply);
		g.last = t;
	}
}

static void op_late(struct input *in)
{
	(void)in;
	if (g.guest.state == RVMRPC_GUEST_OPEN && g.last.slot < g.guest.layout.nslots)
		rvmrpc_guest_publish(&g.guest, g.last.slot, g.last.seq, &g.last.hdr);
}

static void op_wait(struct input *in)
{
	switch (g.guest.state == RVMRPC_GUEST_OPEN ? input_u8(in) & 7 : 7) {
	case 0:
	case 1:
		CHECK(rvmrpc_guest_sleep(&g.guest) == (g.guest.wait & 1));
		break;
	case 2:
		rvmrpc_guest_awake(&g.guest);
		CHECK(!(g.guest.wait & 1));
		break;
	case 3:
		rvmrpc_guest_beat(&g.guest);
		rvmrpc_guest_intact(&g.guest);
		break;
	case 4:
		rvmrpc_guest_due(&g.guest);
		rvmrpc_guest_posted(&g.guest);
		rvmrpc_guest_max_spin(&g.guest);
		break;
	case 5:
		rvmrpc_guest_bye(&g.guest);
		break;
	case 6:
		if (!rvmrpc_guest_alive(&g.guest))
			g.guest.state = RVMRPC_GUEST_IDLE;
		break;
	default:
		break;
	}
}

static void op_probe(struct input *in)
{
	struct rvmrpc_window_id id;
	uint32_t status = rvmrpc_guest_probe(&g.guest.win, &id);

	CHECK(status != RVMRPC_HELLO_OK || (id.magic == RVMRPC_WINDOW_MAGIC && id.size == SIZE));
	if (input_u8(in) < 32)
		rvmrpc_guest_init(&g.guest, g.window, SIZE);
}

/* ---- the host ---- */

static void op_poke(struct input *in)
{
	uint32_t at = input_u32(in), value = input_u32(in);

	/* Mostly the beginning of a page of words, not of payloads. */
	at = at & 7 ? at / 8 % 5 * RVMRPC_PAGE_SIZE + at / 64 % 128 * 4 : at / 8 % (SIZE / 4) * 4;
	memcpy(g.window + at, &value, sizeof(value));
}

/* An answer that is right, but for some bytes. */
static void op_answer(struct input *in)
{
	struct rvmrpc_hello_answer a = {
		.nonce = g.nonces, .epoch = EPOCH + g.nonces, .abi = RVMRPC_ABI_VERSION, .posted = input_u32(in),
	};
	uint64_t epoch = a.epoch;

	if (input_u8(in) & 1)
		CHECK(rvmrpc_layout_make(SIZE, 3, 0x200, 0x400, &a.layout));
	else
		a.layout = (struct rvmrpc_layout){
			.nslots = 1 + input_u8(in) % 64, .req_bytes = input_u8(in) * 64, .res_bytes = input_u8(in) * 64,
			.host_slots = input_u8(in) * 256, .guest_slots = input_u8(in) * 256, .req = input_u8(in) * 256,
			.res = input_u8(in) * 256, .stride = input_u8(in) * 64,
		};
	input_corrupt(in, &a, sizeof(a));
	memcpy(g.window + RVMRPC_HOST_WORD(answer), &a, sizeof(a));
	memcpy(g.window + RVMRPC_HOST_WORD(epoch), &epoch, sizeof(epoch));
}

/* A request that is right, but for some bytes; the count of requests goes up, mostly by one. */
static void op_post(struct input *in)
{
	struct rvmrpc_hdr hdr = {
		.magic = RVMRPC_CALL_MAGIC, .abi = RVMRPC_ABI_VERSION, .epoch = g.guest.epoch, .xid = input_u8(in) + 1,
		.module = 1, .procedure = input_u8(in) % 3, .length = input_u8(in) * 3,
	};
	uint32_t posted, slot = input_u8(in);

	if (g.guest.state != RVMRPC_GUEST_OPEN)
		return;
	memcpy(&posted, g.window + RVMRPC_HOST_WORD(posted), sizeof(posted));
	posted += input_u8(in) < 220 ? 1 : input_u32(in);
	input_corrupt(in, &hdr, RVMRPC_SLOT_SEQ);
	memcpy((char *)&hdr + RVMRPC_SLOT_SEQ, &posted, sizeof(posted));
	memcpy(g.window + rvmrpc_host_slot_at(&g.guest.layout, slot % g.guest.layout.nslots), &hdr, sizeof(hdr));
	if (slot < 230)
		memcpy(g.window + RVMRPC_HOST_WORD(posted), &posted, sizeof(posted));
}

static void (*const ops[])(struct input *in) = {
	op_hello, op_answer, op_answered, op_answered, op_post, op_post, op_post, op_post, op_serve, op_serve, op_serve,
	op_late, op_wait, op_wait, op_probe, op_poke,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t bad, flags = input_u8(&in);

	memset(&g, 0, sizeof(g));
	g.window = aligned_alloc(64, SIZE);
	CHECK(g.window);
	memset(g.window, flags & 1 ? 0xff : 0, SIZE);
	rvmrpc_server_init(&g.server);
	CHECK(rvmrpc_server_add(&g.server, &module) == RVMRPC_STATUS_OK);
	CHECK(rvmrpc_server_allow(&g.server, "*.*", &bad) == RVMRPC_STATUS_OK);
	rvmrpc_guest_init(&g.guest, g.window, SIZE);
	/* Most inputs begin with a channel that is open. */
	if (flags & 2) {
		static const uint8_t good[] = { 0, 0, 0, 0, 1 };

		op_hello(&(struct input){ NULL, 0 });
		op_answer(&(struct input){ good, sizeof(good) });
		op_answered(NULL);
		CHECK(g.guest.state == RVMRPC_GUEST_OPEN);
	}
	if (flags >= 192)
		scribbler_set(g.window, SIZE, flags);
	while (in.left)
		ops[input_u8(&in) % (sizeof(ops) / sizeof(ops[0]))](&in);
	scribbler_set(NULL, 0, 0);
	CHECK(rvmrpc_server_remove(&g.server, &module) == RVMRPC_STATUS_OK);
	free(g.window);
	return 0;
}
