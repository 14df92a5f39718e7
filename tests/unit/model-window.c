/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model check of the window's protocol: the core itself, both halves, in three threads whose every access of the window
 * is a step (model-os/rvmrpc_os.h).  All interleavings are explored down to the last reachable state.
 *
 * Memory is that of x86-TSO: each thread has a store buffer, first in, first out, that drains at any time, and forwards
 * to its own loads; a barrier waits until it is empty.  Or it is weak, as arm64's, where that allows more: the buffer
 * drains in any order, but for stores of one place and releases, which come after all before them; and a load may be
 * satisfied before an earlier one that is no acquire, that is, find what has been overwritten since.
 *
 * There are no timers, so a wake-up that is lost shows: a state where nothing can happen any more, and calls have not
 * ended.  That the model can find what is wrong is a case of its own for each barrier, for each look before sleep, and
 * for releases and acquires, left out.
 */
#include <glib.h>
#include <setjmp.h>
#include <ucontext.h>

#include "rvmrpc_guest.h"
#include "rvmrpc_owner.h"

#define NCALLS	3	/* at most */
#define NSLOTS	2
#define NOW	1000
#define SIZE	0x10000

/* Few bytes of the window are in use, so that a state is small: the pages, the slots, no payloads. */
#define AREA	64
#define AREAS	0x8000
#define HOST_SLOTS	sizeof(struct rvmrpc_host_page)
#define HOST_BYTES	(HOST_SLOTS + NSLOTS * sizeof(struct rvmrpc_host_slot))
#define GUEST_SLOTS	sizeof(struct rvmrpc_guest_page)
#define GUEST_BYTES	(GUEST_SLOTS + NSLOTS * sizeof(struct rvmrpc_guest_slot))

enum { HOST, SERVER, WORKER, THREADS };

/* What a thread waits for before its next step. */
enum until { ALWAYS, DRAINED, INTERRUPT, HOST_ROUND, HOST_WORK, JOB, LOCK, NEVER };

#define STACK	0x4000
#define FRAMES	0x400	/* what one step uses, about */
#define BUFFER	512
#define STALE	512
#define STALE_MAX	2	/* older values of one place that a load may find */
#define ENTRIES	8	/* of a buffer, that may be the next to drain */

/* A store in a buffer, or what one has overwritten; its bytes follow. */
struct entry {
	uint16_t at, bytes;
	uint16_t joined;	/* drains in one step with the next */
	uint16_t release;
};

struct thread {
	jmp_buf env;
	enum until until;
	uint32_t sp;			/* offset in its stack of what is in use */
	uint32_t at_plain_load;		/* its next step is one */
	uint32_t passed_plain_load;	/* since the last acquire or barrier: later loads may come before it */
	uint32_t buffered, staled;	/* bytes that are in use of these, zero beyond: */
	unsigned char buffer[BUFFER], stale[STALE];
};
G_STATIC_ASSERT(G_STRUCT_OFFSET(struct thread, buffer) % 8 == 0);

static struct world {
	unsigned char host_page[HOST_BYTES], guest_page[GUEST_BYTES];
	struct thread threads[THREADS];
	struct rvmrpc_owner owner;
	struct rvmrpc_guest guest;
	struct rvmrpc_call calls[NCALLS];
	struct {
		struct rvmrpc_taken taken;
		bool given, valid;
	} job;
	bool lock, interrupt, bell;
	bool close_wanted, closed;	/* the host is to end the epoch, once */
	bool scribbled;			/* somebody else has written a word of the window, once */
	uint32_t arrived, submitted, ended;
	uint64_t randoms, nonces;
	/* what an observer knows */
	uint64_t last_xid;
	uint32_t performed[NCALLS];
	uint32_t has_ended;		/* bit of a call */
	bool failed;
	bool impossible;	/* the step found no value to load */
} w;

static _Alignas(64) unsigned char stacks[THREADS][STACK];
static unsigned char *const base = (unsigned char *)0x10000000;	/* never touched, only an address */
static struct thread *self;
static jmp_buf scheduler;
static uint32_t choice;		/* which value the load that is the step finds: 0 for the present one */
static bool looking;

static struct {
	uint32_t calls;
	bool weak, epoch_ends, scribbles;
	bool trusting;		/* nothing is expected of what a scribbler does */
	/* What is left out: a barrier, by the function that has it, all of a kind, or the look before sleep. */
	const char *no_barrier_in;
	bool no_release, no_acquire, host_blind, guest_blind;
} config;

