/* SPDX-License-Identifier: GPL-2.0-or-later */
/* channel/ and its socket server on a memfd; a thread plays the guest with the core's guest half. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <glib.h>
#include <glib/gstdio.h>

#include "rvmrpc_guest.h"
#include "rvmrpc_list.h"
#include "rvmrpc_listener.h"
#include "rvmrpc_server.h"
#include "rvmrpc_socket.h"
#include "rvmrpc_sockserver.h"
#include "rvmrpc_tell.h"
#include "rvmrpc_text.h"

#define SIZE		0x40000
#define REQ		0x1000
#define RES		0x4000
#define MS		1000000ull

enum { ECHO = 1, HANG = 2 };	/* modules of the guest's own */

struct world {
	int memory, doorbell, interrupt;
	unsigned char *base;
	GMainContext *context;
	RvmrpcChannel *ch;
	RvmrpcList *list;
	RvmrpcSockServer *server;
	char *folder, *path;
	GThread *thread;
	gint ending, mute;	/* mute: the guest does not answer */
	gint muted;		/* it has seen that */
	gint storm;		/* rings without a reason, all the time */
	gint spins;		/* never sleeps */
	uint32_t total;		/* entries that core.list has, */
	uint32_t each;		/* of so many each the first is a module */
	gint lists;		/* calls of core.list */
	uint32_t shift;		/* number of the list's first entry */
	bool moves;		/* one comes before it, once that the first page was told */
	gint generation;	/* of that list */
	gint echoes;		/* calls that ECHO has run */
	struct rvmrpc_guest guest;
	unsigned opened, closed, stuck;
	uint64_t events;	/* number of the last that was told */
	unsigned told;
	RvmrpcClosed why;
	bool waits;		/* a vCPU, in RVMRPC_MAIN */
	int roused;
};

static struct world w;

/* ---- the guest ---- */

static void ring(void)
{
	static const uint64_t one = 1;

	g_assert_cmpint(write(w.doorbell, &one, sizeof(one)), ==, sizeof(one));
}

static uint32_t list_page(const struct rvmrpc_taken *t, void *to)
{
	uint32_t first, room = (RES - sizeof(struct rvmrpc_list)) / sizeof(struct rvmrpc_list_entry), i;
	struct rvmrpc_list head = { .total = w.total };
	struct rvmrpc_list_entry e = { 0 };

	g_atomic_int_inc(&w.lists);
	memcpy(&first, rvmrpc_guest_arg(&w.guest, t->slot), sizeof(first));
	head.count = MIN(room, w.total - MIN(first, w.total));
	memcpy(to, &head, sizeof(head));
	for (i = 0; i < head.count; i++) {
		e.kind = (first + i) % w.each ? RVMRPC_LIST_PROCEDURE : RVMRPC_LIST_MODULE;
		e.number = first + i + w.shift;
		e.generation = g_atomic_int_get(&w.generation);
		memcpy((char *)to + sizeof(head) + i * sizeof(e), &e, sizeof(e));
	}
	w.shift += w.moves;
	w.total += w.moves;
	w.moves = false;
	return sizeof(head) + head.count * sizeof(e);
}

/* By the core's rule, with the generation that the list has now. */
static uint32_t judge(const struct rvmrpc_taken *t)
{
	const struct rvmrpc_lookup found = { .list = g_atomic_int_get(&w.generation) };

	return rvmrpc_lookup_status(&found, &t->hdr, REQ);
}

static void serve(const struct rvmrpc_taken *t)
{
	struct rvmrpc_hdr reply = t->hdr;
	void *res = rvmrpc_guest_res(&w.guest, t->slot);

	reply.timeout_ms = 0;
	reply.list = 0;
	if (t->hdr.module == HANG)
		return;
	reply.status = judge(t);
	if (reply.status != RVMRPC_STATUS_OK) {
		reply.length = 0;
	} else if (t->hdr.module == ECHO) {
		g_atomic_int_inc(&w.echoes);
		memcpy(res, rvmrpc_guest_arg(&w.guest, t->slot), t->hdr.length);
	} else {
		reply.length = t->hdr.procedure == RVMRPC_CORE_LIST ? list_page(t, res) : 0;
	}
	if (rvmrpc_guest_publish(&w.guest, t->slot, t->seq, &reply))
		ring();
}

static void greet(void)
{
	uint32_t status;

	rvmrpc_guest_hello(&w.guest, (uint64_t)g_get_monotonic_time() << 8 | 1, RVMRPC_OS_LINUX, "6.12-test");
	ring();
	while (!g_atomic_int_get(&w.ending) && rvmrpc_guest_answered(&w.guest, &status) == RVMRPC_ANSWER_NONE)
		g_usleep(200);
}

static void guest_sleeps(void)
{
	struct pollfd p = { .fd = w.interrupt, .events = POLLIN };
	uint64_t n;

	if (!rvmrpc_guest_sleep(&w.guest))
		return;
	poll(&p, 1, 100);
	rvmrpc_guest_awake(&w.guest);
	if (read(w.interrupt, &n, sizeof(n)) < 0)
		g_assert_cmpint(errno, ==, EAGAIN);
}

static gpointer guest_runs(gpointer unused)
{
	struct rvmrpc_taken t;

	rvmrpc_guest_init(&w.guest, w.base, SIZE);
	while (!g_atomic_int_get(&w.ending)) {
		if (g_atomic_int_get(&w.mute)) {
			g_atomic_int_set(&w.muted, 1);
			g_usleep(1000);
		} else if (w.guest.state != RVMRPC_GUEST_OPEN || !rvmrpc_guest_alive(&w.guest)) {
			greet();
		} else if (rvmrpc_guest_take(&w.guest, &t)) {
			rvmrpc_guest_beat(&w.guest);
			serve(&t);
		} else if (g_atomic_int_get(&w.storm)) {
			ring();
		} else if (g_atomic_int_get(&w.spins)) {
			g_thread_yield();
		} else {
			guest_sleeps();
		}
	}
	rvmrpc_guest_bye(&w.guest);
	return unused;
}

/* Neither asleep nor about to take a request when this returns. */
static void mute(void)
{
	g_atomic_int_set(&w.muted, 0);
	g_atomic_int_set(&w.mute, 1);
	while (!g_atomic_int_get(&w.muted))
		g_usleep(1000);
}

/* ---- the host ---- */

static void opened(void *opaque)
{
	w.opened++;
	g_assert_true(opaque == &w);
}

static void closed(void *opaque, RvmrpcClosed why)
{
	g_assert_true(opaque == &w);
	w.closed++;
	w.why = why;
}

static void stuck(void *opaque)
{
	g_assert_true(opaque == &w);
	w.stuck++;
}

