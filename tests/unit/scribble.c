/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hostile peer, or both: a thread writes random words all over the window while a host and a guest call each other
 * through it.  Calls may fail meanwhile, with a status and in time; when it stops, they work again.
 *
 * The window is mapped twice, as for a guest and its host, between pages that nobody may touch.
 * RVMRPC_SCRIBBLE_SECONDS: for how long (2).
 */
#define _GNU_SOURCE
#include <glib.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "rvmrpc_guest.h"
#include "rvmrpc_owner.h"
#include "rvmrpc_reader.h"
#include "rvmrpc_server.h"
#include "rvmrpc_tell.h"

#define SIZE	0x40000
#define REQ	0x1000
#define RES	0x4000
#define NSLOTS	4
#define MS	1000000ull
#define SECOND	(1000 * MS)
#define CALL_NS	(50 * MS)
#define SLACK_NS	(5 * SECOND)	/* by which a call may end late, on a machine that has much else to do */
#define COPIES	6		/* calls that copy; one more is in place */
#define GOOD_ROW	200

struct one_call {
	struct rvmrpc_call call;
	unsigned char arg[REQ];
	unsigned char *res;
	bool flying, held;
};

static struct {
	unsigned char *host, *guest;	/* the same memory */
	int doorbell, interrupt;
	bool guest_ends, scribbler_ends;	/* atomic */
	struct rvmrpc_owner owner;
	struct rvmrpc_done done;
	struct one_call calls[COPIES + 1];
	uint32_t good_row;		/* calls that went well, one after the other */
	uint64_t ended, failed, events;
	uint64_t next_look, next_rekick;
} t;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

static uint64_t host_random(void)
{
	static uint64_t state = 0x853c49e6748fea9bull;

	return next_random(&state);
}

static void set(bool *flag, bool value)
{
	__atomic_store_n(flag, value, __ATOMIC_RELEASE);
}