/* ---- memory ---- */

static unsigned char *memory(uint64_t at)
{
	return at < RVMRPC_GUEST_PAGE ? w.host_page + at : w.guest_page + (at - RVMRPC_GUEST_PAGE);
}

static uint64_t offset(const volatile void *p)
{
	return (uint64_t)((uintptr_t)p - (uintptr_t)base);
}

static bool in_window(const void *p)
{
	return offset(p) < SIZE;
}

static struct entry entry_at(const unsigned char *list, uint32_t i)
{
	struct entry e;

	__builtin_memcpy(&e, list + i, sizeof(e));
	return e;
}

static bool overlap(const struct entry *a, const struct entry *b)
{
	return a->at < b->at + b->bytes && b->at < a->at + a->bytes;
}

static void append(unsigned char *list, uint32_t *used, uint32_t max, struct entry e, const void *data)
{
	g_assert_cmpuint(*used + sizeof(e) + e.bytes, <=, max);
	__builtin_memcpy(list + *used, &e, sizeof(e));
	__builtin_memcpy(list + *used + sizeof(e), data, e.bytes);
	*used += (uint32_t)sizeof(e) + e.bytes;
}

static void cut(unsigned char *list, uint32_t *used, uint32_t at, uint32_t bytes)
{
	*used -= bytes;
	memmove(list + at, list + at + bytes, *used - at);
	memset(list + *used, 0, bytes);
}

/* Bytes as this thread sees them: memory, with what it has written itself on top. */
static void see(uint64_t at, void *to, size_t bytes)
{
	const struct entry want = { .at = (uint16_t)at, .bytes = (uint16_t)bytes };
	uint32_t i, from, end;
	struct entry e;

	__builtin_memcpy(to, memory(at), bytes);
	for (i = 0; self && i < self->buffered; i += (uint32_t)sizeof(e) + e.bytes) {
		e = entry_at(self->buffer, i);
		if (!overlap(&e, &want))
			continue;
		from = MAX(e.at, want.at);
		end = MIN(e.at + e.bytes, want.at + want.bytes);
		__builtin_memcpy((char *)to + (from - at), self->buffer + i + sizeof(e) + (from - e.at), end - from);
	}
}

/* The choice-th newest of the values that a load could still find, or false. */
static bool see_stale(uint64_t at, void *to, size_t bytes)
{
	uint32_t i, n = 0, found[STALE / sizeof(struct entry)];
	struct entry e;

	for (i = 0; i < self->staled; i += (uint32_t)sizeof(e) + e.bytes) {
		e = entry_at(self->stale, i);
		if (e.at <= at && at + bytes <= e.at + (uint64_t)e.bytes)
			found[n++] = i;
	}
	if (choice > n)
		return false;
	i = found[n - choice];
	e = entry_at(self->stale, i);
	__builtin_memcpy(to, self->stale + i + sizeof(e) + (at - e.at), bytes);
	/* Of one place nothing older is found after it. */
	for (n -= choice; n; n--) {
		e = entry_at(self->stale, found[n - 1]);
		cut(self->stale, &self->staled, found[n - 1], (uint32_t)sizeof(e) + e.bytes);
	}
	return true;
}

static void buffer_store(uint64_t at, const void *from, size_t bytes, bool release, bool joined)
{
	const struct entry e = {
		.at = (uint16_t)at, .bytes = (uint16_t)bytes, .joined = joined, .release = release,
	};

	if (self)
		append(self->buffer, &self->buffered, BUFFER, e, from);
	else
		__builtin_memcpy(memory(at), from, bytes);
}

/* Who may find what is overwritten now. */
static void remember(const struct thread *writer, struct entry e)
{
	struct thread *t;

	for (t = w.threads; config.weak && t < w.threads + THREADS; t++) {
		if (t != writer && (t->at_plain_load || t->passed_plain_load))
			append(t->stale, &t->staled, STALE, e, memory(e.at));
	}
}

/* The entry that is the n-th, if it may be the next to reach memory: its place in the buffer, or -1. */
static int drainable(const struct thread *t, uint32_t n)
{
	struct entry e, before;
	uint32_t i = 0, j;

	for (; n && i < t->buffered; n--)
		i += (uint32_t)sizeof(e) + entry_at(t->buffer, i).bytes;
	if (i >= t->buffered || (i && !config.weak))
		return -1;
	e = entry_at(t->buffer, i);
	if (i && e.release)
		return -1;
	for (j = 0; j < i; j += (uint32_t)sizeof(before) + before.bytes) {
		before = entry_at(t->buffer, j);
		if (overlap(&e, &before))
			return -1;
	}
	return (int)i;
}

