/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model check of the host half: every interleaving of two of its threads that move requests and answers, its clients, the
 * clock, the VM's state, what the guest answers and resets is explored, with two slots and three calls, down to the last
 * reachable state.  Who sleeps and is woken is model-window.c's.
 *
 * A state is a World.  What the proxy does not look at (absolute epochs, xids and times, statistics) is left out of its
 * key, so the set of states is finite.  The "ghost" is what an observer knows without asking the proxy; check() compares.
 */
#include <glib.h>

#include "rvmrpc_proxy.h"

#define NCALLS	3
#define NSLOTS	2
#define NMOVERS	2
#define NOW	1000
#define FUTURE	2000
#define PAST	500

enum pc { OUT, DELIVERING, REPLYING };
enum answer { ANSWER_GOOD, ANSWER_STALE, ANSWER_MALFORMED, ANSWERS };

struct mover {
	enum pc pc;
	bool old_epoch;		/* ghost: the epoch of its xfer has ended */
	struct rvmrpc_xfer x;
};

struct world {
	struct rvmrpc_proxy proxy;
	struct rvmrpc_client client;
	struct rvmrpc_call calls[NCALLS];
	struct mover movers[NMOVERS];
	uint64_t epochs;
	/* ghost */
	bool in_flight[NCALLS];	/* submitted, not ended */
	bool held[NSLOTS];	/* the guest owes an answer to a request in this slot */
};

static struct world w;
static struct rvmrpc_done done;
static const char no_release[64];

/* What is kept of a state that waits for its turn: the world without the slots and statistics that stay zero. */
struct snapshot {
	char head[G_STRUCT_OFFSET(struct rvmrpc_proxy, slots) + NSLOTS * sizeof(struct rvmrpc_slot)];
	char tail[sizeof(struct world) - sizeof(struct rvmrpc_proxy)];
	uint32_t depth;
};

struct key {
	uint8_t registered, stopped, ncalls, client_calls;
	uint8_t queue[NCALLS + 1];
	struct { uint8_t state, doom, slot, expired, in_flight; } call[NCALLS];
	struct { uint8_t state, call, held, copied; } slot[NSLOTS];
	struct { uint8_t pc, call, slot, old, answer; } mover[NMOVERS];
};

static void save(struct snapshot *s, uint32_t depth)
{
	memcpy(s->head, &w.proxy, sizeof(s->head));
	memcpy(s->tail, &w.client, sizeof(s->tail));
	s->depth = depth;
}

static void restore(const struct snapshot *s)
{
	memcpy(&w.proxy, s->head, sizeof(s->head));
	memset((char *)&w.proxy + sizeof(s->head), 0, sizeof(w.proxy) - sizeof(s->head));
	memcpy(&w.client, s->tail, sizeof(s->tail));
}

static uint8_t index_of(const struct rvmrpc_call *call)
{
	return call ? (uint8_t)(call - w.calls) : 0xff;
}

static void make_key(struct key *k)
{
	const struct rvmrpc_call *c;
	uint32_t i, n = 0;

	memset(k, 0, sizeof(*k));
	k->registered = w.proxy.epoch != 0;
	k->stopped = w.proxy.stopped;
	k->ncalls = (uint8_t)w.proxy.ncalls;
	k->client_calls = (uint8_t)w.client.calls;
	for (c = w.proxy.pending_head; c; c = c->next)
		k->queue[n++] = index_of(c) + 1;
	for (i = 0; i < NCALLS; i++) {
		c = &w.calls[i];
		k->call[i].in_flight = w.in_flight[i];
		if (!w.in_flight[i])
			continue;
		k->call[i].state = c->state;
		k->call[i].doom = (uint8_t)c->doom;
		k->call[i].slot = c->state > RVMRPC_CALL_PENDING ? (uint8_t)c->slot : 0;
		k->call[i].expired = c->deadline <= NOW;
	}
	for (i = 0; i < NSLOTS; i++) {
		k->slot[i].state = w.proxy.slots[i].state;
		k->slot[i].call = index_of(w.proxy.slots[i].call);
		k->slot[i].held = w.held[i];
		k->slot[i].copied = w.proxy.slots[i].held;
	}
	for (i = 0; i < NMOVERS; i++) {
		k->mover[i].pc = w.movers[i].pc;
		if (w.movers[i].pc == OUT)
			continue;
		k->mover[i].call = index_of(w.movers[i].x.call);
		k->mover[i].slot = (uint8_t)w.movers[i].x.slot;
		k->mover[i].old = w.movers[i].old_epoch;
		k->mover[i].answer = (uint8_t)w.movers[i].x.status;
	}
}