static bool rouse(void *opaque)
{
	bool waits = w.waits;

	g_assert_true(opaque == &w);
	w.roused += waits;
	w.waits = false;
	return waits;
}

static void event(void *opaque, const struct rvmrpc_told *told)
{
	g_assert_true(opaque == &w);
	g_assert_cmpuint(told->event.seq, ==, w.events + 1 + told->missed);
	w.events = told->event.seq;
	w.told++;
}

static const RvmrpcChannelOps ops = { .opened = opened, .closed = closed, .stuck = stuck, .event = event, .rouse = rouse };

static char *info(void *opaque)
{
	g_assert_true(opaque == &w);
	return g_strdup("{\"protocol\": 1}");
}

/* Runs the loop until the condition holds; not for ever. */
#define run_until(condition) do {						\
	gint64 end_ = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;		\
	while (!(condition)) {							\
		g_assert_cmpint(g_get_monotonic_time(), <, end_);		\
		g_main_context_iteration(w.context, FALSE) ?: (g_usleep(50), 0);	\
	}									\
} while (0)

static void channel_comes(void)
{
	RvmrpcChannelConfig config = {
		.base = w.base, .size = SIZE, .doorbell = 1 << 16, .doorbell_fd = w.doorbell,
		.interrupt_fd = w.interrupt, .spin_us = 50, .context = w.context, .ops = &ops, .opaque = &w,
	};

	g_assert_true(rvmrpc_layout_make(SIZE, 4, REQ, RES, &config.layout));
	w.ch = rvmrpc_channel_new(&config);
	w.list = rvmrpc_list_new(w.ch);
}

static void channel_goes(uint32_t status)
{
	rvmrpc_channel_free(w.ch, status);
	rvmrpc_list_free(w.list);
}

static RvmrpcSockConfig sock_config(void)
{
	return (RvmrpcSockConfig) {
		.path = w.path, .mode = 0640, .gid = (gid_t)-1, .fd = -1, .context = w.context, .info = info,
		.opaque = &w,
	};
}

static void world_begin(void)
{
	RvmrpcSockConfig config;

	memset(&w, 0, sizeof(w));
	w.total = 3;
	w.each = 100;
	w.generation = 7;
	w.context = g_main_context_new();
	w.folder = g_dir_make_tmp("rvmrpc-unit-XXXXXX", NULL);
	w.path = g_build_filename(w.folder, "sock", NULL);
	w.memory = memfd_create("window", MFD_CLOEXEC);
	g_assert_cmpint(ftruncate(w.memory, SIZE), ==, 0);
	w.base = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, w.memory, 0);
	w.doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	w.interrupt = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	config = sock_config();
	channel_comes();
	w.server = rvmrpc_sockserver_new(&config, NULL);
	g_assert_nonnull(w.server);
	rvmrpc_sockserver_set_channel(w.server, w.ch);
	w.thread = g_thread_new("guest", guest_runs, NULL);
	run_until(w.opened == 1);
}

static void world_end(void)
{
	channel_goes(RVMRPC_STATUS_NOT_CONNECTED);
	rvmrpc_sockserver_free(w.server);
	g_atomic_int_set(&w.ending, 1);
	g_thread_join(w.thread);
	g_assert_cmpint(g_access(w.path, F_OK), <, 0);
	g_rmdir(w.folder);
	g_free(w.folder);
	g_free(w.path);
	g_main_context_unref(w.context);
	munmap(w.base, SIZE);
	close(w.memory);
	close(w.doorbell);
	close(w.interrupt);
}

struct outcome {
	unsigned n;
	uint32_t status;
	char *res;
};

static void done(RvmrpcCall *call, void *opaque)
{
	struct outcome *o = opaque;

	o->n++;
	o->status = call->core.status;
	o->res = g_steal_pointer(&call->res);
}

static uint32_t submit(uint32_t module, const char *text, uint32_t ms, struct outcome *o)
{
	RvmrpcCall *call = rvmrpc_call_new(NULL, module, 0, g_strdup(text), strlen(text) + 1, ms, done, o);
	uint32_t status = rvmrpc_channel_submit(w.ch, call);

	rvmrpc_call_unref(call);
	return status;
}

static void assert_works(void)
{
	struct outcome o = { 0 };

	g_assert_cmpuint(submit(ECHO, "works", 5000, &o), ==, RVMRPC_STATUS_OK);
	run_until(o.n);
	g_assert_cmpuint(o.status, ==, RVMRPC_STATUS_OK);
	g_assert_cmpstr(o.res, ==, "works");
	g_free(o.res);
}

/* ---- the channel ---- */

static void test_calls(void)
{
	RvmrpcChannelInfo now;
	int i;

	world_begin();
	for (i = 0; i < 300; i++) {
		assert_works();
		if (i % 100 == 99)
			g_usleep(20000);
	}
	rvmrpc_channel_get_info(w.ch, &now);
	g_assert_true(now.open && !now.silent);
	g_assert_cmpstr(now.release, ==, "6.12-test");
	g_assert_cmpuint(now.stats.completed, ==, 300);
	g_assert_cmpuint(now.spin_us, <=, 50);
	g_assert_cmpuint(now.guest_spin_us, <=, 50);
	world_end();
}

static void test_cancel_and_deadline(void)
{
	struct outcome late = { 0 }, gone = { 0 };
	RvmrpcCall *call;

	world_begin();
	g_assert_cmpuint(submit(HANG, "", 30, &late), ==, RVMRPC_STATUS_OK);
	call = rvmrpc_call_new(NULL, HANG, 0, NULL, 0, 5000, done, &gone);
	g_assert_cmpuint(rvmrpc_channel_submit(w.ch, call), ==, RVMRPC_STATUS_OK);
	rvmrpc_channel_cancel(call);
	/* Never from within. */
	g_assert_cmpuint(gone.n, ==, 0);
	run_until(gone.n && late.n);
	g_assert_cmpuint(gone.status, ==, RVMRPC_STATUS_CANCELLED);
	g_assert_cmpuint(late.status, ==, RVMRPC_STATUS_TIMED_OUT);
	rvmrpc_channel_cancel(call);
	rvmrpc_call_unref(call);
	assert_works();
	g_assert_cmpuint(gone.n + late.n, ==, 2);
	world_end();
}

/* ---- other threads ---- */

#define OUTSIDE 2000

struct caller {
	GMutex lock;
	GCond cond;
	struct outcome o;	/* lock */
};

static void caller_done(RvmrpcCall *call, void *opaque)
{
	struct caller *c = opaque;

	g_mutex_lock(&c->lock);
	done(call, &c->o);
	g_cond_signal(&c->cond);
	g_mutex_unlock(&c->lock);
}