static bool drain(struct thread *t, uint32_t n)
{
	int at = drainable(t, n);
	struct entry e;

	if (at < 0)
		return false;
	do {
		e = entry_at(t->buffer, (uint32_t)at);
		remember(t, e);
		__builtin_memcpy(memory(e.at), t->buffer + at + sizeof(e), e.bytes);
		cut(t->buffer, &t->buffered, (uint32_t)at, (uint32_t)sizeof(e) + e.bytes);
	} while (e.joined && (uint32_t)at < t->buffered);
	return true;
}

/* ---- threads ---- */

/* The next step of this thread: whatever comes until it gets here again.  Before there are threads: at once. */
static __attribute__((noinline)) void step_to(enum until until, bool plain_load)
{
	const unsigned char *sp;

	/* Nobody else can tell when a thread passes a barrier that it need not wait at. */
	if (!self || (until == DRAINED && !self->buffered))
		return;
#if defined(__x86_64__)
	__asm__ volatile("mov %%rsp, %0" : "=r" (sp));
#elif defined(__aarch64__)
	__asm__ volatile("mov %0, sp" : "=r" (sp));
#else
	sp = (const unsigned char *)__builtin_frame_address(0) - 512;
#endif
	self->until = until;
	self->at_plain_load = plain_load;
	self->sp = (uint32_t)(sp - stacks[self - w.threads]);
	if (!_setjmp(self->env))
		_longjmp(scheduler, 1);
}

/* Loads that come later find nothing that was overwritten before. */
static void order_loads(void)
{
	if (!self)
		return;
	memset(self->stale, 0, self->staled);
	self->staled = 0;
	self->passed_plain_load = false;
}

static void step(enum until until)
{
	/* Waiting has barriers of its own. */
	if (until != ALWAYS)
		order_loads();
	step_to(until, false);
}

/*
 * Loads that are no steps of their own: nobody can write there meanwhile, or (a whole look at hellos) it makes no
 * difference, since what the guest writes there is one line after another.
 */
static bool is_quiet(uint64_t at, size_t bytes)
{
	if (looking || !self)
		return true;
	if (config.epoch_ends)
		return false;
	return at == RVMRPC_HOST_WORD(epoch) || (bytes == RVMRPC_SLOT_SEQ && !config.weak);
}

static void load(uint64_t at, void *to, size_t bytes, bool acquire)
{
	if (is_quiet(at, bytes)) {
		see(at, to, bytes);
		return;
	}
	step_to(ALWAYS, !acquire);
	if (!choice)
		see(at, to, bytes);
	else if (!see_stale(at, to, bytes))
		w.impossible = true;
	if (acquire)
		order_loads();
	else
		self->passed_plain_load = config.weak;
}

uint64_t model_load(const volatile void *p, size_t bytes, bool acquire)
{
	uint64_t value = 0;

	load(offset(p), &value, bytes, acquire && !config.no_acquire);
	return value;
}

void model_store(volatile void *p, uint64_t value, size_t bytes, bool release)
{
	buffer_store(offset(p), &value, bytes, release && !config.no_release, false);
}

void model_mb(const char *where)
{
	if (!config.no_barrier_in || strcmp(where, config.no_barrier_in))
		step(DRAINED);
}

void *model_memcpy(void *to, const void *from, size_t bytes)
{
	if (in_window(to))
		buffer_store(offset(to), from, bytes, false, !config.weak);
	else if (in_window(from))
		load(offset(from), to, bytes, false);
	else
		__builtin_memcpy(to, from, bytes);
	return to;
}

/* What breaks a promise ends the search; there is no way back into the scheduler that could report it. */
static void promise(bool kept)
{
	if (!kept)
		w.failed = true;
}

/* A ring, or an interrupt: whoever comes by it sees what was written before. */
static void wake(bool *flag)
{
	step(DRAINED);
	*flag = true;
}

static void clear(bool *flag)
{
	step(ALWAYS);
	*flag = false;
}

/* ---- the host ---- */

static uint64_t a_random(void)
{
	return 0x100 * ++w.randoms;
}

/* What the window says is not to be relied on. */
static bool scribbled(void)
{
	return w.scribbled && !config.trusting;
}

/* That an epoch ends is to be expected. */
static bool disturbed(void)
{
	return w.closed || scribbled();
}

