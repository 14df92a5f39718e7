/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The window: its layout, requests, answers, calls in place, who sleeps and who is woken. */
#include "world.h"

/* ---- layout ---- */

struct span {
	uint64_t at, bytes;
	char writer;		/* Host or Guest */
};

static void add(GArray *spans, uint64_t at, uint64_t bytes, char writer)
{
	struct span s = { at, bytes, writer };

	g_array_append_val(spans, s);
}

static void assert_apart(const struct span *a, const struct span *b)
{
	uint64_t page = RVMRPC_PAGE_SIZE;

	g_assert_true(a->at + a->bytes <= b->at || b->at + b->bytes <= a->at);
	if (a->writer != b->writer)
		g_assert_true((a->at + a->bytes - 1) / page < b->at / page || (b->at + b->bytes - 1) / page < a->at / page);
}

/* All parts are in the window, apart from each other, and no page has words of both sides. */
static void check_layout(const struct rvmrpc_layout *l, uint64_t size)
{
	GArray *spans = g_array_new(FALSE, FALSE, sizeof(struct span));
	uint32_t i, j;

	add(spans, RVMRPC_HOST_PAGE, sizeof(struct rvmrpc_host_page), 'H');
	add(spans, RVMRPC_GUEST_PAGE, sizeof(struct rvmrpc_guest_page), 'G');
	add(spans, l->ring, l->ring_bytes, 'G');
	for (i = 0; i < l->nslots; i++) {
		add(spans, rvmrpc_host_slot_at(l, i), sizeof(struct rvmrpc_host_slot), 'H');
		add(spans, rvmrpc_guest_slot_at(l, i), sizeof(struct rvmrpc_guest_slot), 'G');
		add(spans, rvmrpc_req_at(l, i), l->req_bytes, 'H');
		add(spans, rvmrpc_res_at(l, i), l->res_bytes, 'G');
	}
	for (i = 0; i < spans->len; i++) {
		const struct span *s = &g_array_index(spans, struct span, i);

		g_assert_cmpuint(s->at % RVMRPC_LINE, ==, 0);
		g_assert_cmpuint(s->at + s->bytes, <=, size);
		for (j = 0; j < i; j++)
			assert_apart(s, &g_array_index(spans, struct span, j));
	}
	g_array_free(spans, TRUE);
	g_assert_true(rvmrpc_layout_ok(l, size));
}

static void test_layouts(void)
{
	static const struct { uint64_t size; uint32_t nslots, req, res; bool fits; } sizes[] = {
		{ RVMRPC_WINDOW_SIZE_DEFAULT, RVMRPC_SLOTS_DEFAULT, RVMRPC_REQ_BYTES_DEFAULT,
		  RVMRPC_RES_BYTES_DEFAULT, true },
		{ RVMRPC_WINDOW_SIZE_MIN, 1, 64, 64, true },
		{ RVMRPC_WINDOW_SIZE_MIN, 1, 0x4000, 0x6000, true },
		{ RVMRPC_WINDOW_SIZE_MIN, 1, 0x8000, 0x8000, false },
		{ 0x8000000, 64, 0x100000, 0x100000, false },
		{ 0x10000000, 64, 0x100000, 0x100000, true },
		{ 0x400000, 1, 0x100000, 0x100000, true },
		{ 0x200000, 1, 0x100000, 0x100000, false },
		{ RVMRPC_WINDOW_SIZE_MAX, 64, 0x100000, 0x100000, true },
		{ 0x400000, 64, 64, 128, true },
		{ 0x400000, 64, 4096 - 64, 4096 + 64, true },
		{ RVMRPC_WINDOW_SIZE_MAX * 2ull, 1, 64, 64, false },
		{ RVMRPC_WINDOW_SIZE_MIN / 2, 1, 64, 64, false },
		{ 0x60000, 1, 64, 64, false },
		{ 0, 1, 64, 64, false },
		{ SIZE, 0, 64, 64, false },
		{ SIZE, 65, 64, 64, false },
		{ SIZE, 4, 0, 64, false },
		{ SIZE, 4, 64, 0, false },
		{ SIZE, 4, 96, 64, false },
		{ SIZE, 4, 64, 96, false },
		{ 0x10000000, 4, 0x100040, 64, false },
		{ 0x10000000, 4, 64, 0x100040, false },
		{ 0x10000000, 4, 0xffffffc0, 0xffffffc0, false },
	};
	struct rvmrpc_layout l;
	size_t i;

	for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
		g_test_message("%zu: %u slots, window 0x%" G_GINT64_MODIFIER "x", i, sizes[i].nslots, sizes[i].size);
		g_assert_cmpint(rvmrpc_layout_make(sizes[i].size, sizes[i].nslots, sizes[i].req, sizes[i].res, &l), ==,
				sizes[i].fits);
		if (sizes[i].fits)
			check_layout(&l, sizes[i].size);
	}
}

/* The one check that both sides make: each field on its own, at the bound and beyond. */
static void test_layout_bounds(void)
{
	const struct rvmrpc_layout good = {
		.nslots = 4, .req_bytes = 0x1000, .res_bytes = 0x1000, .stride = 0x3000, .req = 0x4000, .res = 0x5000,
		.host_slots = 0x2000, .guest_slots = 0x3000, .ring = 0xf000, .ring_bytes = 0x1000,
	};
#define LAST(field, at)	{ G_STRUCT_OFFSET(struct rvmrpc_layout, field), at, true }, \
			{ G_STRUCT_OFFSET(struct rvmrpc_layout, field), (at) + 64, false }, \
			{ G_STRUCT_OFFSET(struct rvmrpc_layout, field), (at) - 32, false }, \
			{ G_STRUCT_OFFSET(struct rvmrpc_layout, field), 0xffffffc0, false }
	static const struct { size_t field; uint32_t value; bool ok; } cases[] = {
		LAST(host_slots, 0x10000 - 4 * sizeof(struct rvmrpc_host_slot)),
		LAST(guest_slots, 0x10000 - 4 * sizeof(struct rvmrpc_guest_slot)),
		LAST(req, 0x10000 - 0xa000),
		LAST(res, 0x10000 - 0xa000),
		LAST(ring, 0xf000),
		LAST(req_bytes, 0x3000),
		LAST(res_bytes, 0x2000),
		LAST(stride, (0x10000 - 0x6000) / 3 / 64 * 64),
		{ G_STRUCT_OFFSET(struct rvmrpc_layout, nslots), 0, false },
		{ G_STRUCT_OFFSET(struct rvmrpc_layout, nslots), 65, false },
		{ G_STRUCT_OFFSET(struct rvmrpc_layout, nslots), 0x80000001, false },
		{ G_STRUCT_OFFSET(struct rvmrpc_layout, req_bytes), 0, false },
		{ G_STRUCT_OFFSET(struct rvmrpc_layout, res_bytes), 0, false },
		{ G_STRUCT_OFFSET(struct rvmrpc_layout, ring_bytes), 0, true },
		{ G_STRUCT_OFFSET(struct rvmrpc_layout, ring_bytes), 0xffffffff, false },
	};
	struct rvmrpc_layout l;
	size_t i;

	g_assert_true(rvmrpc_layout_ok(&good, 0x10000));
	for (i = 0; i < G_N_ELEMENTS(cases); i++) {
		l = good;
		memcpy((char *)&l + cases[i].field, &cases[i].value, sizeof(uint32_t));
		g_test_message("%zu: field at %zu is 0x%x", i, cases[i].field, cases[i].value);
		g_assert_cmpint(rvmrpc_layout_ok(&l, 0x10000), ==, cases[i].ok);
	}
}

