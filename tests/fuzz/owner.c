/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host half against a hostile guest: the input is what the guest writes, anywhere, between the owner's
 * steps, and what the host's clients do.  Whatever that is, every call ends once, with a status.
 */
#include "rvmrpc_owner.h"
#include "rvmrpc_reader.h"
#include "rvmrpc_tell.h"
#include "scribbler.h"

#define SIZE	RVMRPC_WINDOW_SIZE_MIN
#define NSLOTS	3
#define REQ	0x200
#define RES	0x400
#define NCALLS	80	/* more than a VM may have */
#define NXFERS	2
#define MS	1000000u

enum phase { OUT, DELIVERING, REPLYING };

struct owned {
	struct rvmrpc_call call;
	uint8_t arg[REQ];
	bool in_flight, held;
	uint8_t *res;		/* res_max bytes */
};

static struct {
	uint8_t *window;
	struct rvmrpc_owner owner;
	struct rvmrpc_client clients[2];
	struct owned calls[NCALLS];
	struct { enum phase phase; bool ok; struct rvmrpc_xfer x; } xfers[NXFERS];
	struct rvmrpc_done done;
	uint64_t now, randoms;
} h;

static uint64_t next_random(void)
{
	return h.randoms += 0x9e3779b97f4a7c15u;
}

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
		for (i = 0; i < NXFERS; i++)
			CHECK(h.xfers[i].phase == OUT || h.xfers[i].x.call != &o->call);
		o->in_flight = false;
		free(o->res);
		o->res = NULL;
	}
	h.done.tail = NULL;
}

/* ---- the host's clients ---- */

static struct owned *new_call(struct input *in)
{
	struct owned *o = h.calls;

	while (o < h.calls + NCALLS && (o->in_flight || o->held))
		o++;
	if (o == h.calls + NCALLS)
		return NULL;
	memset(&o->call, 0, sizeof(o->call));
	o->call.client = &h.clients[input_u8(in) & 1];
	o->call.module = input_u8(in) & 3;
	o->call.arg = o->arg;
	o->call.arglen = input_u8(in) * 3;
	o->call.res_max = input_u8(in) * 5;
	o->call.deadline = h.now + (uint64_t)input_u8(in) * MS;
	return o;
}

static void submit(struct input *in)
{
	struct owned *o = new_call(in);

	if (!o || rvmrpc_proxy_submit(&h.owner.proxy, &o->call, h.now) != RVMRPC_STATUS_OK)
		return;
	CHECK(o->call.arglen <= REQ);
	o->in_flight = true;
	o->res = malloc(o->call.res_max ? o->call.res_max : 1);
	CHECK(o->res);
}

static void op_submit(struct input *in)
{
	uint32_t n = input_u8(in);

	/* Seldom so many that a quota is full. */
	for (n = n < 250 ? 1 : NCALLS; n; n--)
		submit(in);
	CHECK(h.owner.proxy.ncalls <= RVMRPC_CALLS_MAX);
	CHECK(h.clients[0].calls <= RVMRPC_CLIENT_CALLS_MAX && h.clients[1].calls <= RVMRPC_CLIENT_CALLS_MAX);
}

static void op_hold(struct input *in)
{
	struct owned *o = new_call(in);

	if (o)
		o->held = rvmrpc_proxy_hold(&h.owner.proxy, &o->call, h.now) == RVMRPC_STATUS_OK;
}

static void op_run(struct input *in)
{
	struct owned *o = &h.calls[input_u8(in) % NCALLS];

	if (!o->held || o->in_flight)
		return;
	o->call.deadline = h.now + (uint64_t)input_u8(in) * MS;
	if (o->call.arglen <= REQ)
		memset(rvmrpc_owner_req(&h.owner, &o->call), 0x5a, o->call.arglen);
	o->in_flight = rvmrpc_owner_run(&h.owner, &o->call, h.now) == RVMRPC_STATUS_OK;
}

static void op_release(struct input *in)
{
	struct owned *o = &h.calls[input_u8(in) % NCALLS];

	if (!o->held || o->in_flight)
		return;
	rvmrpc_proxy_release(&h.owner.proxy, &o->call);
	o->held = false;
}

static void op_cancel(struct input *in)
{
	rvmrpc_proxy_cancel(&h.owner.proxy, &h.calls[input_u8(in) % NCALLS].call, h.now, &h.done);
}

static void op_clock(struct input *in)
{
	h.now += (uint64_t)input_u8(in) * MS;
	/* The host's timer may be late. */
	if (input_u8(in) & 1)
		return;
	CHECK(rvmrpc_proxy_expire(&h.owner.proxy, h.now, &h.done) > h.now);
}

/* ---- the owner ---- */