static bool is_set(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

/* ---- doorbell and interrupt ---- */

static void signal_fd(int fd)
{
	uint64_t one = 1;

	g_assert_cmpint(write(fd, &one, sizeof(one)), ==, sizeof(one));
}

/* Waits for at most so long; true if there was one. */
static bool wait_fd(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n;

	return poll(&p, 1, ms) == 1 && read(fd, &n, sizeof(n)) == sizeof(n);
}

/* ---- the guest ---- */

static int echo(struct rvmrpc_request *req, struct rvmrpc_response *res)
{
	if (req->arglen > res->resmax)
		return RVMRPC_STATUS_TOO_BIG;
	memcpy(res->res, req->arg, req->arglen);
	res->reslen = req->arglen;
	return RVMRPC_STATUS_OK;
}

static const struct rvmrpc_procedure procs[] = {
	{ 0, RVMRPC_PROC_READ_ONLY, 0, RVMRPC_ARG_ANY, "echo", echo },
	{ 1, RVMRPC_PROC_READ_ONLY, 8, 64, "narrow", echo },
};

static struct rvmrpc_module module = { 1, 1, "echo", procs, 2, NULL, NULL, 0 };

static void guest_call(struct rvmrpc_server *server, struct rvmrpc_guest *g, const struct rvmrpc_taken *taken)
{
	struct rvmrpc_accepted a;
	struct rvmrpc_hdr reply;

	if (!rvmrpc_server_accept(server, &taken->hdr, g->epoch, g->abi, g->layout.req_bytes, &a)) {
		/* No answer is owed, so the slot stays taken: begin anew. */
		g->state = RVMRPC_GUEST_IDLE;
		return;
	}
	rvmrpc_server_run(&a, rvmrpc_guest_arg(g, taken->slot), rvmrpc_guest_res(g, taken->slot), g->layout.res_bytes,
			  &reply);
	rvmrpc_server_done(server, &a);
	g_assert_cmpuint(reply.length, <=, g->layout.res_bytes);
	if (rvmrpc_guest_publish(g, taken->slot, taken->seq, &reply))
		signal_fd(t.doorbell);
}

static void guest_connect(struct rvmrpc_guest *g, uint64_t *state)
{
	uint32_t status;

	if (g->state != RVMRPC_GUEST_GREETED) {
		rvmrpc_guest_hello(g, next_random(state) | 1, RVMRPC_OS_LINUX, "scribbled");
		signal_fd(t.doorbell);
	}
	switch (rvmrpc_guest_answered(g, &status)) {
	case RVMRPC_ANSWER_OPEN:
		break;
	case RVMRPC_ANSWER_NONE:
		/* What was said may be overwritten: as good as a ring that was not heard, say it anew. */
		if (!wait_fd(t.interrupt, 20))
			g->state = RVMRPC_GUEST_IDLE;
		break;
	case RVMRPC_ANSWER_STALE:
	case RVMRPC_ANSWER_REFUSED:
		g->state = RVMRPC_GUEST_IDLE;
		wait_fd(t.interrupt, 5);
		break;
	}
}

/* As any thread of a guest might, between calls. */
static void guest_tell(struct rvmrpc_teller *teller, uint64_t *epoch, uint64_t *told)
{
	struct rvmrpc_event_writer e;

	if (*epoch != rvmrpc_tell_epoch(teller)) {
		*epoch = rvmrpc_tell_epoch(teller);
		*told = 0;
	}
	rvmrpc_event_begin(&e, RVMRPC_MOD_USER, 1, now_ns());
	rvmrpc_event_string(&e, RVMRPC_EVENT_TEXT, "scribbled", 9);
	rvmrpc_event_end(&e);
	if (rvmrpc_tell(teller, *epoch, ++*told, &e))
		signal_fd(t.doorbell);
}

static void guest_turn(struct rvmrpc_server *server, struct rvmrpc_guest *g, uint64_t *next_check)
{
	struct rvmrpc_taken taken;
	uint32_t n;

	for (n = 0; n < 64 && g->state == RVMRPC_GUEST_OPEN; n++) {
		if (!rvmrpc_guest_alive(g)) {
			g->state = RVMRPC_GUEST_IDLE;
			return;
		}
		if (!rvmrpc_guest_take(g, &taken))
			break;
		g_assert_cmpuint(taken.slot, <, g->layout.nslots);
		guest_call(server, g, &taken);
		rvmrpc_guest_beat(g);
	}
	if (rvmrpc_guest_sleep(g)) {
		wait_fd(t.interrupt, 5);
		rvmrpc_guest_awake(g);
	}
	if (now_ns() < *next_check)
		return;
	*next_check = now_ns() + 20 * MS;
	if (!rvmrpc_guest_intact(g))
		g->state = RVMRPC_GUEST_IDLE;
}

static gpointer guest_thread(gpointer unused)
{
	static struct rvmrpc_server server;
	static struct rvmrpc_guest guest;
	static struct rvmrpc_teller teller;
	uint64_t state = 0x9e3779b97f4a7c15ull, next_check = 0, epoch = 0, told = 0;
	uint32_t bad;

	rvmrpc_server_init(&server);
	g_assert_cmpint(rvmrpc_server_add(&server, &module), ==, RVMRPC_STATUS_OK);
	g_assert_cmpint(rvmrpc_server_allow(&server, "*.*", &bad), ==, RVMRPC_STATUS_OK);
	rvmrpc_guest_init(&guest, t.guest, SIZE);
	rvmrpc_tell_init(&teller, t.guest, SIZE);
	while (!is_set(&t.guest_ends)) {
		if (guest.state != RVMRPC_GUEST_OPEN) {
			guest_connect(&guest, &state);
			continue;
		}
		rvmrpc_tell_open(&teller, &guest);
		guest_tell(&teller, &epoch, &told);
		guest_turn(&server, &guest, &next_check);
	}
	g_assert_cmpint(rvmrpc_server_remove(&server, &module), ==, RVMRPC_STATUS_OK);
	return unused;
}

/* ---- the host ---- */

static void act_on(uint32_t looked)
{
	if (looked & RVMRPC_LOOK_KICK)
		signal_fd(t.interrupt);
}

static bool is_good(const struct one_call *c)
{
	const unsigned char *res = c->held ? rvmrpc_owner_res(&t.owner, &c->call) : c->res;

	return c->call.status == RVMRPC_STATUS_OK && c->call.reslen == c->call.arglen &&
	       !memcmp(res, c->arg, c->call.arglen);
}

static void take_done(uint64_t now)
{
	struct one_call *c;

	while (t.done.head) {
		c = (struct one_call *)t.done.head;
		t.done.head = c->call.next;
		g_assert_true(c->flying);
		g_assert_cmpuint(c->call.status, <=, RVMRPC_STATUS_MAX);
		g_assert_true(c->call.status != RVMRPC_STATUS_OK || c->call.reslen <= c->call.res_max);
		g_assert_cmpuint(now, <, c->call.deadline + SLACK_NS);
		t.good_row = is_good(c) ? t.good_row + 1 : 0;
		t.ended++;
		t.failed += c->call.status != RVMRPC_STATUS_OK;
		c->flying = false;
		g_clear_pointer(&c->res, g_free);
		if (c->held)
			rvmrpc_proxy_release(&t.owner.proxy, &c->call);
		c->held = false;
	}
	t.done.tail = NULL;
}

static void fill(struct one_call *c, uint64_t now)
{
	uint32_t i, word = (uint32_t)host_random();

	memset(&c->call, 0, sizeof(c->call));
	c->call.module = 1;
	c->call.arglen = word % (word & 0x10000 ? 200 : REQ + 1);
	for (i = 0; i < c->call.arglen; i++)
		c->arg[i] = (unsigned char)(word >> i % 24);
	c->call.arg = c->arg;
	c->call.res_max = c->call.arglen;
	c->call.deadline = now + CALL_NS;
}

static void submit(struct one_call *c, uint64_t now)
{
	fill(c, now);
	if (rvmrpc_proxy_submit(&t.owner.proxy, &c->call, now) != RVMRPC_STATUS_OK)
		return;
	/* Of this size: ASan sees what is beyond. */
	c->res = g_malloc(MAX(c->call.res_max, 1));
	c->flying = true;
}

static void run_in_place(struct one_call *c, uint64_t now)
{
	fill(c, now);
	if (rvmrpc_proxy_hold(&t.owner.proxy, &c->call, now) != RVMRPC_STATUS_OK)
		return;
	memcpy(rvmrpc_owner_req(&t.owner, &c->call), c->arg, c->call.arglen);
	c->flying = c->held = rvmrpc_owner_run(&t.owner, &c->call, now) == RVMRPC_STATUS_OK;
	if (!c->held)
		rvmrpc_proxy_release(&t.owner.proxy, &c->call);
}

static void host_post(uint64_t now)
{
	struct rvmrpc_xfer x;
	uint32_t i;

	act_on(rvmrpc_owner_intact(&t.owner, now, &t.done));
	take_done(now);
	for (i = 0; i < COPIES; i++) {
		if (!t.calls[i].flying)
			submit(&t.calls[i], now);
	}
	if (!t.calls[COPIES].flying)
		run_in_place(&t.calls[COPIES], now);
	while (rvmrpc_proxy_deliver_begin(&t.owner.proxy, &x, now, &t.done)) {
		rvmrpc_owner_copy_in(&t.owner, &x);
		rvmrpc_owner_post(&t.owner, &x, now, &t.done);
	}
	if (rvmrpc_owner_kick(&t.owner))
		signal_fd(t.interrupt);
}

static void host_reap(uint64_t now)
{
	struct rvmrpc_xfer x;
	uint32_t i;

	for (i = 0; i < NSLOTS; i++) {
		if (!rvmrpc_owner_answered(&t.owner, i) || !rvmrpc_owner_reap_begin(&t.owner, i, &x, now, &t.done))
			continue;
		g_assert_cmpuint(x.length, <=, x.call->res_max);
		rvmrpc_owner_copy_out(&t.owner, &x, ((struct one_call *)x.call)->res);
		rvmrpc_owner_reap_commit(&t.owner, &x, true, now, &t.done);
	}
}

static void host_hear(uint64_t now)
{
	struct rvmrpc_told told;
	struct rvmrpc_reader r;

	if (!rvmrpc_owner_events_due(&t.owner, now))
		return;
	rvmrpc_owner_hear(&t.owner, now);
	while (rvmrpc_owner_take_event(&t.owner, now, &told)) {
		/* Well formed or not: nothing beyond it is read. */
		rvmrpc_reader_open_one(&r, &told.event.record, told.event.record.length);
		t.events++;
	}
}

static void host_turn(void)
{
	uint64_t now = now_ns();
	bool rung = wait_fd(t.doorbell, 0);

	host_hear(now);
	if (rung || now >= t.next_look) {
		act_on(rvmrpc_owner_look(&t.owner, now, &t.done));
		t.next_look = now + 2 * MS;
	}
	rvmrpc_proxy_expire(&t.owner.proxy, now, &t.done);
	host_post(now);
	if (now >= t.next_rekick) {
		if (rvmrpc_owner_rekick(&t.owner))
			signal_fd(t.interrupt);
		t.next_rekick = now + 2 * MS;
	}
	host_reap(now);
	take_done(now);
	if (rvmrpc_owner_sleep(&t.owner) && wait_fd(t.doorbell, 1))
		act_on(rvmrpc_owner_look(&t.owner, now_ns(), &t.done));
	rvmrpc_owner_awake(&t.owner);
	take_done(now_ns());
}

/* ---- the scribbler ---- */

/* The pages and slots are the first four pages of the window; the rest is payloads. */
#define PAGE_WORDS	(RVMRPC_PAGE_SIZE / 4)

static void scribble(volatile uint32_t *words, bool spare_pages, uint64_t *state)
{
	uint64_t r = next_random(state);
	uint32_t at, value = (uint32_t)(r >> 32);

	/* Half anywhere, half where the words are that both sides look at. */
	at = r & 1 ? (uint32_t)(r >> 8) % (SIZE / 4) :
		     (uint32_t)(r >> 8) % 4 * PAGE_WORDS + (uint32_t)(r >> 16) % 128;
	/* No epoch lives long otherwise. */
	if (spare_pages && at < 2 * PAGE_WORDS)
		at += 2 * PAGE_WORDS;
	/* Noise; or what looks right: small numbers, what stands elsewhere or nearly so. */
	if (r & 2)
		value %= 80;
	else if (r & 4)
		value = words[value % (SIZE / 4)];
	else if (r & 8)
		value = words[at] + value % 3 - 1;
	words[at] = value;
}

static gpointer scribbler_thread(gpointer base)
{
	uint64_t state = 88172645463325252ull ^ (uintptr_t)base;
	uint32_t n, bursts = 0;

	while (!is_set(&t.scribbler_ends)) {
		bursts++;
		for (n = (uint32_t)next_random(&state) % 64; n; n--)
			scribble(base, bursts % 1024 < 768, &state);
		/* Now and then long enough for an epoch to begin. */
		g_usleep(next_random(&state) % 16 ? next_random(&state) % 300 : 20000);
	}
	return NULL;
}

/* ---- cases ---- */

static unsigned char *map_between_guards(int fd)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *all = mmap(NULL, SIZE + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	g_assert_true(all != MAP_FAILED);
	g_assert_true(mmap(all + page, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == all + page);
	return all + page;
}

static void begin(void)
{
	struct rvmrpc_owner_config config = { .random = host_random };
	int fd = memfd_create("window", 0);

	memset(&t, 0, sizeof(t));
	g_assert_cmpint(ftruncate(fd, SIZE), ==, 0);
	t.host = map_between_guards(fd);
	t.guest = map_between_guards(fd);
	close(fd);
	t.doorbell = eventfd(0, EFD_NONBLOCK);
	t.interrupt = eventfd(0, EFD_NONBLOCK);
	g_assert_true(rvmrpc_layout_make(SIZE, NSLOTS, REQ, RES, &config.layout));
	rvmrpc_owner_init(&t.owner, t.host, SIZE, &config, 1);
}

static void end(GThread *guest)
{
	uint32_t i;

	set(&t.guest_ends, true);
	g_thread_join(guest);
	rvmrpc_owner_close(&t.owner, RVMRPC_STATUS_RESET, now_ns(), &t.done);
	take_done(now_ns());
	for (i = 0; i <= COPIES; i++)
		g_assert_false(t.calls[i].flying);
	g_assert_cmpuint(t.owner.proxy.ncalls, ==, 0);
	munmap(t.host, SIZE);
	munmap(t.guest, SIZE);
	close(t.doorbell);
	close(t.interrupt);
}

/* Calls work: so many in a row, with the right answers. */
static void assert_works(void)
{
	uint64_t until = now_ns() + 30 * SECOND;

	for (t.good_row = 0; t.good_row < GOOD_ROW;) {
		host_turn();
		g_assert_cmpuint(now_ns(), <, until);
	}
}

static uint64_t scribble_ns(void)
{
	const char *text = g_getenv("RVMRPC_SCRIBBLE_SECONDS");

	return (text ? g_ascii_strtoull(text, NULL, 10) : 2) * SECOND;
}

static bool did_harm(uint64_t ended)
{
	return t.ended > ended && t.failed && t.owner.proxy.stats.lost;
}

#define BY_GUEST	1
#define BY_HOST		2

static void test_scribble(gconstpointer by)
{
	int sides = GPOINTER_TO_INT(by);
	GThread *guest, *scribblers[2] = { NULL, NULL };
	uint64_t until, ended, began = now_ns();
	uint32_t i;

	begin();
	guest = g_thread_new("guest", guest_thread, NULL);
	assert_works();
	ended = t.ended;
	if (sides & BY_GUEST)
		scribblers[0] = g_thread_new("scribbler", scribbler_thread, t.guest);
	if (sides & BY_HOST)
		scribblers[1] = g_thread_new("scribbler", scribbler_thread, t.host);
	/* On a busy machine longer, until harm was done. */
	for (until = now_ns() + scribble_ns();
	     now_ns() < until || (!did_harm(ended) && now_ns() < until + 20 * SECOND);)
		host_turn();
	set(&t.scribbler_ends, true);
	for (i = 0; i < 2; i++) {
		if (scribblers[i])
			g_thread_join(scribblers[i]);
	}
	g_test_message("%" G_GUINT64_FORMAT " calls ended meanwhile; %" G_GUINT64_FORMAT " failed, %" G_GUINT64_FORMAT
		       " bad replies, %" G_GUINT64_FORMAT " epochs, %" G_GUINT64_FORMAT " lost", t.ended - ended,
		       t.failed, t.owner.proxy.stats.bad_replies, t.owner.proxy.stats.registrations,
		       t.owner.proxy.stats.lost);
	/* It did harm, and calls were made meanwhile. */
	g_assert_true(did_harm(ended));
	assert_works();
	/* At most what may be told at once, and then one in a while. */
	g_assert_cmpuint(t.events, >, 0);
	g_assert_cmpuint(t.events, <=, RVMRPC_EVENTS_AT_ONCE + (now_ns() - began) / RVMRPC_EVENT_NS + 1);
	end(guest);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/scribble/guest", GINT_TO_POINTER(BY_GUEST), test_scribble);
	g_test_add_data_func("/scribble/host", GINT_TO_POINTER(BY_HOST), test_scribble);
	g_test_add_data_func("/scribble/both", GINT_TO_POINTER(BY_GUEST | BY_HOST), test_scribble);
	return g_test_run();
}
