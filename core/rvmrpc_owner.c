// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Reverse VMRPC, host half of the window.  See rvmrpc_owner.h for the contract.
 */
#include "rvmrpc_owner.h"

#define NS_PER_S	1000000000ull
#define RING_WINDOW_MIN	0x40000		/* a smaller window has a smaller ring, too */

/* ---- Layout ---- */

static bool power_of_two(uint64_t n)
{
	return n && !(n & (n - 1));
}

static uint64_t page_up(uint64_t n)
{
	return (n + RVMRPC_PAGE_SIZE - 1) & ~(uint64_t)(RVMRPC_PAGE_SIZE - 1);
}

bool rvmrpc_layout_make(uint64_t size, uint32_t nslots, uint32_t req_bytes, uint32_t res_bytes,
			struct rvmrpc_layout *l)
{
	uint64_t at = RVMRPC_GUEST_PAGE + RVMRPC_PAGE_SIZE;

	if (!power_of_two(size) || size < RVMRPC_WINDOW_SIZE_MIN || size > RVMRPC_WINDOW_SIZE_MAX ||
	    nslots < 1 || nslots > RVMRPC_SLOTS_MAX ||
	    req_bytes > RVMRPC_SLOT_BYTES_MAX || res_bytes > RVMRPC_SLOT_BYTES_MAX)
		return false;
	memset(l, 0, sizeof(*l));
	l->nslots = nslots;
	l->req_bytes = req_bytes;
	l->res_bytes = res_bytes;
	/* What the host writes and what the guest writes never share a page. */
	l->host_slots = (uint32_t)at;
	at = page_up(at + nslots * sizeof(struct rvmrpc_host_slot));
	l->guest_slots = (uint32_t)at;
	at = page_up(at + nslots * sizeof(struct rvmrpc_guest_slot));
	l->ring = (uint32_t)at;
	l->ring_bytes = size < RING_WINDOW_MIN ? RVMRPC_PAGE_SIZE : RVMRPC_RING_BYTES;
	at = page_up(at + l->ring_bytes);
	/* A page more between areas: those that are a power of two apart get in each other's way in caches and TLBs. */
	l->req = (uint32_t)at;
	l->res = (uint32_t)page_up(at + req_bytes) + RVMRPC_PAGE_SIZE;
	l->stride = (uint32_t)(page_up(l->res + (uint64_t)res_bytes) - at) + RVMRPC_PAGE_SIZE;
	return rvmrpc_layout_ok(l, size);
}

/* ---- The host's page ---- */

/* Writes the part of the page that begins at a field; its copy has the new value already. */
#define write_page(o, field)									\
	rvmrpc_win_write(&(o)->win, RVMRPC_HOST_WORD(field), &(o)->page.field, sizeof((o)->page.field))

static void write_epoch(struct rvmrpc_owner *o, uint64_t epoch)
{
	o->page.epoch = epoch;
	rvmrpc_win_store64_release(&o->win, RVMRPC_HOST_WORD(epoch), epoch);
}

static uint64_t random_epoch(const struct rvmrpc_owner *o)
{
	uint64_t epoch = o->config.random();

	return epoch ? epoch : 1;
}

static void write_whole_page(struct rvmrpc_owner *o)
{
	rvmrpc_win_write(&o->win, RVMRPC_HOST_PAGE, &o->page, sizeof(o->page));
}

void rvmrpc_owner_init(struct rvmrpc_owner *o, void *base, uint64_t size, const struct rvmrpc_owner_config *config,
		       uint64_t first_xid)
{
	memset(o, 0, sizeof(*o));
	rvmrpc_proxy_init(&o->proxy, first_xid);
	o->config = *config;
	o->win.base = base;
	o->win.size = size;
	o->page.id.magic = RVMRPC_WINDOW_MAGIC;
	o->page.id.layout = RVMRPC_WINDOW_LAYOUT;
	o->page.id.abi_min = RVMRPC_ABI_VERSION;
	o->page.id.abi_max = RVMRPC_ABI_VERSION;
	o->page.id.size = size;
	o->page.id.doorbell = config->doorbell;
	o->page.epoch = random_epoch(o);
	write_whole_page(o);
	o->beat = rvmrpc_win_load32(&o->win, RVMRPC_GUEST_WORD(beat));
}

void rvmrpc_owner_set_spin(struct rvmrpc_owner *o, uint32_t us)
{
	if (o->page.max_spin_us == us)
		return;
	o->page.max_spin_us = us;
	rvmrpc_win_store32(&o->win, RVMRPC_HOST_WORD(max_spin_us), us);
}