static void op_look(struct input *in)
{
	uint64_t lost = h.owner.proxy.stats.lost;
	uint32_t looked;

	if (input_u8(in) & 3)
		looked = rvmrpc_owner_look(&h.owner, h.now, &h.done);
	else
		looked = rvmrpc_owner_intact(&h.owner, h.now, &h.done);
	CHECK(!(looked & RVMRPC_LOOK_OPENED) || (looked & RVMRPC_LOOK_KICK));
	CHECK(lost == h.owner.proxy.stats.lost || (looked & RVMRPC_LOOK_KICK));
}

static void op_state(struct input *in)
{
	uint32_t what = input_u8(in);

	h.owner.proxy.stopped = what >= 240;
	if (what < 24)
		rvmrpc_owner_close(&h.owner, RVMRPC_STATUS_RESET, h.now, &h.done);
	else if (what < 32)
		rvmrpc_owner_close(&h.owner, RVMRPC_STATUS_NOT_CONNECTED, h.now, &h.done);
	CHECK(what >= 32 || (!h.owner.proxy.epoch && !rvmrpc_proxy_pending(&h.owner.proxy)));
}

static void op_deliver(struct input *in)
{
	uint32_t n = input_u8(in) % NXFERS;
	struct rvmrpc_xfer *x = &h.xfers[n].x;

	if (h.xfers[n].phase != OUT || !rvmrpc_proxy_deliver_begin(&h.owner.proxy, x, h.now, &h.done))
		return;
	CHECK(x->slot < NSLOTS && x->length <= REQ && x->length == x->call->arglen && x->length == x->hdr.length);
	CHECK(x->hdr.epoch == h.owner.proxy.epoch && !h.owner.proxy.stopped);
	h.xfers[n].phase = DELIVERING;
}

static void op_reap(struct input *in)
{
	uint32_t n = input_u8(in) % NXFERS, slot = input_u8(in) % NSLOTS;
	struct rvmrpc_xfer *x = &h.xfers[n].x;

	if (h.xfers[n].phase != OUT || !rvmrpc_owner_answered(&h.owner, slot) ||
	    !rvmrpc_owner_reap_begin(&h.owner, slot, x, h.now, &h.done))
		return;
	CHECK(x->length <= x->call->res_max && x->length <= RES && !x->call->in_place);
	h.xfers[n].phase = REPLYING;
	h.xfers[n].ok = input_u8(in) < 240;
}

static void commit(uint32_t n)
{
	enum phase phase = h.xfers[n].phase;
	struct rvmrpc_xfer *x = &h.xfers[n].x;

	h.xfers[n].phase = OUT;
	if (phase == DELIVERING) {
		rvmrpc_owner_copy_in(&h.owner, x);
		rvmrpc_owner_post(&h.owner, x, h.now, &h.done);
	} else if (phase == REPLYING) {
		if (h.xfers[n].ok)
			rvmrpc_owner_copy_out(&h.owner, x, ((struct owned *)x->call)->res);
		rvmrpc_owner_reap_commit(&h.owner, x, h.xfers[n].ok, h.now, &h.done);
	}
	take_done();
}

static void op_commit(struct input *in)
{
	commit(input_u8(in) % NXFERS);
}

static void op_sleep(struct input *in)
{
	switch (input_u8(in) & 3) {
	case 0:
		rvmrpc_owner_sleep(&h.owner);
		break;
	case 1:
		rvmrpc_owner_awake(&h.owner);
		CHECK(!h.owner.wanted);
		break;
	case 2:
		rvmrpc_owner_kick(&h.owner);
		CHECK(scribbler.words || !rvmrpc_owner_kick(&h.owner));
		break;
	default:
		rvmrpc_owner_rekick(&h.owner);
		break;
	}
}

static void op_hear(struct input *in)
{
	struct rvmrpc_told told;
	struct rvmrpc_reader r;
	uint32_t left = input_u8(in);

	if (left & 1 || rvmrpc_owner_events_due(&h.owner, h.now))
		rvmrpc_owner_hear(&h.owner, h.now);
	while (left-- && rvmrpc_owner_take_event(&h.owner, h.now, &told)) {
		CHECK(told.event.epoch == h.owner.proxy.epoch && told.event.record.length <= RVMRPC_EVENT_RECORD_MAX);
		if (rvmrpc_reader_open_one(&r, &told.event.record, told.event.record.length))
			while (rvmrpc_reader_field(&r))
				CHECK(r.value + r.length <= (unsigned char *)(&told.event + 1));
	}
	CHECK(h.owner.proxy.stats.events <= RVMRPC_EVENTS_AT_ONCE + h.now / RVMRPC_EVENT_NS);
}

/* ---- the guest ---- */