/* A thread that is not the channel's; one call hangs, is cancelled, and keeps its slot. */
static gpointer calls_from_outside(gpointer counter)
{
	unsigned i;

	for (i = 0; i < OUTSIDE; i++) {
		struct caller c = { 0 };
		bool hangs = i == 9;
		RvmrpcCall *call = rvmrpc_call_new(NULL, hangs ? HANG : ECHO, 0, g_strdup("outside"), 8, 5000,
						   caller_done, &c);

		g_mutex_init(&c.lock);
		g_cond_init(&c.cond);
		g_assert_cmpuint(rvmrpc_channel_submit(w.ch, call), ==, RVMRPC_STATUS_OK);
		if (hangs)
			rvmrpc_channel_cancel(call);
		g_mutex_lock(&c.lock);
		while (!c.o.n)
			g_cond_wait(&c.cond, &c.lock);
		g_mutex_unlock(&c.lock);
		g_assert_cmpuint(c.o.status, ==, hangs ? RVMRPC_STATUS_CANCELLED : RVMRPC_STATUS_OK);
		g_assert_true(hangs || !strcmp(c.o.res, "outside"));
		g_free(c.o.res);
		rvmrpc_call_unref(call);
		g_atomic_int_inc((gint *)counter);
	}
	return NULL;
}

static void test_threads(void)
{
	GThread *thread[2];
	gint n = 0;
	int i;

	world_begin();
	for (i = 0; i < 2; i++)
		thread[i] = g_thread_new("caller", calls_from_outside, &n);
	/* In its thread the loop sleeps: a call that does not wake it is found out. */
	while (g_atomic_int_get(&n) < 2 * OUTSIDE)
		g_main_context_iteration(w.context, TRUE);
	for (i = 0; i < 2; i++)
		g_thread_join(thread[i]);
	world_end();
}

/* Whether its end was told within the submission. */
static bool submit_and_look(uint32_t module, uint32_t ms, struct outcome *o)
{
	RvmrpcCall *call = rvmrpc_call_new(NULL, module, 0, g_strdup("look"), 5, ms, done, o);

	g_assert_cmpuint(rvmrpc_channel_submit_and_look(w.ch, call, 1000), ==, RVMRPC_STATUS_OK);
	rvmrpc_call_unref(call);
	return o->n;
}

/* A caller who looks for the answer itself gets it from a guest that is awake; and nobody else's. */
static void test_look(void)
{
	struct outcome late = { 0 }, others = { 0 };
	gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC, start, took = G_USEC_PER_SEC;
	unsigned met = 0, hung;

	world_begin();
	g_atomic_int_set(&w.spins, 1);
	while (met < 20 && g_get_monotonic_time() < end) {
		struct outcome o = { 0 };

		met += submit_and_look(ECHO, 5000, &o);
		run_until(o.n);
		g_assert_cmpuint(o.status, ==, RVMRPC_STATUS_OK);
		g_assert_cmpstr(o.res, ==, "look");
		g_free(o.res);
	}
	g_assert_cmpuint(met, ==, 20);

	/* Other work of the machine makes it longer; what it looks for does not come any time. */
	for (met = 0; met < 2 && took >= 100000; met++) {
		start = g_get_monotonic_time();
		g_assert_false(submit_and_look(HANG, 2000, &late));
		took = MIN(took, g_get_monotonic_time() - start);
	}
	hung = met;
	g_assert_cmpint(took, <, 100000);
	g_assert_cmpuint(submit(ECHO, "others", 5000, &others), ==, RVMRPC_STATUS_OK);
	for (met = 0; met < 20; met++) {
		struct outcome o = { 0 };
		unsigned before = others.n;

		if (submit_and_look(ECHO, 5000, &o))
			g_assert_cmpuint(others.n, ==, before);
		run_until(o.n);
		g_free(o.res);
	}
	run_until(late.n == hung && others.n);
	g_assert_cmpuint(late.status, ==, RVMRPC_STATUS_TIMED_OUT);
	g_assert_cmpstr(others.res, ==, "others");
	g_free(others.res);
	world_end();
}

static void test_stopped(void)
{
	struct outcome o = { 0 };

	world_begin();
	rvmrpc_channel_set_stopped(w.ch, true);
	g_assert_cmpuint(submit(ECHO, "", 1000, &o), ==, RVMRPC_STATUS_STOPPED);
	rvmrpc_channel_set_stopped(w.ch, false);
	assert_works();
	world_end();
}

static void test_end(void)
{
	struct outcome o = { 0 };
	uint64_t epoch;

	world_begin();
	epoch = rvmrpc_channel_epoch(w.ch);
	g_assert_cmpuint(submit(HANG, "", 5000, &o), ==, RVMRPC_STATUS_OK);
	rvmrpc_channel_end(w.ch, RVMRPC_STATUS_RESET, RVMRPC_CLOSED_GUEST_RESET);
	/* Told in its own time, and the guest says hello again. */
	g_assert_cmpuint(o.n + w.closed, ==, 0);
	run_until(o.n && w.opened == 2);
	g_assert_cmpuint(o.status, ==, RVMRPC_STATUS_RESET);
	g_assert_cmpint(w.why, ==, RVMRPC_CLOSED_GUEST_RESET);
	g_assert_cmpuint(w.closed, ==, 1);
	g_assert_true(rvmrpc_channel_epoch(w.ch) != epoch);
	assert_works();
	world_end();
}

/* From this thread, which is none of the guest's that serve. */
static bool tell(struct rvmrpc_teller *t, uint64_t number)
{
	struct rvmrpc_event_writer e;

	rvmrpc_event_begin(&e, RVMRPC_MOD_USER, 1, 1);
	rvmrpc_event_end(&e);
	return rvmrpc_tell(t, rvmrpc_tell_epoch(t), number, &e);
}

static void guest_tells(struct rvmrpc_teller *t)
{
	/* It has its epoch when it has answered. */
	assert_works();
	rvmrpc_tell_init(t, w.base, SIZE);
	rvmrpc_tell_open(t, &w.guest);
}

static void test_guest_events(void)
{
	struct rvmrpc_teller t;
	RvmrpcChannelInfo ch;

	world_begin();
	guest_tells(&t);
	g_assert_true(tell(&t, 1));
	ring();
	run_until(w.told == 1);
	/* Not rung for: one that is told just before the end is told on before the end is. */
	tell(&t, 2);
	rvmrpc_channel_end(w.ch, RVMRPC_STATUS_RESET, RVMRPC_CLOSED_GUEST_RESET);
	run_until(w.closed == 1);
	g_assert_cmpuint(w.told, ==, 2);
	run_until(w.opened == 2);
	rvmrpc_channel_get_info(w.ch, &ch);
	g_assert_cmpuint(ch.stats.events, ==, 2);
	world_end();
}