/* ---- probe ---- */

static uint32_t probe(unsigned char *page, uint64_t size)
{
	struct rvmrpc_window win = { .base = page, .size = size };
	g_autofree unsigned char *before = g_memdup2(page, RVMRPC_PAGE_SIZE);
	struct rvmrpc_window_id id;
	uint32_t status = rvmrpc_guest_probe(&win, &id);

	/* Somebody else's memory stays as it is; and of any only this page is mapped. */
	g_assert_cmpint(memcmp(page, before, RVMRPC_PAGE_SIZE), ==, 0);
	if (status == RVMRPC_HELLO_OK)
		g_assert_cmpuint(id.doorbell, ==, 1 << 16);
	return status;
}

static void test_probe(void)
{
	unsigned char *page = g_aligned_alloc0(1, RVMRPC_PAGE_SIZE, RVMRPC_PAGE_SIZE);
	struct rvmrpc_window_id *id = (struct rvmrpc_window_id *)page, good;
	uint32_t i;

	g_assert_cmpuint(probe(page, SIZE), ==, RVMRPC_HELLO_BAD_ARGS);
	memset(page, 0xff, RVMRPC_PAGE_SIZE);
	g_assert_cmpuint(probe(page, SIZE), ==, RVMRPC_HELLO_BAD_ARGS);
	world_begin();
	memcpy(page, w.memory, RVMRPC_PAGE_SIZE);
	world_end();
	good = *id;
	g_assert_cmpuint(probe(page, SIZE), ==, RVMRPC_HELLO_OK);
	g_assert_cmpuint(probe(page, 2 * SIZE), ==, RVMRPC_HELLO_BAD_ARGS);
	/* Any bit of what it is, or is not. */
	for (i = 0; i < sizeof(*id) * 8; i++) {
		*id = good;
		page[i / 8] ^= 1 << i % 8;
		if (i / 32 == G_STRUCT_OFFSET(struct rvmrpc_window_id, doorbell) / 4)
			continue;
		if (i / 32 >= G_STRUCT_OFFSET(struct rvmrpc_window_id, layout) / 4 &&
		    i / 64 < G_STRUCT_OFFSET(struct rvmrpc_window_id, size) / 8)
			g_assert_cmpuint(probe(page, SIZE), !=, RVMRPC_HELLO_BAD_ARGS);
		else
			g_assert_cmpuint(probe(page, SIZE), ==, RVMRPC_HELLO_BAD_ARGS);
	}
	*id = good;
	id->layout++;
	g_assert_cmpuint(probe(page, SIZE), ==, RVMRPC_HELLO_BAD_VERSION);
	id->layout--;
	id->abi_min = 1;
	id->abi_max = 7;
	g_assert_cmpuint(probe(page, SIZE), ==, RVMRPC_HELLO_OK);
	id->abi_max = 1;
	g_assert_cmpuint(probe(page, SIZE), ==, RVMRPC_HELLO_BAD_VERSION);
	id->abi_min = 3;
	id->abi_max = 7;
	g_assert_cmpuint(probe(page, SIZE), ==, RVMRPC_HELLO_BAD_VERSION);
	g_aligned_free(page);
}

/* ---- requests ---- */

static void test_payloads(void)
{
	static const uint32_t sizes[] = { 0, 1, 63, 64, 65, REQ - 1, REQ };
	unsigned char arg[REQ + 1], answer[REQ];
	size_t i, j;

	connected();
	for (j = 0; j < sizeof(arg); j++)
		arg[j] = (unsigned char)(j * 7);
	for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
		struct rvmrpc_call call = { .arg = arg, .arglen = sizes[i], .res_max = sizeof(answer) };

		memset(answer, 0, sizeof(answer));
		post(&call);
		g_assert_true(serve_one());
		reap(call.slot, answer);
		assert_ended(&call, RVMRPC_STATUS_OK);
		g_assert_cmpuint(call.reslen, ==, sizes[i]);
		g_assert_cmpint(memcmp(arg, answer, sizes[i]), ==, 0);
	}
	g_assert_cmpuint(submit(&(struct rvmrpc_call){ .arg = arg, .arglen = REQ + 1 }), ==, RVMRPC_STATUS_TOO_BIG);
	world_end();
}

static void test_header(void)
{
	struct rvmrpc_call call = {
		.module = 0x11223344, .procedure = 0x55667788, .version = 0x99aa, .arglen = 5, .arg = "12345",
	};
	struct rvmrpc_taken t;

	connected();
	call.deadline = w.now + 1500 * MS + 1;
	post(&call);
	take(&t);
	g_assert_cmphex(t.hdr.magic, ==, RVMRPC_CALL_MAGIC);
	g_assert_cmpuint(t.hdr.abi, ==, RVMRPC_ABI_VERSION);
	g_assert_cmphex(t.hdr.version, ==, 0x99aa);
	g_assert_cmphex(t.hdr.epoch, ==, w.owner.proxy.epoch);
	g_assert_cmphex(t.hdr.xid, ==, call.xid);
	g_assert_cmphex(t.hdr.module, ==, call.module);
	g_assert_cmphex(t.hdr.procedure, ==, call.procedure);
	g_assert_cmpuint(t.hdr.length, ==, 5);
	g_assert_cmpuint(t.hdr.timeout_ms, ==, 1501);
	g_assert_true(!t.hdr.flags && !t.hdr.status && !t.hdr.list && !t.hdr.reserved && !t.hdr.reserved2);
	world_end();
}