/* An event that is right, but for some bytes. */
static void op_event(struct input *in)
{
	struct rvmrpc_event_writer e;
	struct rvmrpc_teller t;
	uint64_t seq = h.owner.ring.next + input_u8(in) % 80, at;

	if (!h.owner.ring.events)
		return;
	rvmrpc_event_begin(&e, input_u8(in), input_u8(in), h.now);
	rvmrpc_event_string(&e, RVMRPC_EVENT_TEXT, "an event", input_u8(in) % 9);
	rvmrpc_event_end(&e);
	rvmrpc_tell_init(&t, h.window, SIZE);
	t.place = h.owner.ring.at | (uint64_t)h.owner.ring.events << 32;
	rvmrpc_tell(&t, h.owner.proxy.epoch, seq, &e);
	at = rvmrpc_event_at(h.owner.ring.at, h.owner.ring.events, seq);
	memcpy(&e.event, h.window + at, sizeof(e.event));
	input_corrupt(in, &e.event, sizeof(e.event));
	memcpy(h.window + at, &e.event, sizeof(e.event));
}

static void op_poke(struct input *in)
{
	uint32_t at = input_u32(in), value = input_u32(in);

	/* Mostly the beginning of a page of words, not of payloads. */
	at = at & 7 ? at / 8 % 5 * RVMRPC_PAGE_SIZE + at / 64 % 128 * 4 : at / 8 % (SIZE / 4) * 4;
	memcpy(h.window + at, &value, sizeof(value));
}

static void op_hello(struct input *in)
{
	struct rvmrpc_hello hello = {
		.nonce = next_random(), .seen = h.owner.page.epoch, .abi_min = 1, .abi_max = 2, .os = RVMRPC_OS_OTHER,
	};

	input_corrupt(in, &hello, sizeof(hello));
	memcpy(h.window + RVMRPC_GUEST_PAGE, &hello, sizeof(hello));
}

static void op_bye(struct input *in)
{
	uint64_t epoch = h.owner.page.epoch + (input_u8(in) < 128);

	memcpy(h.window + RVMRPC_GUEST_WORD(bye), &epoch, sizeof(epoch));
}

/* An answer that is right, but for some bytes, to what stands in a slot. */
static void op_answer(struct input *in)
{
	uint32_t slot = input_u8(in) % NSLOTS, seq;
	const struct rvmrpc_layout *l = &h.owner.config.layout;
	struct rvmrpc_hdr hdr;

	memcpy(&hdr, h.window + rvmrpc_host_slot_at(l, slot), sizeof(hdr));
	memcpy(&seq, (char *)&hdr + RVMRPC_SLOT_SEQ, sizeof(seq));
	hdr.timeout_ms = 0;
	hdr.length = input_u8(in) * 4;
	hdr.status = input_u8(in) < 200 ? 0 : input_u8(in);
	input_corrupt(in, &hdr, sizeof(hdr));
	memcpy((char *)&hdr + RVMRPC_SLOT_SEQ, &seq, sizeof(seq));
	memcpy(h.window + rvmrpc_guest_slot_at(l, slot), &hdr, sizeof(hdr));
}

static void (*const ops[])(struct input *in) = {
	op_submit, op_submit, op_submit, op_hold, op_run, op_run, op_release, op_cancel, op_clock, op_look, op_look,
	op_state, op_deliver, op_deliver, op_reap, op_reap, op_reap, op_commit, op_commit, op_commit, op_sleep, op_poke,
	op_hello, op_bye, op_answer, op_answer, op_answer,
	op_hear, op_hear, op_event, op_event,
};

static void begin(struct input *in)
{
	struct rvmrpc_owner_config config = { .random = next_random };
	uint32_t flags = input_u8(in);

	memset(&h, 0, sizeof(h));
	h.now = 1;
	/* Of this size: ASan sees what is beyond. */
	h.window = aligned_alloc(64, SIZE);
	CHECK(h.window);
	memset(h.window, flags & 1 ? 0xff : 0, SIZE);
	CHECK(rvmrpc_layout_make(SIZE, NSLOTS, REQ, RES, &config.layout));
	rvmrpc_owner_init(&h.owner, h.window, SIZE, &config, 1);
	op_hello(&(struct input){ NULL, 0 });
	rvmrpc_owner_look(&h.owner, h.now, &h.done);
	if (flags >= 192)
		scribbler_set(h.window, SIZE, flags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t i;

	begin(&in);
	while (in.left) {
		ops[input_u8(&in) % (sizeof(ops) / sizeof(ops[0]))](&in);
		take_done();
	}
	scribbler_set(NULL, 0, 0);
	/* Whatever happened, the end of the epoch and of the copies gives every call back. */
	rvmrpc_owner_close(&h.owner, RVMRPC_STATUS_RESET, h.now, &h.done);
	take_done();
	for (i = 0; i < NXFERS; i++)
		commit(i);
	for (i = 0; i < NCALLS; i++)
		CHECK(!h.calls[i].in_flight);
	CHECK(!h.owner.proxy.ncalls && !h.clients[0].calls && !h.clients[1].calls);
	free(h.window);
	return 0;
}