static bool all_counted(uint64_t events)
{
	RvmrpcChannelInfo ch;

	rvmrpc_channel_get_info(w.ch, &ch);
	return ch.stats.events + ch.stats.events_lost + ch.stats.events_dropped == events;
}

/* As fast as a guest can: what it costs its host is bounded, each is counted, and calls go on. */
static void test_event_flood(void)
{
	gint64 began, end;
	struct rvmrpc_teller t;
	RvmrpcChannelInfo ch;
	uint64_t number = 0, rings = 0;

	world_begin();
	guest_tells(&t);
	began = g_get_monotonic_time();
	end = began + 2 * G_USEC_PER_SEC;
	/* On a busy machine longer. */
	while (g_get_monotonic_time() < end ||
	       (number <= 200000 && g_get_monotonic_time() < end + 10 * G_USEC_PER_SEC)) {
		for (int i = 0; i < 1000; i++) {
			if (tell(&t, ++number)) {
				rings++;
				ring();
			}
		}
		g_main_context_iteration(w.context, FALSE);
		if (number % 100000 == 0)
			assert_works();
	}
	assert_works();
	/* Until nothing is waited for. */
	end = g_get_monotonic_time() + 12 * G_USEC_PER_SEC / 10;
	run_until(g_get_monotonic_time() > end && all_counted(number));
	rvmrpc_channel_get_info(w.ch, &ch);
	g_test_message("%" G_GUINT64_FORMAT " events, %" G_GUINT64_FORMAT " rings; %u told, %" G_GUINT64_FORMAT " lost, %"
		       G_GUINT64_FORMAT " dropped", number, rings, w.told, ch.stats.events_lost, ch.stats.events_dropped);
	g_assert_cmpuint(number, >, 200000);
	g_assert_cmpuint(w.told, <=, RVMRPC_EVENTS_AT_ONCE + 2 + 2 * (g_get_monotonic_time() - began) / G_USEC_PER_SEC);
	g_assert_cmpuint(w.told, >=, RVMRPC_EVENTS_AT_ONCE);
	g_assert_cmpuint(rings, <, number / 10);
	g_assert_cmpuint(ch.stats.events, ==, w.told);
	g_assert_cmpuint(ch.stats.events + ch.stats.events_lost + ch.stats.events_dropped, ==, number);
	world_end();
}

static void wait_begins(void *opaque)
{
	(*(int *)opaque)++;
}

/* RVMRPC_MAIN: a vCPU that waits is woken by the next post, and instead of the interrupt. */
static void test_main(void)
{
	struct outcome o = { 0 };
	RvmrpcChannelInfo before, after;
	uint64_t epoch;
	uint32_t seen;
	int waits = 0;

	world_begin();
	assert_works();
	mute();
	epoch = rvmrpc_channel_epoch(w.ch);
	seen = w.guest.posted;
	g_assert_cmpint(rvmrpc_channel_main(w.ch, epoch, seen - 1, wait_begins, &waits), ==, RVMRPC_MAIN_TURN_POSTED);
	g_assert_cmpint(rvmrpc_channel_main(w.ch, epoch + 1, seen, wait_begins, &waits), ==, RVMRPC_MAIN_TURN_RESET);
	g_assert_cmpint(waits + w.roused, ==, 0);
	g_assert_cmpint(rvmrpc_channel_main(w.ch, epoch, seen, wait_begins, &waits), ==, RVMRPC_MAIN_TURN_WAIT);
	g_assert_cmpint(waits, ==, 1);
	w.waits = true;
	rvmrpc_channel_get_info(w.ch, &before);
	g_assert_cmpuint(submit(ECHO, "x", 5000, &o), ==, RVMRPC_STATUS_OK);
	rvmrpc_channel_get_info(w.ch, &after);
	g_assert_cmpint(w.roused, ==, 1);
	g_assert_cmpuint(before.interrupts, ==, after.interrupts);
	g_atomic_int_set(&w.mute, 0);
	run_until(o.n);
	g_assert_cmpuint(o.status, ==, RVMRPC_STATUS_OK);
	g_free(o.res);
	world_end();
}

static uint64_t rings(void)
{
	RvmrpcChannelInfo now;

	g_main_context_iteration(w.context, FALSE);
	rvmrpc_channel_get_info(w.ch, &now);
	return now.rings;
}

/* It does what a ring does, for whoever says hello, or tells something, and does not ring. */
static void test_main_rings(void)
{
	struct rvmrpc_teller t;
	uint64_t epoch, before;
	int waits = 0;

	world_begin();
	guest_tells(&t);
	mute();
	epoch = rvmrpc_channel_epoch(w.ch);
	before = rings();
	rvmrpc_channel_main(w.ch, epoch, w.guest.posted, wait_begins, &waits);
	g_assert_cmpuint(rings(), ==, before);
	tell(&t, 1);
	rvmrpc_channel_main(w.ch, epoch, w.guest.posted, wait_begins, &waits);
	g_assert_cmpuint(rings(), ==, before + 1);
	run_until(w.told == 1);
	rvmrpc_guest_hello(&w.guest, 4711, RVMRPC_OS_LINUX, "6.12-test");
	rvmrpc_channel_main(w.ch, epoch, w.guest.posted, wait_begins, &waits);
	g_assert_cmpuint(rings(), ==, before + 2);
	run_until(w.opened == 2);
	/* Its thread says hello once more. */
	g_atomic_int_set(&w.mute, 0);
	run_until(w.opened == 3);
	assert_works();
	world_end();
}

static void test_stuck(void)
{
	struct outcome o = { 0 };
	int i;

	world_begin();
	for (i = 0; i < 4; i++)
		g_assert_cmpuint(submit(HANG, "", 20, &o), ==, RVMRPC_STATUS_OK);
	run_until(o.n == 4 && w.stuck);
	g_assert_cmpuint(submit(ECHO, "", 20, &o), ==, RVMRPC_STATUS_BUSY);
	g_assert_cmpuint(w.stuck, ==, 1);
	world_end();
}

static bool is_silent(void)
{
	RvmrpcChannelInfo now;

	rvmrpc_channel_get_info(w.ch, &now);
	return now.silent;
}

static void test_silent(void)
{
	struct outcome o = { 0 };

	world_begin();
	mute();
	g_assert_cmpuint(submit(ECHO, "", 20, &o), ==, RVMRPC_STATUS_OK);
	run_until(o.n);
	g_assert_cmpuint(o.status, ==, RVMRPC_STATUS_TIMED_OUT);
	/* One call says little: it is asked first. */
	g_assert_false(is_silent());
	run_until(is_silent());
	g_atomic_int_set(&w.mute, 0);
	run_until(!is_silent());
	assert_works();
	world_end();
}

