/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ring of events: what guests write into it, in whatever order, and what its host takes, counts and refuses. */
#include "world.h"
#include "rvmrpc_reader.h"
#include "rvmrpc_tell.h"

#define KIND	0x1234
#define MODULE	0x100

static struct rvmrpc_teller teller;
static uint64_t counter;

static void listening(void)
{
	connected();
	rvmrpc_tell_init(&teller, w.memory, w.size);
	rvmrpc_tell_open(&teller, &w.guest);
	counter = 0;
}

/* Event number n, whose text is that number.  True: the host wants a ring. */
static bool tell_number(uint64_t n)
{
	g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, n);
	struct rvmrpc_event_writer e;

	rvmrpc_event_begin(&e, MODULE, KIND, 1000 + n);
	rvmrpc_event_string(&e, RVMRPC_EVENT_TEXT, text, strlen(text));
	rvmrpc_record_u64(&e.fields, RVMRPC_EVENT_PID, n);
	g_assert_true(rvmrpc_event_end(&e));
	return rvmrpc_tell(&teller, rvmrpc_tell_epoch(&teller), n, &e);
}

static bool tell_next(void)
{
	return tell_number(++counter);
}

static bool take_one(struct rvmrpc_told *told)
{
	return rvmrpc_owner_take_event(&w.owner, w.now, told);
}

/* Hears, and takes all there is; it must be these numbers. */
static void assert_heard(uint64_t first, uint64_t last)
{
	struct rvmrpc_told told;
	uint64_t n;

	g_assert_true(rvmrpc_owner_events_due(&w.owner, w.now));
	rvmrpc_owner_hear(&w.owner, w.now);
	for (n = first; n <= last; n++) {
		g_assert_true(take_one(&told));
		g_assert_cmpuint(told.event.seq, ==, n);
		g_assert_cmpuint(told.event.time_ns, ==, 1000 + n);
	}
	g_assert_false(take_one(&told));
	g_assert_false(rvmrpc_owner_events_due(&w.owner, w.now));
}

#define assert_counts(told, gone, dropped)	do {						\
	g_assert_cmpuint(w.owner.proxy.stats.events, ==, told);					\
	g_assert_cmpuint(w.owner.proxy.stats.events_lost, ==, gone);				\
	g_assert_cmpuint(w.owner.proxy.stats.events_dropped, ==, dropped);			\
} while (0)

/* As fast as may be told for ever. */
static void time_passes(uint64_t tokens)
{
	w.now += tokens * RVMRPC_EVENT_NS;
}

/* ---- cases ---- */

static void test_content(void)
{
	struct rvmrpc_reader r;
	struct rvmrpc_told told;

	listening();
	g_assert_false(rvmrpc_owner_events_due(&w.owner, w.now));
	g_assert_true(tell_next());
	g_assert_true(rvmrpc_owner_events_due(&w.owner, w.now));
	rvmrpc_owner_hear(&w.owner, w.now);
	g_assert_true(take_one(&told));
	g_assert_cmpuint(told.missed, ==, 0);
	g_assert_cmpuint(told.event.module, ==, MODULE);
	g_assert_true(rvmrpc_reader_open_one(&r, &told.event.record, told.event.record.length));
	g_assert_cmpuint(r.kind, ==, KIND);
	g_assert_true(rvmrpc_reader_field(&r));
	g_assert_cmpuint(r.key, ==, RVMRPC_EVENT_TEXT);
	g_assert_cmpmem(r.value, r.length, "1", 1);
	g_assert_true(rvmrpc_reader_field(&r) && r.u64 == 1);
	g_assert_false(rvmrpc_reader_field(&r));
	g_assert_false(take_one(&told));
	world_end();
}

/* Many times around. */
static void test_wrap(void)
{
	uint64_t i;

	listening();
	for (i = 1; i <= 1000; i += 3) {
		tell_next();
		tell_next();
		g_assert_true(tell_next());
		assert_heard(i, i + 2);
		time_passes(3);
	}
	assert_counts(1002, 0, 0);
	world_end();
}

/* More than it holds: the last ones are there, the others counted, and the next event tells how many. */
static void test_overwritten(void)
{
	struct rvmrpc_told told;
	int i;

	listening();
	for (i = 0; i < 200; i++)
		tell_next();
	rvmrpc_owner_hear(&w.owner, w.now);
	g_assert_true(take_one(&told));
	g_assert_cmpuint(told.event.seq, ==, 200 - 63);
	g_assert_cmpuint(told.missed, ==, 200 - 64);
	while (take_one(&told))
		g_assert_cmpuint(told.missed, ==, 0);
	g_assert_cmpuint(told.event.seq, ==, 200);
	assert_counts(64, 136, 0);
	world_end();
}