/* Takes, answers and reaps n requests, each of which must be the next that was posted. */
static void take_in_order(uint32_t n, uint32_t *last, uint64_t *taken)
{
	struct rvmrpc_taken t;

	for (; n; n--) {
		take(&t);
		if (*taken)
			g_assert_cmphex(t.seq, ==, *last + 1 ? *last + 1 : 1);
		g_assert_cmpuint(t.seq, !=, 0);
		g_assert_cmpuint(t.hdr.xid, ==, ++*taken);
		*last = t.seq;
		echo(&t);
		reap(t.slot, NULL);
		g_assert_cmpuint(ended()->xid, ==, t.hdr.xid);
	}
}

/* Whatever slots they get, requests are taken as they were posted: one to four at a time, not always all of them. */
static void check_order(uint32_t rounds)
{
	struct rvmrpc_call calls[NSLOTS], *call;
	uint32_t i, n, posted = 0, last = 0;
	uint64_t taken = 0;

	memset(calls, 0, sizeof(calls));
	for (i = 0; i < rounds; i++) {
		for (n = 1 + (uint32_t)a_random() % (NSLOTS - posted); n; n--) {
			for (call = calls; call->state; call++)
				;
			post(call);
			posted++;
		}
		n = 1 + (uint32_t)a_random() % posted;
		take_in_order(n, &last, &taken);
		posted -= n;
	}
	take_in_order(posted, &last, &taken);
	g_assert_false(rvmrpc_guest_take(&w.guest, &(struct rvmrpc_taken){ 0 }));
}

static void test_order(void)
{
	connected();
	check_order(1000);
	world_end();
}

/* The count of requests passes 2^32, and 0 is none. */
static void test_wrap(void)
{
	uint32_t first;

	for (first = 0xfffffff0; first; first++) {
		world_begin();
		w.fixed = 1ull << 32 | first;
		rvmrpc_guest_hello(&w.guest, 77, RVMRPC_OS_LINUX, "");
		look();
		g_assert_cmpint(answered(&(uint32_t){ 0 }), ==, RVMRPC_ANSWER_OPEN);
		w.fixed = 0;
		g_assert_cmphex(w.guest.posted, ==, first);
		check_order(20);
		g_assert_cmpuint(w.owner.page.posted, <, 0x100);
		world_end();
	}
}

static void set_posted(uint32_t posted)
{
	rvmrpc_win_store32(&w.guest.win, RVMRPC_HOST_WORD(posted), posted);
}

/* The host was stopped between the slot's seq and `posted': the guest sees the one, and not yet the other. */
static void test_posted_lags(void)
{
	struct rvmrpc_call a = { .res_max = 1 }, b = { .res_max = 1 };
	struct rvmrpc_taken t;
	uint32_t before, i;

	connected();
	assert_works();
	before = w.owner.page.posted;
	post(&a);
	set_posted(before);
	take(&t);
	for (i = 0; i < 3; i++)
		g_assert_false(rvmrpc_guest_take(&w.guest, &t));
	g_assert_false(rvmrpc_guest_due(&w.guest));
	g_assert_true(rvmrpc_guest_sleep(&w.guest));
	rvmrpc_guest_awake(&w.guest);
	set_posted(before + 1);
	g_assert_false(rvmrpc_guest_due(&w.guest));
	g_assert_false(rvmrpc_guest_take(&w.guest, &t));
	post(&b);
	take(&t);
	g_assert_cmpuint(t.hdr.xid, ==, b.xid);
	g_assert_false(rvmrpc_guest_take(&w.guest, &t));
	world_end();
}

/* A newer request in a slot that is looked at first must not overtake one whose turn it is. */
static void test_no_overtaking(void)
{
	struct rvmrpc_call a = { .res_max = 1 }, b = { .res_max = 1 }, c = { .res_max = 1 };
	struct rvmrpc_taken t;

	connected();
	post(&a);
	post(&b);
	g_assert_true(serve_one());
	g_assert_true(serve_one());
	reap(a.slot, NULL);
	g_assert_cmpuint(a.slot, <, b.slot);
	/* b's slot is still the owner's, so the next two get a's and a third one; posted in the other order. */
	post(&c);
	reap(b.slot, NULL);
	post(&b);
	g_assert_true(serve_one());
	reap(c.slot, NULL);
	post(&c);
	g_assert_cmpuint(c.slot, <, b.slot);
	set_posted(w.owner.page.posted - 1);
	take(&t);
	g_assert_cmpuint(t.hdr.xid, ==, b.xid);
	g_assert_false(w.guest.behind);
	set_posted(w.owner.page.posted);
	take(&t);
	g_assert_cmpuint(t.hdr.xid, ==, c.xid);
	world_end();
}

/* ---- answers ---- */

