// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Reverse VMRPC, guest half of the window.  See rvmrpc_guest.h for the contract.
 */
#include "rvmrpc_guest.h"

static bool range_meets(uint16_t low, uint16_t high)
{
	return low <= RVMRPC_ABI_VERSION && high >= RVMRPC_ABI_VERSION;
}

uint32_t rvmrpc_guest_probe(const struct rvmrpc_window *win, struct rvmrpc_window_id *id)
{
	rvmrpc_win_read(win, RVMRPC_HOST_PAGE, id, sizeof(*id));
	if (id->magic != RVMRPC_WINDOW_MAGIC || !rvmrpc_all_zero(id->reserved, sizeof(id->reserved)) || id->size != win->size ||
	    id->size < RVMRPC_WINDOW_SIZE_MIN || id->size > RVMRPC_WINDOW_SIZE_MAX)
		return RVMRPC_HELLO_BAD_ARGS;
	if (id->layout != RVMRPC_WINDOW_LAYOUT || !range_meets(id->abi_min, id->abi_max))
		return RVMRPC_HELLO_BAD_VERSION;
	return RVMRPC_HELLO_OK;
}

void rvmrpc_guest_init(struct rvmrpc_guest *g, void *base, uint64_t size)
{
	memset(g, 0, sizeof(*g));
	g->win.base = base;
	g->win.size = size;
	/* What a driver before this one, or a kernel before this one, has left: go on from there. */
	g->wait = (rvmrpc_win_load32(&g->win, RVMRPC_GUEST_WORD(wait)) + 1) & ~1u;
	g->beat = rvmrpc_win_load32(&g->win, RVMRPC_GUEST_WORD(beat));
	rvmrpc_win_store32_release(&g->win, RVMRPC_GUEST_WORD(wait), g->wait);
}

void rvmrpc_guest_hello(struct rvmrpc_guest *g, uint64_t nonce, uint32_t os, const char *release)
{
	struct rvmrpc_hello hello;
	size_t n = 0;

	memset(&hello, 0, sizeof(hello));
	g->seen = rvmrpc_win_load64_acquire(&g->win, RVMRPC_HOST_WORD(epoch));
	g->nonce = nonce;
	hello.seen = g->seen;
	hello.abi_min = RVMRPC_ABI_VERSION;
	hello.abi_max = RVMRPC_ABI_VERSION;
	hello.os = os;
	while (n < sizeof(hello.release) - 1 && release[n]) {
		hello.release[n] = release[n];
		n++;
	}
	/* A host that looks now must not take half of this one for the one before. */
	rvmrpc_win_store64_release(&g->win, RVMRPC_GUEST_WORD(hello.nonce), 0);
	rvmrpc_os_mb();
	rvmrpc_win_write(&g->win, RVMRPC_GUEST_WORD(hello.seen), (const char *)&hello + sizeof(hello.nonce),
			 sizeof(hello) - sizeof(hello.nonce));
	rvmrpc_win_store64_release(&g->win, RVMRPC_GUEST_WORD(hello.nonce), nonce);
	g->state = RVMRPC_GUEST_GREETED;
	rvmrpc_guest_beat(g);
}

/* Nothing of an epoch is carried over: what the slots show now was answered, or belongs to nobody. */
static void open_epoch(struct rvmrpc_guest *g, const struct rvmrpc_hello_answer *a)
{
	uint32_t i;

	g->epoch = a->epoch;
	g->abi = a->abi;
	g->layout = a->layout;
	g->posted = a->posted;
	g->behind = 0;
	g->last = 0;
	for (i = 0; i < a->layout.nslots; i++) {
		g->taken[i] = 0;
		g->answered[i] = rvmrpc_win_seq(&g->win, rvmrpc_guest_slot_at(&g->layout, i));
	}
	g->state = RVMRPC_GUEST_OPEN;
}

static bool nonce_is_there(const struct rvmrpc_guest *g)
{
	return rvmrpc_win_load64_acquire(&g->win, RVMRPC_HOST_WORD(answer.nonce)) == g->nonce;
}

/* Whether the host page's epoch is still the one that the hello named. */
static bool epoch_is_as_greeted(const struct rvmrpc_guest *g)
{
	return rvmrpc_win_load64_acquire(&g->win, RVMRPC_HOST_WORD(epoch)) == g->seen;
}

enum rvmrpc_guest_answer rvmrpc_guest_answered(struct rvmrpc_guest *g, uint32_t *status)
{
	struct rvmrpc_hello_answer a;

	/* The host writes the nonce, then the epoch: after another epoch was seen, a look at the nonce decides. */
	if (!nonce_is_there(g)) {
		if (epoch_is_as_greeted(g))
			return RVMRPC_ANSWER_NONE;
		if (!nonce_is_there(g))
			return RVMRPC_ANSWER_STALE;
	}
	rvmrpc_win_read(&g->win, RVMRPC_HOST_WORD(answer), &a, sizeof(a));
	*status = a.status;
	if (a.status == RVMRPC_HELLO_OK &&
	    (a.abi != RVMRPC_ABI_VERSION || !a.epoch || a.reserved || !rvmrpc_all_zero(a.reserved2, sizeof(a.reserved2)) ||
	     !rvmrpc_layout_ok(&a.layout, g->win.size)))
		*status = RVMRPC_HELLO_BAD_ARGS;
	if (*status != RVMRPC_HELLO_OK) {
		g->state = RVMRPC_GUEST_IDLE;
		return RVMRPC_ANSWER_REFUSED;
	}
	if (epoch_is_as_greeted(g))
		return RVMRPC_ANSWER_NONE;
	open_epoch(g, &a);
	return rvmrpc_guest_alive(g) ? RVMRPC_ANSWER_OPEN : RVMRPC_ANSWER_STALE;
}

