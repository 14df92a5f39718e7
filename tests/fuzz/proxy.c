/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host half against a hostile guest: the input is a sequence of operations of the guest, the host's clients and the
 * clock; init structs, slot numbers and headers are the guest's, and change between begin and commit.
 */
#include "rvmrpc_proxy.h"
#include "input.h"

#define NCALLS	80
#define NGATES	3
#define MS	1000000u

enum pc { OUT, DELIVERING, REPLYING };

struct owned {
	struct rvmrpc_call call;
	bool in_flight;
	uint8_t *res;		/* res_max bytes */
};

static struct {
	struct rvmrpc_proxy proxy;
	struct rvmrpc_client clients[2];
	struct owned calls[NCALLS];
	struct { enum pc pc; bool ok; struct rvmrpc_xfer x; } gates[NGATES];
	struct rvmrpc_done done;
	struct rvmrpc_hdr last;	/* header of the last request that the guest saw */
	uint64_t now;
	uint64_t epochs;
} h;

static const struct rvmrpc_limits limits = { 8, 2, 4 };

static void take_done(void)
{
	struct owned *o;
	size_t i;

	while (h.done.head) {
		o = (struct owned *)h.done.head;
		h.done.head = o->call.next;
		CHECK(o->in_flight);
		CHECK(o->call.status <= RVMRPC_STATUS_MAX);
		CHECK(o->call.status != RVMRPC_STATUS_OK || o->call.reslen <= o->call.res_max);
		for (i = 0; i < NGATES; i++)
			CHECK(h.gates[i].pc == OUT || h.gates[i].x.call != &o->call);
		o->in_flight = false;
		free(o->res);
	}
	h.done.tail = NULL;
}

static void submit(struct input *in)
{
	struct owned *o = h.calls;

	while (o < h.calls + NCALLS && o->in_flight)
		o++;
	if (o == h.calls + NCALLS)
		return;
	memset(o, 0, sizeof(*o));
	o->call.client = &h.clients[input_u8(in) & 1];
	o->call.module = input_u8(in);
	o->call.procedure = input_u8(in);
	o->call.arglen = input_u32(in) >> (input_u8(in) & 31);
	o->call.res_max = input_u32(in) & 0x7fff;
	o->call.deadline = h.now + (uint64_t)input_u8(in) * MS;
	if (rvmrpc_proxy_submit(&h.proxy, &o->call, h.now) != RVMRPC_STATUS_OK)
		return;
	CHECK(o->call.arglen <= h.proxy.req_bytes);
	o->in_flight = true;
	o->res = malloc(o->call.res_max + 1);
	CHECK(o->res);
}

static void op_submit(struct input *in)
{
	uint32_t n = input_u8(in);

	/* Seldom so many that a quota is full. */
	for (n = n < 250 ? 1 : 80; n; n--)
		submit(in);
}

static void op_cancel(struct input *in)
{
	rvmrpc_proxy_cancel(&h.proxy, &h.calls[input_u8(in) % NCALLS].call, h.now, &h.done);
}

static void op_clock(struct input *in)
{
	uint64_t next;

	h.now += (uint64_t)input_u8(in) * MS;
	/* The host's timer may be late. */
	if (input_u8(in) & 1)
		return;
	next = rvmrpc_proxy_expire(&h.proxy, h.now, &h.done);
	CHECK(next > h.now);
}

static void op_state(struct input *in)
{
	switch (input_u8(in) & 7) {
	case 0:
		rvmrpc_proxy_unregister(&h.proxy, RVMRPC_STATUS_RESET, h.now, &h.done);
		break;
	case 1:
		rvmrpc_proxy_unregister(&h.proxy, RVMRPC_STATUS_NOT_CONNECTED, h.now, &h.done);
		break;
	case 2:
		h.proxy.stopped = true;
		break;
	default:
		h.proxy.stopped = false;
		break;
	}
}

static void op_init(struct input *in)
{
	struct rvmrpc_init_answer answer;
	uint32_t pages_bytes = 0, nslots = input_u8(in) % 10;
	struct rvmrpc_init init = {
		.magic = RVMRPC_INIT_MAGIC, .abi_min = 1, .abi_max = 1, .nslots = (uint16_t)nslots,
		.req_pages = 1 + (nslots & 1), .res_pages = 4,
	};
	uint64_t bytes;

	init.size = sizeof(init) + nslots * (init.req_pages + 4u) * 8;
	bytes = init.size;
	input_corrupt(in, &init, sizeof(init));
	if (rvmrpc_proxy_check_init(&limits, &init, bytes, &pages_bytes))
		return;
	CHECK(bytes == sizeof(init) + pages_bytes);
	rvmrpc_proxy_register(&h.proxy, &init, ++h.epochs, h.now, &answer, &h.done);
	CHECK(answer.epoch == h.epochs && answer.nslots >= 1 && answer.nslots <= limits.slots);
	CHECK((uint64_t)answer.nslots * (init.req_pages + init.res_pages) * 8 <= pages_bytes);
	CHECK(!h.proxy.release[sizeof(h.proxy.release) - 1]);
}