/* ---- invariants ---- */

/* The thread that has pinned a call, or -1. */
static int pinned_by(uint32_t call)
{
	int i, found = -1;

	for (i = 0; i < NMOVERS; i++) {
		if (w.movers[i].pc == OUT || w.movers[i].x.call != &w.calls[call])
			continue;
		g_assert_cmpint(found, ==, -1);
		found = i;
	}
	return found;
}

static void check_call(uint32_t i)
{
	const struct rvmrpc_call *c = &w.calls[i], *q;
	int places = 0, mover = pinned_by(i);
	uint32_t s;

	for (q = w.proxy.pending_head; q; q = q->next)
		places += q == c;
	if (mover >= 0) {
		places++;
		g_assert_cmpint(c->state, ==, w.movers[mover].pc == DELIVERING ? RVMRPC_CALL_DELIVERING :
				RVMRPC_CALL_REPLYING);
		g_assert_true(!w.movers[mover].old_epoch || c->doom != RVMRPC_STATUS_OK);
	}
	for (s = 0; s < NSLOTS; s++) {
		if (w.proxy.slots[s].call != c)
			continue;
		g_assert_cmpuint(c->slot, ==, s);
		places += mover < 0;
	}
	/* Only a pinned call can be doomed: nobody would end another. */
	g_assert_true(!w.in_flight[i] || mover >= 0 || c->doom == RVMRPC_STATUS_OK);
	/* In flight: in the queue, in one slot or pinned, and in no two of them; ended: nowhere. */
	g_assert_cmpint(places, ==, w.in_flight[i]);
}

static void check_slot(uint32_t s)
{
	static const enum rvmrpc_slot_state by_pc[] = {
		[DELIVERING] = RVMRPC_SLOT_DELIVERING,
		[REPLYING] = RVMRPC_SLOT_REPLYING,
	};
	enum rvmrpc_slot_state expected = w.held[s] ? RVMRPC_SLOT_BUSY : RVMRPC_SLOT_FREE;
	uint32_t i, users = 0, copies = 0;

	for (i = 0; i < NMOVERS; i++) {
		copies += w.movers[i].pc == DELIVERING && w.movers[i].old_epoch && w.movers[i].x.slot == s;
		if (w.movers[i].pc == OUT || w.movers[i].old_epoch || w.movers[i].x.slot != s)
			continue;
		users++;
		expected = by_pc[w.movers[i].pc];
		g_assert_true(w.proxy.slots[s].call == w.movers[i].x.call);
	}
	g_assert_cmpuint(users, <=, 1);
	/* A request of an ended epoch that is still copied into the slot keeps others out, and nothing else does. */
	g_assert_cmpuint(copies, ==, w.proxy.slots[s].held);
	g_assert_true(!copies || !users);
	/* Neither lost nor owned twice. */
	g_assert_cmpint(w.proxy.slots[s].state, ==, expected);
	if (expected == RVMRPC_SLOT_FREE)
		g_assert_null(w.proxy.slots[s].call);
}

static void check(void)
{
	uint32_t i, flying = 0;

	for (i = 0; i < NCALLS; i++) {
		check_call(i);
		flying += w.in_flight[i];
	}
	g_assert_cmpuint(w.proxy.ncalls, ==, flying);
	g_assert_cmpuint(w.client.calls, ==, flying);
	for (i = 0; i < NSLOTS; i++)
		check_slot(i);
}