/* A call ends once, with what there is a reason for. A forged answer is one, if its header is well. */
static void take_done(struct rvmrpc_done *done)
{
	struct rvmrpc_call *call;

	for (; (call = done->head); w.ended++) {
		done->head = call->next;
		promise(!(w.has_ended >> (call - w.calls) & 1));
		w.has_ended |= 1u << (call - w.calls);
		promise(call->status == RVMRPC_STATUS_OK || (disturbed() && call->status == RVMRPC_STATUS_RESET) ||
			(scribbled() && call->status == RVMRPC_STATUS_SYSTEM_ERROR));
		promise(call->status != RVMRPC_STATUS_OK || w.performed[call - w.calls] == 1 || scribbled());
	}
	done->tail = NULL;
}

static void host_look(struct rvmrpc_done *done)
{
	uint32_t looked;

	clear(&w.bell);
	looking = true;
	looked = rvmrpc_owner_look(&w.owner, NOW, done);
	looking = false;
	if (looked & RVMRPC_LOOK_KICK)
		wake(&w.interrupt);
}

static void host_close(struct rvmrpc_done *done)
{
	w.close_wanted = false;
	rvmrpc_owner_close(&w.owner, RVMRPC_STATUS_RESET, NOW, done);
	wake(&w.interrupt);
}

static void host_post(struct rvmrpc_done *done)
{
	struct rvmrpc_xfer x;
	bool posted = false;

	while (w.submitted < w.arrived && w.owner.proxy.epoch)
		promise(rvmrpc_proxy_submit(&w.owner.proxy, &w.calls[w.submitted++], NOW) == RVMRPC_STATUS_OK);
	while (rvmrpc_proxy_deliver_begin(&w.owner.proxy, &x, NOW, done)) {
		rvmrpc_owner_copy_in(&w.owner, &x);
		posted |= rvmrpc_owner_post(&w.owner, &x, NOW, done);
	}
	if (posted && rvmrpc_owner_kick(&w.owner))
		wake(&w.interrupt);
}

static bool host_reap(struct rvmrpc_done *done)
{
	struct rvmrpc_xfer x;
	bool reaped = false;
	uint32_t i;

	for (i = 0; i < NSLOTS; i++) {
		if (!rvmrpc_owner_answered(&w.owner, i))
			continue;
		reaped = true;
		if (rvmrpc_owner_reap_begin(&w.owner, i, &x, NOW, done))
			rvmrpc_owner_reap_commit(&w.owner, &x, true, NOW, done);
	}
	return reaped;
}

static void host(void)
{
	struct rvmrpc_done done = { NULL, NULL };
	bool reaped;

	while (w.ended < config.calls) {
		step(HOST_ROUND);
		if (w.bell)
			host_look(&done);
		if (w.close_wanted)
			host_close(&done);
		host_post(&done);
		reaped = host_reap(&done);
		take_done(&done);
		if (reaped)
			continue;
		if (rvmrpc_owner_sleep(&w.owner) || config.host_blind)
			step(HOST_WORK);
		rvmrpc_owner_awake(&w.owner);
	}
	step(NEVER);
}

/* ---- the guest ---- */

static void answer(const struct rvmrpc_taken *t)
{
	struct rvmrpc_hdr reply = t->hdr;

	reply.timeout_ms = 0;
	if (rvmrpc_guest_publish(&w.guest, t->slot, t->seq, &reply))
		wake(&w.bell);
}

static void worker(void)
{
	for (;;) {
		step(JOB);
		step(LOCK);
		w.lock = true;
		if (w.job.valid)
			answer(&w.job.taken);
		/* The lock is a store behind those before it. */
		step(DRAINED);
		w.lock = w.job.given = w.job.valid = false;
	}
}

static void guest_lost(void)
{
	step(LOCK);
	w.job.valid = false;
	w.guest.state = RVMRPC_GUEST_IDLE;
}

static void guest_connect(void)
{
	uint32_t status;

	if (w.guest.state != RVMRPC_GUEST_GREETED) {
		rvmrpc_guest_hello(&w.guest, ++w.nonces, RVMRPC_OS_LINUX, "");
		wake(&w.bell);
	}
	switch (rvmrpc_guest_answered(&w.guest, &status)) {
	case RVMRPC_ANSWER_NONE:
		step(INTERRUPT);
		break;
	case RVMRPC_ANSWER_STALE:
		/* Only what ends an epoch makes it so. */
		promise(disturbed());
		w.guest.state = RVMRPC_GUEST_IDLE;
		break;
	case RVMRPC_ANSWER_REFUSED:
		promise(scribbled());
		break;
	case RVMRPC_ANSWER_OPEN:
		break;
	}
}

