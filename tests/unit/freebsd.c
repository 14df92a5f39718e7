/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the FreeBSD driver makes of its kernel's numbers, on the real core.
 */
#include <glib.h>
#include "rvmrpc_format.h"
#include "rvmrpc_log.h"

#define MIB	(1024 * 1024ull)

struct answer {
	char bytes[4096];
	char text[2048];
	struct rvmrpc_response res;
	struct rvmrpc_info head;
	struct rvmrpc_item items[64];
};

static void build(struct answer *a, const struct rvmrpc_mem *mem, bool raw)
{
	struct rvmrpc_info_writer w;

	memset(a, 0, sizeof(*a));
	a->res.res = a->bytes;
	a->res.resmax = sizeof(a->bytes);
	rvmrpc_info_begin(&w, &a->res, a->text, sizeof(a->text));
	if (raw)
		rvmrpc_info_raw(&w, rvmrpc_mem_text(mem, a->text, sizeof(a->text)));
	rvmrpc_mem_items(&w, mem);
	g_assert_cmpint(rvmrpc_info_end(&w, &a->res), ==, RVMRPC_STATUS_OK);
	memcpy(&a->head, a->bytes, sizeof(a->head));
	memcpy(a->items, a->bytes + sizeof(a->head), a->head.count * sizeof(a->items[0]));
}

static uint64_t value_of(const struct answer *a, uint16_t key)
{
	uint32_t i;

	for (i = 0; i < a->head.count; i++)
		if (a->items[i].key == key) {
			g_assert_cmpint(a->items[i].type, ==, RVMRPC_ITEM_U64);
			g_assert_cmpuint(a->items[i].index, ==, RVMRPC_INDEX_ALL);
			return a->items[i].value;
		}
	return RVMRPC_ABSENT;
}

/* 1 GiB, no ZFS, no swap. */
static const struct rvmrpc_mem plain = {
	.page_size = 4096,
	.page_count = 262144,
	.free_count = 100000,
	.free_reserved = 1000,
	.active_count = 30000,
	.inactive_count = 50000,
	.laundry_count = 7000,
	.wire_count = 70000,
	.swap_reserved = 64 * MIB,
	.bufspace = 16 * MIB,
	.arc_size = RVMRPC_ABSENT,
	.arc_min = RVMRPC_ABSENT,
	.arc_evictable = RVMRPC_ABSENT,
};

static void test_mem_keys(void)
{
	struct answer a;

	build(&a, &plain, false);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_TOTAL), ==, 1024 * MIB);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_FREE), ==, 100000 * 4096ull);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_ACTIVE), ==, 30000 * 4096ull);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_INACTIVE), ==, 50000 * 4096ull);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_LAUNDRY), ==, 7000 * 4096ull);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_WIRED), ==, 70000 * 4096ull);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_BUFFERS), ==, 16 * MIB);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_COMMITTED_AS), ==, 64 * MIB);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_SWAP_TOTAL), ==, 0);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_SWAP_FREE), ==, 0);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_CACHED), ==, RVMRPC_ABSENT);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_SLAB), ==, RVMRPC_ABSENT);
	g_assert_cmpuint(a.head.raw_length, ==, 0);
}

static uint64_t available(const struct rvmrpc_mem *mem)
{
	struct answer a;

	build(&a, mem, false);
	return value_of(&a, RVMRPC_MEM_AVAILABLE);
}

static void test_mem_available(void)
{
	struct rvmrpc_mem mem = plain;

	/* 87000 pageable pages, 16384 of them anonymous at most: all inactive ones may be files'. */
	g_assert_cmpuint(available(&mem), ==, 149000 * 4096ull);
	/* 60000 anonymous: 27000 are files' for sure.  Then none; then more than there is memory. */
	mem.swap_reserved = 60000 * 4096ull;
	g_assert_cmpuint(available(&mem), ==, (99000 + 27000) * 4096ull);
	mem.swap_reserved = 87000 * 4096ull;
	g_assert_cmpuint(available(&mem), ==, 99000 * 4096ull);
	mem.swap_reserved = 1ull << 50;
	g_assert_cmpuint(available(&mem), ==, 99000 * 4096ull);
	/* What is in swap is not in memory. */
	mem.swap_reserved = 87000 * 4096ull;
	mem.swap_total = 20000 * 4096ull;
	mem.swap_free = 10000 * 4096ull;
	g_assert_cmpuint(available(&mem), ==, (99000 + 10000) * 4096ull);
	mem.swap_reserved = RVMRPC_ABSENT;
	g_assert_cmpuint(available(&mem), ==, 99000 * 4096ull);
	/* Fewer pages than the reserve. */
	mem = plain;
	mem.free_count = 300;
	mem.inactive_count = 200;
	g_assert_cmpuint(available(&mem), ==, 0);
}