static void test_late(void)
{
	struct rvmrpc_call calls[NSLOTS], more = { .deadline = 0 };
	struct rvmrpc_taken t[NSLOTS];
	uint32_t i;

	connected();
	memset(calls, 0, sizeof(calls));
	for (i = 0; i < NSLOTS; i++)
		post(&calls[i]);
	/* All slots are taken: the next one waits. */
	g_assert_cmpuint(submit(&more), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(deliver(), ==, 0);
	for (i = 0; i < NSLOTS; i++)
		take(&t[i]);
	g_assert_false(rvmrpc_guest_take(&w.guest, &(struct rvmrpc_taken){ 0 }));
	w.now += SECOND;
	g_assert_cmpuint(rvmrpc_proxy_expire(&w.owner.proxy, w.now, &w.done), ==, UINT64_MAX);
	assert_ended(&more, RVMRPC_STATUS_TIMED_OUT);
	for (i = 0; i < NSLOTS; i++)
		assert_ended(&calls[i], RVMRPC_STATUS_TIMED_OUT);
	g_assert_cmpuint(w.owner.proxy.unanswered, ==, NSLOTS + 1);
	/* And stay so: nothing else is put there. */
	g_assert_true(rvmrpc_proxy_stuck(&w.owner.proxy));
	more.deadline = 0;
	g_assert_cmpuint(submit(&more), ==, RVMRPC_STATUS_BUSY);
	g_assert_cmpuint(rvmrpc_proxy_hold(&w.owner.proxy, &more, w.now), ==, RVMRPC_STATUS_BUSY);
	/* Until they are answered, for nobody. */
	for (i = 0; i < NSLOTS; i++) {
		echo(&t[i]);
		reap(t[i].slot, NULL);
		g_assert_null(ended());
	}
	g_assert_cmpuint(w.owner.proxy.stats.late_replies, ==, NSLOTS);
	g_assert_cmpuint(w.owner.proxy.unanswered, ==, 0);
	assert_works();
	world_end();
}

static void test_duplicate(void)
{
	struct rvmrpc_call call = { .res_max = 1 };
	struct rvmrpc_taken old, t;

	connected();
	post(&call);
	take(&old);
	echo(&old);
	reap(old.slot, NULL);
	assert_ended(&call, RVMRPC_STATUS_OK);
	echo(&old);
	g_assert_false(rvmrpc_owner_answered(&w.owner, old.slot));
	/* The next call in the slot is not answered by it. */
	post(&call);
	g_assert_cmpuint(call.slot, ==, old.slot);
	echo(&old);
	g_assert_false(rvmrpc_owner_answered(&w.owner, old.slot));
	take(&t);
	echo(&t);
	reap(t.slot, NULL);
	assert_ended(&call, RVMRPC_STATUS_OK);
	world_end();
}

/* What guest writes into its slots, without a right one, is no answer. */
static void test_garbage_seq(void)
{
	struct rvmrpc_call call = { .res_max = 1 };
	struct rvmrpc_taken t;
	uint32_t i;

	connected();
	post(&call);
	take(&t);
	for (i = 0; i < 1000; i++) {
		uint32_t seq = i < 100 ? t.seq + 50 - i : (uint32_t)a_random();

		if (seq == t.seq)
			continue;
		rvmrpc_win_publish(&w.guest.win, rvmrpc_guest_slot_at(&w.guest.layout, i % NSLOTS), seq);
		g_assert_false(rvmrpc_owner_answered(&w.owner, t.slot));
	}
	/* A right seq in a slot without a request is none either. */
	for (i = 0; i < NSLOTS; i++) {
		if (i != t.slot)
			rvmrpc_win_publish(&w.guest.win, rvmrpc_guest_slot_at(&w.guest.layout, i), t.seq);
		g_assert_false(rvmrpc_owner_answered(&w.owner, i));
	}
	echo(&t);
	reap(t.slot, NULL);
	assert_ended(&call, RVMRPC_STATUS_OK);
	world_end();
}

struct bad {
	const char *what;
	void (*spoil)(struct rvmrpc_hdr *hdr);
	uint32_t status;
	bool counted;		/* as a bad reply */
};

#define SPOIL(name, statement)	static void spoil_##name(struct rvmrpc_hdr *hdr) { statement; }
SPOIL(nothing, (void)hdr)
SPOIL(magic, hdr->magic ^= 1)
SPOIL(abi, hdr->abi = 1)
SPOIL(epoch, hdr->epoch++)
SPOIL(xid, hdr->xid--)
SPOIL(module, hdr->module ^= 0x80000000)
SPOIL(procedure, hdr->procedure++)
SPOIL(flags, hdr->flags = 0x80000000)
SPOIL(timeout, hdr->timeout_ms = 1)
SPOIL(list, hdr->list = 1)
SPOIL(reserved, hdr->reserved = 1u << 31)
SPOIL(length, hdr->length = RES + 1)
SPOIL(huge, hdr->length = 0xffffffff)
SPOIL(more, hdr->length = 65)
SPOIL(most, hdr->length = 64)
SPOIL(not_ours, hdr->status = RVMRPC_STATUS_NOT_CONNECTED)
SPOIL(timed_out, hdr->status = RVMRPC_STATUS_TIMED_OUT)
SPOIL(no_status, hdr->status = RVMRPC_STATUS_MAX + 1)
SPOIL(wild_status, hdr->status = 0x80000000)
SPOIL(failed, hdr->status = RVMRPC_STATUS_SYSTEM_ERROR)
SPOIL(busy, hdr->status = RVMRPC_STATUS_BUSY; hdr->length = 64)

static const struct bad bads[] = {
	{ "nothing", spoil_nothing, RVMRPC_STATUS_OK, false },
	{ "as much as fits", spoil_most, RVMRPC_STATUS_OK, false },
	{ "magic", spoil_magic, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "abi", spoil_abi, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "epoch", spoil_epoch, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "xid", spoil_xid, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "module", spoil_module, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "procedure", spoil_procedure, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "flags", spoil_flags, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "timeout", spoil_timeout, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "list", spoil_list, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "reserved", spoil_reserved, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "length", spoil_length, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "length of 4 GiB", spoil_huge, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "status of the host's", spoil_not_ours, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "timed out", spoil_timed_out, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "no status", spoil_no_status, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "wild status", spoil_wild_status, RVMRPC_STATUS_SYSTEM_ERROR, true },
	{ "system error", spoil_failed, RVMRPC_STATUS_SYSTEM_ERROR, false },
	{ "busy", spoil_busy, RVMRPC_STATUS_BUSY, false },
	{ "more than the caller takes", spoil_more, RVMRPC_STATUS_TOO_BIG, false },
};

static void check_bad(const struct bad *bad, struct rvmrpc_call *call, uint64_t count)
{
	struct rvmrpc_hdr reply;
	struct rvmrpc_taken t;
	char answer[64];

	take(&t);
	reply = reply_to(&t);
	bad->spoil(&reply);
	publish(&t, &reply);
	reap(t.slot, answer);
	assert_ended(call, bad->status);
	g_assert_cmpuint(w.owner.proxy.stats.bad_replies, ==, count + bad->counted);
	g_assert_cmpuint(call->reslen, ==,
			 bad->status == RVMRPC_STATUS_OK || bad->status == RVMRPC_STATUS_TOO_BIG ? reply.length : 0);
}

static void test_bad_headers(void)
{
	struct rvmrpc_call call = { .module = 1, .procedure = 2, .res_max = 64 }, held = call;
	uint64_t count;
	size_t i;

	connected();
	held.deadline = w.now + SECOND;
	g_assert_cmpuint(rvmrpc_proxy_hold(&w.owner.proxy, &held, w.now), ==, RVMRPC_STATUS_OK);
	for (i = 0; i < G_N_ELEMENTS(bads); i++) {
		g_test_message("%s", bads[i].what);
		count = w.owner.proxy.stats.bad_replies;
		post(&call);
		check_bad(&bads[i], &call, count);
		count = w.owner.proxy.stats.bad_replies;
		g_assert_cmpuint(rvmrpc_owner_run(&w.owner, &held, w.now), ==, RVMRPC_STATUS_OK);
		check_bad(&bads[i], &held, count);
		assert_works();
	}
	g_assert_cmpuint(w.owner.proxy.stats.late_replies, ==, 0);
	world_end();
}

static void test_cancel(void)
{
	struct rvmrpc_call call = { .res_max = 1 };
	struct rvmrpc_xfer x;
	struct rvmrpc_taken t;

	connected();
	/* While its request is copied: the guest never hears of it. */
	g_assert_cmpuint(submit(&call), ==, RVMRPC_STATUS_OK);
	g_assert_true(rvmrpc_proxy_deliver_begin(&w.owner.proxy, &x, w.now, &w.done));
	rvmrpc_owner_copy_in(&w.owner, &x);
	rvmrpc_proxy_cancel(&w.owner.proxy, &call, w.now, &w.done);
	g_assert_null(ended());
	g_assert_false(rvmrpc_owner_post(&w.owner, &x, w.now, &w.done));
	assert_ended(&call, RVMRPC_STATUS_CANCELLED);
	g_assert_false(rvmrpc_guest_take(&w.guest, &t));
	/* While the guest works: at once.  While its answer is copied: at the end of that. */
	post(&call);
	take(&t);
	rvmrpc_proxy_cancel(&w.owner.proxy, &call, w.now, &w.done);
	assert_ended(&call, RVMRPC_STATUS_CANCELLED);
	echo(&t);
	reap(t.slot, NULL);
	post(&call);
	g_assert_true(serve_one());
	g_assert_true(rvmrpc_owner_reap_begin(&w.owner, call.slot, &x, w.now, &w.done));
	rvmrpc_proxy_cancel(&w.owner.proxy, &call, w.now, &w.done);
	g_assert_null(ended());
	rvmrpc_owner_reap_commit(&w.owner, &x, true, w.now, &w.done);
	assert_ended(&call, RVMRPC_STATUS_CANCELLED);
	assert_works();
	world_end();
}

/* A request whose call has ended says so, before and after the guest has taken it. */
static void test_given_up(void)
{
	struct rvmrpc_call calls[3] = { { .res_max = 1 }, { .res_max = 1 }, { .res_max = 1 } }, late = { .res_max = 1 };
	struct rvmrpc_taken t;
	uint32_t i;

	connected();
	for (i = 0; i < 3; i++)
		post(&calls[i]);
	take(&t);
	g_assert_cmpuint(t.hdr.timeout_ms, ==, 1000);
	echo(&t);
	reap(t.slot, NULL);
	assert_ended(&calls[0], RVMRPC_STATUS_OK);
	rvmrpc_owner_cancel(&w.owner, &calls[1], w.now, &w.done);
	assert_ended(&calls[1], RVMRPC_STATUS_CANCELLED);
	w.now += SECOND;
	g_assert_cmpuint(rvmrpc_owner_expire(&w.owner, w.now, &w.done), ==, UINT64_MAX);
	assert_ended(&calls[2], RVMRPC_STATUS_TIMED_OUT);
	for (i = 1; i < 3; i++) {
		take(&t);
		g_assert_cmpuint(t.hdr.xid, ==, calls[i].xid);
		g_assert_cmpuint(t.hdr.timeout_ms, ==, 0);
		echo(&t);
		reap(t.slot, NULL);
	}
	post(&late);
	take(&t);
	g_assert_false(rvmrpc_guest_unwanted(&w.guest, t.slot));
	rvmrpc_owner_cancel(&w.owner, &late, w.now, &w.done);
	assert_ended(&late, RVMRPC_STATUS_CANCELLED);
	g_assert_true(rvmrpc_guest_unwanted(&w.guest, t.slot));
	echo(&t);
	reap(t.slot, NULL);
	assert_works();
	g_assert_cmpuint(rvmrpc_owner_look(&w.owner, w.now, &w.done), ==, 0);
	world_end();
}

static void test_stopped(void)
{
	struct rvmrpc_call a = { .res_max = 1 }, b = { .res_max = 1 };

	connected();
	g_assert_cmpuint(submit(&a), ==, RVMRPC_STATUS_OK);
	w.owner.proxy.stopped = true;
	g_assert_cmpuint(deliver(), ==, 0);
	g_assert_cmpuint(submit(&b), ==, RVMRPC_STATUS_STOPPED);
	g_assert_cmpuint(rvmrpc_proxy_hold(&w.owner.proxy, &b, w.now), ==, RVMRPC_STATUS_STOPPED);
	w.owner.proxy.stopped = false;
	g_assert_cmpuint(deliver(), ==, 1);
	g_assert_true(serve_one());
	reap(a.slot, NULL);
	assert_ended(&a, RVMRPC_STATUS_OK);
	world_end();
}

static void test_quota(void)
{
	struct rvmrpc_call *calls = g_new0(struct rvmrpc_call, RVMRPC_CALLS_MAX + 1);
	struct rvmrpc_client client = { 0 };
	uint32_t i;

	connected();
	for (i = 0; i <= RVMRPC_CLIENT_CALLS_MAX; i++) {
		calls[i].client = &client;
		g_assert_cmpuint(submit(&calls[i]), ==,
				 i < RVMRPC_CLIENT_CALLS_MAX ? RVMRPC_STATUS_OK : RVMRPC_STATUS_BUSY);
	}
	for (i = RVMRPC_CLIENT_CALLS_MAX; i <= RVMRPC_CALLS_MAX; i++) {
		calls[i].client = NULL;
		g_assert_cmpuint(submit(&calls[i]), ==, i < RVMRPC_CALLS_MAX ? RVMRPC_STATUS_OK : RVMRPC_STATUS_BUSY);
	}
	for (i = 0; i < RVMRPC_CALLS_MAX; i++) {
		deliver();
		g_assert_true(serve_one());
		reap(calls[i].slot, NULL);
		assert_ended(&calls[i], RVMRPC_STATUS_OK);
	}
	g_assert_cmpuint(client.calls, ==, 0);
	g_free(calls);
	world_end();
}

/* ---- in place ---- */

static void hold(struct rvmrpc_call *call)
{
	call->deadline = w.now + SECOND;
	g_assert_cmpuint(rvmrpc_proxy_hold(&w.owner.proxy, call, w.now), ==, RVMRPC_STATUS_OK);
}

static void run(struct rvmrpc_call *call)
{
	call->deadline = w.now + SECOND;
	g_assert_cmpuint(rvmrpc_owner_run(&w.owner, call, w.now), ==, RVMRPC_STATUS_OK);
}

static void test_in_place(void)
{
	struct rvmrpc_call calls[NSLOTS], more = { .deadline = 2 * SECOND };
	uint32_t i, round;

	connected();
	memset(calls, 0, sizeof(calls));
	for (i = 0; i < NSLOTS; i++) {
		hold(&calls[i]);
		calls[i].res_max = RES;
	}
	g_assert_cmpuint(rvmrpc_proxy_hold(&w.owner.proxy, &more, w.now), ==, RVMRPC_STATUS_BUSY);
	/* The form that copies waits for a slot. */
	g_assert_cmpuint(submit(&more), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(deliver(), ==, 0);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < NSLOTS; i++) {
			calls[i].arglen = REQ - i - round;
			memset(rvmrpc_owner_req(&w.owner, &calls[i]), (int)(i * 16 + round), calls[i].arglen);
			run(&calls[i]);
		}
		for (i = 0; i < NSLOTS; i++) {
			g_assert_true(serve_one());
			reap(calls[i].slot, NULL);
			assert_ended(&calls[i], RVMRPC_STATUS_OK);
			g_assert_cmpuint(calls[i].reslen, ==, REQ - i - round);
			g_assert_cmpuint(((unsigned char *)rvmrpc_owner_res(&w.owner, &calls[i]))[calls[i].reslen - 1], ==,
					 i * 16 + round);
			g_assert_cmpuint(deliver(), ==, 0);
		}
	}
	rvmrpc_proxy_release(&w.owner.proxy, &calls[2]);
	g_assert_cmpuint(deliver(), ==, 1);
	g_assert_cmpuint(more.slot, ==, calls[2].slot);
	world_end();
}