static void perform(const struct rvmrpc_taken *t)
{
	/* What a server drops: in an epoch that ends, a slot may be written anew while it is read. */
	if (t->hdr.epoch != w.guest.epoch) {
		promise(disturbed());
		return;
	}
	promise(t->slot < NSLOTS);
	/* Each once, in the order of their submission. */
	promise((t->hdr.xid > w.last_xid && t->hdr.xid <= config.calls) || scribbled());
	if (w.failed)
		return;
	if (!w.scribbled) {
		w.last_xid = t->hdr.xid;
		w.performed[t->hdr.xid - 1]++;
	}
	if (t->hdr.xid == 2 && !w.job.given) {
		w.job.taken = *t;
		w.job.given = w.job.valid = true;
	} else {
		answer(t);
	}
}

/* rvmrpc_guest_sleep() without its last look. */
static bool sleep_blind(void)
{
	struct rvmrpc_guest *g = &w.guest;

	g->wait |= 1;
	rvmrpc_win_store32_release(&g->win, RVMRPC_GUEST_WORD(wait), g->wait);
	rvmrpc_os_mb();
	return true;
}

static void guest_turn(void)
{
	struct rvmrpc_guest *g = &w.guest;
	struct rvmrpc_taken t;

	if (!rvmrpc_guest_alive(g)) {
		guest_lost();
		return;
	}
	if (rvmrpc_guest_take(g, &t))
		perform(&t);
	if (g->behind || rvmrpc_guest_due(g) || rvmrpc_guest_posted(g))
		return;
	clear(&w.interrupt);
	if (config.guest_blind ? sleep_blind() : rvmrpc_guest_sleep(g)) {
		step(INTERRUPT);
		rvmrpc_guest_awake(g);
	}
}

static void server(void)
{
	for (;;) {
		if (w.interrupt)
			clear(&w.interrupt);
		if (w.guest.state == RVMRPC_GUEST_OPEN)
			guest_turn();
		else
			guest_connect();
	}
}

/* ---- steps of the world ---- */

static bool ready(const struct thread *t)
{
	switch (t->until) {
	case ALWAYS:
	case HOST_ROUND:
		return true;
	case DRAINED:
		return !t->buffered;
	case INTERRUPT:
		return w.interrupt;
	case HOST_WORK:
		return w.bell || w.close_wanted || (w.submitted < w.arrived && w.owner.proxy.epoch);
	case JOB:
		return w.job.given;
	case LOCK:
		return !w.lock;
	case NEVER:
		break;
	}
	return false;
}

/* What comes from outside comes when the host can see it: earlier would be the same. */
static bool host_listens(void)
{
	return w.threads[HOST].until == HOST_ROUND || w.threads[HOST].until == HOST_WORK;
}

static bool thread_step(uint32_t n, uint32_t with_choice)
{
	self = &w.threads[n];
	choice = with_choice;
	if (!ready(self) || (choice && !self->staled))
		return false;
	if (!_setjmp(scheduler))
		_longjmp(self->env, 1);
	/* What only counts would keep states apart. */
	memset(&w.owner.proxy.stats, 0, sizeof(w.owner.proxy.stats));
	return !w.impossible;
}

/* What comes from outside. */
static bool outer_step(bool close)
{
	if (!host_listens())
		return false;
	if (!close && w.arrived < config.calls) {
		w.arrived++;
		return true;
	}
	if (!close || !config.epoch_ends || w.closed || !w.owner.proxy.epoch)
		return false;
	w.closed = w.close_wanted = true;
	return true;
}

/* ---- a scribbler ---- */

#define GUEST_SLOT(i)	(RVMRPC_GUEST_PAGE + GUEST_SLOTS + (i) * sizeof(struct rvmrpc_guest_slot))
#define HOST_SLOT(i)	(RVMRPC_HOST_PAGE + HOST_SLOTS + (i) * sizeof(struct rvmrpc_host_slot))