static void op_deliver_begin(struct input *in)
{
	uint32_t g = input_u8(in) % NGATES;
	struct rvmrpc_xfer *x = &h.gates[g].x;

	if (h.gates[g].pc != OUT || !rvmrpc_proxy_deliver_begin(&h.proxy, x, h.now, &h.done))
		return;
	h.gates[g].pc = DELIVERING;
	h.gates[g].ok = input_u8(in) != 0;
	CHECK(x->slot < h.proxy.nslots && x->length == x->call->arglen);
	CHECK(x->hdr.length == x->length && x->hdr.epoch == h.proxy.epoch);
	h.last = x->hdr;
}

static void op_reply_begin(struct input *in)
{
	uint32_t g = input_u8(in) % NGATES, slot = input_u8(in);
	struct rvmrpc_xfer *x = &h.gates[g].x;
	struct rvmrpc_hdr hdr = h.last;

	if (h.gates[g].pc != OUT)
		return;
	if (slot >= 128)
		slot = input_u32(in);
	if (rvmrpc_proxy_reply_begin(&h.proxy, slot, x) || !x->call)
		return;
	CHECK(slot < h.proxy.nslots);
	h.gates[g].pc = REPLYING;
	h.gates[g].ok = input_u8(in) != 0;
	if (input_u8(in) & 1)
		hdr = (struct rvmrpc_hdr) {
			.magic = RVMRPC_CALL_MAGIC, .abi = x->abi, .epoch = x->epoch, .xid = x->xid,
			.module = x->call->module, .procedure = x->call->procedure,
		};
	hdr.timeout_ms = 0;
	hdr.status = input_u8(in) & 15;
	hdr.length = input_u32(in) & 0x7fff;
	input_corrupt(in, &hdr, sizeof(hdr));
	rvmrpc_proxy_reply_check(x, &hdr);
	CHECK(x->length <= x->payload_max && x->length <= x->call->res_max);
	memset(((struct owned *)x->call)->res, 0, x->length);
}

static void commit(uint32_t g)
{
	enum pc pc = h.gates[g].pc;

	h.gates[g].pc = OUT;
	if (pc == DELIVERING)
		rvmrpc_proxy_deliver_commit(&h.proxy, &h.gates[g].x, h.gates[g].ok, h.now, &h.done);
	else if (pc == REPLYING)
		rvmrpc_proxy_reply_commit(&h.proxy, &h.gates[g].x, h.gates[g].ok, h.now, &h.done);
	take_done();
}

static void op_commit(struct input *in)
{
	commit(input_u8(in) % NGATES);
}

static void op_arm(struct input *in)
{
	bool armed = rvmrpc_proxy_arm(&h.proxy);

	(void)in;
	CHECK(armed != rvmrpc_proxy_pending(&h.proxy));
	CHECK(!armed || !rvmrpc_proxy_kick(&h.proxy));
}

static void op_enter(struct input *in)
{
	uint64_t epoch = h.epochs + input_u8(in) - 1;

	CHECK(rvmrpc_proxy_enter(&h.proxy, epoch, h.now) == (epoch && epoch == h.proxy.epoch));
}

static void (*const ops[])(struct input *in) = {
	op_submit, op_submit, op_submit, op_cancel, op_clock, op_state, op_init, op_deliver_begin, op_deliver_begin,
	op_reply_begin, op_reply_begin, op_commit, op_commit, op_commit, op_arm, op_enter,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t i;

	memset(&h, 0, sizeof(h));
	rvmrpc_proxy_init(&h.proxy, &limits, 1);
	while (in.left) {
		ops[input_u8(&in) % (sizeof(ops) / sizeof(ops[0]))](&in);
		take_done();
		if (rvmrpc_proxy_kick(&h.proxy))
			CHECK(!h.proxy.armed && rvmrpc_proxy_pending(&h.proxy));
	}
	/* Whatever happened, a reset and the end of the copies give every call back. */
	rvmrpc_proxy_unregister(&h.proxy, RVMRPC_STATUS_RESET, h.now, &h.done);
	take_done();
	for (i = 0; i < NGATES; i++)
		commit(i);
	for (i = 0; i < NCALLS; i++)
		CHECK(!h.calls[i].in_flight);
	CHECK(!h.proxy.ncalls && !h.clients[0].calls && !h.clients[1].calls);
	return 0;
}