static void test_in_place_refused(void)
{
	struct rvmrpc_call call = { .res_max = 1 };
	struct rvmrpc_taken t;

	connected();
	hold(&call);
	call.arglen = REQ + 1;
	g_assert_cmpuint(rvmrpc_owner_run(&w.owner, &call, w.now), ==, RVMRPC_STATUS_TOO_BIG);
	call.arglen = 0;
	g_assert_cmpuint(rvmrpc_owner_run(&w.owner, &call, w.now + SECOND), ==, RVMRPC_STATUS_TIMED_OUT);
	run(&call);
	take(&t);
	w.now += SECOND;
	rvmrpc_proxy_expire(&w.owner.proxy, w.now, &w.done);
	assert_ended(&call, RVMRPC_STATUS_TIMED_OUT);
	/* The guest still has what it sent before. */
	call.deadline = w.now + SECOND;
	g_assert_cmpuint(rvmrpc_owner_run(&w.owner, &call, w.now), ==, RVMRPC_STATUS_BUSY);
	echo(&t);
	reap(t.slot, NULL);
	g_assert_null(ended());
	run(&call);
	g_assert_true(serve_one());
	reap(call.slot, NULL);
	assert_ended(&call, RVMRPC_STATUS_OK);
	rvmrpc_proxy_release(&w.owner.proxy, &call);
	world_end();
}