/* Words by which host and guest know of each other's, and what they may become. */
static const struct {
	uint32_t at, value;
} scribbles[] = {
	{ GUEST_SLOT(0) + RVMRPC_SLOT_SEQ, 0 }, { GUEST_SLOT(1) + RVMRPC_SLOT_SEQ, UINT32_MAX },
	{ GUEST_SLOT(0) + offsetof(struct rvmrpc_hdr, status), 99 },
	{ GUEST_SLOT(0) + offsetof(struct rvmrpc_hdr, length), UINT32_MAX },
	{ RVMRPC_GUEST_WORD(wait), 0 }, { RVMRPC_GUEST_WORD(wait), 1 }, { RVMRPC_GUEST_WORD(seen), 0 },
	{ RVMRPC_GUEST_WORD(hello.nonce), 77 }, { RVMRPC_GUEST_WORD(bye), 0x100 },
	{ HOST_SLOT(0) + RVMRPC_SLOT_SEQ, 0 }, { HOST_SLOT(1) + RVMRPC_SLOT_SEQ, UINT32_MAX },
	{ HOST_SLOT(0) + offsetof(struct rvmrpc_hdr, xid), 2 },
	{ HOST_SLOT(0) + offsetof(struct rvmrpc_host_slot, want), 0 },
	{ RVMRPC_HOST_WORD(posted), 0 }, { RVMRPC_HOST_WORD(posted), UINT32_MAX }, { RVMRPC_HOST_WORD(epoch), 0 },
	{ RVMRPC_HOST_WORD(answer.nonce), 0 },
};

/* An answer that nobody gave: the request that is in a slot, as it stands there, in the same one or in the other. */
static void forge(uint32_t from, uint32_t to)
{
	struct rvmrpc_hdr hdr;

	__builtin_memcpy(&hdr, memory(HOST_SLOT(from)), sizeof(hdr));
	hdr.timeout_ms = 0;
	__builtin_memcpy(memory(GUEST_SLOT(to)), &hdr, sizeof(hdr));
}

#define SCRIBBLES	(NSLOTS * NSLOTS + G_N_ELEMENTS(scribbles))

/* Once, and it rings. */
static bool scribble(uint32_t n)
{
	if (w.scribbled)
		return false;
	if (n < NSLOTS * NSLOTS) {
		forge(n / NSLOTS, n % NSLOTS);
	} else {
		n -= NSLOTS * NSLOTS;
		__builtin_memcpy(memory(scribbles[n].at), &scribbles[n].value, sizeof(scribbles[n].value));
	}
	w.scribbled = w.bell = true;
	return true;
}

#define THREAD_STEPS	(1 + STALE_MAX + ENTRIES)
#define OUTER_STEPS	2
#define OWN_STEPS	(THREADS * THREAD_STEPS + OUTER_STEPS)
#define STEPS		(OWN_STEPS + (config.scribbles ? SCRIBBLES : 0))

/*
 * Each thread goes on, with what its load may find; each buffer drains; the next call arrives; the epoch is to end; a
 * word is overwritten.
 */
static bool take_step(uint32_t n)
{
	uint32_t t = n / THREAD_STEPS, what = n % THREAD_STEPS;

	if (n >= OWN_STEPS)
		return scribble(n - OWN_STEPS);
	if (t == THREADS)
		return outer_step(what);
	if (what <= STALE_MAX)
		return thread_step(t, what);
	return drain(&w.threads[t], what - STALE_MAX - 1);
}

static void begin_thread(uint32_t n, void (*run)(void))
{
	static ucontext_t context;

	self = &w.threads[n];
	getcontext(&context);
	context.uc_stack.ss_sp = stacks[n];
	context.uc_stack.ss_size = STACK;
	context.uc_link = NULL;
	makecontext(&context, run, 0);
	if (!_setjmp(scheduler))
		setcontext(&context);
}

static void begin(void)
{
	const struct rvmrpc_owner_config owner_config = {
		.layout = {
			.nslots = NSLOTS, .req_bytes = AREA, .res_bytes = AREA, .stride = AREA, .req = AREAS,
			.res = AREAS, .host_slots = RVMRPC_HOST_PAGE + HOST_SLOTS,
			.guest_slots = RVMRPC_GUEST_PAGE + GUEST_SLOTS,
		},
		.random = a_random,
	};
	struct rvmrpc_done done = { NULL, NULL };
	uint32_t i;

	memset(&w, 0, sizeof(w));
	memset(stacks, 0, sizeof(stacks));
	self = NULL;
	rvmrpc_owner_init(&w.owner, base, SIZE, &owner_config, 1);
	rvmrpc_guest_init(&w.guest, base, SIZE);
	for (i = 0; i < NCALLS; i++) {
		w.calls[i].deadline = NOW + 1;
		w.calls[i].module = i;
	}
	guest_connect();
	rvmrpc_owner_look(&w.owner, NOW, &done);
	guest_connect();
	g_assert_cmpint(w.guest.state, ==, RVMRPC_GUEST_OPEN);
	w.bell = false;
	begin_thread(HOST, host);
	begin_thread(SERVER, server);
	begin_thread(WORKER, worker);
}