/* Writers on several CPUs come to their end in any order; one never does. */
static void test_order(void)
{
	uint64_t i;

	listening();
	tell_number(2);
	assert_heard(2, 2);
	tell_number(4);
	tell_number(3);
	assert_heard(3, 4);
	tell_number(1);
	assert_heard(1, 1);
	/* Number 5 is never written, and lost as soon as its place is another's. */
	for (i = 6; i < 5 + 64; i++) {
		tell_number(i);
		assert_heard(i, i);
		time_passes(1);
	}
	assert_counts(4 + 63, 0, 0);
	tell_number(5 + 64);
	assert_heard(5 + 64, 5 + 64);
	assert_counts(5 + 63, 1, 0);
	/* Too late: its writer comes after all, over that of another. */
	tell_number(5);
	g_assert_true(rvmrpc_owner_events_due(&w.owner, w.now));
	rvmrpc_owner_hear(&w.owner, w.now);
	g_assert_false(take_one(&(struct rvmrpc_told){ 0 }));
	assert_counts(5 + 63, 1, 0);
	world_end();
}

/* A host that looks while one is being written does not take half of it, nor count it twice. */
static void test_torn(void)
{
	uint64_t at, seq = 0;
	struct rvmrpc_told told;

	listening();
	tell_next();
	tell_next();
	rvmrpc_owner_hear(&w.owner, w.now);
	/* Between the look and the copy its place is taken anew. */
	at = rvmrpc_event_at(w.owner.ring.at, w.owner.ring.events, 1);
	memcpy(w.memory + at, &seq, sizeof(seq));
	g_assert_true(take_one(&told));
	g_assert_cmpuint(told.event.seq, ==, 2);
	g_assert_false(take_one(&told));
	tell_number(65);
	assert_heard(65, 65);
	assert_counts(2, 1, 0);
	world_end();
}

/* Too many: the last are told, and then one in a while, during which a ring is not wanted. */
static void test_flood(void)
{
	struct rvmrpc_told told;
	uint64_t rings = 0, told_before;
	int i, j;

	listening();
	for (i = 0; i < 100; i++) {
		for (j = 0; j < 1000; j++)
			rings += tell_next();
		if (rvmrpc_owner_events_due(&w.owner, w.now)) {
			rvmrpc_owner_hear(&w.owner, w.now);
			while (take_one(&told))
				;
			g_assert_cmpuint(told.event.seq, ==, counter);
		}
		w.now += RVMRPC_EVENT_NS / 10;
	}
	told_before = w.owner.proxy.stats.events;
	g_assert_cmpuint(told_before, >=, RVMRPC_EVENTS_AT_ONCE + 8);
	g_assert_cmpuint(told_before, <=, RVMRPC_EVENTS_AT_ONCE + 10);
	g_assert_cmpuint(rings, <=, 1000);
	/* When it is over all is as before, and every one was counted. */
	for (i = 0; i < 2; i++) {
		time_passes(2);
		rvmrpc_owner_hear(&w.owner, w.now);
		while (take_one(&told))
			;
	}
	g_assert_true(tell_next());
	assert_heard(counter, counter);
	g_assert_cmpuint(w.owner.proxy.stats.events + w.owner.proxy.stats.events_lost +
			 w.owner.proxy.stats.events_dropped, ==, counter);
	world_end();
}

/* The budget is the VM's, whatever epochs begin. */
static void test_epochs(void)
{
	struct rvmrpc_event_writer late;
	struct rvmrpc_told told;
	int i;

	listening();
	for (i = 0; i < 64; i++)
		tell_next();
	rvmrpc_owner_hear(&w.owner, w.now);
	while (take_one(&told))
		;
	rvmrpc_tell_close(&teller);
	g_assert_cmpuint(rvmrpc_tell_epoch(&teller), ==, 0);
	greet();
	rvmrpc_tell_open(&teller, &w.guest);
	counter = 0;
	g_assert_false(tell_next());
	g_assert_false(rvmrpc_owner_events_due(&w.owner, w.now));
	time_passes(1);
	assert_heard(1, 1);
	assert_counts(65, 0, 0);
	/* What an old epoch left, or a writer of it that was late, is none of this one. */
	time_passes(100);
	rvmrpc_owner_hear(&w.owner, w.now);
	g_assert_false(take_one(&told));
	assert_counts(65, 0, 0);
	/* Nor does its number, however high, make the lower ones of this one lost. */
	rvmrpc_event_begin(&late, 1, 1, 0);
	rvmrpc_event_end(&late);
	rvmrpc_tell(&teller, w.owner.proxy.epoch + 1, 500, &late);
	rvmrpc_owner_hear(&w.owner, w.now);
	g_assert_false(take_one(&told));
	assert_counts(65, 0, 0);
	rvmrpc_owner_close(&w.owner, RVMRPC_STATUS_RESET, w.now, &w.done);
	tell_next();
	g_assert_false(rvmrpc_owner_events_due(&w.owner, w.now));
	g_assert_cmpuint(rvmrpc_owner_events_at(&w.owner), ==, UINT64_MAX);
	world_end();
}