/* The calls that the last step ended: each was in flight, and nobody copies to or from it. */
static void take_done(void)
{
	struct rvmrpc_call *c;

	while ((c = done.head)) {
		done.head = c->next;
		g_assert_true(w.in_flight[index_of(c)]);
		g_assert_cmpint(pinned_by(index_of(c)), ==, -1);
		g_assert_cmpint(c->state, ==, RVMRPC_CALL_IDLE);
		w.in_flight[index_of(c)] = false;
	}
	done.tail = NULL;
}

/* ---- steps: each returns false when it cannot be taken ---- */

static bool step_submit(uint32_t i)
{
	struct rvmrpc_call *c = &w.calls[i];

	if (w.in_flight[i])
		return false;
	memset(c, 0, sizeof(*c));
	c->client = &w.client;
	c->deadline = FUTURE;
	if (rvmrpc_proxy_submit(&w.proxy, c, NOW) == RVMRPC_STATUS_OK)
		w.in_flight[i] = true;
	return true;
}

static bool step_cancel(uint32_t i)
{
	rvmrpc_proxy_cancel(&w.proxy, &w.calls[i], NOW, &done);
	return true;
}

/* The clock passes the deadline of one call. */
static bool step_deadline(uint32_t i)
{
	if (!w.in_flight[i])
		return false;
	w.calls[i].deadline = PAST;
	return true;
}

static bool step_expire(uint32_t unused)
{
	(void)unused;
	rvmrpc_proxy_expire(&w.proxy, NOW, &done);
	return true;
}

static bool step_stop(uint32_t stop)
{
	w.proxy.stopped = stop;
	return true;
}

static void epoch_ends(void)
{
	uint32_t i;

	for (i = 0; i < NMOVERS; i++)
		w.movers[i].old_epoch = true;
	memset(w.held, 0, sizeof(w.held));
}

static bool step_unregister(uint32_t status)
{
	rvmrpc_proxy_unregister(&w.proxy, status, NOW, &done);
	epoch_ends();
	return true;
}

static bool step_open(uint32_t unused)
{
	const struct rvmrpc_terms terms = {
		.epoch = ++w.epochs, .abi = RVMRPC_ABI_VERSION, .nslots = NSLOTS, .release = no_release,
	};

	(void)unused;
	rvmrpc_proxy_open(&w.proxy, &terms, NOW, &done);
	epoch_ends();
	return true;
}

static bool step_deliver_begin(uint32_t g)
{
	struct mover *mover = &w.movers[g];

	if (mover->pc != OUT)
		return false;
	if (rvmrpc_proxy_deliver_begin(&w.proxy, &mover->x, NOW, &done)) {
		g_assert_false(w.proxy.stopped);
		mover->pc = DELIVERING;
		mover->old_epoch = false;
	}
	return true;
}

static bool step_deliver_commit(uint32_t m)
{
	struct mover *mover = &w.movers[m];

	if (mover->pc != DELIVERING)
		return false;
	mover->pc = OUT;
	if (rvmrpc_proxy_deliver_commit(&w.proxy, &mover->x, NOW, &done)) {
		g_assert_false(mover->old_epoch);
		w.held[mover->x.slot] = true;
	}
	return true;
}

/* The guest has answered, in a slot that it has; the owner looks at no other. */
static bool step_reply_begin(uint32_t arg)
{
	struct mover *mover = &w.movers[arg / (NSLOTS * ANSWERS)];
	struct rvmrpc_hdr hdr = { .magic = RVMRPC_CALL_MAGIC };
	uint32_t slot = arg / ANSWERS % NSLOTS;

	if (mover->pc != OUT || !w.held[slot])
		return false;
	w.held[slot] = false;
	if (!rvmrpc_proxy_reply_begin(&w.proxy, slot, &mover->x))
		return true;
	mover->pc = REPLYING;
	mover->old_epoch = false;
	hdr.abi = mover->x.abi;
	hdr.epoch = mover->x.epoch;
	hdr.xid = mover->x.xid + (arg % ANSWERS == ANSWER_STALE);
	hdr.flags = arg % ANSWERS == ANSWER_MALFORMED;
	rvmrpc_proxy_reply_check(&mover->x, &hdr);
	g_assert_cmpint(mover->x.status == RVMRPC_STATUS_OK, ==, arg % ANSWERS == ANSWER_GOOD);
	return true;
}