/* ---- search ---- */

struct state {
	uint32_t next;		/* step to be tried */
	bool moved;		/* one could be taken */
	struct world world;
	unsigned char stacks[];
};

struct result {
	uint64_t states, steps;
	uint32_t depth;
	const char *found;	/* what is wrong, NULL: nothing */
};

static uint32_t in_use(uint32_t n)
{
	return STACK - w.threads[n].sp;
}

static struct state *save(void)
{
	uint32_t n, at = 0, bytes = 0;
	struct state *s;

	for (n = 0; n < THREADS; n++)
		bytes += in_use(n);
	s = g_malloc(sizeof(*s) + bytes);
	s->next = 0;
	s->moved = false;
	s->world = w;
	for (n = 0; n < THREADS; at += in_use(n++))
		__builtin_memcpy(s->stacks + at, stacks[n] + w.threads[n].sp, in_use(n));
	return s;
}

static void restore(const struct state *s)
{
	uint32_t n, at = 0;

	w = s->world;
	for (n = 0; n < THREADS; at += in_use(n++)) {
		__builtin_memcpy(stacks[n] + w.threads[n].sp, s->stacks + at, in_use(n));
		/* What is left of other calls there would tell states apart that are the same. */
		memset(stacks[n] + w.threads[n].sp - FRAMES, 0, FRAMES);
	}
}

/* 128 bits stand for a state. */
struct key {
	uint64_t a, b;
};

/* Four lanes, so that one multiplication need not wait for the one before. */
static void mix(uint64_t lane[4], const void *data, size_t bytes)
{
	const uint64_t *word = data;
	size_t i, n;

	for (i = 0; i < bytes / 8; i += 4) {
		for (n = 0; n < 4 && i + n < bytes / 8; n++) {
			lane[n] = (lane[n] ^ word[i + n]) * 0x9e3779b97f4a7c15ull;
			lane[n] ^= lane[n] >> 32;
		}
	}
}

static struct key present_key(void)
{
	uint64_t lane[4] = { 1, 2, 3, 4 };
	const struct thread *t;
	uint32_t n;

	/* All of the world, but for what is not in use. */
	mix(lane, &w, offsetof(struct world, threads));
	for (n = 0; n < THREADS; n++) {
		t = &w.threads[n];
		mix(lane, t, offsetof(struct thread, buffer));
		mix(lane, t->buffer, (t->buffered + 7) & ~7u);
		mix(lane, t->stale, (t->staled + 7) & ~7u);
		mix(lane, stacks[n] + t->sp, in_use(n));
	}
	mix(lane, &w.owner, offsetof(struct rvmrpc_owner, proxy.slots[NSLOTS]));
	mix(lane, &w.owner.config, sizeof(w) - offsetof(struct world, owner.config));
	return (struct key){ lane[0] + 3 * lane[1] + 5 * lane[2] + 7 * lane[3],
			     lane[0] ^ lane[1] << 1 ^ lane[2] << 2 ^ lane[3] << 3 };
}

#define SEEN_MAX	(1u << 23)

/* Open addressing; a key is never 0 and the table never full, by the assertion. */
static bool is_new(struct key *seen, uint64_t *states)
{
	struct key k = present_key();
	uint32_t i = (uint32_t)k.a % SEEN_MAX;

	for (; seen[i].a || seen[i].b; i = (i + 1) % SEEN_MAX) {
		if (seen[i].a == k.a && seen[i].b == k.b)
			return false;
	}
	seen[i] = k;
	g_assert_cmpuint(++*states, <, SEEN_MAX / 4 * 3);
	return true;
}

/* Who overwrites words can keep both asleep, until the calls' time is over: then what was submitted ends, once. */
static void expire(void)
{
	struct rvmrpc_done done = { NULL, NULL };
	struct rvmrpc_call *call;

	self = NULL;
	rvmrpc_owner_expire(&w.owner, NOW + 2, &done);
	for (call = done.head; call; call = call->next) {
		promise(!(w.has_ended >> (call - w.calls) & 1));
		w.has_ended |= 1u << (call - w.calls);
	}
	promise(w.has_ended == (1u << w.submitted) - 1);
}