static struct rvmrpc_event *event_in_ring(uint64_t seq)
{
	return (void *)(w.memory + rvmrpc_event_at(w.owner.ring.at, w.owner.ring.events, seq));
}

/* What no driver of ours writes. */
static void test_hostile(void)
{
	static const uint16_t lengths[] = { 0, 1, 7, 9, 15, 232, 0xfff8, 0xffff };
	struct rvmrpc_reader r;
	struct rvmrpc_told told;
	size_t i;

	listening();
	for (i = 0; i < G_N_ELEMENTS(lengths); i++) {
		tell_next();
		event_in_ring(counter)->record.length = lengths[i];
	}
	tell_next();
	event_in_ring(counter)->reserved = 1;
	tell_next();
	event_in_ring(counter)->record.reserved = 1;
	/* Numbers that are far ahead, or of another place. */
	event_in_ring(20)->epoch = w.owner.proxy.epoch;
	event_in_ring(20)->seq = UINT64_MAX;
	event_in_ring(21)->epoch = w.owner.proxy.epoch;
	event_in_ring(21)->seq = 20;
	tell_number(22);
	event_in_ring(22)->fields[4] = 0xff;
	rvmrpc_owner_hear(&w.owner, w.now);
	g_assert_true(take_one(&told));
	g_assert_cmpuint(told.event.seq, ==, 22);
	g_assert_cmpuint(told.missed, ==, G_N_ELEMENTS(lengths) + 2);
	g_assert_false(rvmrpc_reader_open_one(&r, &told.event.record, told.event.record.length));
	g_assert_false(take_one(&told));
	assert_counts(1, 0, G_N_ELEMENTS(lengths) + 2);
	world_end();
}

/* Looks when that is due, for a second in steps of 100 us, each after the guest did something.  How often it looked. */
static uint32_t looks_in_a_second(void (*guest)(uint32_t i))
{
	struct rvmrpc_told told;
	uint32_t i, looks = 0;

	for (i = 0; i < 10000; i++, w.now += MS / 10) {
		guest(i);
		if (!rvmrpc_owner_events_due(&w.owner, w.now))
			continue;
		looks++;
		rvmrpc_owner_hear(&w.owner, w.now);
		while (take_one(&told))
			;
	}
	return looks;
}

static void say_something(uint32_t i)
{
	rvmrpc_win_store32(&w.guest.win, RVMRPC_GUEST_WORD(events), i + 1);
}

/* Says all the time that there is something: looks are bounded, and what then comes is heard soon. */
static void test_vain(void)
{
	listening();
	g_assert_cmpuint(looks_in_a_second(say_something), <=, SECOND / RVMRPC_VAIN_NS + 1);
	assert_counts(0, 0, 0);
	tell_next();
	w.now += RVMRPC_VAIN_NS;
	assert_heard(1, 1);
	g_assert_cmpuint(rvmrpc_owner_events_at(&w.owner), ==, UINT64_MAX);
	world_end();
}

static void tell_malformed(uint32_t i)
{
	tell_next();
	event_in_ring(counter)->record.length = 1;
	say_something(i);
}

static void test_malformed_flood(void)
{
	listening();
	g_assert_cmpuint(looks_in_a_second(tell_malformed), <=, RVMRPC_EVENTS_AT_ONCE + 2 + SECOND / RVMRPC_VAIN_NS);
	g_assert_cmpuint(w.owner.proxy.stats.events, ==, 0);
	world_end();
}

/* Numbers that jump, of events that are not there when they are copied. */
static void tell_nonsense(uint32_t i)
{
	uint64_t seq = w.owner.ring.next + 64 + i % 7;

	event_in_ring(seq)->epoch = w.owner.proxy.epoch;
	event_in_ring(seq)->seq = seq;
	event_in_ring(seq)->record.length = 0;
	say_something(i);
}

static void test_nonsense(void)
{
	listening();
	g_assert_cmpuint(looks_in_a_second(tell_nonsense), <=, RVMRPC_EVENTS_AT_ONCE + 2 + SECOND / RVMRPC_VAIN_NS);
	world_end();
}