static void test_overwritten(void)
{
	struct outcome o = { 0 };

	world_begin();
	g_assert_cmpuint(submit(HANG, "", 5000, &o), ==, RVMRPC_STATUS_OK);
	memset(w.base, 0xa5, sizeof(struct rvmrpc_host_page));
	ring();
	run_until(o.n && w.opened == 2);
	g_assert_cmpuint(o.status, ==, RVMRPC_STATUS_RESET);
	g_assert_cmpuint(w.closed, ==, 1);
	g_assert_cmpint(w.why, ==, RVMRPC_CLOSED_OVERWRITTEN);
	assert_works();
	world_end();
}

/* What a daemon that starts anew does with a window that was kept. */
static void test_another_owner(void)
{
	world_begin();
	rvmrpc_sockserver_set_channel(w.server, NULL);
	channel_goes(RVMRPC_STATUS_RESET);
	channel_comes();
	rvmrpc_sockserver_set_channel(w.server, w.ch);
	run_until(w.opened == 2);
	assert_works();
	world_end();
}

/* Rings for nothing are heard now and then only, and calls go on. */
static void test_storm(void)
{
	RvmrpcChannelInfo now;
	uint64_t rings;
	gint64 end;
	unsigned turns = 0;
	int i;

	world_begin();
	g_atomic_int_set(&w.storm, 1);
	rvmrpc_channel_get_info(w.ch, &now);
	rings = now.rings;
	end = g_get_monotonic_time() + G_USEC_PER_SEC / 2;
	/* Longer when the guest's thread was not let ring. */
	do {
		g_main_context_iteration(w.context, TRUE);
		turns++;
		rvmrpc_channel_get_info(w.ch, &now);
	} while (g_get_monotonic_time() < end ||
		 (turns >= (now.rings - rings) / 100 && g_get_monotonic_time() < end + 10 * G_USEC_PER_SEC));
	g_test_message("%u turns, %" G_GUINT64_FORMAT " rings", turns, (guint64)(now.rings - rings));
	/* Without muting, one in about nine rings takes a turn of the thread; with it, one in several hundred. */
	g_assert_cmpuint(turns, <, (now.rings - rings) / 100);
	for (i = 0; i < 20; i++)
		assert_works();
	world_end();
}

/* ---- neighbours ---- */

struct neighbour {
	int doorbell, interrupt;
	unsigned char *base;
	RvmrpcChannel *ch;
};

static void nothing(void *opaque)
{
	g_assert_nonnull(opaque);
}

static void nothing_why(void *opaque, RvmrpcClosed why)
{
	g_assert_nonnull(opaque);
	g_assert_cmpint(why, <=, RVMRPC_CLOSED_OVERWRITTEN);
}

static const RvmrpcChannelOps neighbour_ops = { .opened = nothing, .closed = nothing_why, .stuck = nothing };

static void neighbour_comes(struct neighbour *n)
{
	RvmrpcChannelConfig config = { .size = SIZE, .spin_us = 50, .context = w.context, .ops = &neighbour_ops,
				       .opaque = n };

	n->doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	n->interrupt = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	n->base = g_aligned_alloc0(1, SIZE, RVMRPC_PAGE_SIZE);
	config.base = n->base;
	config.doorbell_fd = n->doorbell;
	config.interrupt_fd = n->interrupt;
	g_assert_true(rvmrpc_layout_make(SIZE, 4, REQ, RES, &config.layout));
	n->ch = rvmrpc_channel_new(&config);
}

static void neighbour_goes(struct neighbour *n)
{
	rvmrpc_channel_free(n->ch, RVMRPC_STATUS_NOT_CONNECTED);
	g_aligned_free(n->base);
	close(n->doorbell);
	close(n->interrupt);
}

/* At every look of the thread: another ring, hello and page. */
static void neighbour_storms(struct neighbour *n)
{
	static const uint64_t one = 1;
	static unsigned char byte;
	ssize_t put;

	memset(n->base, ++byte, sizeof(struct rvmrpc_host_page));
	memset(n->base + RVMRPC_GUEST_PAGE, byte, sizeof(struct rvmrpc_guest_page));
	put = write(n->doorbell, &one, sizeof(one));
	g_assert_cmpint(put, ==, sizeof(one));
}

static gint by_size(gconstpointer a, gconstpointer b)
{
	gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;

	return x < y ? -1 : x > y;
}

/* The 99th percentile of calls, in us. */
static gint64 p99(struct neighbour *hostile, unsigned n)
{
	enum { CALLS = 3000 };
	g_autofree gint64 *us = g_new0(gint64, CALLS);
	unsigned i, j;

	for (i = 0; i < CALLS; i++) {
		struct outcome o = { 0 };

		us[i] = g_get_monotonic_time();
		g_assert_cmpuint(submit(ECHO, "", 5000, &o), ==, RVMRPC_STATUS_OK);
		while (!o.n) {
			for (j = 0; j < n; j++)
				neighbour_storms(&hostile[j]);
			g_main_context_iteration(w.context, FALSE);
		}
		us[i] = g_get_monotonic_time() - us[i];
		g_free(o.res);
	}
	qsort(us, CALLS, sizeof(*us), by_size);
	return us[CALLS * 99 / 100];
}

static void test_neighbours(void)
{
	struct neighbour hostile[2];
	RvmrpcChannelInfo now;
	gint64 alone, beside;
	unsigned left = 4;

	world_begin();
	neighbour_comes(&hostile[0]);
	neighbour_comes(&hostile[1]);
	/* Other work of the machine makes one of both longer, neighbours the second each time. */
	do {
		alone = p99(NULL, 0);
		beside = p99(hostile, 2);
	} while (beside >= 2 * alone + 1000 && --left);
	rvmrpc_channel_get_info(hostile[0].ch, &now);
	g_test_message("p99 alone %" G_GINT64_FORMAT " us, beside two hostile VMs %" G_GINT64_FORMAT " us; %"
		       G_GUINT64_FORMAT " interrupts of one", alone, beside, (guint64)now.interrupts);
	neighbour_goes(&hostile[0]);
	neighbour_goes(&hostile[1]);
	/* Under sanitizers beside other work; it would be without a bound else. */
	g_assert_cmpint(beside, <, 2 * alone + 1000);
	world_end();
}

static guint list_length(void)
{
	g_autoptr(GArray) entries = rvmrpc_list_get(w.list);

	return entries->len;
}

static void list_of(uint32_t total, guint wanted)
{
	w.total = total;
	run_until((rvmrpc_list_refresh(w.list), list_length() == wanted));
}