/* A slot that a client builds or reads is its own through a new epoch. */
static void test_in_place_epochs(void)
{
	struct rvmrpc_call held = { .res_max = 1 }, call, other = { .res_max = 1 };
	uint32_t i;

	connected();
	hold(&held);
	run(&held);
	rvmrpc_owner_close(&w.owner, RVMRPC_STATUS_RESET, w.now, &w.done);
	assert_ended(&held, RVMRPC_STATUS_RESET);
	memset(rvmrpc_owner_req(&w.owner, &held), 0xa5, REQ);
	greet();
	for (i = 0; i < 3 * NSLOTS; i++) {
		memset(&call, 0, sizeof(call));
		call.arg = "other";
		call.arglen = 6;
		call.res_max = 6;
		post(&call);
		g_assert_cmpuint(call.slot, !=, held.slot);
		g_assert_true(serve_one());
		reap(call.slot, (char[6]){ 0 });
		assert_ended(&call, RVMRPC_STATUS_OK);
	}
	g_assert_cmpuint(((unsigned char *)rvmrpc_owner_req(&w.owner, &held))[0], ==, 0xa5);
	held.deadline = w.now + SECOND;
	g_assert_cmpuint(rvmrpc_owner_run(&w.owner, &held, w.now), ==, RVMRPC_STATUS_RESET);
	rvmrpc_proxy_release(&w.owner.proxy, &held);
	hold(&other);
	g_assert_cmpuint(other.slot, ==, held.slot);
	run(&other);
	g_assert_true(serve_one());
	reap(other.slot, NULL);
	assert_ended(&other, RVMRPC_STATUS_OK);
	world_end();
}