/* ---- Epochs ---- */

void rvmrpc_owner_close(struct rvmrpc_owner *o, uint32_t status, uint64_t now, struct rvmrpc_done *done)
{
	rvmrpc_proxy_unregister(&o->proxy, status, now, done);
	rvmrpc_ring_close(&o->ring);
	o->wanted = 0;
	o->kicked = 0;
	write_epoch(o, random_epoch(o));
}

/* The window was overwritten: by the guest, or by a state that was loaded over it. */
static uint32_t lose(struct rvmrpc_owner *o, uint64_t now, struct rvmrpc_done *done)
{
	bool open = o->proxy.epoch;

	o->page.lost++;
	o->proxy.stats.lost++;
	rvmrpc_owner_close(o, RVMRPC_STATUS_RESET, now, done);
	write_whole_page(o);
	return RVMRPC_LOOK_KICK | (open ? RVMRPC_LOOK_CLOSED : 0);
}

uint32_t rvmrpc_owner_intact(struct rvmrpc_owner *o, uint64_t now, struct rvmrpc_done *done)
{
	return rvmrpc_owner_unchanged(o) ? 0 : lose(o, now, done);
}

static bool page_is_intact(const struct rvmrpc_owner *o)
{
	struct rvmrpc_host_page page;

	rvmrpc_win_read(&o->win, RVMRPC_HOST_PAGE, &page, sizeof(page));
	return !memcmp(&page, &o->page, sizeof(page));
}

/* A request whose seq was overwritten is never taken, and its slot never free again. */
static bool slots_are_intact(const struct rvmrpc_owner *o)
{
	uint64_t at;
	uint32_t i;

	for (i = 0; i < o->proxy.nslots; i++) {
		at = rvmrpc_host_slot_at(&o->config.layout, i);
		if (rvmrpc_win_load32(&o->win, at + RVMRPC_WANT_AT) != (o->wanted >> i & 1))
			return false;
		if (o->proxy.slots[i].state == RVMRPC_SLOT_BUSY && rvmrpc_win_seq(&o->win, at) != o->seq[i])
			return false;
	}
	return true;
}

static uint32_t judge_hello(const struct rvmrpc_hello *hello)
{
	if (hello->abi_min > hello->abi_max || hello->abi_min > RVMRPC_ABI_VERSION ||
	    hello->abi_max < RVMRPC_ABI_VERSION)
		return RVMRPC_HELLO_BAD_VERSION;
	return hello->reserved || !rvmrpc_all_zero(hello->reserved2, sizeof(hello->reserved2)) ?
		RVMRPC_HELLO_BAD_ARGS : RVMRPC_HELLO_OK;
}

/* Nothing that an earlier epoch left in the host's slots may look like a request. */
static void clear_slots(struct rvmrpc_owner *o)
{
	static const struct rvmrpc_host_slot none;
	uint32_t i;

	for (i = 0; i < o->config.layout.nslots; i++)
		rvmrpc_win_write(&o->win, rvmrpc_host_slot_at(&o->config.layout, i), &none, sizeof(none));
	o->wanted = 0;
	o->kicked = 0;
}

static void want_events(struct rvmrpc_owner *o, bool want)
{
	if (o->page.want_events == want)
		return;
	o->page.want_events = want;
	rvmrpc_win_store32(&o->win, RVMRPC_HOST_WORD(want_events), want);
}

static void open_epoch(struct rvmrpc_owner *o, const struct rvmrpc_hello *hello, uint64_t now,
		       struct rvmrpc_done *done)
{
	const struct rvmrpc_terms terms = {
		.epoch = random_epoch(o),
		.abi = RVMRPC_ABI_VERSION,
		.os = hello->os,
		.nslots = o->config.layout.nslots,
		.req_bytes = o->config.layout.req_bytes,
		.res_bytes = o->config.layout.res_bytes,
		.release = hello->release,
	};

	rvmrpc_proxy_open(&o->proxy, &terms, now, done);
	clear_slots(o);
	rvmrpc_ring_open(&o->ring, &o->win, &o->config.layout, terms.epoch);
	/* It tells nothing before it sees the epoch. */
	want_events(o, o->ring.again_at == UINT64_MAX);
	/* Random: what the guest's slots show from an earlier epoch is no answer. */
	o->page.posted = (uint32_t)o->config.random();
	rvmrpc_win_store32(&o->win, RVMRPC_HOST_WORD(posted), o->page.posted);
	o->page.answer.epoch = terms.epoch;
	o->page.answer.abi = terms.abi;
	o->page.answer.layout = o->config.layout;
	o->page.answer.posted = o->page.posted;
}