static void test_list(void)
{
	gint64 begin = g_get_monotonic_time();
	gint asked;
	int i;

	world_begin();
	list_of(3, 3);
	asked = g_atomic_int_get(&w.lists);
	for (i = 0; i < 50; i++) {
		rvmrpc_list_refresh(w.list);
		g_main_context_iteration(w.context, FALSE);
		g_usleep(1000);
	}
	/* Once a second, however often it is wanted; a machine may be too busy to tell. */
	if (g_get_monotonic_time() - begin < G_USEC_PER_SEC)
		g_assert_cmpint(g_atomic_int_get(&w.lists), ==, asked);
	g_usleep(1100000);
	/* Of each hundred the first is a module, and 64 procedures of it are kept. */
	list_of(700, 7 * 65);
	g_usleep(1100000);
	/* And 64 modules. */
	w.each = 1;
	list_of(100, 64);
	world_end();
}

static void list_told(uint32_t status, void *opaque)
{
	(void)status;
	++*(unsigned *)opaque;
}

/* Who has no time left waits no longer, and others do. */
static void test_list_forgotten(void)
{
	unsigned gone = 0, waits = 0;

	world_begin();
	list_of(3, 3);
	mute();
	g_assert_cmpuint(rvmrpc_list_ask(w.list, list_told, &gone), ==, RVMRPC_STATUS_OK);
	g_assert_cmpuint(rvmrpc_list_ask(w.list, list_told, &waits), ==, RVMRPC_STATUS_OK);
	g_assert_true(rvmrpc_list_forget(w.list, &gone));
	g_assert_false(rvmrpc_list_forget(w.list, &gone));
	g_atomic_int_set(&w.mute, 0);
	run_until(waits);
	g_assert_cmpuint(gone, ==, 0);
	g_assert_false(rvmrpc_list_forget(w.list, &waits));
	g_assert_cmpuint(waits, ==, 1);
	world_end();
}

static void list_ended(uint32_t status, void *opaque)
{
	*(uint32_t *)opaque = status;
}

/* A guest that has answered, and said hello anew before the host looked: what is asked for is not there. */
static void test_list_reset(void)
{
	uint32_t status = UINT32_MAX;

	world_begin();
	list_of(3, 3);
	g_assert_cmpuint(rvmrpc_list_ask(w.list, list_ended, &status), ==, RVMRPC_STATUS_OK);
	/* It answers meanwhile. */
	g_usleep(50000);
	mute();
	rvmrpc_guest_hello(&w.guest, 4711, RVMRPC_OS_LINUX, "6.12-test");
	ring();
	run_until(status != UINT32_MAX);
	g_assert_cmpuint(status, ==, RVMRPC_STATUS_RESET);
	g_assert_cmpuint(list_length(), ==, 0);
	g_atomic_int_set(&w.mute, 0);
	list_of(3, 3);
	world_end();
}

/* A guest that tells no generation, and whose list changes between two pages: it is read anew. */
static void test_list_changes(void)
{
	g_autoptr(GArray) entries = NULL;
	uint32_t status = UINT32_MAX;

	world_begin();
	w.generation = 0;
	w.total = w.each = 400;
	w.moves = true;
	g_assert_cmpuint(rvmrpc_list_ask(w.list, list_ended, &status), ==, RVMRPC_STATUS_OK);
	run_until(status != UINT32_MAX);
	g_assert_cmpuint(status, ==, RVMRPC_STATUS_OK);
	entries = rvmrpc_list_get(w.list);
	g_assert_cmpuint(w.total, ==, 401);
	g_assert_cmpuint(g_array_index(entries, struct rvmrpc_list_entry, 0).number, ==, 1);
	world_end();
}

/* ---- the socket ---- */