/* Of the ARC, what is above its minimum, and that only if nobody uses it and it is clean. */
static void test_mem_arc(void)
{
	struct rvmrpc_mem mem = plain;
	struct answer a;

	mem.arc_size = 300 * MIB;
	mem.arc_min = 100 * MIB;
	g_assert_cmpuint(available(&mem), ==, 149000 * 4096ull);
	mem.arc_evictable = 250 * MIB;
	build(&a, &mem, false);
	g_assert_cmpuint(value_of(&a, RVMRPC_MEM_CACHED), ==, 300 * MIB);
	g_assert_cmpuint(available(&mem), ==, 149000 * 4096ull + 200 * MIB);
	mem.arc_evictable = 30 * MIB;
	g_assert_cmpuint(available(&mem), ==, 149000 * 4096ull + 30 * MIB);
	mem.arc_min = 400 * MIB;
	g_assert_cmpuint(available(&mem), ==, 149000 * 4096ull);
}

static void test_mem_text(void)
{
	struct rvmrpc_mem mem = plain;
	char small[40];
	struct answer a;

	mem.arc_size = UINT64_MAX - 1;
	build(&a, &mem, true);
	g_assert_cmpuint(a.head.raw_length, ==, strlen(a.text));
	g_assert_true(g_str_has_prefix(a.text, "vm.stats.vm.v_page_size: 4096\n"));
	g_assert_nonnull(strstr(a.text, "\nvm.stats.vm.v_laundry_count: 7000\n"));
	g_assert_nonnull(strstr(a.text, "\nkstat.zfs.misc.arcstats.size: 18446744073709551614\n"));
	g_assert_null(strstr(a.text, "c_min"));
	g_assert_cmpuint(rvmrpc_mem_text(&mem, small, sizeof(small)), ==, 0);
}

static void test_numbers(void)
{
	const uint64_t year = 365 * 24 * 3600ull;

	g_assert_cmpuint(rvmrpc_ticks_ns(0, 127), ==, 0);
	g_assert_cmpuint(rvmrpc_ticks_ns(127, 127), ==, 1000000000);
	g_assert_cmpuint(rvmrpc_ticks_ns(1, 128), ==, 7812500);
	g_assert_cmpuint(rvmrpc_ticks_ns(100 * year * 128 + 64, 128), ==,
			 100 * year * 1000000000 + 500000000);
	g_assert_cmpuint(rvmrpc_load_millionths(0, 2048), ==, 0);
	g_assert_cmpuint(rvmrpc_load_millionths(2048, 2048), ==, 1000000);
	g_assert_cmpuint(rvmrpc_load_millionths(512, 2048), ==, 250000);
	g_assert_cmpuint(rvmrpc_load_millionths(UINT32_MAX, 2048), ==, 2097151999511);
}

static void test_names(void)
{
	static const struct {
		const char *list;
		const char *name;
		bool allowed;
	} rows[] = {
		{ "hw.ncpu", "hw.ncpu", true },
		{ "hw.ncpu", "hw.ncpus", false },
		{ "hw.ncpu", "hw.ncp", false },
		{ "hw.ncpu", "", false },
		{ "", "hw.ncpu", false },
		{ ",, ,", "", false },
		{ "kern.ostype,hw.*", "hw.model", true },
		{ "kern.ostype hw.*", "hw.", true },
		{ "kern.ostype,hw.*", "kern.osrelease", false },
		{ "hw*", "kern.hw", false },
		{ "*", "anything.at.all", true },
		{ "dev.*.temperature", "dev.cpu.0.temperature", true },
		{ "dev.*.temperature", "dev.cpu.0.temperatures", false },
		{ "*a*b*", "xxaxxbxx", true },
		{ "*a*b*", "xxbxxaxx", false },
		{ "*aab", "aaaab", true },
		{ "a**,b", "a", true },
		{ "hw.ncpu,kern", "hw.ncpu,kern", false },
	};
	size_t i;

	for (i = 0; i < G_N_ELEMENTS(rows); i++) {
		if (rvmrpc_name_allowed(rows[i].list, rows[i].name) != rows[i].allowed)
			g_error("\"%s\" of \"%s\"", rows[i].name, rows[i].list);
	}
}