/* A state where nothing happens any more has to be the end of all calls. */
static const char *verdict(const struct state *s)
{
	if (!s->moved && scribbled())
		expire();
	if (w.failed)
		return "a call went wrong";
	if (!s->moved && w.ended < config.calls && !scribbled())
		return "a wake-up was lost";
	return NULL;
}

static struct result explore(void)
{
	struct key *seen = g_new0(struct key, SEEN_MAX);
	GPtrArray *path = g_ptr_array_new_with_free_func(g_free);
	struct result r = { 0 };
	/* What the world is in now: most steps cannot be taken and change nothing. */
	const struct state *present = NULL;
	struct state *s;

	begin();
	is_new(seen, &r.states);
	g_ptr_array_add(path, save());
	while (path->len && !r.found) {
		s = path->pdata[path->len - 1];
		if (present != s)
			restore(s);
		present = s;
		if (s->next == STEPS) {
			r.found = verdict(s);
			g_ptr_array_remove_index(path, path->len - 1);
			continue;
		}
		if (!take_step(s->next++)) {
			present = w.impossible ? NULL : s;
			continue;
		}
		present = NULL;
		s->moved = true;
		r.steps++;
		if (w.failed)
			r.found = verdict(s);
		else if (is_new(seen, &r.states))
			g_ptr_array_add(path, save());
		r.depth = MAX(r.depth, path->len);
	}
	g_ptr_array_free(path, TRUE);
	g_free(seen);
	g_test_message("%" G_GUINT64_FORMAT " states, %" G_GUINT64_FORMAT " steps, %u deep: %s", r.states, r.steps,
		       r.depth, r.found ? r.found : "all is well");
	return r;
}

static void set_up(bool weak, uint32_t calls)
{
	memset(&config, 0, sizeof(config));
	config.weak = weak;
	config.calls = calls;
}

static void test_strong(void)
{
	set_up(false, 3);
	g_assert_null(explore().found);
}

static void test_strong_epoch_ends(void)
{
	set_up(false, 2);
	config.epoch_ends = true;
	g_assert_null(explore().found);
}

static void test_weak(void)
{
	set_up(true, 2);
	g_assert_null(explore().found);
}

static void test_scribbled(void)
{
	set_up(false, 1);
	config.scribbles = true;
	g_assert_null(explore().found);
}

/* That it does something: nobody who counts on the window's words gets through. */
static void test_trusting(void)
{
	set_up(false, 1);
	config.scribbles = config.trusting = true;
	g_assert_nonnull(explore().found);
}

static void test_without_barrier(gconstpointer where)
{
	set_up(false, 2);
	config.no_barrier_in = where;
	g_assert_cmpstr(explore().found, ==, "a wake-up was lost");
}

static void test_host_blind(void)
{
	set_up(false, 2);
	config.host_blind = true;
	g_assert_cmpstr(explore().found, ==, "a wake-up was lost");
}

static void test_guest_blind(void)
{
	set_up(false, 2);
	config.guest_blind = true;
	g_assert_cmpstr(explore().found, ==, "a wake-up was lost");
}

static void test_without_release(void)
{
	set_up(true, 2);
	config.no_release = true;
	g_assert_cmpstr(explore().found, ==, "a call went wrong");
}

static void test_without_acquire(void)
{
	set_up(true, 2);
	config.no_acquire = true;
	g_assert_cmpstr(explore().found, ==, "a call went wrong");
}

int main(int argc, char **argv)
{
	static const char *const barriers[] = {
		"rvmrpc_owner_kick", "rvmrpc_owner_sleep", "rvmrpc_guest_publish", "rvmrpc_guest_sleep",
	};
	char name[64];
	size_t i;

	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/model-window/strong", test_strong);
	g_test_add_func("/model-window/strong-epoch-ends", test_strong_epoch_ends);
	g_test_add_func("/model-window/weak", test_weak);
	g_test_add_func("/model-window/scribbled", test_scribbled);
	g_test_add_func("/model-window/trusting", test_trusting);
	for (i = 0; i < G_N_ELEMENTS(barriers); i++) {
		g_snprintf(name, sizeof(name), "/model-window/without-barrier/%s", barriers[i]);
		g_test_add_data_func(name, barriers[i], test_without_barrier);
	}
	g_test_add_func("/model-window/host-does-not-look", test_host_blind);
	g_test_add_func("/model-window/guest-does-not-look", test_guest_blind);
	g_test_add_func("/model-window/without-release", test_without_release);
	g_test_add_func("/model-window/without-acquire", test_without_acquire);
	return g_test_run();
}