static int client(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	g_strlcpy(addr.sun_path, w.path, sizeof(addr.sun_path));
	g_assert_cmpint(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
	return fd;
}

static void send_bytes(int fd, const void *data, size_t n)
{
	size_t at = 0;
	ssize_t sent;

	while (at < n) {
		sent = send(fd, (const char *)data + at, n - at, MSG_NOSIGNAL);
		g_assert_true(sent > 0 || errno == EAGAIN);
		at += MAX(sent, 0);
		g_main_context_iteration(w.context, FALSE);
	}
}

static void send_listed(int fd, uint16_t type, uint64_t cookie, uint32_t module, uint32_t length, uint32_t list)
{
	struct rvmrpc_sock_hdr hdr = {
		.magic = RVMRPC_SOCK_MAGIC, .version = RVMRPC_SOCK_VERSION, .type = type, .length = length,
		.cookie = cookie, .module = module, .list = list,
		/* Not the second that it has by default: the guest's thread may not be let run for as long. */
		.timeout_ms = type == RVMRPC_SOCK_SUBMIT ? 10000 : 0,
	};
	g_autofree char *frame = g_malloc(sizeof(hdr) + length);

	memcpy(frame, &hdr, sizeof(hdr));
	memset(frame + sizeof(hdr), 'x', length);
	send_bytes(fd, frame, sizeof(hdr) + length);
}

static void send_frame(int fd, uint16_t type, uint64_t cookie, uint32_t module, uint32_t length)
{
	send_listed(fd, type, cookie, module, length, 0);
}

static void recv_bytes(int fd, void *to, size_t n)
{
	size_t at = 0;
	ssize_t got;

	while (at < n) {
		run_until((got = recv(fd, (char *)to + at, n - at, 0)) >= 0 || errno != EAGAIN);
		g_assert_cmpint(got, >, 0);
		at += got;
	}
}

static char *recv_frame(int fd, struct rvmrpc_sock_hdr *hdr)
{
	char *payload;

	recv_bytes(fd, hdr, sizeof(*hdr));
	payload = g_malloc0(hdr->length + 1);
	recv_bytes(fd, payload, hdr->length);
	return payload;
}

static void assert_closed(int fd)
{
	char byte;
	ssize_t got;

	run_until((got = recv(fd, &byte, 1, 0)) >= 0 || errno != EAGAIN);
	g_assert_cmpint(got, <=, 0);
	close(fd);
}

static void assert_answer(int fd, uint64_t cookie, uint32_t status, uint32_t length)
{
	struct rvmrpc_sock_hdr hdr;

	g_free(recv_frame(fd, &hdr));
	g_assert_cmphex(hdr.type, ==, RVMRPC_SOCK_ANSWER);
	g_assert_cmpuint(hdr.cookie, ==, cookie);
	g_assert_cmpuint(hdr.status, ==, status);
	g_assert_cmpuint(hdr.length, ==, length);
}

static void test_socket(void)
{
	struct rvmrpc_sock_hdr hdr;
	struct stat st;
	char *text;
	int fd;

	world_begin();
	g_assert_cmpint(stat(w.path, &st), ==, 0);
	g_assert_cmphex(st.st_mode & 07777, ==, 0640);
	fd = client();
	send_frame(fd, RVMRPC_SOCK_QUERY, 1, 0, 0);
	text = recv_frame(fd, &hdr);
	g_assert_cmpstr(text, ==, "{\"protocol\": 1}");
	g_free(text);
	send_frame(fd, RVMRPC_SOCK_SUBMIT, 2, ECHO, 100);
	assert_answer(fd, 2, RVMRPC_STATUS_OK, 100);
	/* What never fits is answered, not kept; the next frame is read. */
	send_frame(fd, RVMRPC_SOCK_SUBMIT, 3, ECHO, REQ + 1);
	assert_answer(fd, 3, RVMRPC_STATUS_TOO_BIG, 0);
	send_frame(fd, RVMRPC_SOCK_SUBMIT, 4, ECHO, RVMRPC_SOCK_PAYLOAD_MAX);
	assert_answer(fd, 4, RVMRPC_STATUS_TOO_BIG, 0);
	send_frame(fd, RVMRPC_SOCK_SUBMIT, 5, ECHO, REQ);
	assert_answer(fd, 5, RVMRPC_STATUS_OK, REQ);
	rvmrpc_sockserver_set_channel(w.server, NULL);
	send_frame(fd, RVMRPC_SOCK_SUBMIT, 6, ECHO, 8);
	assert_answer(fd, 6, RVMRPC_STATUS_NOT_CONNECTED, 0);
	send_frame(fd, 99, 7, 0, 0);
	g_free(recv_frame(fd, &hdr));
	g_assert_cmphex(hdr.type, ==, RVMRPC_SOCK_ERROR);
	assert_closed(fd);
	world_end();
}

/* Numbers that a name had in a list that is no more run nothing. */
static void test_list_generation(void)
{
	static const uint16_t none[] = { RVMRPC_SOCK_CANCEL, RVMRPC_SOCK_QUERY, RVMRPC_SOCK_SUBSCRIBE };
	struct rvmrpc_sock_hdr hdr;
	unsigned i;
	int fd;

	world_begin();
	fd = client();
	send_listed(fd, RVMRPC_SOCK_SUBMIT, 1, ECHO, 10, 7);
	assert_answer(fd, 1, RVMRPC_STATUS_OK, 10);
	/* A module was replaced by another one of its number. */
	g_atomic_int_set(&w.generation, 8);
	send_listed(fd, RVMRPC_SOCK_SUBMIT, 2, ECHO, 10, 7);
	assert_answer(fd, 2, RVMRPC_STATUS_VERSION_MISMATCH, 0);
	g_assert_cmpint(g_atomic_int_get(&w.echoes), ==, 1);
	send_listed(fd, RVMRPC_SOCK_SUBMIT, 3, ECHO, 10, 8);
	assert_answer(fd, 3, RVMRPC_STATUS_OK, 10);
	send_frame(fd, RVMRPC_SOCK_SUBMIT, 4, ECHO, 10);
	assert_answer(fd, 4, RVMRPC_STATUS_OK, 10);
	g_assert_cmpint(g_atomic_int_get(&w.echoes), ==, 3);
	close(fd);
	/* Nothing is called by the others. */
	for (i = 0; i < G_N_ELEMENTS(none); i++) {
		fd = client();
		send_listed(fd, none[i], 1, 0, 0, 8);
		g_free(recv_frame(fd, &hdr));
		g_assert_cmphex(hdr.type, ==, RVMRPC_SOCK_ERROR);
		assert_closed(fd);
	}
	world_end();
}

/* A flood of one client: all of it is answered, within its quota. */
static void test_flood(void)
{
	unsigned ok = 0, busy = 0;
	struct rvmrpc_sock_hdr hdr;
	int fd, i;

	world_begin();
	fd = client();
	for (i = 0; i < 100; i++)
		send_frame(fd, RVMRPC_SOCK_SUBMIT, i, ECHO, 10);
	for (i = 0; i < 100; i++) {
		g_free(recv_frame(fd, &hdr));
		ok += hdr.status == RVMRPC_STATUS_OK;
		busy += hdr.status == RVMRPC_STATUS_BUSY;
	}
	g_assert_cmpuint(ok + busy, ==, 100);
	g_assert_cmpuint(ok, >=, RVMRPC_CLIENT_CALLS_MAX);
	close(fd);
	/* Calls of a client that goes end with it. */
	fd = client();
	send_frame(fd, RVMRPC_SOCK_SUBMIT, 1, HANG, 0);
	close(fd);
	assert_works();
	world_end();
}

static uint32_t in_flight(void)
{
	RvmrpcChannelInfo now;

	rvmrpc_channel_get_info(w.ch, &now);
	return now.in_flight;
}

static void assert_in_flight(uint32_t calls)
{
	run_until(in_flight() >= calls);
	for (int i = 0; i < 100; i++)
		g_main_context_iteration(w.context, FALSE);
	g_assert_cmpuint(in_flight(), ==, calls);
}

/* No client has all slots, nor all clients all of the VM's calls. */
static void test_shares(void)
{
	enum { CLIENTS = RVMRPC_SOCK_WINDOW / 2 + 4 };
	int fd[CLIENTS], other, i, j;
	struct outcome o = { 0 };

	world_begin();
	fd[0] = client();
	for (j = 0; j < RVMRPC_CLIENT_CALLS_MAX; j++)
		send_frame(fd[0], RVMRPC_SOCK_SUBMIT, j, HANG, 0);
	assert_in_flight(2);
	other = client();
	send_frame(other, RVMRPC_SOCK_SUBMIT, 1, ECHO, 10);
	assert_answer(other, 1, RVMRPC_STATUS_OK, 10);
	close(other);
	for (i = 1; i < CLIENTS; i++) {
		fd[i] = client();
		for (j = 0; j < 3; j++)
			send_frame(fd[i], RVMRPC_SOCK_SUBMIT, j, HANG, 0);
	}
	assert_in_flight(48);
	g_assert_cmpuint(submit(ECHO, "another's", 5000, &o), ==, RVMRPC_STATUS_OK);
	assert_in_flight(49);
	for (i = 0; i < CLIENTS; i++)
		close(fd[i]);
	run_until(o.n);
	g_free(o.res);
	world_end();
}

static void test_cancel_by_cookie(void)
{
	int fd;

	world_begin();
	fd = client();
	send_frame(fd, RVMRPC_SOCK_SUBMIT, 1, HANG, 0);
	send_frame(fd, RVMRPC_SOCK_SUBMIT, 2, HANG, 0);
	send_frame(fd, RVMRPC_SOCK_SUBMIT, 3, HANG, 0);
	send_frame(fd, RVMRPC_SOCK_CANCEL, 77, 0, 0);
	/* One that waits for its turn, then one in the guest. */
	send_frame(fd, RVMRPC_SOCK_CANCEL, 3, 0, 0);
	assert_answer(fd, 3, RVMRPC_STATUS_CANCELLED, 0);
	send_frame(fd, RVMRPC_SOCK_CANCEL, 1, 0, 0);
	assert_answer(fd, 1, RVMRPC_STATUS_CANCELLED, 0);
	close(fd);
	world_end();
}

/*
 * A client that takes nothing any more goes, and its memory with it, when its only call is to be told that its time is
 * over before its turn: in the sweep.
 */
static void test_gone_in_sweep(void)
{
	const struct rvmrpc_sock_hdr brief = {
		.magic = RVMRPC_SOCK_MAGIC, .version = RVMRPC_SOCK_VERSION, .type = RVMRPC_SOCK_SUBMIT, .cookie = 1,
		.module = HANG, .timeout_ms = 30,
	};
	struct pollfd p = { .events = POLLIN };
	int others[RVMRPC_SOCK_WINDOW], i;

	world_begin();
	for (i = 0; i < RVMRPC_SOCK_WINDOW; i++) {
		others[i] = client();
		send_frame(others[i], RVMRPC_SOCK_SUBMIT, 1, HANG, 0);
	}
	p.fd = client();
	send_bytes(p.fd, &brief, sizeof(brief));
	g_assert_cmpint(shutdown(p.fd, SHUT_RD), ==, 0);
	run_until(poll(&p, 1, 0) == 1 && p.revents & POLLHUP);
	close(p.fd);
	for (i = 0; i < RVMRPC_SOCK_WINDOW; i++)
		close(others[i]);
	world_end();
}

/* A subscriber that does not read costs little, and gets the last event. */
static void test_events(void)
{
	struct rvmrpc_sock_hdr hdr;
	unsigned n = 0;
	char *last = NULL;
	int fd, i;

	world_begin();
	fd = client();
	send_frame(fd, RVMRPC_SOCK_SUBSCRIBE, 1, 0, 0);
	g_free(recv_frame(fd, &hdr));
	for (i = 0; i < 20000; i++) {
		g_autofree char *json = g_strdup_printf("{\"event\": \"%d\"%100s}", i, "");

		rvmrpc_sockserver_event(w.server, json);
	}
	while (!last || !strstr(last, "\"19999\"")) {
		g_free(last);
		last = recv_frame(fd, &hdr);
		g_assert_cmphex(hdr.type, ==, RVMRPC_SOCK_EVENT);
		n++;
	}
	g_test_message("%u of 20000 events", n);
	g_assert_cmpuint(n, <, 10000);
	g_free(last);
	close(fd);
	world_end();
}

static void test_paths(void)
{
	RvmrpcSockConfig config;
	RvmrpcSockServer *another;
	GError *error = NULL;

	world_begin();
	config = sock_config();
	/* One that is served, a file, and what an ended process left. */
	g_assert_null(rvmrpc_sockserver_new(&config, &error));
	g_assert_nonnull(strstr(error->message, "in use"));
	g_clear_error(&error);
	g_assert_cmpint(g_access(w.path, F_OK), ==, 0);
	config.path = "/dev/null";
	g_assert_null(rvmrpc_sockserver_new(&config, &error));
	g_assert_nonnull(strstr(error->message, "no socket"));
	g_clear_error(&error);
	/* A successor's file is not removed. */
	config.path = w.path;
	g_unlink(w.path);
	another = rvmrpc_sockserver_new(&config, NULL);
	g_assert_nonnull(another);
	rvmrpc_sockserver_free(w.server);
	g_assert_cmpint(g_access(w.path, F_OK), ==, 0);
	w.server = another;
	rvmrpc_sockserver_set_channel(w.server, w.ch);
	world_end();
}

/* ---- text of a guest ---- */

static void test_text(void)
{
	static const struct {
		const char *from, *to;
	} texts[] = {
		{ "", "" }, { "plain \"text\"", "plain \"text\"" }, { "a\\b\n\033[2J\177", "a\\\\b\\n\\033[2J\\177" },
		{ "\303\251\001\002\303\251", "\303\251\\001\\002\303\251" }, { "\342\200\256x", "\\342\\200\\256x" },
		{ "\377\376\303", "\\377\\376\\303" }, { "\302\205\360\237\230\200", "\\302\\205\360\237\230\200" },
	};
	g_autofree char *cut = rvmrpc_text("ab\0c", 4);
	unsigned i;

	for (i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_autofree char *text = rvmrpc_text(texts[i].from, strlen(texts[i].from));

		g_assert_cmpstr(text, ==, texts[i].to);
	}
	g_assert_cmpstr(cut, ==, "ab");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/calls", test_calls);
	g_test_add_func("/daemon/cancel-and-deadline", test_cancel_and_deadline);
	g_test_add_func("/daemon/threads", test_threads);
	g_test_add_func("/daemon/look", test_look);
	g_test_add_func("/daemon/stopped", test_stopped);
	g_test_add_func("/daemon/end", test_end);
	g_test_add_func("/daemon/main", test_main);
	g_test_add_func("/daemon/main-rings", test_main_rings);
	g_test_add_func("/daemon/stuck", test_stuck);
	g_test_add_func("/daemon/silent", test_silent);
	g_test_add_func("/daemon/overwritten", test_overwritten);
	g_test_add_func("/daemon/another-owner", test_another_owner);
	g_test_add_func("/daemon/ring-storm", test_storm);
	g_test_add_func("/daemon/neighbours", test_neighbours);
	g_test_add_func("/daemon/list", test_list);
	g_test_add_func("/daemon/list-forgotten", test_list_forgotten);
	g_test_add_func("/daemon/list-reset", test_list_reset);
	g_test_add_func("/daemon/list-changes", test_list_changes);
	g_test_add_func("/daemon/socket", test_socket);
	g_test_add_func("/daemon/list-generation", test_list_generation);
	g_test_add_func("/daemon/flood", test_flood);
	g_test_add_func("/daemon/shares", test_shares);
	g_test_add_func("/daemon/cancel-by-cookie", test_cancel_by_cookie);
	g_test_add_func("/daemon/gone-in-sweep", test_gone_in_sweep);
	g_test_add_func("/daemon/events", test_events);
	g_test_add_func("/daemon/guest-events", test_guest_events);
	g_test_add_func("/daemon/event-flood", test_event_flood);
	g_test_add_func("/daemon/paths", test_paths);
	g_test_add_func("/daemon/text", test_text);
	return g_test_run();
}