static void print_is(const void *data, uint32_t bytes, uint32_t size, bool is_signed,
		     const char *want)
{
	char text[128];
	uint32_t length = 0;

	g_assert_cmpint(rvmrpc_print_integers(data, bytes, size, is_signed, text, sizeof(text),
					      &length), ==, RVMRPC_STATUS_OK);
	text[length] = '\0';
	g_assert_cmpstr(text, ==, want);
}

static void test_print(void)
{
	const int64_t s64[] = { INT64_MIN, -1, 0, INT64_MAX };
	const uint64_t u64 = UINT64_MAX;
	const int32_t s32[] = { INT32_MIN, -7, 7 };
	const uint32_t u32 = UINT32_MAX;
	const int16_t s16 = -300;
	const int8_t s8 = -3;
	const uint8_t u8[] = { 0, 255 };
	char text[8];
	uint32_t length;

	print_is(s64, sizeof(s64), 8, true, "-9223372036854775808 -1 0 9223372036854775807");
	print_is(&u64, sizeof(u64), 8, false, "18446744073709551615");
	print_is(s32, sizeof(s32), 4, true, "-2147483648 -7 7");
	print_is(&u32, sizeof(u32), 4, false, "4294967295");
	print_is(&s16, sizeof(s16), 2, true, "-300");
	print_is(&s8, sizeof(s8), 1, true, "-3");
	print_is(u8, sizeof(u8), 1, false, "0 255");
	/* What is left of an array's last element does not count. */
	print_is(s32, 7, 4, true, "-2147483648");
	g_assert_cmpint(rvmrpc_print_integers(s32, 3, 4, true, text, sizeof(text), &length), ==,
			RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpint(rvmrpc_print_integers(s32, 0, 4, true, text, sizeof(text), &length), ==,
			RVMRPC_STATUS_GARBAGE_ARGS);
	g_assert_cmpint(rvmrpc_print_integers(s32, 4, 4, true, text, sizeof(text), &length), ==,
			RVMRPC_STATUS_TOO_BIG);
}

static void test_bintime(void)
{
	g_assert_cmpuint(rvmrpc_bintime_ns(0, 0), ==, 0);
	g_assert_cmpuint(rvmrpc_bintime_ns(3, 1ull << 63), ==, 3500000000);
	g_assert_cmpuint(rvmrpc_bintime_ns(1, UINT64_MAX), ==, 1999999999);
	g_assert_cmpuint(rvmrpc_bintime_ns(9000000000, 1ull << 62), ==, 9000000000250000000);
}

static void test_addresses(void)
{
	static const struct {
		uint8_t address[16], mask[16];
		uint32_t bytes, prefix;
		const char *scope;
	} rows[] = {
		{ { 192, 0, 2, 7 }, { 255, 255, 255, 128 }, 4, 25, "global" },
		{ { 127, 0, 0, 1 }, { 255 }, 4, 8, "host" },
		{ { 169, 254, 1, 1 }, { 255, 255 }, 4, 16, "link" },
		{ { 169, 253, 1, 1 }, { 255, 255, 255, 255 }, 4, 32, "global" },
		{ { 0 }, { 0 }, 4, 0, "global" },
		/* What is no prefix counts as far as it is one. */
		{ { 10 }, { 255, 0, 255 }, 4, 8, "global" },
		{ { [15] = 1 }, { 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255 },
		  16, 128, "host" },
		{ { 0xfe, 0x80, [15] = 1 }, { 255, 255, 255, 255, 255, 255, 255, 255 }, 16, 64, "link" },
		{ { 0xfe, 0xbf }, { 255, 0xc0 }, 16, 10, "link" },
		{ { 0xfe, 0xc0 }, { 255, 0xc0 }, 16, 10, "site" },
		{ { 0x20, 0x01, 0x0d, 0xb8, [15] = 7 }, { 255, 255, 255, 255, 255, 255 }, 16, 48, "global" },
		{ { 0xff, 0x02 }, { 255 }, 16, 8, "global" },
	};
	size_t i;

	for (i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_assert_cmpuint(rvmrpc_prefix(rows[i].mask, rows[i].bytes), ==, rows[i].prefix);
		g_assert_cmpstr(rvmrpc_address_scope(rows[i].address, rows[i].bytes), ==, rows[i].scope);
	}
}

/* As many as fit, heaviest first, in whatever order they come. */
static void test_places(void)
{
	struct rvmrpc_place places[8 + 1];
	uint32_t n, i, seed;

	for (seed = 0; seed < 200; seed++) {
		GRand *rand = g_rand_new_with_seed(seed);
		uint32_t count = g_rand_int_range(rand, 0, 20), max = g_rand_int_range(rand, 1, 9);
		uint64_t weights[20];

		memset(places, 0xff, sizeof(places));
		for (n = 0, i = 0; i < count; i++) {
			struct rvmrpc_place place = { .weight = g_rand_int_range(rand, 0, 10), .number = i };

			weights[i] = place.weight;
			n = rvmrpc_place_in(places, n, max, &place);
		}
		g_assert_cmpuint(n, ==, MIN(count, max));
		g_assert_cmpuint(places[max].weight, ==, UINT64_MAX);
		for (i = 0; i < n; i++) {
			uint32_t heavier = 0, j;

			g_assert_cmpuint(places[i].weight, ==, weights[places[i].number]);
			for (j = 0; j < count; j++)
				heavier += weights[j] > places[i].weight;
			g_assert_cmpuint(heavier, <=, i);
			/* Of equals, the first that came. */
			g_assert_true(!i || places[i - 1].weight > places[i].weight ||
				      places[i - 1].number < places[i].number);
		}
		g_rand_free(rand);
	}
}

/* ---- The log ---- */

/* A message buffer, as subr_msgbuf.c keeps it. */
#define RING		64u
#define RING_MODULUS	(16 * RING)

static struct {
	char bytes[RING];
	uint32_t written;	/* sequence number of the next byte */
	const char *late;	/* written between two looks, once */
} ring;

static void ring_write(const char *text)
{
	for (; *text; text++) {
		ring.bytes[ring.written % RING] = *text;
		ring.written = (ring.written + 1) % RING_MODULUS;
	}
}

static uint32_t ring_peek(char *buf, uint32_t size, uint32_t *seq)
{
	uint32_t length = (ring.written + RING_MODULUS - *seq) % RING_MODULUS, i;

	if (length > RING) {
		*seq = (ring.written + RING_MODULUS - RING) % RING_MODULUS;
		length = RING;
	}
	/* No further than the ring's end, and little, so that lines are in several pieces. */
	length = MIN(MIN(length, RING - *seq % RING), MIN(size, 7));
	for (i = 0; i < length; i++)
		buf[i] = ring.bytes[(*seq + i) % RING];
	*seq = (*seq + length) % RING_MODULUS;
	if (ring.late) {
		ring_write(ring.late);
		ring.late = NULL;
	}
	return length;
}

/* From the oldest byte, as FreeBSD before 14 has it: of one that is not full yet, from NULs on. */
static void ring_begin(struct rvmrpc_log_reader *r)
{
	rvmrpc_log_begin(r, ring_peek, RING_MODULUS, (ring.written + RING_MODULUS - RING) % RING_MODULUS,
			 false);
}

/* All lines with their numbers. */
static char *ring_read(struct rvmrpc_log_count *count)
{
	struct rvmrpc_log_reader r;
	GString *text = g_string_new(NULL);
	uint64_t number;

	ring_begin(&r);
	g_assert_true(rvmrpc_log_number(count, &r, &number));
	ring_begin(&r);
	while (number < count->next && rvmrpc_log_line(&r))
		g_string_append_printf(text, "%" G_GUINT64_FORMAT ":%.*s ", number++, (int)r.length, r.line);
	g_assert_false(r.torn);
	return g_string_free(text, FALSE);
}

static void log_is(struct rvmrpc_log_count *count, const char *want)
{
	g_autofree char *got = ring_read(count);

	g_assert_cmpstr(got, ==, want);
}

static void test_log_numbers(void)
{
	struct rvmrpc_log_count count = { .next = 0 };
	uint32_t i;

	memset(&ring, 0, sizeof(ring));
	log_is(&count, "");
	ring_write("one\ntwo\r\nthr");
	log_is(&count, "1:one 2:two ");
	/* The same numbers again, and a line that is whole now. */
	ring_write("ee\n");
	log_is(&count, "1:one 2:two 3:three ");
	log_is(&count, "1:one 2:two 3:three ");
	ring_write("\n<6>five\n");
	log_is(&count, "1:one 2:two 3:three 4: 5:<6>five ");
	/* Full: what lost its beginning is left out. */
	ring_write("0123456789012345678901234567890123456789\n");
	log_is(&count, "2:two 3:three 4: 5:<6>five 6:0123456789012345678901234567890123456789 ");
	/* More than there is room for: nobody knows how many that was. */
	for (i = 0; i < 20; i++)
		ring_write("lost lost\n");
	ring_write("last\n");
	log_is(&count, "8:lost lost 9:lost lost 10:lost lost 11:lost lost 12:lost lost 13:last ");
	log_is(&count, "8:lost lost 9:lost lost 10:lost lost 11:lost lost 12:lost lost 13:last ");
	/* Cleared. */
	memset(&ring, 0, sizeof(ring));
	log_is(&count, "");
	ring_write("new\n");
	log_is(&count, "15:new ");
}

/* Through all wraps of the numbers of bytes; each line has its own number. */
static void test_log_wraps(void)
{
	struct rvmrpc_log_count count = { .next = 0 };
	uint32_t i;

	memset(&ring, 0, sizeof(ring));
	for (i = 1; i < 2000; i++) {
		g_autofree char *line = g_strdup_printf("%0*u\n", 4 + i % 17, i);
		g_autofree char *got = NULL, *end = g_strdup_printf("%u:%0*u ", i, 4 + i % 17, i);
		char **words, **word;

		ring_write(line);
		got = ring_read(&count);
		g_assert_true(g_str_has_suffix(got, end));
		words = g_strsplit(got, " ", -1);
		for (word = words; *word && **word; word++)
			g_assert_cmpuint(g_ascii_strtoull(*word, NULL, 10), ==,
					 g_ascii_strtoull(strchr(*word, ':') + 1, NULL, 10));
		g_strfreev(words);
	}
}

/* It is overwritten while it is read: that is seen, and nothing is numbered. */
static void test_log_torn(void)
{
	struct rvmrpc_log_count count = { .next = 0 };
	struct rvmrpc_log_reader r;
	uint64_t number;

	memset(&ring, 0, sizeof(ring));
	ring_write("0123456789012345678901234567890\n0123456789012345678901234567890\nx\n");
	ring.late = "0123456789012345678901234567890\n";
	ring_begin(&r);
	g_assert_false(rvmrpc_log_number(&count, &r, &number));
	g_assert_true(r.torn);
	g_assert_cmpuint(count.next, ==, 0);
	log_is(&count, "1:x 2:0123456789012345678901234567890 ");
	/* As FreeBSD has it from 14 on: a buffer that was never full begins with a line. */
	memset(&ring, 0, sizeof(ring));
	ring_write("first\nsecond");
	rvmrpc_log_begin(&r, ring_peek, RING_MODULUS, 0, true);
	g_assert_true(rvmrpc_log_line(&r));
	g_assert_cmpmem(r.line, r.length, "first", 5);
	g_assert_false(rvmrpc_log_line(&r) || r.torn);
}

static void test_log_prefix(void)
{
	static const struct { const char *line; uint32_t prefix, priority; } rows[] = {
		{ "<6>x", 3, 6 }, { "<118>Starting sshd.", 5, 118 }, { "<0>", 3, 0 }, { "<1023>x", 6, 1023 },
		{ "", 0, 0 }, { "<", 0, 0 }, { "<>x", 0, 0 }, { "<6", 0, 0 }, { "<66", 0, 0 }, { "<6x>", 0, 0 },
		{ "<1024>x", 0, 0 }, { "<99999999999>x", 0, 0 }, { "vtnet0: <VirtIO>", 0, 0 }, { "<VirtIO>", 0, 0 },
	};
	size_t i;

	for (i = 0; i < G_N_ELEMENTS(rows); i++) {
		uint32_t priority = 0;

		g_assert_cmpuint(rvmrpc_log_prefix(rows[i].line, strlen(rows[i].line), &priority), ==, rows[i].prefix);
		g_assert_cmpuint(priority, ==, rows[i].priority);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/freebsd/mem/keys", test_mem_keys);
	g_test_add_func("/freebsd/mem/available", test_mem_available);
	g_test_add_func("/freebsd/mem/arc", test_mem_arc);
	g_test_add_func("/freebsd/mem/text", test_mem_text);
	g_test_add_func("/freebsd/numbers", test_numbers);
	g_test_add_func("/freebsd/names", test_names);
	g_test_add_func("/freebsd/bintime", test_bintime);
	g_test_add_func("/freebsd/addresses", test_addresses);
	g_test_add_func("/freebsd/places", test_places);
	g_test_add_func("/freebsd/log/numbers", test_log_numbers);
	g_test_add_func("/freebsd/log/wraps", test_log_wraps);
	g_test_add_func("/freebsd/log/torn", test_log_torn);
	g_test_add_func("/freebsd/log/prefix", test_log_prefix);
	g_test_add_func("/freebsd/print", test_print);
	return g_test_run();
}