/* Likewise one into which a request is being copied, with no lock, while the epoch ends. */
static void test_copy_epochs(void)
{
	struct rvmrpc_call slow = { .arg = "slow", .arglen = 4 }, calls[NSLOTS];
	struct rvmrpc_xfer x;
	uint32_t i;

	connected();
	g_assert_cmpuint(submit(&slow), ==, RVMRPC_STATUS_OK);
	g_assert_true(rvmrpc_proxy_deliver_begin(&w.owner.proxy, &x, w.now, &w.done));
	greet();
	g_assert_null(ended());
	memset(calls, 0, sizeof(calls));
	for (i = 0; i < NSLOTS; i++)
		g_assert_cmpuint(submit(&calls[i]), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(deliver(), ==, NSLOTS - 1);
	for (i = 0; i < NSLOTS - 1; i++)
		g_assert_cmpuint(calls[i].slot, !=, x.slot);
	rvmrpc_owner_copy_in(&w.owner, &x);
	g_assert_false(rvmrpc_owner_post(&w.owner, &x, w.now, &w.done));
	assert_ended(&slow, RVMRPC_STATUS_RESET);
	g_assert_cmpuint(deliver(), ==, 1);
	g_assert_cmpuint(calls[NSLOTS - 1].slot, ==, x.slot);
	for (i = 0; i < NSLOTS; i++) {
		g_assert_true(serve_one());
		reap(calls[i].slot, NULL);
		assert_ended(&calls[i], RVMRPC_STATUS_OK);
	}
	world_end();
}

/* ---- sleep ---- */

static void test_kicks(void)
{
	struct rvmrpc_call a = { .res_max = 1 }, b = { .res_max = 1 };

	connected();
	/* A guest that is awake is never interrupted. */
	post(&a);
	g_assert_false(rvmrpc_owner_kick(&w.owner));
	g_assert_false(rvmrpc_owner_rekick(&w.owner));
	/* It does not sleep when there is something to do. */
	g_assert_false(rvmrpc_guest_sleep(&w.guest));
	g_assert_true(serve_one());
	reap(a.slot, NULL);
	g_assert_true(rvmrpc_guest_sleep(&w.guest));
	g_assert_false(rvmrpc_owner_rekick(&w.owner));
	/* Once for each time that it sleeps. */
	post(&a);
	g_assert_true(rvmrpc_owner_kick(&w.owner));
	post(&b);
	g_assert_false(rvmrpc_owner_kick(&w.owner));
	/* More only if it was not heard. */
	g_assert_true(rvmrpc_owner_rekick(&w.owner));
	g_assert_true(rvmrpc_owner_rekick(&w.owner));
	g_assert_cmpuint(w.owner.proxy.stats.kicks, ==, 1);
	g_assert_cmpuint(w.owner.proxy.stats.rekicks, ==, 2);
	rvmrpc_guest_awake(&w.guest);
	g_assert_false(rvmrpc_owner_rekick(&w.owner));
	rvmrpc_guest_awake(&w.guest);
	g_assert_false(w.guest.wait & 1);
	while (serve_one())
		;
	g_assert_true(rvmrpc_guest_sleep(&w.guest));
	reap(a.slot, NULL);
	post(&a);
	g_assert_true(rvmrpc_owner_kick(&w.owner));
	world_end();
}

/* RVMRPC_MAIN waits for what the guest has not seen, of its own epoch only. */
static void test_main(void)
{
	struct rvmrpc_call a = { .res_max = 1 };
	uint64_t epoch;
	uint32_t seen;

	connected();
	epoch = w.guest.epoch;
	seen = w.guest.posted;
	g_assert_cmpint(rvmrpc_owner_main(&w.owner, epoch, seen), ==, RVMRPC_MAIN_TURN_WAIT);
	g_assert_cmpint(rvmrpc_owner_main(&w.owner, epoch, seen - 1), ==, RVMRPC_MAIN_TURN_POSTED);
	g_assert_cmpint(rvmrpc_owner_main(&w.owner, epoch + 1, seen), ==, RVMRPC_MAIN_TURN_RESET);
	post(&a);
	/* What the window says does not count. */
	rvmrpc_win_store32(&w.owner.win, RVMRPC_HOST_WORD(posted), seen);
	g_assert_cmpint(rvmrpc_owner_main(&w.owner, epoch, seen), ==, RVMRPC_MAIN_TURN_POSTED);
	rvmrpc_owner_close(&w.owner, RVMRPC_STATUS_RESET, 1, &w.done);
	g_assert_cmpint(rvmrpc_owner_main(&w.owner, epoch, seen), ==, RVMRPC_MAIN_TURN_RESET);
	g_assert_cmpint(rvmrpc_owner_main(&w.owner, 0, seen), ==, RVMRPC_MAIN_TURN_RESET);
	world_end();
}

/* Nobody sleeps through the end of an epoch, or with requests that it knows of. */
static void test_guest_looks_again(void)
{
	struct rvmrpc_call calls[2];
	struct rvmrpc_taken t;

	connected();
	rvmrpc_owner_close(&w.owner, RVMRPC_STATUS_RESET, w.now, &w.done);
	g_assert_false(rvmrpc_guest_sleep(&w.guest));
	g_assert_false(w.guest.wait & 1);
	greet();
	memset(calls, 0, sizeof(calls));
	post(&calls[0]);
	post(&calls[1]);
	set_posted(w.owner.page.posted);
	g_assert_true(rvmrpc_guest_find(&w.guest, &t));
	g_assert_cmpuint(w.guest.behind, ==, 1);
	g_assert_false(rvmrpc_guest_posted(&w.guest));
	g_assert_false(rvmrpc_guest_sleep(&w.guest));
	world_end();
}

static uint32_t want(uint32_t slot)
{
	return host_word(rvmrpc_host_slot_at(&w.owner.config.layout, slot) + RVMRPC_WANT_AT);
}

/* Publishes the answer; whether that rings. */
static bool answer_rings(const struct rvmrpc_taken *t)
{
	struct rvmrpc_hdr reply = reply_to(t);

	return publish(t, &reply);
}

static void test_wants(void)
{
	struct rvmrpc_call a = { .res_max = 1 }, b = { .res_max = 1 }, c = { .res_max = 1 };
	struct rvmrpc_taken ta, tb, tc;

	connected();
	g_assert_true(rvmrpc_owner_sleep(&w.owner));
	rvmrpc_owner_awake(&w.owner);
	post(&a);
	post(&b);
	take(&ta);
	take(&tb);
	/* Nobody sleeps: no ring. */
	g_assert_false(answer_rings(&ta));
	reap(a.slot, NULL);
	/* Asks for b's answer, not for that of a slot where nothing is. */
	g_assert_true(rvmrpc_owner_sleep(&w.owner));
	g_assert_true(want(b.slot) && !want(a.slot));
	/* Posted while somebody sleeps: nobody asked for its answer yet. */
	post(&c);
	take(&tc);
	g_assert_cmpuint(c.slot, ==, a.slot);
	g_assert_false(answer_rings(&tc));
	g_assert_true(answer_rings(&tb));
	/* Whoever looks now has something to do. */
	g_assert_false(rvmrpc_owner_sleep(&w.owner));
	rvmrpc_owner_awake(&w.owner);
	g_assert_false(want(0) || want(1) || want(2) || want(3));
	reap(b.slot, NULL);
	reap(c.slot, NULL);
	g_assert_true(rvmrpc_owner_sleep(&w.owner));
	world_end();
}

/* Of one slot each, by owners with a thread for each call. */
static void test_wants_one(void)
{
	struct rvmrpc_call a = { .res_max = 1 }, b = { .res_max = 1 };
	struct rvmrpc_taken ta, tb;

	connected();
	post(&a);
	post(&b);
	take(&ta);
	take(&tb);
	g_assert_true(rvmrpc_owner_sleep_on(&w.owner, a.slot));
	g_assert_true(want(a.slot) && !want(b.slot));
	g_assert_false(answer_rings(&tb));
	g_assert_true(answer_rings(&ta));
	g_assert_false(rvmrpc_owner_sleep_on(&w.owner, a.slot));
	g_assert_false(rvmrpc_owner_sleep_on(&w.owner, b.slot));
	rvmrpc_owner_awake_on(&w.owner, a.slot);
	g_assert_true(!want(a.slot) && want(b.slot));
	/* The host's words are as it has left them. */
	g_assert_cmpuint(rvmrpc_owner_look(&w.owner, w.now, &w.done), ==, 0);
	rvmrpc_owner_awake_on(&w.owner, b.slot);
	reap(a.slot, NULL);
	reap(b.slot, NULL);
	g_assert_cmpuint(w.owner.wanted, ==, 0);
	world_end();
}

static void test_hailed(void)
{
	connected();
	g_assert_false(rvmrpc_owner_hailed(&w.owner));
	rvmrpc_guest_bye(&w.guest);
	g_assert_true(rvmrpc_owner_hailed(&w.owner));
	g_assert_cmpuint(rvmrpc_owner_look(&w.owner, w.now, &w.done), ==, RVMRPC_LOOK_CLOSED);
	g_assert_false(rvmrpc_owner_hailed(&w.owner));
	greet();
	g_assert_false(rvmrpc_owner_hailed(&w.owner));
	world_end();
}

/* A wish does not outlive its epoch. */
static void test_wants_epochs(void)
{
	struct rvmrpc_call call = { .res_max = 1 };
	struct rvmrpc_taken t;

	connected();
	post(&call);
	g_assert_true(rvmrpc_owner_sleep(&w.owner));
	rvmrpc_owner_close(&w.owner, RVMRPC_STATUS_RESET, w.now, &w.done);
	greet();
	assert_ended(&call, RVMRPC_STATUS_RESET);
	g_assert_false(want(call.slot));
	post(&call);
	take(&t);
	g_assert_false(answer_rings(&t));
	world_end();
}

/* ---- across epochs ---- */

static void test_late_epochs(void)
{
	struct rvmrpc_call old = { .res_max = 1 }, call = { .res_max = 1 };
	struct rvmrpc_taken told, t;
	struct rvmrpc_hdr reply;

	connected();
	post(&old);
	take(&told);
	rvmrpc_owner_close(&w.owner, RVMRPC_STATUS_RESET, w.now, &w.done);
	assert_ended(&old, RVMRPC_STATUS_RESET);
	greet();
	/* A worker that woke up two epochs later, in a driver that let it. */
	echo(&told);
	post(&call);
	g_assert_cmpuint(call.slot, ==, told.slot);
	g_assert_false(rvmrpc_owner_answered(&w.owner, call.slot));
	echo(&told);
	g_assert_false(rvmrpc_owner_answered(&w.owner, call.slot));
	take(&t);
	echo(&t);
	reap(call.slot, NULL);
	assert_ended(&call, RVMRPC_STATUS_OK);
	/* Even with the right seq it is not the answer. */
	post(&call);
	take(&t);
	reply = reply_to(&told);
	publish(&t, &reply);
	reap(call.slot, NULL);
	assert_ended(&call, RVMRPC_STATUS_SYSTEM_ERROR);
	assert_works();
	world_end();
}

static void test_retry(void)
{
	struct rvmrpc_retry r = { .opened = 5000 };
	uint32_t i, ms = 0;

	/* One that has lasted. */
	g_assert_true(rvmrpc_retry_says(&r, RVMRPC_SAY_CONNECTED));
	g_assert_cmpuint(rvmrpc_retry_lost(&r, 5000 + RVMRPC_STEADY_MS), ==, 0);
	/* Those that do not: longer each time, and each thing is said once. */
	for (i = 0; i < 1000; i++) {
		g_assert_cmpint(rvmrpc_retry_says(&r, RVMRPC_SAY_CONNECTED), ==, !i);
		g_assert_cmpint(rvmrpc_retry_says(&r, RVMRPC_SAY_OVERWRITTEN), ==, !i);
		ms += rvmrpc_retry_lost(&r, 5000 + RVMRPC_STEADY_MS - 1);
	}
	g_assert_cmpuint(ms, >, 990 * RVMRPC_RETRY_MAX_MS);
	g_assert_cmpuint(rvmrpc_retry_again(&r), ==, RVMRPC_RETRY_MAX_MS);
	g_assert_cmpuint(rvmrpc_retry_lost(&r, 5000 + 2 * RVMRPC_STEADY_MS), ==, 0);
	g_assert_true(rvmrpc_retry_says(&r, RVMRPC_SAY_CONNECTED));
	g_assert_cmpuint(rvmrpc_retry_again(&r), ==, RVMRPC_RETRY_MIN_MS);
}

/* A spin becomes long enough for what came, within its limit, and shorter where that is over it. */
static void test_spin(void)
{
	static const struct {
		uint32_t us;
		uint64_t waited_us;
		uint32_t limit, next;
	} cases[] = {
		{ 0, 1, 200, 10 }, { 10, 12, 200, 20 }, { 10, 150, 200, 150 }, { 150, 199, 200, 200 },
		{ 150, 200, 200, 75 }, { 15, 5000, 200, 0 }, { 200, UINT64_MAX, 200, 100 }, { 50, 0, 0, 25 },
		{ 50, UINT32_MAX, UINT32_MAX, 25 }, { UINT32_MAX / 2, UINT32_MAX - 1, UINT32_MAX, UINT32_MAX - 1 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
		g_assert_cmpuint(rvmrpc_spin_next(cases[i].us, cases[i].waited_us, 10, cases[i].limit), ==, cases[i].next);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/window/layouts", test_layouts);
	g_test_add_func("/window/layout-bounds", test_layout_bounds);
	g_test_add_func("/window/probe", test_probe);
	g_test_add_func("/window/payloads", test_payloads);
	g_test_add_func("/window/header", test_header);
	g_test_add_func("/window/order", test_order);
	g_test_add_func("/window/wrap", test_wrap);
	g_test_add_func("/window/posted-lags", test_posted_lags);
	g_test_add_func("/window/no-overtaking", test_no_overtaking);
	g_test_add_func("/window/late", test_late);
	g_test_add_func("/window/duplicate", test_duplicate);
	g_test_add_func("/window/garbage-seq", test_garbage_seq);
	g_test_add_func("/window/bad-headers", test_bad_headers);
	g_test_add_func("/window/cancel", test_cancel);
	g_test_add_func("/window/given-up", test_given_up);
	g_test_add_func("/window/stopped", test_stopped);
	g_test_add_func("/window/quota", test_quota);
	g_test_add_func("/window/in-place", test_in_place);
	g_test_add_func("/window/in-place-refused", test_in_place_refused);
	g_test_add_func("/window/in-place-epochs", test_in_place_epochs);
	g_test_add_func("/window/copy-epochs", test_copy_epochs);
	g_test_add_func("/window/kicks", test_kicks);
	g_test_add_func("/window/main", test_main);
	g_test_add_func("/window/guest-looks-again", test_guest_looks_again);
	g_test_add_func("/window/wants", test_wants);
	g_test_add_func("/window/wants-epochs", test_wants_epochs);
	g_test_add_func("/window/wants-one", test_wants_one);
	g_test_add_func("/window/hailed", test_hailed);
	g_test_add_func("/window/late-epochs", test_late_epochs);
	g_test_add_func("/window/retry", test_retry);
	g_test_add_func("/window/spin", test_spin);
	return g_test_run();
}