/* A refusal is an answer too. */
static uint32_t answer_hello(struct rvmrpc_owner *o, const struct rvmrpc_hello *hello, uint64_t now,
			     struct rvmrpc_done *done)
{
	uint32_t looked = RVMRPC_LOOK_KICK;

	memset(&o->page.answer, 0, sizeof(o->page.answer));
	o->page.answer.status = judge_hello(hello);
	if (o->page.answer.status == RVMRPC_HELLO_OK) {
		looked |= RVMRPC_LOOK_OPENED | (o->proxy.epoch ? RVMRPC_LOOK_CLOSED : 0);
		open_epoch(o, hello, now, done);
	} else {
		o->proxy.stats.bad_inits++;
	}
	/* The nonce comes last: who sees it sees the rest. */
	write_page(o, answer);
	o->page.answer.nonce = hello->nonce;
	rvmrpc_win_store64_release(&o->win, RVMRPC_HOST_WORD(answer.nonce), hello->nonce);
	/* And only then the epoch: a guest that sees another one without its nonce knows that its hello came too late. */
	if (o->page.answer.status == RVMRPC_HELLO_OK)
		write_epoch(o, o->page.answer.epoch);
	o->nonce = hello->nonce;
	return looked;
}

static uint32_t look_for_hello(struct rvmrpc_owner *o, uint64_t now, struct rvmrpc_done *done)
{
	uint64_t nonce = rvmrpc_win_load64_acquire(&o->win, RVMRPC_GUEST_WORD(hello.nonce));
	struct rvmrpc_hello hello;

	if (!nonce || nonce == o->nonce)
		return 0;
	if (now - o->hello_second >= NS_PER_S) {
		o->hello_second = now;
		o->hellos = 0;
	}
	if (o->hellos >= RVMRPC_HELLOS_PER_SECOND)
		return RVMRPC_LOOK_LATER;
	rvmrpc_win_read(&o->win, RVMRPC_GUEST_WORD(hello), &hello, sizeof(hello));
	/* The copy comes before the second look at the nonce. */
	rvmrpc_os_mb();
	/* Half of one that is being written; its writer rings when it is whole. */
	if (hello.nonce != nonce || rvmrpc_win_load64_acquire(&o->win, RVMRPC_GUEST_WORD(hello.nonce)) != nonce)
		return 0;
	if (hello.seen != o->page.epoch) {
		/* For an earlier epoch, or an earlier owner: its guest looks again, or is no more. */
		o->nonce = nonce;
		return 0;
	}
	o->hellos++;
	return answer_hello(o, &hello, now, done);
}

uint32_t rvmrpc_owner_look(struct rvmrpc_owner *o, uint64_t now, struct rvmrpc_done *done)
{
	uint32_t looked = 0, beat;

	if (!page_is_intact(o) || !slots_are_intact(o))
		looked |= lose(o, now, done);
	beat = rvmrpc_win_load32(&o->win, RVMRPC_GUEST_WORD(beat));
	/* One that goes back is that of an older state. */
	if (o->proxy.epoch && (int32_t)(beat - o->beat) < 0)
		looked |= lose(o, now, done);
	if (beat != o->beat) {
		o->beat = beat;
		o->beat_at = now;
		o->proxy.last_seen = now;
	}
	/* Before the farewell: a driver that went and one that came may be seen in one look. */
	looked |= look_for_hello(o, now, done);
	if (o->proxy.epoch &&
	    rvmrpc_win_load64_acquire(&o->win, RVMRPC_GUEST_WORD(bye)) == o->proxy.epoch) {
		rvmrpc_owner_close(o, RVMRPC_STATUS_NOT_CONNECTED, now, done);
		looked |= RVMRPC_LOOK_CLOSED;
	}
	return looked;
}

/* ---- Requests ---- */

static void post(struct rvmrpc_owner *o, uint32_t slot)
{
	if (!++o->page.posted)
		o->page.posted++;
	o->seq[slot] = o->page.posted;
	rvmrpc_win_publish(&o->win, rvmrpc_host_slot_at(&o->config.layout, slot), o->page.posted);
	rvmrpc_win_store32_release(&o->win, RVMRPC_HOST_WORD(posted), o->page.posted);
}

void rvmrpc_owner_copy_in(const struct rvmrpc_owner *o, const struct rvmrpc_xfer *x)
{
	if (x->length)
		rvmrpc_win_write(&o->win, rvmrpc_req_at(&o->config.layout, x->slot), x->call->arg, x->length);
	rvmrpc_win_write_hdr(&o->win, rvmrpc_host_slot_at(&o->config.layout, x->slot), &x->hdr);
}