/* Texts of any length fit; what cannot be cut makes an event without fields. */
static void test_room(void)
{
	char text[400];
	struct rvmrpc_event_writer e;
	struct rvmrpc_reader r;
	size_t n;

	memset(text, 'x', sizeof(text));
	for (n = 0; n < sizeof(text); n++) {
		rvmrpc_event_begin(&e, MODULE, KIND, 1);
		rvmrpc_event_string(&e, RVMRPC_EVENT_TEXT, text, n);
		rvmrpc_event_string(&e, RVMRPC_EVENT_PROCESS, text, n / 2);
		g_assert_true(rvmrpc_event_end(&e));
		g_assert_true(rvmrpc_reader_open_one(&r, &e.event.record, e.event.record.length));
		g_assert_true(rvmrpc_reader_field(&r));
		g_assert_cmpuint(r.length, ==, MIN(n, 208));
	}
	rvmrpc_event_begin(&e, MODULE, KIND, 1);
	rvmrpc_record_bytes(&e.fields, RVMRPC_EVENT_DATA, text, 300);
	g_assert_false(rvmrpc_event_end(&e));
	g_assert_cmpuint(e.event.record.length, ==, 8);
	g_assert_cmpuint(e.event.record.kind, ==, KIND);
}

/* A host's layout without a ring, or with a small one. */
static void test_layouts(void)
{
	static const struct { uint32_t bytes, events; } sizes[] = {
		{ 0, 0 }, { 64, 0 }, { 255, 0 }, { 256, 1 }, { 0x400, 4 }, { 0x700, 4 }, { 0x4000, 64 }, { 0x100000, 64 },
	};
	struct rvmrpc_layout l = { 0 };
	size_t i;

	for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
		l.ring_bytes = sizes[i].bytes;
		g_assert_cmpuint(rvmrpc_ring_events(&l), ==, sizes[i].events);
	}
	listening();
	w.guest.layout.ring_bytes = 64;
	rvmrpc_tell_open(&teller, &w.guest);
	g_assert_false(tell_next());
	world_end();
}

/* ---- two writers, and a host that takes meanwhile ---- */

#define EACH	20000

static uint64_t shared_counter;
static int writers_left;

static gpointer write_many(gpointer unused)
{
	int i;

	for (i = 0; i < EACH; i++) {
		tell_number(__atomic_add_fetch(&shared_counter, 1, __ATOMIC_SEQ_CST));
		if (i % 16 == 0)
			g_thread_yield();
	}
	g_atomic_int_add(&writers_left, -1);
	return unused;
}

static void check_whole(const struct rvmrpc_told *told)
{
	g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, told->event.seq);
	struct rvmrpc_reader r;

	g_assert_cmpuint(told->event.time_ns, ==, 1000 + told->event.seq);
	g_assert_true(rvmrpc_reader_open_one(&r, &told->event.record, told->event.record.length));
	g_assert_true(rvmrpc_reader_field(&r));
	g_assert_cmpmem(r.value, r.length, text, strlen(text));
}

static void test_two_writers(void)
{
	GThread *threads[2];
	struct rvmrpc_told told;
	const struct rvmrpc_stats *s = &w.owner.proxy.stats;
	uint64_t whole = 0;
	int left;
	size_t i;

	listening();
	shared_counter = 0;
	writers_left = 2;
	for (i = 0; i < G_N_ELEMENTS(threads); i++)
		threads[i] = g_thread_new("writer", write_many, NULL);
	do {
		left = g_atomic_int_get(&writers_left);
		time_passes(64);
		rvmrpc_owner_hear(&w.owner, w.now);
		while (take_one(&told)) {
			/* One that stood still while the ring went around may write over another's: rare, and nothing worse. */
			if (told.event.time_ns == 1000 + told.event.seq) {
				check_whole(&told);
				whole++;
			}
		}
	} while (left);
	for (i = 0; i < G_N_ELEMENTS(threads); i++)
		g_thread_join(threads[i]);
	g_test_message("%" G_GUINT64_FORMAT " taken, %" G_GUINT64_FORMAT " lost", s->events, s->events_lost);
	g_assert_cmpuint(whole, >, 0);
	g_assert_cmpuint(s->events - whole, <, 1 + s->events / 10);
	/* What is still in the ring is not lost yet, but each is counted but once. */
	g_assert_cmpuint(s->events + s->events_lost + s->events_dropped, <=, 2 * EACH);
	g_assert_cmpuint(s->events + s->events_lost + s->events_dropped, >=, 2 * EACH - 64);
	world_end();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/events/content", test_content);
	g_test_add_func("/events/wrap", test_wrap);
	g_test_add_func("/events/overwritten", test_overwritten);
	g_test_add_func("/events/order", test_order);
	g_test_add_func("/events/torn", test_torn);
	g_test_add_func("/events/flood", test_flood);
	g_test_add_func("/events/epochs", test_epochs);
	g_test_add_func("/events/hostile", test_hostile);
	g_test_add_func("/events/vain", test_vain);
	g_test_add_func("/events/malformed-flood", test_malformed_flood);
	g_test_add_func("/events/nonsense", test_nonsense);
	g_test_add_func("/events/room", test_room);
	g_test_add_func("/events/layouts", test_layouts);
	g_test_add_func("/events/two-writers", test_two_writers);
	return g_test_run();
}