static bool step_reply_commit(uint32_t arg)
{
	struct mover *mover = &w.movers[arg / 2];

	if (mover->pc != REPLYING)
		return false;
	mover->pc = OUT;
	rvmrpc_proxy_reply_commit(&w.proxy, &mover->x, arg & 1, NOW, &done);
	return true;
}

static const struct {
	const char *name;
	bool (*step)(uint32_t arg);
	uint32_t args;
} steps[] = {
	{ "submit", step_submit, NCALLS },
	{ "cancel", step_cancel, NCALLS },
	{ "deadline", step_deadline, NCALLS },
	{ "expire", step_expire, 1 },
	{ "stop", step_stop, 2 },
	{ "reset", step_unregister, 1 },
	{ "open", step_open, 1 },
	{ "deliver-begin", step_deliver_begin, NMOVERS },
	{ "deliver-commit", step_deliver_commit, NMOVERS },
	{ "reply-begin", step_reply_begin, NMOVERS * NSLOTS * ANSWERS },
	{ "reply-commit", step_reply_commit, NMOVERS * 2 },
};

/* ---- search ---- */

static guint key_hash(gconstpointer data)
{
	const uint8_t *b = data;
	uint64_t h = 14695981039346656037u;
	size_t i;

	for (i = 0; i < sizeof(struct key); i++)
		h = (h ^ b[i]) * 1099511628211u;
	return (guint)(h ^ h >> 32);
}

static gboolean key_equal(gconstpointer a, gconstpointer b)
{
	return !memcmp(a, b, sizeof(struct key));
}

/* Queues the present state if it is new. */
static void visit(GHashTable *seen, GQueue *queue, uint32_t depth)
{
	struct key k;

	make_key(&k);
	if (g_hash_table_contains(seen, &k))
		return;
	g_hash_table_add(seen, g_memdup2(&k, sizeof(k)));
	g_queue_push_tail(queue, g_new(struct snapshot, 1));
	save(queue->tail->data, depth);
}

static void expand(const struct snapshot *from, GHashTable *seen, GQueue *queue, uint64_t *taken)
{
	uint32_t arg;
	size_t i;

	for (i = 0; i < G_N_ELEMENTS(steps); i++) {
		for (arg = 0; arg < steps[i].args; arg++) {
			restore(from);
			if (!steps[i].step(steps[i].step == step_unregister ? RVMRPC_STATUS_RESET : arg))
				continue;
			taken[i]++;
			take_done();
			check();
			visit(seen, queue, from->depth + 1);
		}
	}
}

static void test_all_interleavings(void)
{
	GHashTable *seen = g_hash_table_new_full(key_hash, key_equal, g_free, NULL);
	GQueue *queue = g_queue_new();
	uint64_t taken[G_N_ELEMENTS(steps)] = { 0 };
	struct snapshot *s;
	uint32_t depth = 0;
	size_t i;

	rvmrpc_proxy_init(&w.proxy, 1);
	visit(seen, queue, 0);
	while ((s = g_queue_pop_head(queue))) {
		depth = s->depth;
		expand(s, seen, queue, taken);
		g_free(s);
	}
	g_test_message("%u states, all within %u steps", g_hash_table_size(seen), depth);
	for (i = 0; i < G_N_ELEMENTS(steps); i++) {
		g_test_message("%s taken %" G_GUINT64_FORMAT " times", steps[i].name, taken[i]);
		g_assert_cmpuint(taken[i], >, 0);
	}
	g_queue_free(queue);
	g_hash_table_destroy(seen);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/model/all-interleavings", test_all_interleavings);
	return g_test_run();
}