bool rvmrpc_owner_post(struct rvmrpc_owner *o, struct rvmrpc_xfer *x, uint64_t now, struct rvmrpc_done *done)
{
	if (!rvmrpc_proxy_deliver_commit(&o->proxy, x, now, done))
		return false;
	post(o, x->slot);
	return true;
}

/* The header of a call in place: nothing of it is kept. */
static void write_header(const struct rvmrpc_owner *o, const struct rvmrpc_call *call, uint64_t now)
{
	struct rvmrpc_hdr hdr;
	rvmrpc_hdr_word *w = (rvmrpc_hdr_word *)&hdr;

	w[0] = RVMRPC_HDR_WORD0(RVMRPC_ABI_VERSION, call->version);
	w[1] = o->proxy.epoch;
	w[2] = call->xid;
	w[3] = RVMRPC_HDR_PAIR(call->module, call->procedure);
	w[4] = 0;
	w[5] = RVMRPC_HDR_PAIR(call->arglen, rvmrpc_ms_left(call->deadline, now));
	w[6] = call->list;
	rvmrpc_win_write_hdr(&o->win, rvmrpc_host_slot_at(&o->config.layout, call->slot), &hdr);
}

uint32_t rvmrpc_owner_run(struct rvmrpc_owner *o, struct rvmrpc_call *call, uint64_t now)
{
	uint32_t status = rvmrpc_proxy_run(&o->proxy, call, now);

	if (status != RVMRPC_STATUS_OK)
		return status;
	write_header(o, call, now);
	post(o, call->slot);
	return status;
}

/* The guest may not have taken them yet: it then answers instead of running what nobody waits for. */
static void withdraw_requests(struct rvmrpc_owner *o)
{
	uint32_t i;

	for (i = 0; o->proxy.given_up; i++) {
		if (!(o->proxy.given_up >> i & 1))
			continue;
		o->proxy.given_up &= ~(1ull << i);
		rvmrpc_win_store32(&o->win, rvmrpc_host_slot_at(&o->config.layout, i) + RVMRPC_TIMEOUT_AT, 0);
	}
}

void rvmrpc_owner_cancel(struct rvmrpc_owner *o, struct rvmrpc_call *call, uint64_t now, struct rvmrpc_done *done)
{
	rvmrpc_proxy_cancel(&o->proxy, call, now, done);
	withdraw_requests(o);
}

uint64_t rvmrpc_owner_expire(struct rvmrpc_owner *o, uint64_t now, struct rvmrpc_done *done)
{
	uint64_t next = rvmrpc_proxy_expire(&o->proxy, now, done);

	withdraw_requests(o);
	return next;
}

bool rvmrpc_owner_kick(struct rvmrpc_owner *o)
{
	uint32_t wait;

	/* Pairs with the one between wait and posted in rvmrpc_guest_sleep(). */
	rvmrpc_os_mb();
	wait = rvmrpc_win_load32(&o->win, RVMRPC_GUEST_WORD(wait));
	if (!(wait & 1) || wait == o->kicked)
		return false;
	o->kicked = wait;
	o->proxy.stats.kicks++;
	return true;
}

enum rvmrpc_main_turn rvmrpc_owner_main(const struct rvmrpc_owner *o, uint64_t epoch, uint32_t seen)
{
	if (!o->proxy.epoch || o->proxy.epoch != epoch)
		return RVMRPC_MAIN_TURN_RESET;
	return o->page.posted == seen ? RVMRPC_MAIN_TURN_WAIT : RVMRPC_MAIN_TURN_POSTED;
}

bool rvmrpc_owner_rekick(struct rvmrpc_owner *o)
{
	uint32_t wait = rvmrpc_win_load32_acquire(&o->win, RVMRPC_GUEST_WORD(wait));
	uint32_t seen = rvmrpc_win_load32(&o->win, RVMRPC_GUEST_WORD(seen));

	if (!o->proxy.epoch || !(wait & 1) || seen == o->page.posted)
		return false;
	o->kicked = wait;
	o->proxy.stats.rekicks++;
	return true;
}

/* ---- Answers ---- */

bool rvmrpc_owner_reap_begin(struct rvmrpc_owner *o, uint32_t slot, struct rvmrpc_xfer *x, uint64_t now,
			     struct rvmrpc_done *done)
{
	struct rvmrpc_call *call = o->proxy.slots[slot].call;
	struct rvmrpc_hdr hdr;