/* The slot with the oldest request that was not taken, RVMRPC_SLOT_NONE without one. */
static uint32_t oldest(const struct rvmrpc_guest *g, uint32_t *seq)
{
	uint32_t found = RVMRPC_SLOT_NONE, left = g->behind, s, i;

	for (i = 0; i < g->layout.nslots && left; i++) {
		s = rvmrpc_guest_seq(g, i);
		/* One that came since `posted' was read has its turn later, or it would overtake an older one. */
		if (!s || s == g->taken[i] || (int32_t)(s - g->posted) > 0)
			continue;
		/* Both are among the last few posted ones, so that the difference tells the order. */
		if (found == RVMRPC_SLOT_NONE || (int32_t)(s - *seq) < 0) {
			found = i;
			*seq = s;
		}
		left--;
	}
	return found;
}

bool rvmrpc_guest_find(struct rvmrpc_guest *g, struct rvmrpc_taken *t)
{
	uint32_t posted = rvmrpc_win_load32_acquire(&g->win, RVMRPC_HOST_WORD(posted));

	/* More than there are slots is a host's nonsense: then every slot is looked at. */
	g->behind += posted - g->posted;
	if (g->behind > g->layout.nslots)
		g->behind = g->layout.nslots;
	g->posted = posted;
	if (!g->behind)
		return false;
	t->slot = oldest(g, &t->seq);
	if (t->slot == RVMRPC_SLOT_NONE) {
		g->behind = 0;
		return false;
	}
	g->behind--;
	g->last = t->slot;
	return true;
}

bool rvmrpc_guest_intact(const struct rvmrpc_guest *g)
{
	uint32_t i;

	if (rvmrpc_win_load32(&g->win, RVMRPC_GUEST_WORD(beat)) != g->beat ||
	    rvmrpc_win_load32(&g->win, RVMRPC_GUEST_WORD(wait)) != g->wait)
		return false;
	for (i = 0; i < g->layout.nslots; i++) {
		if (rvmrpc_win_seq(&g->win, rvmrpc_guest_slot_at(&g->layout, i)) != g->answered[i])
			return false;
	}
	return true;
}

bool rvmrpc_guest_sleep(struct rvmrpc_guest *g)
{
	rvmrpc_win_store32(&g->win, RVMRPC_GUEST_WORD(seen), g->posted);
	g->wait |= 1;
	rvmrpc_win_store32_release(&g->win, RVMRPC_GUEST_WORD(wait), g->wait);
	/* Pairs with the one between posted and wait in rvmrpc_owner_kick(). */
	rvmrpc_os_mb();
	if (!g->behind && !rvmrpc_guest_posted(g) && rvmrpc_guest_alive(g))
		return true;
	rvmrpc_guest_awake(g);
	return false;
}

void rvmrpc_guest_awake(struct rvmrpc_guest *g)
{
	if (g->wait & 1)
		g->wait++;
	rvmrpc_win_store32_release(&g->win, RVMRPC_GUEST_WORD(wait), g->wait);
}

uint32_t rvmrpc_guest_max_spin(const struct rvmrpc_guest *g)
{
	return rvmrpc_win_load32(&g->win, RVMRPC_HOST_WORD(max_spin_us));
}

uint32_t rvmrpc_guest_spin_next(const struct rvmrpc_guest *g, uint32_t us, uint64_t waited_us, uint32_t least,
				uint32_t most)
{
	uint32_t lets = rvmrpc_guest_max_spin(g);

	if (lets && lets <= most && waited_us >= lets)
		waited_us = lets - 1;
	return rvmrpc_spin_next(us, waited_us, least, lets < most ? lets : most);
}

void rvmrpc_guest_bye(struct rvmrpc_guest *g)
{
	rvmrpc_win_store64_release(&g->win, RVMRPC_GUEST_WORD(bye), g->epoch);
	g->state = RVMRPC_GUEST_IDLE;
}

uint32_t rvmrpc_retry_again(struct rvmrpc_retry *r)
{
	r->ms = r->ms ? 2 * r->ms : RVMRPC_RETRY_MIN_MS;
	if (r->ms > RVMRPC_RETRY_MAX_MS)
		r->ms = RVMRPC_RETRY_MAX_MS;
	return r->ms;
}

uint32_t rvmrpc_retry_lost(struct rvmrpc_retry *r, uint64_t now)
{
	if (now - r->opened < RVMRPC_STEADY_MS)
		return rvmrpc_retry_again(r);
	r->ms = 0;
	r->said = 0;
	return 0;
}

bool rvmrpc_retry_says(struct rvmrpc_retry *r, uint32_t what)
{
	bool before = r->said >> what & 1;

	r->said |= 1u << what;
	return !before;
}