	o->proxy.unanswered = 0;
	o->proxy.last_seen = now;
	rvmrpc_win_read_hdr(&o->win, rvmrpc_guest_slot_at(&o->config.layout, slot), &hdr);
	if (call && call->in_place) {
		rvmrpc_proxy_answer(&o->proxy, call, &hdr, now, done);
		return false;
	}
	/* A header of another call is an answer too, and a bad one: the guest says that it is done with the slot. */
	if (!rvmrpc_proxy_reply_begin(&o->proxy, slot, x))
		return false;
	rvmrpc_proxy_reply_check(x, &hdr);
	return true;
}

void rvmrpc_owner_copy_out(const struct rvmrpc_owner *o, const struct rvmrpc_xfer *x, void *buf)
{
	if (x->length)
		rvmrpc_win_read(&o->win, rvmrpc_res_at(&o->config.layout, x->slot), buf, x->length);
}

void rvmrpc_owner_reap_commit(struct rvmrpc_owner *o, struct rvmrpc_xfer *x, bool ok, uint64_t now,
			      struct rvmrpc_done *done)
{
	rvmrpc_proxy_reply_commit(&o->proxy, x, ok, now, done);
}

/* ---- Sleep ---- */

static void write_want(struct rvmrpc_owner *o, uint32_t slot, uint32_t want)
{
	rvmrpc_win_store32(&o->win, rvmrpc_host_slot_at(&o->config.layout, slot) + RVMRPC_WANT_AT, want);
}

bool rvmrpc_owner_sleep(struct rvmrpc_owner *o)
{
	uint32_t i;

	for (i = 0; i < o->proxy.nslots; i++) {
		if (o->proxy.slots[i].state == RVMRPC_SLOT_BUSY && !(o->wanted >> i & 1)) {
			o->wanted |= 1ull << i;
			write_want(o, i, 1);
		}
	}
	/* Pairs with the one between seq and want in rvmrpc_guest_publish(). */
	rvmrpc_os_mb();
	for (i = 0; i < o->proxy.nslots; i++) {
		if (rvmrpc_owner_answered(o, i))
			return false;
	}
	return true;
}

bool rvmrpc_owner_sleep_on(struct rvmrpc_owner *o, uint32_t slot)
{
	if (!(o->wanted >> slot & 1)) {
		o->wanted |= 1ull << slot;
		write_want(o, slot, 1);
	}
	/* Pairs with the one between seq and want in rvmrpc_guest_publish(). */
	rvmrpc_os_mb();
	return !rvmrpc_owner_answered(o, slot);
}

void rvmrpc_owner_awake_on(struct rvmrpc_owner *o, uint32_t slot)
{
	if (o->wanted >> slot & 1) {
		o->wanted &= ~(1ull << slot);
		write_want(o, slot, 0);
	}
}

void rvmrpc_owner_awake(struct rvmrpc_owner *o)
{
	uint32_t i;

	for (i = 0; o->wanted && i < o->proxy.nslots; i++) {
		if (o->wanted >> i & 1)
			write_want(o, i, 0);
	}
	o->wanted = 0;
}

/* ---- Events ---- */

void rvmrpc_owner_hear(struct rvmrpc_owner *o, uint64_t now)
{
	uint32_t seen = rvmrpc_win_load32_acquire(&o->win, RVMRPC_GUEST_WORD(events));

	o->ring.changed = seen != o->ring.seen;
	o->ring.seen = seen;
	rvmrpc_ring_look(&o->ring, &o->win, now, &o->proxy.stats);
}

/*
 * No more for now.  Who tells too much is not listened to for a while, so that its rings cost nothing; who says that there is
 * something when there is not, for a short while.
 */
static void end_hearing(struct rvmrpc_owner *o, uint64_t now)
{
	if (!o->ring.tokens) {
		want_events(o, false);
		o->ring.again_at = o->ring.token_at + RVMRPC_EVENT_NS;
		return;
	}
	o->ring.again_at = o->ring.changed && o->ring.tokens == o->ring.had ? now + RVMRPC_VAIN_NS : UINT64_MAX;
	if (o->page.want_events)
		return;
	want_events(o, true);
	/* Pairs with the one between events and want_events in rvmrpc_tell(); then comes events_due(). */
	rvmrpc_os_mb();
}

bool rvmrpc_owner_take_event(struct rvmrpc_owner *o, uint64_t now, struct rvmrpc_told *told)
{
	if (rvmrpc_ring_take(&o->ring, &o->win, told, &o->proxy.stats)) {
		o->proxy.last_seen = now;
		return true;
	}
	end_hearing(o, now);
	return false;
}
